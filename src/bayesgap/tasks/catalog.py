"""Tasks by name: densities that were fitted once, in the package or in a user's own folder.

Everyone who loads "mnist-0-6/symmetric" measures the same task. A released file is found by its
checksum in the catalogue and never replaced; a new fit gets a new version. A user's own folder
has a catalogue of the same form: there lie fits to data that may not be handed on.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from bayesgap import files
from bayesgap.errors import BayesgapError, did_you_mean
from bayesgap.tasks.symmetry import asymmetric, symmetric
from bayesgap.tasks.task import Task

RELEASED = Path(str(resources.files("bayesgap.tasks") / "released"))
CATALOGUE = "catalogue.json"
VARIANTS: dict[str, Callable[[Task], Task]] = {
    "symmetric": symmetric,
    "asymmetric": asymmetric,
    "fitted": lambda task: task,
}


@dataclass(frozen=True)
class Known:
    """One version of a fitted task in a folder of tasks.

    Attributes:
        name: The task's name without a variant, for example "mnist-0-6".
        version: The number of the fit, counted from 1; a new fit of the same name gets the next.
        sha256: The SHA-256 checksum of the file, in hexadecimal.
        path: The safetensors file that holds the task.
        entry: All that the catalogue says of this version: the settings of the fit, and facts.
    """

    name: str
    version: int
    sha256: str
    path: Path
    entry: dict[str, Any]

    @property
    def released(self) -> bool:
        """Whether it travels with the package."""
        return self.path.parent == RELEASED

    def load(self) -> Task:
        """The task as it was fitted, the variant "fitted".

        Raises:
            BayesgapError: the file is not the one that was catalogued.
        """
        if not self.path.is_file() or files.sha256(self.path) != self.sha256:
            remedy = "install bayesgap again" if self.released else "fit it again"
            raise BayesgapError(
                f"{self.path} is missing or not the file that was released as {self.name} "
                f"version {self.version}: {remedy}."
            )
        return Task.load(self.path)


def own_folder() -> Path:
    """The user's folder of tasks: $BAYESGAP_TASKS, or bayesgap/tasks among the user's data."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(os.environ.get("BAYESGAP_TASKS") or Path(data) / "bayesgap" / "tasks")


def read_catalogue(folder: Path = RELEASED) -> dict[str, list[dict[str, Any]]]:
    """The versions of each task that a folder's catalogue lists.

    Args:
        folder: The folder of tasks; by default that of the released ones.

    Returns:
        For each name, without a variant, its entries, oldest first: version, file, sha256,
        settings and facts. Empty where the folder has no catalogue.

    Raises:
        BayesgapError: the folder has a catalogue that is none.
    """
    path = folder / CATALOGUE
    if not path.exists():
        return {}
    try:
        catalogue: dict[str, list[dict[str, Any]]] = json.loads(path.read_text("utf-8"))
        for releases in catalogue.values():
            for entry in releases:
                if not isinstance(entry["version"], int) or not isinstance(entry["sha256"], str):
                    raise ValueError(f"{entry['file']!r} has no version or checksum")
                # A name, so that a stranger's catalogue leads to no other folder.
                if Path(entry["file"]).name != entry["file"]:
                    raise ValueError(f"{entry['file']!r} is not in its folder")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BayesgapError(f"{path} is no catalogue of tasks: {error}.") from error
    return catalogue


def known_tasks(folder: Path | None = None) -> dict[str, list[Known]]:
    """The versions of every task that can be loaded by name, oldest first.

    Args:
        folder: The folder of the user's own tasks; `own_folder()` by default. A name that is in
            both means the released task.

    Returns:
        The versions of each task by its name, without a variant.

    Raises:
        BayesgapError: no such folder, or its catalogue is damaged.
    """
    if folder is not None and not folder.is_dir():
        raise BayesgapError(f"There is no folder {folder} of tasks.")
    folders = [own_folder() if folder is None else folder, RELEASED]
    return {
        name: [
            Known(name, entry["version"], entry["sha256"], place / entry["file"], entry)
            for entry in releases
        ]
        for place in folders
        for name, releases in read_catalogue(place).items()
    }


def task_names(folder: Path | None = None) -> list[str]:
    """Every name that `load_task` knows, such as "mnist-0-6/symmetric".

    Args:
        folder: The folder of the user's own tasks; `own_folder()` by default.

    Raises:
        BayesgapError: no such folder, or its catalogue is damaged.

    Example:
        >>> "mnist-0-6/symmetric" in bayesgap.task_names()
        True
    """
    return [f"{base}/{variant}" for base in known_tasks(folder) for variant in VARIANTS]


def load_task(
    name: str | Path, *, version: int | None = None, folder: str | Path | None = None
) -> Task:
    """A task by name, released or of the user's own folder, or anyone's task file by path.

    Args:
        name: "mnist-0-6/symmetric", "…/asymmetric" or "…/fitted" (the densities as fitted), or
            the path of a .safetensors file.
        version: Which fit of a task by name to load, counted from 1; the newest by default.
        folder: The folder of the user's own tasks; by default $BAYESGAP_TASKS, or bayesgap/tasks
            among the user's data.

    Raises:
        BayesgapError: no such name, version or file, or the file is damaged.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> task.class_names, task.image_shape
        (('digit 0', 'digit 6'), (1, 28, 28))
    """
    if str(name).endswith(".safetensors"):
        return Task.load(name)
    base, _, variant = str(name).partition("/")
    known = known_tasks(None if folder is None else Path(folder))
    if base not in known or variant not in VARIANTS:
        names = [f"{other}/{kind}" for other in known for kind in VARIANTS]
        whole = name if variant or base not in known else f"{base}/symmetric"
        hint = did_you_mean(str(whole), names)
        raise BayesgapError(
            f"There is no task {str(name)!r}.{hint} Known are {', '.join(names)}, "
            "and paths that end in .safetensors; `bayesgap fit` makes others."
        )
    chosen = [one for one in known[base] if version in (None, one.version)]
    if not chosen:
        raise BayesgapError(
            f"{base} has no version {version}; there are {[one.version for one in known[base]]}."
        )
    return VARIANTS[variant](chosen[-1].load())
