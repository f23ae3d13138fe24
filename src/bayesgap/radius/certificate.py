"""Certificates: what proves lower bounds, as a file that anyone may check again.

Checking shares no code with the search: it needs the densities, the points, the claims, and
`proof` alone. The file holds the task's densities too, so that it is a complete statement.
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
from bayesgap.radius.proof import Claim, Prover
from bayesgap.tasks.bayes import Rule
from bayesgap.tasks.catalog import RELEASED, load_task, task_names
from bayesgap.tasks.task import Task

KIND = "certificate"
CHUNK = 100  # points at a time
UNUSED = -1  # in place of a component
POINTS = ("x", "y", "lower", "upper", "images")
TASK, CLAIMS = "task.", "claims."  # prefixes of names in the file
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


class Claims(NamedTuple):
    """The claims of several points, as tensors: one row each.

    Attributes:
        point: The index of its point.
        target: Of its target component, in the order of `BayesClassifier.component_class`.
        own: Of its own components; −1 in unused places.
        shares: v; 0 in unused places.
        steepness: μ, in nats per squared unit.
        log_weight: log w of the target.
    """

    point: Int[Tensor, " claims"]
    target: Int[Tensor, " claims"]
    own: Int[Tensor, "claims m"]
    shares: Float[Tensor, "claims m"]
    steepness: Float[Tensor, " claims"]
    log_weight: Float[Tensor, " claims"]

    @classmethod
    def joined(cls, parts: Sequence["Claims"]) -> "Claims":
        """The claims of several groups, with as many places for own components as any needs."""
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

    def of_points(self, n: int) -> tuple[list[list[Claim]], list[np.ndarray]]:
        """What `Prover` takes: for each of n points its claims, and their log-weights."""
        claims: list[list[Claim]] = [[] for _ in range(n)]
        weights: list[list[float]] = [[] for _ in range(n)]
        for row, point in enumerate(self.point.tolist()):
            used = self.own[row] != UNUSED
            claims[point].append(
                Claim(
                    int(self.target[row]),
                    self.own[row][used].tolist(),
                    self.shares[row][used].numpy(),
                    float(self.steepness[row]),
                )
            )
            weights[point].append(float(self.log_weight[row]))
        return claims, [np.array(row) for row in weights]


def save(
    path: str | Path,
    task: Task,
    rule: Rule,
    points: Mapping[str, Tensor],
    claims: Claims,
) -> None:
    """Write a certificate to one safetensors file.

    Args:
        path: Where.
        task: Whose densities are meant.
        rule: How its classes collect their components.
        points: Those named in `POINTS`.
        claims: What proves their lower bounds.

    Raises:
        BayesgapError: the folder is missing or not writable.
    """
    tensors, about = task.to_tensors()
    tensors = {TASK + name: tensor for name, tensor in tensors.items()} | dict(points)
    tensors |= {CLAIMS + name: tensor for name, tensor in claims._asdict().items()}
    files.save_tensors(path, tensors, kind=KIND, metadata={"task": about, "rule": rule})


@dataclass(frozen=True)
class Verification:
    """What became of a certificate's statements when they were checked again.

    Attributes:
        task: The task that the file holds.
        released: Whether its numbers are those of the released task of that name.
        rule: How its classes collect their components.
        lower: The radii stated.
        upper: The distances stated.
        proven: Whether the claims prove the point's lower bound.
        shown: Whether the point's image certainly is decided otherwise, and lies as near as
            stated. Where upper is infinite nothing is stated.
    """

    task: Task
    released: bool
    rule: Rule
    lower: Float[Tensor, " n"]
    upper: Float[Tensor, " n"]
    proven: Bool[Tensor, " n"]
    shown: Bool[Tensor, " n"]


def verify(path: str | Path) -> Verification:
    """Check every statement of a certificate anew, without any of the code that found it.

    A stranger's file is only ever read as numbers and text.

    Raises:
        BayesgapError: the file is missing, damaged or holds something else.
    """
    tensors, about = files.load_tensors(path, kind=KIND)
    rule: Any = about.get("rule")
    if rule not in get_args(Rule) or not isinstance(about.get("task"), dict):
        raise BayesgapError(f"{path} is damaged: its metadata lacks a task or a rule.")
    parts = {k.removeprefix(TASK): t for k, t in tensors.items() if k.startswith(TASK)}
    task = Task.from_tensors(parts, about["task"], source=path)
    points, claims = _read(tensors, task, path)
    x, y, lower, upper, images = (points[name] for name in POINTS)
    n, (claimed, log_weights) = len(x), claims.of_points(len(x))
    proven, shown = [], []
    with quietly(), progress(f"verifying {n} points of {task.name}", n) as advance:
        try:
            prover = Prover(task, rule)
            for start in range(0, n, CHUNK):
                rows = slice(start, start + CHUNK)
                flat, labels = x[rows].flatten(1).numpy(), y[rows].numpy()
                radii = lower[rows].numpy()
                held = prover.confirm(flat, labels, claimed[rows], radii, log_weights[rows])
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
) -> tuple[dict[str, Tensor], Claims]:
    """Points and claims of a stranger's file, their shapes and ranges checked."""
    names = [*POINTS, *(CLAIMS + name for name in Claims._fields)]
    missing = [name for name in names if name not in tensors]
    if missing:
        raise BayesgapError(f"{path} is damaged: it holds no tensor {missing[0]!r}.")
    points = {name: tensors[name] for name in POINTS}
    claims = Claims(*(tensors[CLAIMS + name] for name in Claims._fields))
    n, rows = points["y"].numel(), claims.point.numel()
    width = claims.own.shape[-1] if claims.own.ndim else 0
    components = sum(density.components for density in task.densities)
    real, whole = torch.float64, torch.int64
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "x": ((n, *task.image_shape), real),
        "y": ((n,), whole),
        "lower": ((n,), real),
        "upper": ((n,), real),
        "images": ((n, *task.image_shape), real),
        "claims.point": ((rows,), whole),
        "claims.target": ((rows,), whole),
        "claims.own": ((rows, width), whole),
        "claims.shares": ((rows, width), real),
        "claims.steepness": ((rows,), real),
        "claims.log_weight": ((rows,), real),
    }
    for name, (shape, dtype) in expected.items():
        given = tensors[name]
        if tuple(given.shape) != shape or given.dtype != dtype or n == 0:
            raise BayesgapError(
                f"{path} is damaged: its tensor {name!r} is {given.dtype} of shape "
                f"{tuple(given.shape)}, not {dtype} of {shape}."
            )
    used = claims.own != UNUSED
    legal = {
        "x": points["x"].isfinite(),
        "images": points["images"].isfinite(),
        "y": (points["y"] >= 0) & (points["y"] < task.classes),
        "lower": (points["lower"] >= 0) & points["lower"].isfinite(),
        "upper": points["upper"] >= 0,
        "claims.point": (claims.point >= 0) & (claims.point < n),
        "claims.target": (claims.target >= 0) & (claims.target < components),
        "claims.own": (claims.own >= UNUSED) & (claims.own < components),
        "claims.shares": (claims.shares > 0) & claims.shares.isfinite() | ~used,
        "claims.steepness": (claims.steepness > 0) & claims.steepness.isfinite(),
        "claims.log_weight": ~claims.log_weight.isnan(),
    }
    for name, fine in legal.items():
        if not fine.all():
            value = tensors[name][~fine][0].item()
            raise BayesgapError(f"{path} is damaged: its tensor {name!r} holds {value:g}.")
    if not used.any(dim=1).all():
        raise BayesgapError(f"{path} is damaged: a claim has no component of the own class.")
    return points, claims
