"""Stage functions that workers can import."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bayesgap.errors import BayesgapError
from bayesgap.runs.store import Result


def draw(*, n, log, seed):
    """Random numbers; leaves a line in the log for each time it is computed."""
    _note(log, f"draw {n}")
    return Result({"x": torch.randn(n, generator=torch.Generator().manual_seed(seed))})


def add(left, right, *, log, seed):
    """The sum of two draws."""
    _note(log, "add")
    return Result(values={"sum": (left.tensors["x"].sum() + right.tensors["x"].sum()).item()})


def refuse(*, seed):
    """What a stage does with bad input."""
    raise BayesgapError("The 7th image is upside down.")


def _note(log, line):
    with Path(log).open("a") as file:
        file.write(line + "\n")


def nap(*, log, seed):
    """Note the process and stay busy in it."""
    _note(log, str(os.getpid()))
    time.sleep(60)
    return Result()


def call(*, n, function, seed):
    """What a function makes of a number."""
    return Result(values={"value": function(n)})


def double(n):
    return 2 * n


def negate(n):
    return -n


def doubled(*, n, seed):
    """A stage that forgets to make a Result."""
    return 2 * n


@dataclass(frozen=True)
class Times:
    """A function with a state."""

    factor: int
    folder: str = field(default="", metadata={"place": True})

    def __call__(self, n):
        return self.factor * n


class Secret:
    """An instance that does not say what it holds."""

    def __init__(self):
        self.factor = 2

    def __call__(self, n):
        return self.factor * n

    def times(self, n):
        return self.factor * n
