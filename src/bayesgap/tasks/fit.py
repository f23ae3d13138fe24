"""Fitting tasks to real images of any source, with the facts that say how far to trust them.

Fits are kept in a folder as versions of a named task, beside a catalogue with the checksum of
each. What travels with the package was fitted here too.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap import files
from bayesgap.densities.em import fit_em
from bayesgap.densities.fitting import Fit
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.images.source import LEVELS, Source
from bayesgap.progress import Advance, progress
from bayesgap.tasks.catalog import CATALOGUE, Known, read_catalogue
from bayesgap.tasks.symmetry import principal_spread
from bayesgap.tasks.task import Task

LIMIT = 20_000  # training images of each class, at most, unless more are asked for
HELD_OUT = 10  # every tenth training image, to choose the floor
SEED = 0

Facts = Callable[[Task, Source, str], dict[str, Any]]


def fit_task(
    source: Source,
    name: str,
    folder: Path,
    *,
    limit: int | None = None,
    further_facts: Facts = lambda task, source, name: {},
) -> Known:
    """Fit a task to a source's images by its recipe, and add it to a folder as a new version.

    Args:
        source: Where the images come from; they must be at hand.
        name: The name of the task, such as "mnist-3-8".
        folder: The folder of tasks that the file and its entry are added to.
        limit: The largest number of training images of each class; None is no limit.
        further_facts: A function of the fitted task, its source and its name, whose facts are
            catalogued beside those on held-out images.

    Raises:
        BayesgapError: images that are too few for the recipe, or a folder that cannot be written
            to.
    """
    path = _next_file(name, folder)
    source.names(name)
    x, y = source.for_fitting(name, limit)
    classes, recipe = source.class_names(name), source.recipe
    _check_images(x, y, classes, recipe.latent)
    if not recipe.on_levels:
        x = x.float().div_(LEVELS)
    choosing = len(recipe.floors) if len(recipe.floors) > 1 else 0
    with progress(f"fitting {name}", len(classes) * (choosing + 1)) as advance:
        floor, tried = _choose_floor(x, y, source, advance) if choosing else (recipe.floors[0], [])
        fits = []
        for label, what in enumerate(classes):
            fits.append(_fit(x[y == label], source, floor))
            advance(note=f"{what}, {int((y == label).sum())} images, noise floor {floor:.3g}")
    settings = {
        **source.describe(name),
        "images": y.bincount().tolist(),
        "limit": limit,
        "components": [fit.density.components for fit in fits],
        "latent": recipe.latent,
        "seed": SEED,
        "noise_floor": floor,
        "held_out_nats_by_floor": tried,
        "iterations": [len(fit.log_likelihoods) for fit in fits],
        "converged": [fit.converged for fit in fits],
        _checksum_key(source): source.checksum,
    }
    densities = [fit.density for fit in fits]
    _save(path, name, densities, x, classes, settings)
    fitted = Task.load(path)
    facts = {**_held_out(fitted, source, name), **further_facts(fitted, source, name)}
    _catalogue(name, path, settings, facts)
    made = newest(name, folder)
    assert made is not None
    return made


def _save(
    path: Path,
    name: str,
    densities: Sequence[MixtureOfFactorAnalyzers],
    x: Tensor,
    classes: Sequence[str],
    settings: dict[str, Any],
) -> None:
    """Write the task of some densities fitted to images, in the precision that is released."""
    task = Task(
        densities,
        image_shape=x.shape[1:],
        class_names=classes,
        name=f"{name}/fitted",
        spread=principal_spread(x),
        facts=settings,
    )
    task.save(path, dtype=torch.float32)


def fit_missing(
    source: Source, names: Sequence[str], folder: Path, *, limit: int | None = LIMIT
) -> list[Known]:
    """The tasks of those names, fitted to the source's images where the folder lacks them.

    What the folder holds of the same images and limit is not fitted again; other fits stay, as
    older versions.

    Args:
        source: Where the images come from; they must be at hand.
        names: Tasks of the source, by name.
        folder: The folder of tasks.
        limit: The largest number of training images of each class; None is no limit.
    """
    wanted = {"limit": limit, _checksum_key(source): source.checksum}
    found = []
    for name in names:
        known = newest(name, folder)
        if known is None or {**known.entry["settings"], **wanted} != known.entry["settings"]:
            known = fit_task(source, name, folder, limit=limit)
        found.append(known)
    return found


def at_hand(source: Source, names: Sequence[str], folder: Path) -> list[Known]:
    """The newest tasks of those names, whatever their limit; fitted where the folder lacks them.

    Raises:
        BayesgapError: a task was fitted to other images, so that it may have seen the source's
            test images.
    """
    found = {name: newest(name, folder) for name in names}
    for known in found.values():
        if known and known.entry["settings"].get(_checksum_key(source)) != source.checksum:
            raise BayesgapError(
                f"{known.path} was fitted to other {source.what} than those at hand: give another "
                f"--tasks folder, or fit it again (bayesgap fit {known.name} …)."
            )
    lacking = [name for name, known in found.items() if known is None]
    fitted = {known.name: known for known in fit_missing(source, lacking, folder)}
    return [known or fitted[name] for name, known in found.items()]


def newest(name: str, folder: Path) -> Known | None:
    """The newest version of a task in a folder; None where there is none."""
    entries = read_catalogue(folder).get(name)
    if not entries:
        return None
    entry = entries[-1]
    return Known(name, entry["version"], entry["sha256"], folder / entry["file"], entry)


def _checksum_key(source: Source) -> str:
    return f"sha256_of_{source.what}"


def _check_images(x: Tensor, y: Int[Tensor, " n"], classes: Sequence[str], latent: int) -> None:
    """Refuse images that are no 8-bit levels, or too few of a class."""
    if x.dtype != torch.uint8:
        raise BayesgapError(f"A source's images are 8-bit levels, torch.uint8; got {x.dtype}.")
    for label, what in enumerate(classes):
        count = int((y == label).sum())
        if count <= latent:
            raise BayesgapError(
                f"{count} training images of class {what!r} are too few for {latent} factors: "
                "give more images, or a larger limit."
            )


def _fit(x: Tensor, source: Source, floor: float) -> Fit:
    recipe = source.recipe
    components = recipe.components(len(x))
    return fit_em(x, components, recipe.latent, seed=SEED, noise_floor=floor, **recipe.settings)


def _choose_floor(
    x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"], source: Source, advance: Advance
) -> tuple[float, list[float]]:
    """The floor whose fit gives every tenth image the highest likelihood, and what each gives."""
    held_out = torch.arange(len(x)) % HELD_OUT == 0
    tried = []
    for floor in source.recipe.floors:
        total = 0.0
        for label in y.unique().tolist():
            density = _fit(x[(y == label) & ~held_out], source, floor).density
            total += density.log_prob(x[(y == label) & held_out].flatten(1)).sum().item()
            advance(note=f"class {label} at a noise floor of {floor:.3g}, to choose one")
        tried.append(total / int(held_out.sum()))
    return source.recipe.floors[tried.index(max(tried))], tried


def _held_out(fitted: Task, source: Source, name: str) -> dict[str, Any]:
    """How well the densities describe real images that they were not fitted to."""
    x, y = source.parts(name, source.recipe.held_out)["test"]
    values = x.double() / LEVELS if source.recipe.on_levels else x.float().div_(LEVELS)
    nats = [
        density.log_prob(values[y == label].flatten(1)).mean().item()
        for label, density in enumerate(fitted.densities)
    ]
    return {"held_out_nats": nats, "real_test_images": len(x)}


def _next_file(name: str, folder: Path) -> Path:
    """Where the next version of a task goes; the folder is made where it is missing.

    Raises:
        BayesgapError: no such folder can be made, or a file of that name is there, and not
            catalogued.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BayesgapError(f"Cannot write to {folder}: {error.strerror or error}.") from error
    path = folder / f"{name}.v{_next_version(read_catalogue(folder).get(name, []))}.safetensors"
    if path.exists():
        raise BayesgapError(f"{path} exists, but not in the catalogue: move it away first.")
    return path


def _next_version(releases: Sequence[dict[str, Any]]) -> int:
    return max((entry["version"] for entry in releases), default=0) + 1


def _catalogue(name: str, path: Path, settings: dict[str, Any], facts: dict[str, Any]) -> None:
    """Add a saved task to the catalogue of its folder."""
    catalogue = read_catalogue(path.parent)
    releases = catalogue.setdefault(name, [])
    entry = {
        "version": _next_version(releases),
        "file": path.name,
        "sha256": files.sha256(path),
        "settings": settings,
        "facts": facts,
    }
    releases.append(entry)
    text = files.dump(catalogue, indent=1) + "\n"
    files.write_whole(path.parent / CATALOGUE, lambda temporary: temporary.write_text(text))
