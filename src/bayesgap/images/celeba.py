"""CelebA: the faces of a user's own copy of it, cut out as the paper's authors did.

The data set must not be handed on, so nothing of it travels with the package. A copy is decoded
once into a cache that is mapped into memory afterwards: the 202,599 faces take 2.5 GB there and
next to none in a process that reads some. The cache is a plain array and JSON, with checksums;
nothing in it is ever executed.
"""

import csv
import hashlib
import json
import os
import re
import shutil
import struct
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache as remember
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bayesgap.errors import BayesgapError
from bayesgap.files import dump
from bayesgap.progress import progress

IMAGE_SHAPE = (3, 64, 64)
ALIGNED_SIZE = (178, 218)  # width and height of an aligned image
CROP = (25, 50, 153, 178)  # left, upper, right, lower: columns 25 to 153, rows 50 to 178
SPLITS = {"train": 0, "validation": 1, "test": 2}  # as list_eval_partition numbers them
LAST_OF_SPLITS = (162_770, 182_637)  # the last training and the last validation image
# The paper's attributes (appendix B.1), and what faces without and with one are called.
ATTRIBUTES = {
    "Bangs": ("no bangs", "bangs"),
    "Black_Hair": ("no black hair", "black hair"),
    "Brown_Hair": ("no brown hair", "brown hair"),
    "Heavy_Makeup": ("no heavy makeup", "heavy makeup"),
    "High_Cheekbones": ("no high cheekbones", "high cheekbones"),
    "Male": ("female", "male"),
    "Mouth_Slightly_Open": ("mouth not open", "mouth slightly open"),
    "No_Beard": ("beard", "no beard"),
    "Smiling": ("not smiling", "smiling"),
    "Wearing_Earrings": ("no earrings", "earrings"),
    "Wearing_Lipstick": ("no lipstick", "lipstick"),
    "Eyeglasses": ("no eyeglasses", "eyeglasses"),
}

FOLDER = "img_align_celeba"
ATTRIBUTE_LISTS = ("list_attr_celeba.txt", "list_attr_celeba.csv")
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
NAME = re.compile(r"(\d{6})\.jpg", re.ASCII)
SIGNS = {"1": 1, "-1": 0, "0": 0}  # the official list has −1 for 0
FORMAT = 1  # of the cache; another crop or filter needs another
FACES, INDEX = "faces.npy", "index.json"
TOGETHER = 64  # faces that a thread decodes in a row: handing over single ones costs a fifth
WAVE = 4096  # faces that wait to be written, at most
ABANDONED = 24 * 3600.0  # seconds after which an unfinished cache has nobody who writes it
SHOWN = 3  # files that a message names


@dataclass(frozen=True)
class CelebA:
    """The faces of a copy of CelebA that can be used, in the order of their numbers.

    Attributes:
        folder: The copy.
        cache: Where the decoded faces lie.
        images: Levels 0…255, mapped from the cache; what is written to them stays in memory.
        numbers: Each face's number, 1 for 000001.jpg.
        attributes: By name as in the list, whether each face has it.
        splits: 0 for training, 1 for validation, 2 for test, −1 where the partition names none.
        skipped: Files of the folder that are no faces here, and why.
        missing: How many images the attribute list names that the folder does not hold.
        checksum: SHA-256 of all that tasks are made from: faces, numbers, attributes and splits.
    """

    folder: Path
    cache: Path
    images: UInt8[Tensor, "n 3 64 64"] = field(repr=False)
    numbers: Int[Tensor, " n"] = field(repr=False)
    attributes: dict[str, Bool[Tensor, " n"]] = field(repr=False)
    splits: Int[Tensor, " n"] = field(repr=False)
    skipped: dict[str, str] = field(repr=False)
    missing: int
    checksum: str

    def select(
        self,
        attribute: str,
        *,
        split: Literal["train", "validation", "test"] = "train",
        limit: int | None = None,
    ) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
        """Which faces make a task of one attribute: rows of `images`, and labels.

        Args:
            attribute: Any that the list names; the paper's are the keys of `ATTRIBUTES`.
            split: The official split.
            limit: The first so many of each class, or all where there are fewer.

        Returns:
            int64 rows, ascending, and int64 labels: 1 for faces with the attribute.

        Raises:
            BayesgapError: no such attribute or split, a limit below 1, or a class without faces.
        """
        if attribute not in self.attributes:
            raise BayesgapError(
                f"The attribute list in {self.folder} has no {attribute!r}; it has "
                f"{', '.join(self.attributes)}."
            )
        if split not in SPLITS:
            raise BayesgapError(f"CelebA has the splits {', '.join(SPLITS)}, not {split!r}.")
        if limit is not None and limit < 1:
            raise BayesgapError(f"The limit is a number of faces of each class; got {limit}.")
        labels = self.attributes[attribute].long()
        classes = []
        for label, name in enumerate(class_names(attribute)):
            rows = ((self.splits == SPLITS[split]) & (labels == label)).nonzero().flatten()[:limit]
            if not len(rows):
                raise BayesgapError(
                    f"{self.folder} has no face of class {label} ({name}) in the split {split!r}: "
                    "add images, or take another split or attribute."
                )
            classes.append(rows)
        rows = torch.cat(classes).sort().values
        return rows, labels[rows]


def load_celeba(
    folder: str | Path,
    attribute: str,
    *,
    split: Literal["train", "validation", "test"] = "train",
    limit: int | None = None,
    dtype: torch.dtype = torch.float32,
    cache: str | Path | None = None,
    workers: int | None = None,
) -> tuple[Float[Tensor, "m 3 64 64"] | UInt8[Tensor, "m 3 64 64"], Int[Tensor, " m"]]:
    """The faces of one task from a copy of CelebA, in the order of their numbers.

    Args:
        folder: The copy, as `open_celeba` wants it.
        attribute: What tells the classes apart, "Smiling" for example.
        split: The official split.
        limit: The first so many of each class, or all where there are fewer.
        dtype: A float gives values in [0, 1]; torch.uint8 gives the levels 0…255, which take a
            quarter of float32's memory (100,000 faces: 1.2 GB) and can be fitted as they are.
        cache: As in `open_celeba`.
        workers: As in `open_celeba`.

    Returns:
        Images, and int64 labels: 1 for faces with the attribute, 0 for those without.

    Raises:
        BayesgapError: a dtype of neither kind, and what `open_celeba` and `select` refuse.
    """
    if not (dtype.is_floating_point or dtype == torch.uint8):
        raise BayesgapError(f"Faces are floats in [0, 1] or torch.uint8 levels, not {dtype}.")
    celeba = open_celeba(folder, cache=cache, workers=workers)
    rows, y = celeba.select(attribute, split=split, limit=limit)
    x = celeba.images[rows]
    return (x if dtype == torch.uint8 else x.to(dtype).div_(255)), y


def task_name(attribute: str) -> str:
    """The name of the paper's task about an attribute: "celeba-no-beard" for "No_Beard".

    Raises:
        BayesgapError: none of the paper's attributes.
    """
    if attribute not in ATTRIBUTES:
        raise BayesgapError(
            f"The paper has no task about {attribute!r}; its attributes are "
            f"{', '.join(ATTRIBUTES)}."
        )
    return "celeba-" + attribute.lower().replace("_", "-")


def attribute_of(task: str) -> str:
    """The attribute of the paper's task of that name: "No_Beard" for "celeba-no-beard".

    Raises:
        BayesgapError: no such task.
    """
    attributes = {task_name(attribute): attribute for attribute in ATTRIBUTES}
    if task not in attributes:
        raise BayesgapError(
            f"There is no task {task!r} of CelebA; known are {', '.join(attributes)}."
        )
    return attributes[task]


def class_names(attribute: str) -> tuple[str, str]:
    """What faces without and with an attribute are called: labels 0 and 1."""
    words = attribute.replace("_", " ").lower()
    return ATTRIBUTES.get(attribute, (f"not {words}", words))


def default_cache() -> Path:
    """The folder of decoded copies, under the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bayesgap" / "celeba"


def open_celeba(
    folder: str | Path, *, cache: str | Path | None = None, workers: int | None = None
) -> CelebA:
    """Open a copy of CelebA: decode its images, or find them decoded.

    The copy has the standard layout: aligned images in img_align_celeba, beside it
    list_attr_celeba.txt or .csv, and list_eval_partition.txt or .csv; without the latter the
    official split by number holds. Any of the images may be missing. Files that are no aligned
    images, and images that the list does not name, are left out with a message on standard error.

    The decoded faces are used again until the names, sizes or times of the images change.

    Args:
        folder: The copy.
        cache: The folder for decoded copies; by default `default_cache()`.
        workers: Threads that decode; by default one a core.

    Raises:
        BayesgapError: no such folder, no attribute list or one that cannot be read, no image that
            can be used, a cache that cannot be written to, or fewer than 1 worker.
    """
    folder = Path(folder).expanduser()
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise BayesgapError(f"Decoding needs at least 1 worker; got {workers}.")
    if not folder.is_dir():
        raise BayesgapError(f"There is no folder {folder}.")
    table = _read_attributes(folder)
    images = _image_folder(folder)
    listing, skipped = _list(images, table)
    place = Path(cache).expanduser() if cache is not None else default_cache()
    place /= hashlib.sha256(str(images.resolve()).encode()).hexdigest()[:16]
    digest = _digest(listing)
    decoded = _read_cache(place, digest)
    if decoded is None:
        if len(listing) < len(table.numbers):
            _say(f"{images} holds {len(listing):,} of the {len(table.numbers):,} images listed.")
        _decode(images, list(listing), place, digest, workers)
        decoded = _read_cache(place, digest)
    if decoded is None:
        raise BayesgapError(f"{place} changed while it was read: try again.")
    faces, numbers, unreadable, checksum = decoded
    skipped |= unreadable
    _report(images, skipped)
    rows = np.searchsorted(table.numbers, numbers)
    has = table.values[rows] == 1
    splits = _splits(folder, numbers)
    whole = hashlib.sha256(dump([checksum, table.columns]).encode())
    for array in (numbers, has, splits):
        whole.update(np.ascontiguousarray(array).tobytes())
    return CelebA(
        folder,
        place,
        faces,
        torch.from_numpy(numbers),
        {name: torch.from_numpy(has[:, column]) for column, name in enumerate(table.columns)},
        torch.from_numpy(splits),
        skipped,
        len(table.numbers) - len(listing),
        whole.hexdigest(),
    )


def decode(path: Path) -> UInt8[np.ndarray, "3 64 64"] | str:
    """One face from its aligned image, or why there is none."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.size != ALIGNED_SIZE:  # known before any pixel is decoded
                return f"is of {image.size[0]}×{image.size[1]} pixels, not 178×218"
            square = image.convert("RGB").crop(CROP)
    except UnidentifiedImageError:
        return "is no JPEG image"
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        return f"cannot be decoded: {getattr(error, 'strerror', None) or error}"
    # When it reduces, Pillow widens the bilinear filter by the factor: along each axis 4 pixels
    # with weights 1, 3, 3, 1 (in eighths; the edge's, where one falls away, in sevenths), so that
    # this antialiases; rounded to 8 bits after either axis. Cut first, since the filter would
    # otherwise see the pixels around the square.
    face = square.resize(IMAGE_SHAPE[1:], Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(face).transpose(2, 0, 1))


# The lists.


class _Table(NamedTuple):
    """Rows of small numbers by image number, ascending."""

    columns: tuple[str, ...]
    numbers: Int[np.ndarray, " n"]
    values: np.ndarray


def _read_attributes(folder: Path) -> _Table:
    path = _first_of(folder, ATTRIBUTE_LISTS)
    if path is None:
        raise BayesgapError(
            f"{folder} holds neither {' nor '.join(ATTRIBUTE_LISTS)}: give the folder that holds "
            f"CelebA's attribute list and {FOLDER}."
        )
    lines = _lines(path)
    if path.suffix == ".csv":
        return _read_csv(path, lines, SIGNS)
    if len(lines) < 2 or not lines[0].strip().isdecimal():
        raise BayesgapError(
            f"{path} does not start with the number of images and a line of attributes: "
            "download it again."
        )
    columns = tuple(lines[1].split())
    return _table(path, 3, (line.split() for line in lines[2:]), columns, SIGNS)


def _splits(folder: Path, numbers: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    path = _first_of(folder, PARTITIONS)
    if path is None:
        return np.searchsorted(LAST_OF_SPLITS, numbers)
    allowed = {str(split): split for split in SPLITS.values()}
    lines = _lines(path)
    if path.suffix == ".csv":
        table = _read_csv(path, lines, allowed)
    else:
        table = _table(path, 1, (line.split() for line in lines), ("partition",), allowed)
    rows = np.searchsorted(table.numbers, numbers).clip(max=len(table.numbers) - 1)
    named = table.numbers[rows] == numbers
    if not named.all():
        first = f"{numbers[~named][0]:06}.jpg"
        _say(f"{path} does not name {(~named).sum()} images, first {first}: they are in no split.")
    return np.where(named, table.values[rows, 0], -1).astype(np.int64)


def _first_of(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BayesgapError(f"{path} cannot be read: {error}.") from error


def _read_csv(path: Path, lines: list[str], allowed: dict[str, int]) -> _Table:
    rows = csv.reader(lines)
    columns = next(rows, [])
    if len(columns) < 2 or columns[0] != "image_id":
        raise BayesgapError(
            f"{path} does not start with a line 'image_id,…' of names: download it again."
        )
    return _table(path, 2, rows, tuple(columns[1:]), allowed)


def _table(
    path: Path,
    line: int,
    rows: Iterator[list[str]],
    columns: tuple[str, ...],
    allowed: dict[str, int],
) -> _Table:
    """Rows of an image's name and a value for each column; `line` is the number of the first."""
    values: dict[int, list[int]] = {}
    for line, (name, *cells) in enumerate((row or [""] for row in rows), line):  # noqa: B020
        if not name and not cells:
            continue
        matched = NAME.fullmatch(name)
        if not matched or len(cells) != len(columns) or not allowed.keys() >= set(cells):
            raise BayesgapError(
                f"Line {line} of {path} is not a name like 000001.jpg and {len(columns)} values "
                f"of {', '.join(allowed)}: download the file again."
            )
        values[int(matched[1])] = [allowed[cell] for cell in cells]
    if not values:
        raise BayesgapError(f"{path} names no image: download it again.")
    numbers = np.array(sorted(values), dtype=np.int64)
    return _Table(columns, numbers, np.array([values[n] for n in numbers.tolist()], dtype=np.int8))


# The images.


def _image_folder(folder: Path) -> Path:
    images = folder / FOLDER
    if not images.is_dir():
        raise BayesgapError(f"{folder} holds no folder {FOLDER}: put the aligned images there.")
    nested = images / FOLDER  # as an archive of them that is much passed on unpacks
    return nested if nested.is_dir() else images


def _list(images: Path, table: _Table) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Size and time of each image that the list names, in order, and the files left out."""
    known = set(table.numbers.tolist())
    listing, skipped = {}, {}
    with os.scandir(images) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            matched = NAME.fullmatch(entry.name)
            if not matched:
                skipped[entry.name] = "is not named like 000001.jpg"
            elif int(matched[1]) not in known:
                skipped[entry.name] = "is not in the attribute list"
            else:
                about = entry.stat()
                listing[entry.name] = (about.st_size, about.st_mtime_ns)
    if not listing:
        raise BayesgapError(
            f"{images} holds no image that the attribute list names"
            f"{_first_reasons(skipped)}: put CelebA's aligned images there."
        )
    return listing, skipped


def _digest(listing: dict[str, tuple[int, int]]) -> str:
    text = "\n".join(f"{name} {size} {time}" for name, (size, time) in listing.items())
    return hashlib.sha256(text.encode()).hexdigest()


def _report(images: Path, skipped: dict[str, str]) -> None:
    if skipped:
        _say(f"{images}: {len(skipped)} files are left out{_first_reasons(skipped)}.")


def _first_reasons(skipped: dict[str, str]) -> str:
    if not skipped:
        return ""
    reasons = [f"{name} {reason}" for name, reason in list(skipped.items())[:SHOWN]]
    more = len(skipped) - len(reasons)
    return f" ({'; '.join(reasons)}{f'; and {more} more' if more else ''})"


@remember
def _say(message: str) -> None:
    """Once a process: a copy is opened for each of twelve tasks."""
    print(message, file=sys.stderr, flush=True)


# The cache.


def _read_cache(
    place: Path, digest: str
) -> tuple[UInt8[Tensor, "n 3 64 64"], Int[np.ndarray, " n"], dict[str, str], str] | None:
    """Faces, numbers, unreadable images and the faces' checksum, or None without such a cache."""
    try:
        sealed = json.loads((place / INDEX).read_bytes())
        index = sealed["index"]
        if sealed["sha256"] != _seal(index):
            raise ValueError("its index does not match its checksum")
        if (index["format"], index["listing"]) != (FORMAT, digest):
            return None
        with (place / FACES).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != index["sha256"]:
                raise ValueError("its faces do not match their checksum")
        # Copy-on-write: torch wants arrays that can be written to, and the file stays as it is.
        faces = np.load(place / FACES, mmap_mode="c", allow_pickle=False)
        numbers = np.array(index["numbers"], dtype=np.int64)
        return torch.from_numpy(faces), numbers, index["unreadable"], index["sha256"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        print(f"{place} is damaged ({error}): decoding the images again.", file=sys.stderr)
        return None


def _decode(images: Path, names: list[str], place: Path, digest: str, workers: int) -> None:
    """Fill the cache under a temporary name, then move it into place."""
    temporary = place.parent / f".{place.name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        _remove_abandoned(place)
        with (temporary / FACES).open("w+b") as file:
            numbers, unreadable = _write_faces(file, images, names, workers)
            file.seek(0)
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if not numbers:
            raise BayesgapError(
                f"{images} holds no image that can be used{_first_reasons(unreadable)}: "
                "put CelebA's aligned images there."
            )
        index = {
            "format": FORMAT,
            "folder": str(images.resolve()),
            "listing": digest,
            "numbers": numbers,
            "unreadable": unreadable,
            "sha256": checksum,
        }
        text = dump({"index": index, "sha256": _seal(index)})
        (temporary / INDEX).write_text(text, encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        try:
            temporary.rename(place)
        except OSError:
            if not place.is_dir():  # else another process has put the same there meanwhile
                raise
    except OSError as error:
        raise BayesgapError(f"The cache {place} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_faces(
    file: BinaryIO, images: Path, names: list[str], workers: int
) -> tuple[list[int], dict[str, str]]:
    """Decode images into an array file, as many at a time as memory should hold.

    Threads, since Pillow decodes without the interpreter's lock: on two cores they reach five
    sixths of what processes do, and need neither a guarded main module nor a fork.
    """
    numbers: list[int] = []
    unreadable: dict[str, str] = {}
    _write_header(file, len(names))
    with progress("decoding CelebA", len(names)) as advance, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(names), WAVE):
            wave = names[start : start + WAVE]
            parts = [wave[k : k + TOGETHER] for k in range(0, len(wave), TOGETHER)]
            decoded = pool.map(lambda part: [decode(images / name) for name in part], parts)
            for part, faces in zip(parts, decoded, strict=True):
                for name, face in zip(part, faces, strict=True):
                    if isinstance(face, str):
                        unreadable[name] = face
                    else:
                        numbers.append(int(name[:6]))
                        file.write(face.data)
                advance(len(part))
    file.seek(0)
    _write_header(file, len(numbers))  # of the same length: NumPy leaves room for the count
    return numbers, unreadable


def _write_header(file: BinaryIO, faces: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (faces, *IMAGE_SHAPE)}
    np.lib.format.write_array_header_1_0(file, header)


def _remove_abandoned(place: Path) -> None:
    """Remove what runs that were killed have left behind."""
    for other in place.parent.glob(f".{place.name}.*"):
        if time.time() - other.stat().st_mtime > ABANDONED:
            shutil.rmtree(other, ignore_errors=True)


def _seal(index: object) -> str:
    return hashlib.sha256(dump(index).encode()).hexdigest()
