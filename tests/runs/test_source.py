"""What stored results depend on: the source that a stage's function reaches, and no more."""

import ast
import sys
from pathlib import Path

import pytest

import bayesgap
from bayesgap.attacks.named import named_attack
from bayesgap.errors import BayesgapError
from bayesgap.experiment.setting import DIGIT_TASKS, Setting
from bayesgap.paper.engine.run import plan
from bayesgap.paper.registry import EXHIBITS
from bayesgap.runs import source
from bayesgap.runs.source import digest_of, imports, members, package_digest, reached, source_of
from bayesgap.runs.stage import Stage, in_order
from bayesgap.tasks.catalog import known_tasks

FILES = {
    "top.py": "from pack.a import one\n",
    "pack/__init__.py": "from pack.b import two\n",
    "pack/a.py": "from . import lazy_parent\nfrom .sub.c import three\nimport json\n",
    "pack/b.py": "two = 2\n",
    "pack/lazy_parent.py": "def later():\n    from pack import d\n    return d\n",
    "pack/d.py": "",
    "pack/sub/__init__.py": "from pack.e import nothing\n",
    "pack/sub/c.py": "from ..f import *\n",
    "pack/e.py": "",
    "pack/f.py": "",
    "pack/alone.py": "",
    "pack/user.py": "import pack\nvalue = pack.two\n",
    "loose/part.py": "from pack import alone\n",
    "pack/literal.py": "import importlib\nimportlib.import_module('pack.alone')\n",
    "pack/twice/__init__.py": "from . import c_extension\n",
    "pack/twice/m.py": "from pack.twice import c_extension\n",
    "pack/broken.py": "this is no Python\n",
    "pack/dynamic.py": "from importlib import import_module\nimport_module('pack.' + 'd')\n",
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A package of a user's own."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    source.forget()
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("pack", "top")]:
        del sys.modules[name]
    source.forget()


@pytest.mark.parametrize(
    ("module", "found"),
    [
        # Lazy and relative imports count, and the __init__ of every package on the way, whatever
        # it hands on: it may bind a name again, or set what others read. Libraries do not.
        (
            "top",
            {
                *("top", "pack", "pack.a", "pack.b", "pack.lazy_parent", "pack.d"),
                *("pack.sub", "pack.sub.c", "pack.e", "pack.f"),
            },
        ),
        ("pack.alone", {"pack", "pack.b", "pack.alone"}),
        ("pack.user", {"pack.user", "pack", "pack.b"}),
        ("loose.part", {"loose.part", "pack", "pack.b", "pack.alone"}),
        ("pack.literal", {"pack.literal", "pack", "pack.b", "pack.alone"}),
        ("pack.twice.m", {"pack", "pack.b", "pack.twice", "pack.twice.m"}),
        ("pack.broken", {"pack", "pack.b", "pack.broken"}),
        ("json", set()),
        ("no_such_module", set()),
    ],
)
def test_what_a_module_reaches_is_read_from_its_text(written, module, found):
    assert reached([module]) == found


def test_an_import_by_a_computed_name_counts_as_one_of_the_whole_package(written):
    assert reached(["pack.dynamic"]) == set(members("pack"))


def test_a_digest_changes_with_what_is_reached_alone(written):
    def digest():
        source.forget()
        return digest_of(frozenset({"top"}))

    before = digest()
    (written / "pack" / "alone.py").write_text("changed = True\n")
    assert digest() == before
    (written / "pack" / "f.py").write_text("changed = True\n")
    changed = digest()
    assert changed != before
    (written / "pack" / "__init__.py").write_text("two = 3\n")
    assert digest() not in (before, changed)


def test_this_packages_inits_hold_nothing_but_imports():
    for module in members("bayesgap"):
        path = source_of(module)
        assert path is not None
        if path.name == "__init__.py" and module != "bayesgap":
            for node in ast.parse(path.read_text()).body:
                docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                listed = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
                assert docstring or listed or isinstance(node, ast.ImportFrom), module


@pytest.mark.parametrize("module", ["__main__", "no_such_module"])
def test_what_cannot_be_followed_is_refused(module):
    with pytest.raises(BayesgapError, match=f"The source of {module} cannot be followed"):
        digest_of(frozenset({module}))


@pytest.mark.parametrize("module", ["json", "torch.nn.modules.linear", "bayesgap.files"])
def test_libraries_and_this_package_are_told_from_users_modules(module):
    assert (source_of(module) is None) == module.startswith(("json", "torch"))
    assert digest_of(frozenset({module}))


def test_all_imports_of_the_package_resolve():
    for module in members("bayesgap"):
        for imported in imports(module):
            assert source_of(imported) is not None, (module, imported)


def test_every_module_of_the_package_counts_for_its_own_digest():
    files = Path(bayesgap.__file__).parent.rglob("*.py")
    assert {source_of(module) for module in members("bayesgap")} == set(files)
    assert len(package_digest()) == 64


def test_nothing_in_the_package_imports_by_a_computed_name_but_what_is_known():
    dynamic = set()
    for module in members("bayesgap"):
        path = source_of(module)
        assert path is not None
        calls = (
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        )
        if any(source._is_dynamic(call) for call in calls):
            dynamic.add(module)
    # The first re-exports lazily and no module imports from it; the second refuses the package's.
    assert dynamic == {"bayesgap", "bayesgap.foreign"}
    others = [module for module in members("bayesgap") if "bayesgap" in imports(module)]
    assert others == ["bayesgap"]


def stages_of_all():
    known = known_tasks()
    setting = Setting("quick", 0, {name: known[name][-1] for name in DIGIT_TASKS})
    made = plan(setting, EXHIBITS)
    own = [stage for wants in made.wanted.values() for stage in wants.stages.values()]
    return in_order([*(stage for graph in made.graphs for stage in graph.targets()), *own])


def reaching(stage: Stage) -> frozenset[str]:
    codes = [stage.function, *stage.code.values()]
    return reached(getattr(c, "__module__", type(c).__module__) for c in codes)


WORDS = ("bayesgap.drawing", "bayesgap.report", "bayesgap.cli", "bayesgap.paper.engine")


def test_no_stage_reaches_a_claim_a_word_or_a_plot():
    for stage in stages_of_all():
        for module in reaching(stage):
            assert not module.startswith(WORDS), (stage.label, module)
            assert not module.endswith((".claims", ".exhibit", ".plots", ".kinds", ".rules")), (
                module
            )
            assert module not in {f"bayesgap.paper.{e.name}" for e in EXHIBITS}, module


@pytest.mark.parametrize(
    ("changed", "computed_again"),
    [
        ("bayesgap.paper.fig4", set()),  # its claims' words
        ("bayesgap.paper.rules", set()),
        ("bayesgap.drawing.bars", set()),
        ("bayesgap.paper.fig9.claims", set()),
        ("bayesgap.experiment.kinds", set()),
        ("bayesgap.report.page", set()),
        (
            "bayesgap.attacks.boundary",
            # Attacks, and what certifies: its upper bounds are walked too. Nothing that trains.
            {
                *("attack", "attack-online", "certify", "gamma"),
                *("plane", "mole", "line", "theory"),
            },
        ),
        ("bayesgap.classifiers.trades", {"trades-l2", "trades-linf", "trades-linf-wide"}),
        ("bayesgap.paper.fig8.study", {"helix"}),
        ("bayesgap.paper.fig10.study", {"same-decisions"}),
    ],
)
def test_a_change_recomputes_just_the_stages_that_reach_it(changed, computed_again):
    assert {s.name for s in stages_of_all() if changed in reaching(s)} - OTHERS == computed_again


OTHERS: set[str] = set()


def test_named_attacks_are_all_reached_by_the_stage_that_names_one():
    (attack,) = {reaching(stage) for stage in stages_of_all() if stage.label == ANY_ATTACK}
    for name in ("ld-grad", "closed-form", "ddn"):
        assert type(named_attack(name)).__module__ in attack


ANY_ATTACK = "boundary-walk on cnn of mnist-0-6/symmetric"
