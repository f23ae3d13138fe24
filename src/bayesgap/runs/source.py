"""Which source a function reaches, found by reading it: what its stored results depend on.

The imports of a module, of the modules that it imports and so on are read from their text, the
lazy ones inside functions too; nothing is executed. A package's `__init__` does not count where it
is passed on the way to a module, or hands a name on from one: then that module counts. Libraries do
not count either: their versions do.
"""

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from bayesgap.files import dump

PACKAGE = "bayesgap"
# It imports what a user names, and refuses this package's modules: no stage can reach one by it.
FOREIGN = f"{PACKAGE}.foreign"
DYNAMIC = {"import_module", "__import__"}


def reached(modules: Iterable[str]) -> frozenset[str]:
    """The names of the modules given and of all that they reach, libraries left out.

    Args:
        modules: Full names, for example "bayesgap.attacks.boundary".

    Example:
        >>> "bayesgap.files" in reached(["bayesgap.runs.store"])
        True
        >>> "bayesgap.cli" in reached(["bayesgap.runs.store"])
        False
    """
    found: set[str] = set()
    waiting = [module for module in modules if source_of(module)]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imports(module)
    return frozenset(found)


@cache
def digest_of(modules: frozenset[str]) -> str:
    """SHA-256 of the source of the modules and of all that they reach, in hexadecimal."""
    digest = hashlib.sha256()
    for module in sorted(reached(modules)):
        path = source_of(module)
        assert path is not None
        digest.update(dump([module, path.read_text("utf-8")]).encode())
    return digest.hexdigest()


@cache
def package_digest() -> str:
    """SHA-256 of the source of the whole package, in hexadecimal."""
    return digest_of(frozenset(members(PACKAGE)))


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that a module's text imports, anywhere in it, libraries left out.

    An import by a computed name cannot be followed: it counts as one of every module of the
    package that the module belongs to.
    """
    path = source_of(module)
    if path is None:
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(name for alias in node.names for name in _ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, module, package=path.name == "__init__.py")
            found.update(name for alias in node.names for name in _named(base, alias.name))
        elif isinstance(node, ast.Call) and _is_dynamic(node) and module != FOREIGN:
            found.update(members(module.partition(".")[0]))
    return frozenset(found)


@cache
def source_of(module: str) -> Path | None:
    """The file of a module; None of a library's, and where there is no such module."""
    top, *rest = module.split(".")
    stem = Path(__file__).parents[1] if top == PACKAGE else _place(top)
    if stem is None:
        return None
    stem = stem.joinpath(*rest)
    candidates = (stem.with_name(stem.name + ".py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _place(top: str) -> Path | None:
    """Where a user's top-level module lies, without its ending; None of libraries."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.has_location or not spec.origin:
        return None
    path = Path(spec.origin)
    libraries = (
        sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
    if path.suffix != ".py" or any(path.is_relative_to(folder) for folder in libraries):
        return None
    return path.parent if path.name == "__init__.py" else path.with_suffix("")


def members(package: str) -> Iterator[str]:
    """The names of all modules of a package, or of the module alone where it is none."""
    path = source_of(package)
    if path is None:
        return
    yield package
    if path.name == "__init__.py":
        for file in sorted(path.parent.rglob("*.py")):
            parts = file.relative_to(path.parent).with_suffix("").parts
            name = ".".join((package, *(part for part in parts if part != "__init__")))
            if name != package:
                yield name


def _ours(name: str) -> set[str]:
    return {name} if source_of(name) else set()


def _named(base: str, name: str) -> set[str]:
    """What `from base import name` imports: a module, or where a package has the name from."""
    path = source_of(base)
    if path is None or path.name != "__init__.py" or source_of(f"{base}.{name}"):
        return _ours(f"{base}.{name}") or _ours(base)
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _named(_base(node, base, package=True), alias.name)
    return _ours(base)


def _base(node: ast.ImportFrom, module: str, *, package: bool) -> str:
    """The module after "from", a relative one resolved."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + package]
    return ".".join([*parts, *filter(None, [node.module])])


def _is_dynamic(node: ast.Call) -> bool:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in DYNAMIC
