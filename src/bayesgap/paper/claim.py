"""Statements judged by numbers: reproduced, not reproduced, or not decided.

A claim is reproduced when every one of its numbers lies, with its whole 95 % interval, on the
side that the claim says; not reproduced when one lies wholly on the other side; and not decided
otherwise. One training says nothing of others: a number of a single trained classifier decides
nothing.
"""

import math
from dataclasses import dataclass, field
from typing import Any

REPRODUCED, NOT_REPRODUCED, NOT_DECIDED = "reproduced", "not reproduced", "not decided"
Interval = tuple[float | None, float | None, float | None]
UNKNOWN: Interval = (None, None, None)


@dataclass(frozen=True)
class Number:
    """One of a claim's numbers with its 95 % interval, and the range that the claim says.

    Attributes:
        label: What it is.
        value: None where nothing was measured.
        low: Of the interval.
        high: Of the interval.
        at_least: The range that the claim says.
        at_most: The range that the claim says.
        trainings: How many trained classifiers it rests on; None where nothing was trained.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    at_least: float = -math.inf
    at_most: float = math.inf
    trainings: int | None = None

    @property
    def verdict(self) -> str:
        """Which side of the range the interval lies on."""
        if self.value is None or self.low is None or self.high is None or self.trainings == 1:
            return NOT_DECIDED
        if self.at_least <= self.low and self.high <= self.at_most:
            return REPRODUCED
        if self.high < self.at_least or self.low > self.at_most:
            return NOT_REPRODUCED
        return NOT_DECIDED


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, judged.

    Attributes:
        name: A few words.
        statement: What the paper says, in our words.
        paper: Its numbers, and where they stand.
        rule: What decides.
        numbers: Ours.
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
        keys = ("label", "value", "low", "high", "trainings", "verdict")
        return {
            **{
                key: getattr(self, key)
                for key in ("name", "statement", "paper", "rule", "verdict", "remarks")
            },
            "numbers": [{key: getattr(number, key) for key in keys} for number in self.numbers],
        }
