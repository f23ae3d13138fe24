"""Certificates: what proves lower bounds, as a file that anyone may check again.

Checking shares no code with the search: it needs the densities, the points, the statements, and
`proof` alone. The file holds the task's densities too, so that nothing else is needed to check it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import pad

from bayesgap import files
from bayesgap.errors import BayesgapError
from bayesgap.progress import progress
from bayesgap.radius.proof import Prover, Statement
from bayesgap.tasks.bayes import Rule
from bayesgap.tasks.catalog import RELEASED, load_task, task_names
from bayesgap.tasks.task import Task

KIND = "certificate"
CHUNK = 100  # points at a time
UNUSED = -1  # in place of a component
POINTS = ("x", "y", "lower", "upper", "images")
TASK, STATEMENTS = "task.", "claims."  # prefixes of names in files; the latter is an old word
ROUNDING = 1e-12  # relative, of a distance


@contextmanager
def quietly() -> Iterator[None]:
    """One thread, and no warnings, while steps are too small to be shared among several.

    Where other work keeps the cores busy, threads that wait for each other at every step take
    many times as long as one alone.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # What overflows proves nothing, and needs no warning.
        with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):
            yield
    finally:
        torch.set_num_threads(threads)


class Statements(NamedTuple):
    """The statements of several points, as tensors: one row each.

    Attributes:
        point: Index of the point that each is about.
        target: Index of each target component, in the order of `BayesClassifier.component_class`.
        own: Indices of the m own components that hold it off, in that order; −1 in unused places.
        shares: v, one for each of the own components, positive; 0 in unused places.
        steepness: μ, in nats per squared pixel unit.
        log_weight: log w, the weight that the target has at the radius proven, in nats.
    """

    point: Int[Tensor, " statements"]
    target: Int[Tensor, " statements"]
    own: Int[Tensor, "statements m"]
    shares: Float[Tensor, "statements m"]
    steepness: Float[Tensor, " statements"]
    log_weight: Float[Tensor, " statements"]

    @classmethod
    def joined(cls, parts: Sequence["Statements"]) -> "Statements":
        """The statements of several groups, with as many places for own components as any needs.

        Args:
            parts: The groups, in the order of the rows that come back.
        """
        width = max((part.own.shape[1] for part in parts), default=1)
        whole, real = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
        none = cls(whole, whole, whole[:, None], real[:, None], real, real)
        wide = [
            part._replace(
                own=pad(part.own, (0, width - part.own.shape[1]), value=UNUSED),
                shares=pad(part.shares, (0, width - part.shares.shape[1])),
            )
            for part in (none, *parts)
        ]
        return cls(*(torch.cat(column) for column in zip(*wide, strict=True)))

    def of_points(self, n: int) -> tuple[list[list[Statement]], list[np.ndarray]]:
        """What `Prover` takes: for each of n points its statements, and their log-weights.

        Args:
            n: How many points there are, those without a statement among them.
        """
        statements: list[list[Statement]] = [[] for _ in range(n)]
        weights: list[list[float]] = [[] for _ in range(n)]
        for row, point in enumerate(self.point.tolist()):
            used = self.own[row] != UNUSED
            statements[point].append(
                Statement(
                    int(self.target[row]),
                    self.own[row][used].tolist(),
                    self.shares[row][used].numpy(),
                    float(self.steepness[row]),
                )
            )
            weights[point].append(float(self.log_weight[row]))
        return statements, [np.array(row) for row in weights]


def save(
    path: str | Path,
    task: Task,
    rule: Rule,
    points: Mapping[str, Tensor],
    statements: Statements,
) -> None:
    """Write a certificate to one safetensors file.

    Args:
        path: Where to write; an existing file is replaced.
        task: The task whose optimum is certified.
        rule: How a class's log-joint comes from its components'.
        points: The tensors that `POINTS` names, as of `Bracket`: a row for each point.
        statements: What proves the lower bounds.

    Raises:
        BayesgapError: the folder is missing or not writable.
    """
    tensors, about = task.to_tensors()
    tensors = {TASK + name: tensor for name, tensor in tensors.items()} | dict(points)
    tensors |= {STATEMENTS + name: tensor for name, tensor in statements._asdict().items()}
    files.save_tensors(path, tensors, kind=KIND, metadata={"task": about, "rule": rule})


@dataclass(frozen=True)
class Verification:
    """What became of a certificate's bounds when they were checked again.

    Attributes:
        task: The task that the file holds.
        released: Whether the task's numbers are those of the released task of that name.
        rule: How a class's log-joint comes from its components'.
        lower: The lower bound of each point's radius that the file gives, in pixel units.
        upper: The upper bound of each point's radius that the file gives, in pixel units.
        proven: Whether each lower bound is proven by the file's statements.
        shown: Whether each upper bound is shown by the file's image: certainly decided otherwise,
            and as near as the bound says. True where the bound is infinite, which says nothing.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> bayesgap.certify(task, *task.sample(2, seed=0)).save("proofs.safetensors")
        >>> bayesgap.verify("proofs.safetensors").shown.tolist()
        [True, True]
    """

    task: Task
    released: bool
    rule: Rule
    lower: Float[Tensor, " n"]
    upper: Float[Tensor, " n"]
    proven: Bool[Tensor, " n"]
    shown: Bool[Tensor, " n"]


def verify(path: str | Path) -> Verification:
    """Check every bound of a certificate anew, without any of the code that found it.

    A stranger's file is only ever read as numbers and text.

    Args:
        path: A file that `Bracket.save` wrote.

    Raises:
        BayesgapError: the file is missing, damaged or holds something else.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> bayesgap.certify(task, *task.sample(2, seed=0)).save("proofs.safetensors")
        >>> verified = bayesgap.verify("proofs.safetensors")
        >>> verified.released, verified.proven.tolist()
        (True, [True, True])
    """
    tensors, about = files.load_tensors(path, kind=KIND)
    rule: Any = about.get("rule")
    if rule not in get_args(Rule) or not isinstance(about.get("task"), dict):
        raise BayesgapError(f"{path} is damaged: its metadata lacks a task or a rule.")
    parts = {k.removeprefix(TASK): t for k, t in tensors.items() if k.startswith(TASK)}
    task = Task.from_tensors(parts, about["task"], source=path)
    points, statements = _read(tensors, task, path)
    x, y, lower, upper, images = (points[name] for name in POINTS)
    n, (stated, log_weights) = len(x), statements.of_points(len(x))
    proven, shown = [], []
    with quietly(), progress(f"verifying {n} points of {task.name}", n) as advance:
        try:
            prover = Prover(task, rule)
            for start in range(0, n, CHUNK):
                rows = slice(start, start + CHUNK)
                flat, labels = x[rows].flatten(1).numpy(), y[rows].numpy()
                radii = lower[rows].numpy()
                held = prover.confirm(flat, labels, stated[rows], radii, log_weights[rows])
                other = prover.decided_otherwise(images[rows].flatten(1).numpy(), labels)
                proven.append(torch.from_numpy(held))
                shown.append(torch.from_numpy(other))
                advance(len(flat))
        except BayesgapError as error:
            raise BayesgapError(f"{path} cannot be verified: {error}") from error
    near = (images - x).flatten(1).norm(dim=1) <= (1 + ROUNDING) * upper
    return Verification(
        task=task,
        rule=rule,
        released=_released(task),
        lower=lower,
        upper=upper,
        proven=torch.cat(proven),
        shown=upper.isinf() | (torch.cat(shown) & near),
    )


def _released(task: Task) -> bool:
    """Whether these are the numbers of the released task of that name."""
    if task.name not in task_names(RELEASED):  # which may be the path of a stranger's file
        return False
    tensors, _ = load_task(task.name).to_tensors()
    given, _ = task.to_tensors()
    return given.keys() == tensors.keys() and all(
        torch.equal(given[name], tensor) for name, tensor in tensors.items()
    )


def _read(
    tensors: Mapping[str, Tensor], task: Task, path: str | Path
) -> tuple[dict[str, Tensor], Statements]:
    """Points and statements of a stranger's file, their shapes and ranges checked."""
    names = [*POINTS, *(STATEMENTS + name for name in Statements._fields)]
    missing = [name for name in names if name not in tensors]
    if missing:
        raise BayesgapError(f"{path} is damaged: it holds no tensor {missing[0]!r}.")
    points = {name: tensors[name] for name in POINTS}
    statements = Statements(*(tensors[STATEMENTS + name] for name in Statements._fields))
    n, rows = points["y"].numel(), statements.point.numel()
    width = statements.own.shape[-1] if statements.own.ndim else 0
    components = sum(density.components for density in task.mixtures)
    real, whole = torch.float64, torch.int64
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "x": ((n, *task.image_shape), real),
        "y": ((n,), whole),
        "lower": ((n,), real),
        "upper": ((n,), real),
        "images": ((n, *task.image_shape), real),
        STATEMENTS + "point": ((rows,), whole),
        STATEMENTS + "target": ((rows,), whole),
        STATEMENTS + "own": ((rows, width), whole),
        STATEMENTS + "shares": ((rows, width), real),
        STATEMENTS + "steepness": ((rows,), real),
        STATEMENTS + "log_weight": ((rows,), real),
    }
    for name, (shape, dtype) in expected.items():
        given = tensors[name]
        if tuple(given.shape) != shape or given.dtype != dtype or n == 0:
            raise BayesgapError(
                f"{path} is damaged: its tensor {name!r} is {given.dtype} of shape "
                f"{tuple(given.shape)}, not {dtype} of {shape}."
            )
    used = statements.own != UNUSED
    legal = {
        "x": points["x"].isfinite(),
        "images": points["images"].isfinite(),
        "y": (points["y"] >= 0) & (points["y"] < task.classes),
        "lower": (points["lower"] >= 0) & points["lower"].isfinite(),
        "upper": points["upper"] >= 0,
        STATEMENTS + "point": (statements.point >= 0) & (statements.point < n),
        STATEMENTS + "target": (statements.target >= 0) & (statements.target < components),
        STATEMENTS + "own": (statements.own >= UNUSED) & (statements.own < components),
        STATEMENTS + "shares": (statements.shares > 0) & statements.shares.isfinite() | ~used,
        STATEMENTS + "steepness": (statements.steepness > 0) & statements.steepness.isfinite(),
        STATEMENTS + "log_weight": ~statements.log_weight.isnan(),
    }
    for name, fine in legal.items():
        if not fine.all():
            value = tensors[name][~fine][0].item()
            raise BayesgapError(f"{path} is damaged: its tensor {name!r} holds {value:g}.")
    if not used.any(dim=1).all():
        raise BayesgapError(f"{path} is damaged: a statement has no component of the own class.")
    return points, statements
