"""The lists of a copy of CelebA: which attributes each image has, and which split it is in.

Copies come with the official lists (a count, a line of names, columns of blanks) and with what
people made of them: comma-separated, saved by a spreadsheet, with True and False. A list is read
where it can mean one thing only. What could mean two, such as a 0 where others are −1, is refused
with its line: a wrong label is seen by nobody.
"""

import csv
import re
import sys
from collections.abc import Sequence
from functools import cache as remember
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from bayesgap.errors import BayesgapError

ATTRIBUTE_LISTS = ("list_attr_celeba.txt", "list_attr_celeba.csv")
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
LAST_OF_SPLITS = (162_770, 182_637)  # the last training and the last validation image
NAME = re.compile(r"(\d{6})\.(?:jpe?g|png)", re.ASCII | re.IGNORECASE)
NAME_COLUMNS = {"image_id", "image", "image_name", "filename", "file_name", "file", "name", ""}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # without any, blanks
WITHOUT, WITH = (-1, 0), 1  # the official list has −1 for those without the attribute, copies 0
SIGNS = {"1": 1, "+1": 1, "1.0": 1, "-1": -1, "-1.0": -1, "0": 0, "0.0": 0, "-0.0": 0}
SIGNS |= {"True": 1, "TRUE": 1, "true": 1, "False": 0, "FALSE": 0, "false": 0}
SPLIT_NUMBERS = {"0": 0, "1": 1, "2": 2, "0.0": 0, "1.0": 1, "2.0": 2}


class Table(NamedTuple):
    """Rows of small numbers by image number, ascending."""

    columns: tuple[str, ...]
    numbers: Int[np.ndarray, " n"]
    values: Int[np.ndarray, "n columns"]


class _Lines(NamedTuple):
    """The lines of a list that are not blank, with their numbers, and what parts their cells."""

    path: Path
    numbered: list[tuple[int, str]]
    separator: str | None

    def cells(self, line: str) -> list[str]:
        """What a line holds, without quotes and the blanks around."""
        if self.separator is None:
            return [cell.strip("\"'") for cell in line.split()]
        try:
            (cells,) = csv.reader([line], delimiter=self.separator, skipinitialspace=True)
        except csv.Error as error:
            raise BayesgapError(f"{self.path} cannot be read: {error}.") from error
        return [cell.strip() for cell in cells]


def read_attributes(folder: Path, images: str) -> Table:
    """The attribute list of a copy; a value is 1 for images with the attribute.

    Args:
        folder: The folder of the copy.
        images: What the folder of images is called, for messages.

    Raises:
        BayesgapError: no list, or one that cannot be read or means more than one thing.
    """
    path = _first_of(folder, ATTRIBUTE_LISTS)
    if path is None:
        raise BayesgapError(
            f"{folder} holds neither {' nor '.join(ATTRIBUTE_LISTS)}: give the folder that holds "
            f"CelebA's attribute list and {images}."
        )
    listed = _numbered(path)
    count = _count(listed)
    if count is not None:
        listed = listed[1:]
    head = _lines(path, listed)
    columns = _columns(head, named=count is None)
    table, places = _table(head._replace(numbered=listed[1:]), columns, SIGNS, "1, -1, 0")
    if count not in (None, len(places)):
        say(f"{path} says that it names {count:,} images, and names {len(places):,}.")
    _refuse_both_signs(path, table, places)
    return table


def read_splits(folder: Path, numbers: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The official split of each image, int64; −1 for those that the partition does not name.

    Args:
        folder: The folder of the copy; without a partition there, the split by number holds.
        numbers: The number of each image.

    Raises:
        BayesgapError: a partition that cannot be read.
    """
    path = _first_of(folder, PARTITIONS)
    if path is None:
        return np.searchsorted(LAST_OF_SPLITS, numbers)
    listed = _numbered(path)
    lines = _lines(path, listed)
    first = lines.cells(listed[0][1])[0].lower() if listed else None
    columns: tuple[str, ...] = ("partition",)
    if path.suffix == ".csv" or first in NAME_COLUMNS:
        columns = _columns(lines, named=True)
        lines = lines._replace(numbered=listed[1:])
    table, _ = _table(lines, columns, SPLIT_NUMBERS, "0, 1, 2")
    rows = np.searchsorted(table.numbers, numbers).clip(max=len(table.numbers) - 1)
    named = table.numbers[rows] == numbers
    if not named.all():
        missing = f"{numbers[~named][0]:06}.jpg"
        say(f"{path} does not name {(~named).sum()} images, first {missing}: they are in no split.")
    return np.where(named, table.values[rows, 0], -1).astype(np.int64)


@remember
def say(message: str) -> None:
    """Once a process: a copy is opened for each of twelve tasks.

    Args:
        message: What is said on standard error.
    """
    print(message, file=sys.stderr, flush=True)


def _first_of(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _numbered(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BayesgapError(f"{path} cannot be read: {error}.") from error
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _count(listed: list[tuple[int, str]]) -> int | None:
    """The number of images, where the first line holds nothing else."""
    alone = listed[0][1].strip(" \t,;\"'") if listed else ""
    return int(alone) if alone.isascii() and alone.isdecimal() else None


def _lines(path: Path, listed: list[tuple[int, str]]) -> _Lines:
    """The lines, and the separator that the first of them has."""
    number, first = listed[0] if listed else (1, "")
    found = [separator for separator in SEPARATORS if separator in first]
    if len(found) > 1:
        kinds = " and ".join(SEPARATORS[separator] for separator in found)
        raise BayesgapError(
            f"Line {number} of {path} holds {kinds}, so that its columns cannot be told: part them "
            "by one of these."
        )
    return _Lines(path, listed, found[0] if found else None)


def _columns(lines: _Lines, *, named: bool) -> tuple[str, ...]:
    """The names of the columns of values, from the first line.

    Args:
        lines: The lines from the first one with names.
        named: Whether the images' names must have a column of their own there.
    """
    number, first = lines.numbered[0] if lines.numbered else (1, "")
    cells = lines.cells(first) if first else []
    has_name = bool(cells) and cells[0].lower().replace(" ", "_") in NAME_COLUMNS
    columns = tuple(cells[has_name:])
    if not columns or NAME.fullmatch(columns[0]) or (named and not has_name):
        start = "the number of images and a line of attributes"
        if lines.path.suffix == ".csv":
            start = "a line 'image_id,…' of names"
        raise BayesgapError(
            f"{lines.path} does not start with {start}: line {number} is {first[:60]!r}. Add it, "
            "or download the file again."
        )
    for place, column in enumerate(columns):
        if not column or column in columns[:place]:
            what = f"names {column!r} twice" if column else "has a column without a name"
            raise BayesgapError(f"Line {number} of {lines.path} {what}: leave one out.")
    return columns


def _table(
    lines: _Lines, columns: tuple[str, ...], allowed: dict[str, int], expected: str
) -> tuple[Table, dict[int, int]]:
    """Rows of an image's name and a value for each column, and the line that each number is on."""
    values: dict[int, list[int]] = {}
    places: dict[int, int] = {}
    for place, line in lines.numbered:
        name, *cells = lines.cells(line)
        matched = NAME.fullmatch(name)
        if not matched or len(cells) != len(columns) or not allowed.keys() >= set(cells):
            raise BayesgapError(
                f"Line {place} of {lines.path} is not a name like 000001.jpg and {len(columns)} "
                f"values of {expected}: it holds {_offending(name, cells, columns, allowed)}. "
                "Correct the line, or download the file again."
            )
        number, row = int(matched[1]), [allowed[cell] for cell in cells]
        if values.setdefault(number, row) != row:
            column = next(k for k in range(len(row)) if row[k] != values[number][k])
            raise BayesgapError(
                f"Line {place} of {lines.path} gives {name} {cells[column]!r} for "
                f"{columns[column]!r}, and line {places[number]} gave it another value: remove "
                "the wrong one."
            )
        places.setdefault(number, place)
    if not values:
        raise BayesgapError(f"{lines.path} names no image: download it again.")
    numbers = np.array(sorted(values), dtype=np.int64)
    rows = np.array([values[number] for number in numbers.tolist()], dtype=np.int8)
    return Table(columns, numbers, rows), places


def _offending(
    name: str, cells: list[str], columns: tuple[str, ...], allowed: dict[str, int]
) -> str:
    """What is wrong with a row."""
    if not NAME.fullmatch(name):
        return f"{name[:60]!r} for a name"
    if len(cells) != len(columns):
        return f"{len(cells)} values"
    wrong = next(place for place, cell in enumerate(cells) if cell not in allowed)
    return f"{cells[wrong][:60]!r} for {columns[wrong]!r}"


def _refuse_both_signs(path: Path, table: Table, places: dict[int, int]) -> None:
    """Refuse a column with −1 and 0, of which either may mean that nothing is known."""
    both = [(table.values == value).any(axis=0) for value in WITHOUT]
    for column in np.nonzero(both[0] & both[1])[0].tolist():
        first, other = (
            places[int(table.numbers[table.values[:, column] == value][0])] for value in WITHOUT
        )
        raise BayesgapError(
            f"Line {other} of {path} holds 0 or False for {table.columns[column]!r}, and line "
            f"{first} holds -1: one of them may mean that nothing is known. Write 1 for images "
            "with the attribute, and either for all without it."
        )
