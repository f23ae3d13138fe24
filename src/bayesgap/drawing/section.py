"""Sections of the report: what a figure or table shows, in a form that the page can render."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure for the page.

    Attributes:
        figure: The drawing.
        alt: What the picture is, for who cannot see it.
        caption: What to see in the picture.
        kind: "svg" for lines, "png" where there are images or thousands of marks.
        publishable: Whether it shows nothing that may not be published, as faces may not.
        instead: What a report to be published shows in its place, where there is something.
    """

    figure: Figure
    alt: str
    caption: str
    kind: Literal["svg", "png"] = "svg"
    publishable: bool = True
    instead: "Picture | None" = None


@dataclass(frozen=True)
class Table:
    """A table for the page: the first column is of words, the others of numbers.

    Attributes:
        heading: The headings of the columns.
        rows: The cells of each line, as texts.
        note: What a reader must know of the table.
        words: How many of the first columns are of words, aligned to the left.
        grouped: Whether lines whose first cell is the same as above leave it out.
        folded: Whether the page shows it only when asked, with this as what to ask by.
    """

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: int = 1
    grouped: bool = False
    folded: str = ""


@dataclass(frozen=True)
class Section:
    """What one figure or table of the paper shows.

    Attributes:
        text: What was done and what came of it, in sentences whose numbers are computed.
        pictures: The pictures, in order.
        tables: The tables, which follow the pictures.
        summary: The sentences of it that stand at the top of the report.
    """

    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    summary: Sequence[str] = ()
