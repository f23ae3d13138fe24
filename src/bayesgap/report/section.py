"""Sections of the report: what a figure or table shows, in a form that the page can render."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure for the page.

    Attributes:
        figure: Drawn by matplotlib.
        alt: What it is, for who cannot see it.
        caption: What to see in it.
        kind: "svg" for lines, "png" where there are images or thousands of marks.
        faces: Whether it shows faces, which may not be published.
        instead: What of it a report without faces may show.
    """

    figure: Figure
    alt: str
    caption: str
    kind: Literal["svg", "png"] = "svg"
    faces: bool = False
    instead: "Picture | None" = None


@dataclass(frozen=True)
class Table:
    """A table for the page: the first column is of words, the others of numbers.

    Attributes:
        heading: Of each column.
        rows: As texts.
        note: What a reader must know of it.
        words: How many of the first columns are of words, aligned to the left.
    """

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: int = 1


@dataclass(frozen=True)
class Section:
    """One figure or table of the paper.

    Attributes:
        text: What was done and what came of it, in sentences whose numbers are computed.
        pictures: In order.
        tables: After the pictures.
    """

    text: Sequence[str]
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = field(default=())
