"""Statements judged by numbers: reproduced, not reproduced, or not decided.

A claim is reproduced when every one of its numbers lies, with its whole 95 % interval, on the
side that the claim says; not reproduced when one lies wholly on the other side; and not decided
otherwise. One training says nothing of others: a number of a single trained classifier decides
nothing.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from bayesgap.estimates import Estimate

REPRODUCED, NOT_REPRODUCED, NOT_DECIDED = "reproduced", "not reproduced", "not decided"


@dataclass(frozen=True)
class Number:
    """One of a claim's numbers, and the range in which the claim says that it lies.

    Attributes:
        label: What the number is.
        estimate: The number with its 95 % interval; unknown where nothing was measured.
        at_least: The lower end of the claim's range.
        at_most: The upper end of the claim's range.
        trainings: How many trained classifiers the number rests on; None where nothing was
            trained.

    Example:
        >>> Number("L2 / optimum's", Estimate(0.5, 0.4, 0.6), at_most=0.8).verdict
        'reproduced'
    """

    label: str
    estimate: Estimate
    at_least: float = -math.inf
    at_most: float = math.inf
    trainings: int | None = None

    @property
    def verdict(self) -> str:
        """Which side of the range the interval lies on."""
        value, low, high = self.estimate
        if value is None or low is None or high is None or self.trainings == 1:
            return NOT_DECIDED
        if self.at_least <= low and high <= self.at_most:
            return REPRODUCED
        if high < self.at_least or low > self.at_most:
            return NOT_REPRODUCED
        return NOT_DECIDED

    def record(self) -> dict[str, Any]:
        """What `results.json` holds of it."""
        return {
            "label": self.label,
            **self.estimate._asdict(),
            "trainings": self.trainings,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, judged.

    Attributes:
        name: What the claim is called, in a few words.
        statement: What the paper says, in our words.
        paper: The paper's numbers, and where they stand.
        rule: What decides whether the claim holds.
        numbers: Our numbers, each with the range that the rule asks for.
        remarks: Where the paper is vague or wrong, with the evidence.
    """

    name: str
    statement: str
    paper: str
    rule: str
    numbers: list[Number]
    remarks: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The claim holds where all its numbers say so, and fails where one does."""
        verdicts = {number.verdict for number in self.numbers}
        if NOT_REPRODUCED in verdicts:
            return NOT_REPRODUCED
        return REPRODUCED if verdicts == {REPRODUCED} else NOT_DECIDED

    def record(self) -> dict[str, Any]:
        """What `results.json` holds of it."""
        names = ("name", "statement", "paper", "rule", "verdict", "remarks")
        texts = {name: getattr(self, name) for name in names}
        return {**texts, "numbers": [number.record() for number in self.numbers]}
