"""CelebA: the faces of a user's own copy of it, cut out as the paper's authors did.

The data set must not be handed on, so nothing of it travels with the package. Here are the faces
of a copy and the tasks that its lists make of them; `celeba_lists` reads the lists, with attributes
and splits, and `celeba_cache` decodes the faces.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from bayesgap.errors import BayesgapError, did_you_mean
from bayesgap.files import dump
from bayesgap.images.celeba_cache import CROP as CROP  # an alias: others may import it from here
from bayesgap.images.celeba_cache import IMAGE_SHAPE as IMAGE_SHAPE
from bayesgap.images.celeba_cache import (
    Decoded,
    decode_all,
    first_reasons,
    place_of,
    read_cache,
)
from bayesgap.images.celeba_lists import LAST_OF_SPLITS as LAST_OF_SPLITS
from bayesgap.images.celeba_lists import NAME, WITH, Table, read_attributes, read_splits, say

SPLITS = {"train": 0, "validation": 1, "test": 2}  # as list_eval_partition numbers them
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
PNG_FOLDER = "img_align_celeba_png"  # as the official archive of PNG files unpacks


@dataclass(frozen=True)
class CelebA:
    """The faces of a copy of CelebA that can be used, in the order of their numbers.

    Attributes:
        folder: The folder of the copy.
        cache: The folder of the decoded faces.
        images: The faces, levels 0…255, mapped from the cache; what is written to them stays in
            memory.
        numbers: The number of each face, 1 for 000001.jpg.
        attributes: For each attribute, by its name in the list, whether each face has it.
        splits: The official split of each face: 0 for training, 1 for validation, 2 for test,
            −1 where the partition names none.
        skipped: Names of files in the folder of images that are left out, and why.
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
            attribute: What tells the classes apart, any attribute that the list names; the
                paper's are the keys of `ATTRIBUTES`.
            split: The official split to take faces from.
            limit: How many faces of each class to take, the first ones; all where there are
                fewer, or where it is None.

        Returns:
            int64 rows, ascending, and the int64 label of each: 1 for faces with the attribute,
            0 for those without.

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
        folder: The folder of the copy, laid out as `open_celeba` says.
        attribute: What tells the classes apart, "Smiling" for example.
        split: The official split to take faces from.
        limit: How many faces of each class to take, the first ones; all where there are fewer,
            or where it is None.
        dtype: The images' dtype. A float gives values in [0, 1]; torch.uint8 gives the levels
            0…255, which take a quarter of float32's memory (100,000 faces: 1.2 GB) and can be
            fitted as they are.
        cache: The folder for decoded copies; by default one under the user's cache.
        workers: Threads that decode, where the copy is not decoded yet; by default one a core.

    Returns:
        Images, and the int64 label of each: 1 for faces with the attribute, 0 for those without.

    Raises:
        BayesgapError: a dtype of neither kind, and what `open_celeba` and `select` refuse.

    Example:
        >>> x, y = bayesgap.load_celeba("celeba", "Smiling", split="test")  # your copy's folder
        >>> x.dtype, x.shape[1:], len(x) == len(y)
        (torch.float32, torch.Size([3, 64, 64]), True)
    """
    if not (dtype.is_floating_point or dtype == torch.uint8):
        raise BayesgapError(f"Faces are floats in [0, 1] or torch.uint8 levels, not {dtype}.")
    celeba = open_celeba(folder, cache=cache, workers=workers)
    rows, y = celeba.select(attribute, split=split, limit=limit)
    x = celeba.images[rows]
    return (x if dtype == torch.uint8 else x.to(dtype).div_(255)), y


def task_name(attribute: str) -> str:
    """The name of the paper's task about an attribute: "celeba-no-beard" for "No_Beard".

    Args:
        attribute: One of the keys of `ATTRIBUTES`.

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

    Args:
        task: The name of the task, without a variant.

    Raises:
        BayesgapError: no such task.
    """
    attributes = {task_name(attribute): attribute for attribute in ATTRIBUTES}
    if task not in attributes:
        raise BayesgapError(
            f"There is no task {task!r} of CelebA.{did_you_mean(task, attributes)} Known are "
            f"{', '.join(attributes)}."
        )
    return attributes[task]


def class_names(attribute: str) -> tuple[str, str]:
    """What faces without and with an attribute are called: labels 0 and 1.

    Args:
        attribute: The attribute by its name in the list, one of the paper's or not.
    """
    words = attribute.replace("_", " ").lower()
    return ATTRIBUTES.get(attribute, (f"not {words}", words))


def open_celeba(
    folder: str | Path, *, cache: str | Path | None = None, workers: int | None = None
) -> CelebA:
    """Open a copy of CelebA: decode its images, or find them decoded.

    The copy has the standard layout: aligned images in img_align_celeba (or PNG files in
    img_align_celeba_png), beside it list_attr_celeba.txt or .csv, and list_eval_partition.txt or
    .csv; without the latter the official split by number holds. Any of the images may be missing.
    Files that are no aligned images, and images that the list does not name, are left out with a
    message on standard error.

    A list starts with the number of images and a line of attributes, or with a line of names whose
    first is image_id. Commas, semicolons, tabs or blanks part its columns; 1 and True are images
    with the attribute, -1, 0 and False those without, 0 and -1 not in one column. A name that is
    listed twice has the same values both times.

    The decoded faces are used again until the names, sizes or times of the images change.

    Args:
        folder: The folder of the copy.
        cache: The folder for decoded copies; by default one under the user's cache.
        workers: Threads that decode, where the copy is not decoded yet; by default one a core.

    Raises:
        BayesgapError: no such folder, no attribute list or one that cannot be read or that can be
            read in two ways, two files for one image, no image that can be used, a cache that
            cannot be written to, or fewer than 1 worker.
    """
    folder = Path(folder).expanduser()
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise BayesgapError(f"Decoding needs at least 1 worker; got {workers}.")
    if not folder.is_dir():
        raise BayesgapError(f"There is no folder {folder}.")
    table = read_attributes(folder, FOLDER)
    images = _image_folder(folder)
    listing, skipped = _list(images, table)
    place, digest = place_of(images, cache), _digest(listing)
    decoded = read_cache(place, digest)
    if decoded is None:
        if len(listing) < len(table.numbers):
            say(f"{images} holds {len(listing):,} of the {len(table.numbers):,} images listed.")
        decoded = decode_all(images, list(listing), place, digest, workers)
    skipped |= decoded.unreadable
    if skipped:
        say(f"{images}: {len(skipped)} files are left out{first_reasons(skipped)}.")
    missing = len(table.numbers) - len(listing)
    return _with_lists(folder, place, table, decoded, skipped, missing)


def _with_lists(
    folder: Path,
    place: Path,
    table: Table,
    decoded: Decoded,
    skipped: dict[str, str],
    missing: int,
) -> CelebA:
    """The decoded faces with what the lists of the copy say of them."""
    has = table.values[np.searchsorted(table.numbers, decoded.numbers)] == WITH
    splits = read_splits(folder, decoded.numbers)
    whole = hashlib.sha256(dump([decoded.checksum, table.columns]).encode())
    for array in (decoded.numbers, has, splits):
        whole.update(np.ascontiguousarray(array).tobytes())
    return CelebA(
        folder,
        place,
        decoded.faces,
        torch.from_numpy(decoded.numbers),
        {name: torch.from_numpy(has[:, column]) for column, name in enumerate(table.columns)},
        torch.from_numpy(splits),
        skipped,
        missing,
        whole.hexdigest(),
    )


# The images.


def _image_folder(folder: Path) -> Path:
    images = next((folder / n for n in (FOLDER, PNG_FOLDER) if (folder / n).is_dir()), None)
    if images is None:
        raise BayesgapError(f"{folder} holds no folder {FOLDER}: put the aligned images there.")
    nested = images / images.name  # as an archive of them that is much passed on unpacks
    return nested if nested.is_dir() else images


def _list(images: Path, table: Table) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Size and time of each image that the list names, in order, and the files left out."""
    known = set(table.numbers.tolist())
    listing, skipped, names = {}, {}, dict[int, str]()
    with os.scandir(images) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            matched = NAME.fullmatch(entry.name)
            if not matched:
                skipped[entry.name] = "is not named like 000001.jpg"
            elif int(matched[1]) not in known:
                skipped[entry.name] = "is not in the attribute list"
            elif names.setdefault(int(matched[1]), entry.name) != entry.name:
                raise BayesgapError(
                    f"{images} holds both {names[int(matched[1])]} and {entry.name}, and they may "
                    "differ: keep files of one kind."
                )
            else:
                about = entry.stat()
                listing[entry.name] = (about.st_size, about.st_mtime_ns)
    if not listing:
        raise BayesgapError(
            f"{images} holds no image that the attribute list names"
            f"{first_reasons(skipped)}: put CelebA's aligned images there."
        )
    return listing, skipped


def _digest(listing: dict[str, tuple[int, int]]) -> str:
    text = "\n".join(f"{name} {size} {time}" for name, (size, time) in listing.items())
    return hashlib.sha256(text.encode()).hexdigest()
