"""Tables of discrete features: densities for which even the radius is exact (section 2.1).

Every instance is a cell, one level of each of several quantised features, and a density is the
table of the cells' probabilities. Two requirements shaped this module. Nothing is approximated:
the distance to another decision is found by search over steps, a sum of squares along one
feature after the other, in which nothing cancels. And a table may hold zeros, so that the Bayes
rule has to say what it does where no class can produce a cell: it decides nothing there.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.densities.base import PreciseModule, check_count
from bayesgap.densities.mfa import ROUNDING
from bayesgap.errors import BayesgapError

UNDECIDED = -1  # the decision on a cell that no class can produce


class Categorical(PreciseModule):
    """A density over the cells of a table: p(f) = table[f], for f one level of each feature.

    Levels of a feature are equally spaced, by a step in the feature's own units, so that cells
    have L2 distances. All quantities are float64 unless the module is moved to float32.

    It has what a `bayesgap.Density` has, but its points are integers and between
    cells it says nothing: no `Task` can be made of it, and no attack can follow it.

    Example:
        >>> density = bayesgap.Categorical(torch.tensor([[0.5, 0.0], [0.25, 0.25]]))
        >>> density.log_prob(torch.tensor([[0, 0], [1, 1]])).exp().tolist()
        [0.5, 0.25]
    """

    table: Tensor
    steps: Tensor

    def __init__(self, table: Float[Tensor, "..."], *, steps: Sequence[float] | None = None):
        """Check the table and keep a copy.

        Args:
            table: The probability of each cell, one axis for each feature; zeros are legal. They
                must sum to 1 within 1e-5 and are normalised.
            steps: The spacing between levels of each feature, in its units; 1 by default.

        Raises:
            BayesgapError: values are no probabilities, or steps are missing or not positive.
        """
        super().__init__()
        if table.ndim < 1 or table.numel() < 1:
            raise BayesgapError(
                "A table has one axis for each feature, and one or more levels along each; got "
                f"one of shape {tuple(table.shape)}."
            )
        total = _total(table)
        spacing = torch.ones(table.ndim) if steps is None else torch.as_tensor(steps)
        spacing = spacing.to(torch.float64, copy=True)
        if spacing.shape != (table.ndim,):
            raise BayesgapError(
                f"A table of {table.ndim} features needs {table.ndim} steps; got {spacing.numel()}."
            )
        if not (spacing.isfinite() & (spacing > 0)).all():
            raise BayesgapError(
                f"The steps of a table must be finite and positive; got {spacing.tolist()}."
            )
        self.register_buffer("table", table.detach().to(torch.float64, copy=True).contiguous())
        self.register_buffer("steps", spacing)
        if abs(total - 1) > ROUNDING:
            self.table /= total

    @property
    def features(self) -> int:
        """How many features a cell has."""
        return self.table.ndim

    @property
    def dimension(self) -> int:
        """The number of values of a point: one level for each feature."""
        return self.features

    @property
    def levels(self) -> tuple[int, ...]:
        """How many levels each feature has."""
        return tuple(self.table.shape)

    @property
    def log_table(self) -> Float[Tensor, "..."]:
        """log p of every cell in nats; minus infinity where p is 0."""
        _total(self.table)  # which may have been edited
        return self.table.log()

    def log_prob(self, cells: Int[Tensor, "n features"]) -> Float[Tensor, " n"]:
        """log p of cells in nats; minus infinity where p is 0.

        Args:
            cells: The level of each feature, counted from 0; integers (n, features).

        Raises:
            BayesgapError: cells that are not in the table.
        """
        self._check(cells)
        return self.log_table[cells.long().unbind(dim=1)]

    def sample(self, n: int, *, generator: torch.Generator) -> Int[Tensor, "n features"]:
        """Draw n cells; none whose probability is 0.

        The random numbers are drawn where the generator lives, so a CPU generator gives the
        same cells whatever the device of the density.

        Args:
            n: The number of cells to draw, 0 or more.
            generator: The only source of randomness; it advances.

        Raises:
            BayesgapError: n is no number of cells.
        """
        check_count(n)
        _total(self.table)
        # By inversion: torch.multinomial refuses tables of more than 2²⁴ cells. The last sum is
        # exactly 1 and uniform numbers are below it; a cell of probability 0 has its
        # predecessor's sum and is never the first above a number.
        sums = self.table.flatten().double().cumsum(dim=0)
        uniform = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
        flat = torch.searchsorted(sums / sums[-1], uniform.to(sums.device), right=True)
        cells = []
        for size in reversed(self.levels):
            cells.append(flat % size)
            flat = flat // size
        return torch.stack(cells[::-1], dim=1)

    def _check(self, cells: Tensor) -> None:
        if cells.ndim != 2 or cells.shape[1] != self.features or torch.is_floating_point(cells):
            raise BayesgapError(
                f"Cells of a table of {self.features} features are integers of shape "
                f"(n, {self.features}); got {cells.dtype} of shape {tuple(cells.shape)}."
            )
        sizes = torch.tensor(self.levels, device=cells.device)
        outside = ((cells < 0) | (cells >= sizes)).any(dim=1).nonzero().flatten()
        if len(outside):
            raise BayesgapError(
                f"The cell {cells[outside[0]].tolist()} is not in a table of "
                f"{' × '.join(str(size) for size in self.levels)} levels."
            )

    def extra_repr(self) -> str:
        """Levels and steps."""
        return f"levels={self.levels}, steps={self.steps.tolist()}"


def _total(table: Tensor) -> float:
    """The sum of a table's probabilities, which is 1 but for rounding; others are refused."""
    wrong = table[~(table.isfinite() & (table >= 0))]
    if len(wrong):
        raise BayesgapError(
            "The probabilities of a table must be finite and not negative; one of them is "
            f"{wrong[0].item():g}."
        )
    total = table.double().sum().item()
    if abs(total - 1) > 1e-5:
        raise BayesgapError(f"The probabilities of a table must sum to 1; they sum to {total:g}.")
    return total


def table_decisions(
    densities: Sequence[Categorical], priors: Sequence[float] | None = None
) -> Int[Tensor, "..."]:
    """The Bayes rule on every cell: the class whose prior · p is largest, the first of equals.

    A cell that no class can produce has no posterior and is decided by nobody (`UNDECIDED`).
    Giving such cells to some class instead, as a bare argmax would to the first one, would make
    the radius depend on the order of the classes.

    Args:
        densities: The table of each class, all over the same cells.
        priors: The probability of each class, positive and summing to 1; equal by default.

    Returns:
        A class or `UNDECIDED` for each cell, in the shape of the tables.

    Raises:
        BayesgapError: fewer than two classes, tables over other cells, or no priors.
    """
    scales = _scales(densities, priors)
    joints = [scale * density.table for scale, density in zip(scales, densities, strict=True)]
    decided = torch.full_like(joints[0], UNDECIDED, dtype=torch.int64)
    best = torch.zeros_like(joints[0])
    for label, joint in enumerate(joints):
        decided = torch.where(joint > best, label, decided)
        best = torch.maximum(joint, best)
    return decided


def table_radius(
    densities: Sequence[Categorical], priors: Sequence[float] | None = None
) -> Float[Tensor, "..."]:
    """The radius of every cell: the least L2 distance to one that the Bayes rule decides otherwise.

    Exact but for the rounding of a sum of as many squares as there are features. Cells that are
    decided by nobody end no search: who is moved there has not been decided otherwise.

    Args:
        densities: The table of each class, all over the same cells.
        priors: The probability of each class, positive and summing to 1; equal by default.

    Returns:
        Distances in the features' units, in the shape of the tables: infinite where no cell is
        decided otherwise, NaN for a cell that is itself decided by nobody.

    Raises:
        BayesgapError: fewer than two classes, tables over other cells, or no priors.
    """
    decided = table_decisions(densities, priors)
    steps = densities[0].steps.tolist()
    radius = torch.full(decided.shape, torch.nan, dtype=torch.float64, device=decided.device)
    for label in range(len(densities)):
        other = (decided != label) & (decided != UNDECIDED)
        distance = distance_to(other, steps)
        radius = torch.where(decided == label, distance, radius)
    return radius


def distance_to(cells: Tensor, steps: Sequence[float]) -> Float[Tensor, "..."]:
    """The L2 distance of every cell of a table to the nearest of those that are marked.

    Squared distances are sums over features, so their minimum is found along one feature after
    the other: each time, for every level, the least over all levels of what was found before
    plus the squared difference of the two.

    Args:
        cells: Whether each cell of the table is marked.
        steps: The spacing between levels of each feature, in the feature's units.

    Returns:
        Distances in the features' units; infinite where nothing is marked.
    """
    squared = torch.where(cells, 0.0, torch.inf).double()
    for axis, step in enumerate(steps):
        before = squared.movedim(axis, -1)
        found = torch.full_like(before, torch.inf)
        levels = torch.arange(before.shape[-1], dtype=before.dtype, device=cells.device)
        for level in range(before.shape[-1]):
            change = ((levels - level) * step).square()
            found = torch.minimum(found, before[..., level : level + 1] + change)
        squared = found.movedim(-1, axis)
    return squared.sqrt()


def _scales(densities: Sequence[Categorical], priors: Sequence[float] | None) -> list[float]:
    """The priors relative to the largest, once everything is known to fit together.

    Equal priors become exactly 1, so that no rounding decides between equal probabilities.
    """
    classes = len(densities)
    if classes < 2:
        raise BayesgapError(f"A decision needs 2 or more tables; got {classes}.")
    for density in densities:
        _total(density.table)
    first = densities[0]
    for density in densities[1:]:
        if density.levels != first.levels or not torch.equal(density.steps, first.steps):
            raise BayesgapError(
                "The tables of a decision are over the same cells; one has levels "
                f"{first.levels} with steps {first.steps.tolist()}, another {density.levels} "
                f"with steps {density.steps.tolist()}."
            )
    given = [1 / classes] * classes if priors is None else [float(prior) for prior in priors]
    if len(given) != classes:
        raise BayesgapError(f"{classes} tables came with {len(given)} priors.")
    if not all(prior > 0 for prior in given) or abs(sum(given) - 1) > 1e-9:
        raise BayesgapError(f"Priors must be positive and sum to 1; got {given}.")
    return [prior / max(given) for prior in given]
