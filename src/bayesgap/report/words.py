"""Numbers, names and settings as the report writes them."""

from collections.abc import Iterable, Mapping
from typing import Any

NONE = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percents, without trailing zeros."""
    if value is None:
        return NONE
    text = f"{100 * value:.{digits}f}".replace("-", "−")
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "\u202f%"


def l2(value: float | None) -> str:
    """An L2 with about three digits."""
    return NONE if value is None else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """The two ends of an interval of an L2."""
    return "" if low is None or high is None else f"{l2(low)} – {l2(high)}"


def number(value: float | None) -> str:
    """Four digits."""
    return NONE if value is None else f"{value:.4g}"


def signed(value: float) -> str:
    """Two digits after the point, one of large numbers, and a true minus sign."""
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


def exhibit_name(name: str) -> str:
    """What a figure or table is called: "fig2" is "Figure 2"."""
    return name.replace("fig", "Figure ").replace("table", "Table ")


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
