import contextlib
import sys
from typing import Any

import pytest

from bayesgap.errors import BayesgapError
from bayesgap.foreign import named_object
from bayesgap.runs import source


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory of one's own, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def test_an_object_of_an_installed_module_is_found():
    import math

    assert named_object("math:hypot", "attack") is math.hypot
    assert named_object("math:pi", "attack") == math.pi  # what it may be is for others to say


def test_an_object_of_the_working_directory_is_found(workplace):
    (workplace / "my_own_module.py").write_text("def best(x):\n    return x + 1\n")
    found: Any = named_object("my_own_module:best", "method")
    assert found(1) == 2


def test_an_object_of_a_package_in_the_working_directory_is_found(workplace):
    (workplace / "my_own_package").mkdir()
    (workplace / "my_own_package" / "inner.py").write_text("answer = 42\n")
    assert named_object("my_own_package.inner:answer", "method") == 42


def test_the_path_of_imports_is_left_as_it_was(workplace):
    (workplace / "my_raising_module.py").write_text("raise ImportError('not today')\n")
    before = list(sys.path)
    for name in ("math:pi", "my_raising_module:x", "no_such_module_here:x"):
        with contextlib.suppress(BayesgapError):
            named_object(name, "attack")
        assert sys.path == before


@pytest.mark.parametrize(
    "name",
    [
        "bayesgap:evaluate",
        "bayesgap.attacks.ld_grad:LDGrad",
        "bayesgap.nosuch:thing",
        "bayesgap:",
        "bayesgap",
    ],
)
def test_what_is_of_this_package_cannot_be_named(name):
    """Or a stage could reach source that its key does not hold."""
    with pytest.raises(BayesgapError, match="is of bayesgap itself: name one of your own modules"):
        named_object(name, "attack")


def test_a_module_whose_name_only_begins_like_this_packages_is_ones_own(workplace):
    (workplace / "bayesgap_mine.py").write_text("answer = 42\n")
    assert named_object("bayesgap_mine:answer", "attack") == 42


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module_here:attack", "No module named 'no_such_module_here'"),
        ("math:nosuchfunction", "nosuchfunction"),
        (".relative:pi", "relative import"),
        ("math.pi:x", "'math' is not a package"),
    ],
)
def test_what_cannot_be_found_is_refused_in_a_sentence(name, why):
    with pytest.raises(BayesgapError, match="cannot be imported") as refusal:
        named_object(name, "method")
    assert str(refusal.value).startswith(f"The method {name!r} cannot be imported: ")
    assert why in str(refusal.value)
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize("name", ["math", "math:", ":pi", ":", "", "sub/mine.py:net"])
def test_what_is_no_name_is_told_what_one_is(name):
    with pytest.raises(BayesgapError, match=r"is named module:name, as in my_module:net; got '"):
        named_object(name, "method")


@pytest.mark.parametrize(
    ("source", "why", "line", "cause"),
    [
        ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero", 2, ZeroDivisionError),
        ("\n\nassert False\n", "AssertionError", 3, AssertionError),
        ("import no_such_library\n", "No module named 'no_such_library'", 1, ImportError),
        ("import json\n\njson.loads('')\n", "JSONDecodeError: Expecting value", 3, ValueError),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2, SystemExit),
    ],
)
def test_a_module_that_fails_is_named_with_the_line_and_the_reason(
    workplace, source, why, line, cause
):
    path = workplace / "my_buggy_module.py"
    path.write_text(source)
    with pytest.raises(BayesgapError, match="'my_buggy_module:attack' cannot be") as refusal:
        named_object("my_buggy_module:attack", "attack")
    assert why in str(refusal.value)
    assert str(refusal.value).endswith(f"({path}, line {line}).")
    assert isinstance(refusal.value.__cause__, cause)


def test_a_module_that_is_no_python_is_named_with_the_line(workplace):
    (workplace / "my_unfinished_module.py").write_text("x = 1\ndef attack(:\n")
    with pytest.raises(BayesgapError, match=r"invalid syntax \(my_unfinished_module.py, line 2\)"):
        named_object("my_unfinished_module:attack", "attack")


def test_the_line_is_that_of_the_users_module_which_fails(workplace):
    (workplace / "my_outer_module.py").write_text("import my_inner_module\n")
    (workplace / "my_inner_module.py").write_text("x = 0\n{}['key']\n")
    inner = workplace / "my_inner_module.py"
    with pytest.raises(BayesgapError) as refusal:
        named_object("my_outer_module:attack", "attack")
    assert f"KeyError: 'key' ({inner}, line 2)." in str(refusal.value)


def test_an_interrupt_while_a_users_module_is_imported_stays_one(workplace):
    (workplace / "my_long_module.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        named_object("my_long_module:attack", "attack")


def test_no_stage_reaches_more_of_the_package_by_it():
    """Where `runs.source` leaves the module's computed import out of account."""
    assert named_object.__module__ == source.FOREIGN
    assert source.reached([source.FOREIGN]) == {source.FOREIGN, "bayesgap.errors"}
