"""Doubts: what makes the numbers of an evaluation say less than they seem to.

A doubt is a finding with its evidence and what to do about it. `classifier_doubts` examines a
classifier before it is attacked, `result_doubts` what the attacks made of it. The indicators of
attack failure of Pintor et al. (2022) are among them, and so is what Athalye et al. (2018) and
Carlini et al. (2019) ask for; beyond them stand those that known densities allow, such as samples
of another class, which no attack may end farther away than.
"""

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

# Of the classifier, before it is attacked.
RANDOM, BATCH = "not deterministic", "depends on the batch"
NO_GRADIENTS, NOT_FINITE = "no gradients", "gradients are not finite"
VANISHING, DISAGREEING = "gradients vanish", "gradients disagree"
SATURATED, COARSE = "outputs saturate", "outputs are coarse"
RANGE, LABELS, ACCURACY = "images out of range", "labels look exchanged", "accuracy too low"
FEW_POINTS, UNLIKE = "too few points", "points unlike the task's"
OUTSIDE = "points outside the box"
ABSTAINS = "abstains between images"
# Of what the attacks found.
UNSTABLE, UNBROKEN = "successes do not stand", "points withstood"
FARTHER, SAMPLES = "farther than samples", "success hinges on samples"
NOT_NEAREST, ATTACKS = "nearer ones exist", "attacks disagree"
NORM = "attacks look for small L2"
ALIKE, CHANGED = "sizes are all alike", "classifier changed"
FAILS = "fails on other images"

# Where one of these is found, attacks that follow gradients prove nothing.
OF_GRADIENTS = frozenset({NO_GRADIENTS, NOT_FINITE, VANISHING, DISAGREEING})


class DoubtWarning(UserWarning):
    """An evaluation's numbers say less than they seem to.

    Example:
        >>> import warnings
        >>> warnings.filterwarnings("ignore", category=bayesgap.DoubtWarning)
    """


@dataclass(frozen=True)
class Doubt:
    """Something that was found of a classifier or of a result.

    Attributes:
        name: What is doubted, in a few words that stay the same, such as "not deterministic".
        finding: The evidence, with its numbers.
        remedy: What to do.
        voids: Whether the sizes mean nothing, so that there is no gap.

    Example:
        >>> bayesgap.Doubt("too few points", "8 points count", "Attack more.").voids
        False
    """

    name: str
    finding: str
    remedy: str
    voids: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.finding}. {self.remedy}"

    def record(self) -> dict[str, Any]:
        """The doubt as JSON values."""
        return asdict(self)


def voiding(doubts: Iterable[Doubt]) -> str | None:
    """Why there is no gap: the first doubt that voids the numbers; None where none does."""
    return next((f"{d.name}: {d.finding}" for d in doubts if d.voids), None)


def warn(doubts: Iterable[Doubt], *, stacklevel: int) -> None:
    """Show each doubt as a warning of the caller's caller at `stacklevel` − 1.

    Args:
        doubts: What was found.
        stacklevel: As of `warnings.warn`, seen from where this function is called.
    """
    for doubt in doubts:
        warnings.warn(str(doubt), DoubtWarning, stacklevel=stacklevel + 1)
