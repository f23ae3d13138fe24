"""A number that was measured, with the interval that says how far to trust it."""

from typing import NamedTuple


class Estimate(NamedTuple):
    """A value and its 95 % interval; all three are None where nothing could be measured.

    Attributes:
        value: The number.
        low: The lower end of its 95 % interval.
        high: The upper end of its 95 % interval.

    Example:
        >>> Estimate(2.8, 2.7, 2.9).record("mean_l2")
        {'mean_l2': 2.8, 'mean_l2_low': 2.7, 'mean_l2_high': 2.9}
    """

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "unknown"
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"

    def record(self, name: str) -> dict[str, float | None]:
        """The three numbers under the keys that files of results use."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def at_least(self, least: float) -> "Estimate":
        """The same, its interval cut off below `least`, which the number cannot fall short of."""
        return self._replace(low=None if self.low is None else max(least, self.low))


UNKNOWN = Estimate(None, None, None)
