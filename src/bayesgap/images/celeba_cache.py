"""CelebA's faces decoded: how one is cut out, and a cache of all faces of a copy.

A copy is decoded once into a cache that is mapped into memory afterwards: the 202,599 faces take
2.5 GB there and next to none in a process that reads some. The cache is a plain array and JSON,
with checksums; nothing in it is ever executed.
"""

import hashlib
import json
import os
import shutil
import struct
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bayesgap.errors import BayesgapError
from bayesgap.files import dump
from bayesgap.progress import progress

IMAGE_SHAPE = (3, 64, 64)
ALIGNED_SIZE = (178, 218)  # width and height of an aligned image
CROP = (25, 50, 153, 178)  # left, upper, right, lower: columns 25 to 153, rows 50 to 178
PNG_MODES = ("RGB", "L")  # others have an alpha channel, a palette or 16 bits
FORMAT = 1  # of the cache; another crop or filter needs another
FACES, INDEX = "faces.npy", "index.json"
TOGETHER = 64  # faces that a thread decodes in a row: handing over single ones costs a fifth
WAVE = 4096  # faces that wait to be written, at most
ABANDONED = 24 * 3600.0  # seconds after which an unfinished cache has nobody who writes it
SHOWN = 3  # files that a message names


class Decoded(NamedTuple):
    """The faces of a copy as its cache holds them.

    Attributes:
        faces: Levels 0…255, mapped from the cache; what is written to them stays in memory.
        numbers: The number of each face, ascending, 1 for 000001.jpg.
        unreadable: Names of the images that are no faces, and why.
        checksum: SHA-256 of the file that holds the faces.
    """

    faces: UInt8[Tensor, "n 3 64 64"]
    numbers: Int[np.ndarray, " n"]
    unreadable: dict[str, str]
    checksum: str


def default_cache() -> Path:
    """The folder of decoded copies, under the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bayesgap" / "celeba"


def place_of(images: Path, cache: str | Path | None) -> Path:
    """Where the decoded faces of a copy lie.

    Args:
        images: The copy's folder of images.
        cache: The folder for decoded copies; None for `default_cache()`.
    """
    place = Path(cache).expanduser() if cache is not None else default_cache()
    return place / hashlib.sha256(str(images.resolve()).encode()).hexdigest()[:16]


def first_reasons(skipped: dict[str, str]) -> str:
    """Why files are left out, in brackets: the reasons of the first few; "" where none is.

    Args:
        skipped: Names of files, and why each is left out.
    """
    if not skipped:
        return ""
    reasons = [f"{name} {reason}" for name, reason in list(skipped.items())[:SHOWN]]
    more = len(skipped) - len(reasons)
    return f" ({'; '.join(reasons)}{f'; and {more} more' if more else ''})"


def decode(path: Path) -> UInt8[np.ndarray, "3 64 64"] | str:
    """One face from its aligned image, or why there is none.

    Args:
        path: The file of the aligned image.
    """
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    try:
        with Image.open(path, formats=(kind,)) as image:
            if kind == "PNG" and image.mode not in PNG_MODES:
                return f"is a PNG image of mode {image.mode}, not {' or '.join(PNG_MODES)}"
            if image.size != ALIGNED_SIZE:  # known before any pixel is decoded
                return f"is of {image.size[0]}×{image.size[1]} pixels, not 178×218"
            square = image.convert("RGB").crop(CROP)
    except UnidentifiedImageError:
        return f"is no {kind} image"
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        return f"cannot be decoded: {getattr(error, 'strerror', None) or error}"
    # When it reduces, Pillow widens the bilinear filter by the factor: along each axis 4 pixels
    # with weights 1, 3, 3, 1 (in eighths; the edge's, where one falls away, in sevenths), so that
    # this antialiases; rounded to 8 bits after either axis. Cut first, since the filter would
    # otherwise see the pixels around the square.
    face = square.resize(IMAGE_SHAPE[1:], Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(face).transpose(2, 0, 1))


def read_cache(place: Path, digest: str) -> Decoded | None:
    """The faces of a cache, or None where there is none of these images or it is damaged.

    Args:
        place: The folder of the decoded faces, as `place_of` gives it.
        digest: Hash of the names, sizes and times of the images that must have been decoded.
    """
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
        return Decoded(torch.from_numpy(faces), numbers, index["unreadable"], index["sha256"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        print(f"{place} is damaged ({error}): decoding the images again.", file=sys.stderr)
        return None


def decode_all(images: Path, names: list[str], place: Path, digest: str, workers: int) -> Decoded:
    """Decode the images of a copy into its cache, and read them from there.

    Args:
        images: The copy's folder of images.
        names: Names of the images to decode, in the order of their numbers.
        place: The folder of the decoded faces, as `place_of` gives it; replaced if there.
        digest: Hash of the names, sizes and times of the images.
        workers: Threads that decode.

    Raises:
        BayesgapError: no image can be used, or the cache cannot be written or read.
    """
    _fill_cache(images, names, place, digest, workers)
    decoded = read_cache(place, digest)
    if decoded is None:
        raise BayesgapError(f"{place} changed while it was read: try again.")
    return decoded


def _fill_cache(images: Path, names: list[str], place: Path, digest: str, workers: int) -> None:
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
                f"{images} holds no image that can be used{first_reasons(unreadable)}: "
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
