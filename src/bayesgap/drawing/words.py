"""Numbers, names and settings as reports write them."""

from collections.abc import Iterable, Mapping
from typing import Any

from bayesgap.estimates import Estimate
from bayesgap.evaluation.measure import Summary

NONE = "–"
FEW = "†"  # marks a mean over too few successes


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percents, without trailing zeros."""
    if value is None:
        return NONE
    text = f"{100 * value:.{digits}f}".replace("-", "−")
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "\u202f%"


def size(value: float | None) -> str:
    """A size with about three digits."""
    return NONE if value is None else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def success(summary: Summary) -> str:
    """The share of correctly decided points that were broken, and how many were not."""
    unbroken = f" ({summary.unbroken} unbroken)" if summary.unbroken else ""
    return percent(summary.success_rate) + unbroken


def mean_size(summary: Summary) -> str:
    """The mean size of successes, marked where there are too few of them."""
    mark = "" if summary.complete or summary.mean.value is None else f" {FEW}"
    return size(summary.mean.value) + mark


def interval(estimate: Estimate) -> str:
    """The two ends of the interval of a size."""
    _, low, high = estimate
    return "" if low is None or high is None else f"{size(low)} – {size(high)}"


def with_interval(estimate: Estimate) -> str:
    """A number of four digits with its interval in brackets."""
    value, low, high = estimate
    if value is None or low is None or high is None:
        return NONE
    return f"{value:.4g} ({low:.4g} – {high:.4g})".replace("-", "−")


def bracket(low: float | None, high: float | None) -> str:
    """A certified lower bound and the upper one, with as many digits as tell them apart."""
    if low is None or high is None:
        return NONE
    for digits in (3, 4, 5):
        texts = f"{low:.{digits}g}", f"{high:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return " – ".join(texts)


def number(value: float | None) -> str:
    """Four digits."""
    return NONE if value is None else f"{value:.4g}"


def signed(value: float | None) -> str:
    """Two digits after the point, one of large numbers, and a true minus sign."""
    if value is None:
        return NONE
    return f"{value:.{2 if abs(value) < 10 else 1}f}".replace("-", "−")


def slug(text: str) -> str:
    """A text as a name in HTML."""
    return text.replace(" ", "-")


def span(values: Iterable[float | None]) -> str:
    """From the least to the largest of those that are known."""
    known = [value for value in values if value is not None]
    if not known:
        return "an unknown share"
    low, high = f"{min(known):#.3g}", f"{max(known):#.3g}"
    return low if low == high else f"{low} to {high}"


def setting(value: Any) -> str:
    """The value of a setting; of several, with their names, in brackets where they are nested."""
    if isinstance(value, Mapping):
        parts = (
            f"{name} ({setting(inner)})"
            if isinstance(inner, Mapping)
            else f"{name} {setting(inner)}"
            for name, inner in value.items()
        )
        return ", ".join(parts).replace("_", " ") or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
