"""Small made-up copies of CelebA, for tests of what reads one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bayesgap.images.celeba import ATTRIBUTES

COLUMNS = ("Bald", *ATTRIBUTES)
# Some of each official split.
NUMBERS = [1, 2, 3, 5, 8, 13, 162_770, 162_771, 182_637, 182_638, 202_599]
OFFICIAL = [0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2]


def name_of(number: int) -> str:
    return f"{number:06}.jpg"


def has(number: int, attribute: str) -> bool:
    """Who has which attribute in the copies here: nothing simpler than a fixed coin."""
    return (number * 7 + COLUMNS.index(attribute) * 3) % 5 < 2


def draw(path: Path, number: int, size: tuple[int, int] = (178, 218)) -> None:
    levels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(levels).save(path, quality=90)


def write_txt(folder: Path, numbers: Sequence[int]) -> None:
    rows = [
        " ".join([name_of(n), *(f"{1 if has(n, c) else -1:2}" for c in COLUMNS)]) for n in numbers
    ]
    lines = [str(len(rows)), " ".join(COLUMNS) + " ", *rows]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")


def write_csv(folder: Path, numbers: Sequence[int], absent: str = "-1") -> None:
    rows = [
        ",".join([name_of(n), *("1" if has(n, c) else absent for c in COLUMNS)]) for n in numbers
    ]
    (folder / "list_attr_celeba.csv").write_text(
        "\n".join([f"image_id,{','.join(COLUMNS)}", *rows])
    )


LISTS: dict[str, Callable[[Path, Sequence[int]], None]] = {
    "txt": write_txt,
    "csv with -1": write_csv,
    "csv with 0": lambda folder, numbers: write_csv(folder, numbers, absent="0"),
}


def make(folder: Path, numbers: Sequence[int] = NUMBERS, attributes: str = "txt") -> Path:
    (folder / "img_align_celeba").mkdir(parents=True)
    LISTS[attributes](folder, numbers)
    for number in numbers:
        draw(folder / "img_align_celeba" / name_of(number), number)
    return folder
