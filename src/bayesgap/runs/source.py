"""Which source a function reaches, found by reading it: what its stored results depend on.

The imports of a module, of the modules that it imports and so on are read from their text, the
lazy ones inside functions too; nothing is executed. Of this package an `__init__` does not count
where it is passed on the way to a module, or hands a name on from one: then that module counts. Of
others' packages every `__init__` on the way counts. Libraries do not count: their versions do.
What is neither of a library nor of a file that can be read is refused.
"""

import ast
import hashlib
import importlib.util
import site
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from bayesgap.errors import BayesgapError
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
    waiting = [name for module in modules for name in _with_packages(module)]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imports(module)
    return frozenset(found)


@cache
def digest_of(modules: frozenset[str]) -> str:
    """SHA-256 of the source of the modules and of all that they reach, in hexadecimal.

    Raises:
        BayesgapError: a module whose source cannot be read, as that of a script that is run, or of
            a zip file: a result that is stored must not outlive a change of it.
    """
    for module in modules:
        if source_of(module) is None and not is_library(module):
            raise BayesgapError(
                f"The source of {module} cannot be followed, and stored results depend on it: put "
                "what a stage calls into a module of its own, a .py file that can be imported."
            )
    digest = hashlib.sha256()
    for module in sorted(reached(modules)):
        digest.update(dump([module, _text(module)]).encode())
    return digest.hexdigest()


def forget() -> None:
    """Read all source again, as a process that lives long must before it trusts what it stored."""
    for function in (digest_of, package_digest, imports, source_of, _text):
        function.cache_clear()


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
    found: set[str] = set()
    package = _is_package(module)
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.Import):
            found.update(name for alias in node.names for name in _with_packages(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, module, package=package)
            found.update(name for alias in node.names for name in _named(base, alias.name))
        elif isinstance(node, ast.Call) and _is_dynamic(node) and module != FOREIGN:
            name = (
                node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
            )
            found.update(_with_packages(str(name)) if name else members(module.partition(".")[0]))
    return frozenset(found)


@cache
def source_of(module: str) -> Path | None:
    """The file of a module; None of a library's, and where there is no such module."""
    top, *rest = module.split(".")
    for place in [Path(__file__).parents[1]] if top == PACKAGE else _places(top):
        stem = place.joinpath(*rest)
        for path in (stem / "__init__.py", stem.with_name(stem.name + ".py")):
            if path.is_file():
                return path
    return None


def is_library(module: str) -> bool:
    """Whether a module is of Python itself or of an installed distribution."""
    spec = _spec(module.partition(".")[0])
    if spec is None:
        return False
    return not spec.has_location or _installed(spec)


def _spec(top: str) -> ModuleSpec | None:
    """How a top-level module would be imported, which executes nothing of it."""
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):  # of __main__, which has none
        return None


def _places(top: str) -> list[Path]:
    """Where a user's top-level module lies, without its ending; nowhere of libraries."""
    spec = _spec(top)
    if spec is None:
        return []
    if not spec.has_location:  # a folder without __init__.py
        return [Path(folder) for folder in spec.submodule_search_locations or ()]
    if _installed(spec):
        return []
    path = Path(spec.origin or "")
    return [path.parent if path.name == "__init__.py" else path.with_suffix("")]


def _installed(spec: ModuleSpec) -> bool:
    path = Path(spec.origin or "")
    folders = [sysconfig.get_path(n) for n in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [site.getusersitepackages(), *site.getsitepackages()]
    folders += [_folder_of(name) for name in _distributions().get(spec.name, ())]
    return any(path.is_relative_to(folder) for folder in folders if folder)


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _folder_of(name: str) -> str:
    """The folder that a distribution was installed into; "" where it is not found."""
    try:
        return str(distribution(name).locate_file(""))
    except PackageNotFoundError:
        return ""


@cache
def _text(module: str) -> str:
    path = source_of(module)
    assert path is not None
    with tokenize.open(path) as file:
        return file.read()


def _parsed(module: str) -> ast.Module:
    """The text of a module as a tree; an empty one where it is no Python of this version."""
    try:
        return ast.parse(_text(module))
    except (SyntaxError, UnicodeDecodeError):
        return ast.Module([], [])


def _is_package(module: str) -> bool:
    path = source_of(module)
    return path is not None and path.name == "__init__.py"


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


def _with_packages(name: str) -> set[str]:
    """A module and, of others' packages, those that importing it imports; no libraries."""
    parts = name.split(".")
    first = len(parts) if parts[0] == PACKAGE else 1
    names = (".".join(parts[:count]) for count in range(first, len(parts) + 1))
    return {each for each in names if source_of(each)}


def _named(base: str, name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """What `from base import name` imports: a module, or where this package has the name from."""
    inner = f"{base}.{name}"
    if base.partition(".")[0] != PACKAGE:
        return _with_packages(inner) | _with_packages(base)
    if source_of(inner) or not _is_package(base) or inner in seen:
        return _with_packages(inner) or _with_packages(base)
    for node in _parsed(base).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    where = _base(node, base, package=True)
                    return _named(where, alias.name, seen | {inner})
    return _with_packages(base)


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
