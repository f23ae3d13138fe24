"""Tasks by name: densities that were fitted once and travel with the package.

Everyone who loads "mnist-0-6/symmetric" measures the same task. A released file is found by its
checksum in the catalogue and never replaced; a new fit gets a new version.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from bayesgap import files
from bayesgap.errors import BayesgapError
from bayesgap.tasks.symmetry import asymmetric, symmetric
from bayesgap.tasks.task import Task

RELEASED = Path(str(resources.files("bayesgap.tasks") / "released"))
CATALOGUE = "catalogue.json"
VARIANTS = {
    "symmetric": symmetric,
    "asymmetric": asymmetric,
    "fitted": lambda task: task,
}


def read_catalogue(folder: Path = RELEASED) -> dict[str, list[dict[str, Any]]]:
    """The releases of each task, oldest first: version, file, sha256, settings and facts."""
    path = folder / CATALOGUE
    return json.loads(path.read_text()) if path.exists() else {}


def task_names() -> list[str]:
    """Every name that `load_task` knows."""
    return [f"{base}/{variant}" for base in read_catalogue() for variant in VARIANTS]


def load_task(name: str | Path, *, version: int | None = None) -> Task:
    """A released task by name, or anyone's task file by path.

    Args:
        name: "mnist-0-6/symmetric", "…/asymmetric" or "…/fitted" (the densities as fitted), or
            the path of a .safetensors file.
        version: Of a released task; by default the newest.

    Raises:
        BayesgapError: no such name, version or file, or the file is damaged.
    """
    if str(name).endswith(".safetensors"):
        return Task.load(name)
    base, _, variant = str(name).partition("/")
    releases = read_catalogue().get(base)
    if releases is None or variant not in VARIANTS:
        raise BayesgapError(
            f"There is no task {str(name)!r}. Known are {', '.join(task_names())}, "
            "and paths that end in .safetensors."
        )
    chosen = [r for r in releases if version in (None, r["version"])]
    if not chosen:
        raise BayesgapError(
            f"{base} has no version {version}; there are {[r['version'] for r in releases]}."
        )
    release = chosen[-1]
    path = RELEASED / release["file"]
    if not path.is_file() or files.sha256(path) != release["sha256"]:
        raise BayesgapError(
            f"{path} is missing or not the file that was released as {base} version "
            f"{release['version']}: install bayesgap again."
        )
    return VARIANTS[variant](Task.load(path))
