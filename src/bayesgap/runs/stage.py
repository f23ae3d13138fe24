"""Stages: pure functions with settings and inputs, and the keys under which results are stored.

A stage's *identity* is the hash of what it is: its name, its settings and its inputs'
identities. Its random numbers are seeded from that, so they depend neither on the order of
execution nor on the release that executes it. Its *key* adds what the outcome may also depend
on: the source that its function reaches, the versions of the numerical libraries and the number of
threads.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, cached_property, partial
from typing import Any

from bayesgap.errors import BayesgapError
from bayesgap.files import dump
from bayesgap.runs.source import digest_of
from bayesgap.runs.store import Result
from bayesgap.versions import versions

Function = Callable[..., Result]
PLACE = "place"  # in the metadata of a dataclass's field: a path, which is no part of what it is


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a run.

    Attributes:
        name: What kind of step it is, such as "train-cnn".
        function: Called with each input's `Result` and each setting by name, and `seed`; it must
            be importable by its qualified name, so that workers find it.
        settings: Anything that JSON can hold.
        inputs: The stages whose results it needs.
        label: What progress and the report call it.
        places: Paths that the function is called with too. They are no part of what the stage
            is: what must be found there stands among the settings as a checksum.
        code: Functions, or instances of classes, that the function is called with too. They are
            no part of what the stage is either; like the function's, their source is part of the
            key. Workers must be able to import them.
    """

    name: str
    function: Function
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, "Stage"] = field(default_factory=dict)
    label: str = ""
    places: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str:
        """Hash of what the stage is, whatever code and versions execute it."""
        inputs = {name: stage.identity for name, stage in self.inputs.items()}
        return digest(self.name, dict(self.settings), inputs)

    @property
    def seed(self) -> int:
        """The seed of all random numbers of the stage."""
        return seed_of(self.identity)

    @cached_property
    def work(self) -> str:
        """Hash of what the stage is and of the names of the code that executes it.

        Stages of one identity may be executed by different code, as two kinds of classifiers that
        are called alike: they are other work.
        """
        inputs = {name: stage.work for name, stage in self.inputs.items()}
        codes = [[_name(code), _state(code)] for code in self._codes]
        return digest(self.identity, codes, inputs)

    def key(self, threads: int) -> str:
        """Hash of all that the result may depend on."""
        inputs = {name: stage.key(threads) for name, stage in self.inputs.items()}
        return digest(self.work, inputs, self.environment, threads)

    @property
    def environment(self) -> dict[str, str]:
        """The versions of the numerical libraries, and the hash of the source that is reached."""
        return {"source": digest_of(frozenset(map(_module, self._codes))), **versions()}

    @property
    def _codes(self) -> list[Any]:
        return [self.function, *self.code.values()]

    def describe(self, threads: int) -> dict[str, Any]:
        """What the manifest says of the stage."""
        return {
            "stage": self.name,
            "label": self.label,
            "settings": dict(self.settings),
            "inputs": {name: stage.key(threads) for name, stage in self.inputs.items()},
            "seed": self.seed,
            "threads": threads,
            "environment": self.environment,
        }


def digest(*parts: Any) -> str:
    """SHA-256 of JSON values, in hexadecimal, shortened to 128 bits."""
    return hashlib.sha256(dump(parts).encode()).hexdigest()[:32]


def seed_of(*parts: Any) -> int:
    """A seed that depends on all parts (of its 63 bits, torch's CPU generator uses the last 32)."""
    return int(digest(*parts), 16) % 2**63


def in_order(targets: Iterable[Stage]) -> list[Stage]:
    """The targets and all that they need, each once, inputs first."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.work not in ordered:
            for upstream in stage.inputs.values():
                visit(upstream)
            ordered[stage.work] = stage

    for target in targets:
        visit(target)
    return list(ordered.values())


@cache
def _module(code: Any) -> str:
    """Where a function or class, or the class of an instance, is defined."""
    return _name(code).partition(":")[0]


def _name(code: Any) -> str:
    """The "module:name" of a function or class, or of the class of an instance.

    Raises:
        BayesgapError: what has no such name, as a lambda, a local function or a partial one:
            neither could a worker import it, nor could its source be followed.
    """
    named = code if isinstance(code, type) or hasattr(code, "__qualname__") else type(code)
    name = f"{named.__module__}:{named.__qualname__}"
    if "<" in name or isinstance(code, partial):
        raise BayesgapError(
            f"What a stage calls must be importable by its name; {code!r} is not: define it at the "
            "top of a module."
        )
    return name


def _state(code: Any) -> dict[str, Any] | None:
    """What an instance that a stage is called with holds, but for paths; None of functions.

    Raises:
        BayesgapError: an instance that is no dataclass, or a method of one: what it holds cannot
            be told, and stored results would outlive a change of it.
    """
    if isinstance(code, type) or (
        hasattr(code, "__qualname__") and isinstance(getattr(code, "__self__", None), type | None)
    ):
        return None
    if not is_dataclass(code):
        raise BayesgapError(
            "What a stage is called with is a function, a class or an instance of a dataclass; "
            f"got {code!r}."
        )
    return {
        each.name: getattr(code, each.name) for each in fields(code) if PLACE not in each.metadata
    }
