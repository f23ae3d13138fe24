"""The examples of docstrings, run as their readers would run them."""

import doctest
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import bayesgap
from celeba_copies import make

NAMES = {"bayesgap": bayesgap, "bg": bayesgap, "torch": torch, "np": np}


def modules() -> Iterator[ModuleType]:
    yield bayesgap
    for found in pkgutil.walk_packages(bayesgap.__path__, "bayesgap."):
        yield import_module(found.name)


def defined_by(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The classes and functions of a module by name, those that it imports left out."""
    for name, value in vars(module).items():
        defined = inspect.isclass(value) or inspect.isroutine(value)
        if defined and value.__module__ == module.__name__:
            yield f"{module.__name__}.{name}", inspect.unwrap(value)


def examples() -> Iterator[doctest.DocTest]:
    """The docstrings with examples: of each module, and of what it defines."""
    alone, within = doctest.DocTestFinder(recurse=False), doctest.DocTestFinder()
    for module in modules():
        names = {**NAMES, **vars(module)}
        found = alone.find(module, module.__name__, globs=names)
        for name, value in defined_by(module):
            # Told the module, the finder would take wrapped methods for those of another.
            found += within.find(value, name, module=False, globs=names)
        yield from (test for test in found if test.examples)


@pytest.fixture
def with_copy_of_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to work in that holds what an example may take for granted: a copy of CelebA."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "celeba")


@pytest.mark.usefixtures("with_copy_of_faces")
@pytest.mark.parametrize("test", [*examples()], ids=lambda test: test.name)
def test_the_example_gives_what_it_says(test: doctest.DocTest):
    report: list[str] = []
    results = doctest.DocTestRunner().run(test, out=report.append)
    assert results.attempted
    assert not results.failed, "".join(report)


def is_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


@pytest.mark.parametrize("name", sorted(set(bayesgap.__all__) - {"__version__"}))
def test_every_public_name_has_an_example(name: str):
    value = getattr(bayesgap, name)
    documented = inspect.getdoc(value) or ""
    assert is_error(value) or doctest.DocTestParser().get_examples(documented)
