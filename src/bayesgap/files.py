"""Files of tensors that may come from strangers: safetensors and JSON, never pickle.

A file is written under a temporary name and renamed, so that a reader sees all of it or none.
What it is stands in its header, and a file that is damaged, of another kind or written by a newer
release is refused in one sentence.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bayesgap.errors import BayesgapError

FORMAT = 1
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)  # none that cannot compute


def as_path(given: object) -> Path:
    """The path that a user gives.

    Args:
        given: A text or an `os.PathLike` of one.

    Raises:
        BayesgapError: it is nothing of the kind, is empty, or holds a null byte.
    """
    text = given if isinstance(given, str) else None
    if isinstance(given, os.PathLike):
        text = os.fspath(given)
    if not isinstance(text, str) or not text or "\0" in text:
        raise BayesgapError(f"A path is a text such as 'report.safetensors'; got {given!r}.")
    return Path(text)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it to `path` in one step.

    Args:
        path: Where the file ends up; an existing one is replaced.
        write: Called with the path of the temporary file, which it fills.

    Raises:
        BayesgapError: the folder is missing or not writable, or what is there is no plain file.
    """
    try:
        # Not through links either: what is replaced would be the link.
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            kind = "a folder" if path.is_dir() else "a link or a device"
            raise BayesgapError(f"Cannot write {path}: it is {kind}, no plain file to replace.")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BayesgapError(f"Cannot write {path}: {reason}.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], *, kind: str, metadata: Mapping[str, Any]
) -> None:
    """Write named tensors and JSON metadata to one safetensors file, whole or not at all.

    Args:
        path: Where to write; an existing file is replaced.
        tensors: The tensors by name, of any shapes and dtypes, from any device.
        kind: What the file holds, for example "task"; `load_tensors` insists on it.
        metadata: What else the file says, anything that JSON can hold.

    Raises:
        BayesgapError: the folder is missing or not writable.
    """
    # One entry only: safetensors writes several in any order, and equal files must be equal.
    header = {"bayesgap": dump({"kind": kind, "format": FORMAT, "metadata": metadata})}
    stored = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    write_whole(as_path(path), lambda temporary: save_file(stored, temporary, metadata=header))


def load_tensors(path: str | Path, *, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that `save_tensors` wrote: its tensors (on the CPU) and its metadata.

    Args:
        path: The file to read.
        kind: What the file must hold, as it was saved.

    Raises:
        BayesgapError: there is no such file, it is damaged, or it is not a `kind`.
    """
    path = as_path(path)
    if not path.is_file():
        raise BayesgapError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("bayesgap", "null")
            # Copied, since products round differently where memory is aligned differently.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        about = json.loads(header)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise BayesgapError(f"{path} is damaged or not a safetensors file: {error}.") from error
    if not isinstance(about, dict) or about.get("kind") != kind:
        found = about.get("kind") if isinstance(about, dict) else None
        raise BayesgapError(f"{path} is not a bayesgap {kind}: its header says {found!r}.")
    if about.get("format") != FORMAT:
        raise BayesgapError(
            f"{path} has format {about.get('format')!r}; this release reads {FORMAT}."
        )
    metadata = about.get("metadata")
    if not isinstance(metadata, dict):
        raise BayesgapError(f"{path} is damaged: its metadata is no JSON object.")
    return tensors, metadata


def require(tensors: Mapping[str, Tensor], names: Sequence[str], path: str | Path) -> list[Tensor]:
    """The named floating-point tensors of a file, in the order of their names.

    Args:
        tensors: All tensors of the file, by name.
        names: The names of those that must be there.
        path: The file that they come from, for messages.

    Raises:
        BayesgapError: one is missing, or has no floating-point dtype that can be computed with.
    """
    for name in names:
        if name not in tensors:
            raise BayesgapError(f"{path} is damaged: it holds no tensor {name!r}.")
        if tensors[name].dtype not in FLOATS:
            raise BayesgapError(
                f"{path} is damaged: its tensor {name!r} has type {tensors[name].dtype}."
            )
    return [tensors[name] for name in names]


def typed(value: Any, name: str, kind: type) -> Any:
    """A value of a stranger's metadata, or a `TypeError` that says what it should be."""
    if type(value) is not kind:
        raise TypeError(f"its {name} holds {value!r} instead of a {kind.__name__}")
    return value


def listed(metadata: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    """The list of that name in a stranger's metadata, or a `TypeError` where it is none."""
    return [typed(value, name, kind) for value in typed(metadata[name], name, list)]


def dump(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys, so that equal values give equal bytes; NaN and infinity refused.

    Args:
        value: Anything that JSON can hold.
        indent: Spaces a level is indented by; None for one line.

    Raises:
        ValueError: the value holds NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, indent=indent, allow_nan=False, ensure_ascii=False)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: The file to hash.
    """
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
