"""Fitting the paper's tasks to real images, with the facts that say how far to trust them.

Digits travel with the package, and so do the tasks fitted to them. Faces do not: tasks of faces
are fitted to a user's own copy of CelebA and kept in a folder of the user's.
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from bayesgap import files
from bayesgap.classifiers.allconv import train_allconv
from bayesgap.classifiers.svm import train_linear_svm, train_rbf_svms
from bayesgap.densities.em import fit_em
from bayesgap.densities.fitting import QUANTISATION_VARIANCE, Fit
from bayesgap.errors import BayesgapError
from bayesgap.images.celeba import (
    ATTRIBUTES,
    CelebA,
    attribute_of,
    class_names,
    open_celeba,
    task_name,
)
from bayesgap.images.celeba import IMAGE_SHAPE as IMAGE_SHAPE_OF_FACES
from bayesgap.images.mnist import IMAGE_SHAPE, load_mnist
from bayesgap.paper.experiment import BAYES, VALIDATION_IMAGES, accuracy
from bayesgap.progress import Advance, progress
from bayesgap.tasks.catalog import CATALOGUE, VARIANTS, Known, read_catalogue
from bayesgap.tasks.symmetry import principal_spread
from bayesgap.tasks.task import Task

FACES = 20_000  # training faces of each class, at most, unless more are asked for
IMAGES_A_COMPONENT = 1_000  # of faces, appendix B.1
FACE_LATENT = 10  # appendix B.1
UNSEEN_FACES = 1_000  # of each class
LEVELS = 255
COMPONENTS = 25  # appendix B.1
LATENT = 6  # appendix B.1
FLOORS = tuple(QUANTISATION_VARIANCE * 4**k for k in range(5))
HELD_OUT = 10  # every tenth training image, to choose the floor
SEED = 0
MNIST_NAME = re.compile(r"mnist((-\d+)+)")
TRAINING_IMAGES = 4_000
CNN_WIDTH = 8
RBF_GAMMA = 0.1


def fit_digits(digits: Sequence[int], folder: Path) -> dict[str, Any]:
    """Fit a task to real digits and add it to a folder of releases as a new version.

    The floor on the noise variances is the one of `FLOORS` whose fit to nine tenths of the
    training digits gives the others the highest log-likelihood; the release is then fitted to
    all of them, by EM in float64, and stored in float32.

    Returns:
        The new entry of the catalogue.

    Raises:
        BayesgapError: fewer than two digits, or a folder that cannot be written to.
    """
    if len(digits) < 2:
        raise BayesgapError(f"A task needs 2 or more digits; got {list(digits)}.")
    name = "mnist-" + "-".join(str(digit) for digit in digits)
    path = _next_file(name, folder)
    x, y = load_mnist(digits, split="train")
    with progress(f"fitting {name}", len(digits) * (len(FLOORS) + 1)) as advance:
        floor, tried = _choose_floor(x, y, digits, advance)
        fits = []
        for label, digit in enumerate(digits):
            fits.append(_fit(x[y == label], floor))
            advance(note=f"digit {digit} at the chosen floor {floor:.3g}")
    settings = {
        "digits": list(digits),
        "components": COMPONENTS,
        "latent": LATENT,
        "seed": SEED,
        "noise_floor": floor,
        "held_out_nats_by_floor": tried,
        "iterations": [len(fit.log_likelihoods) for fit in fits],
    }
    task = Task(
        [fit.density for fit in fits],
        image_shape=IMAGE_SHAPE,
        class_names=[f"digit {digit}" for digit in digits],
        name=f"{name}/fitted",
        spread=principal_spread(x),
        facts=settings,
    )
    task.save(path, dtype=torch.float32)
    return _catalogued(name, path, settings, _facts(Task.load(path), digits))


def fit_faces(
    copy: CelebA, attributes: Sequence[str], folder: Path, *, limit: int | None = FACES
) -> list[Known]:
    """Fit the tasks of some attributes to the faces of a copy, where a folder lacks them.

    By EM in float32, with the paper's n / 1000 components of 10 factors for n images of a class,
    and the variance of 8-bit quantisation as the floor on the noise, which faces do not reach.

    Args:
        copy: Of CelebA.
        attributes: Of the paper's twelve.
        folder: Of tasks, to which new ones are added. What it holds of the same faces and limit
            is not fitted again; other fits stay, as older versions.
        limit: The first so many training faces of each class; None is all there are.

    Raises:
        BayesgapError: an attribute that the paper has no task for or the copy no faces of, or a
            folder that cannot be written to.
    """
    wanted = {"limit": limit, "sha256_of_faces": copy.checksum}
    names = {task_name(attribute): attribute for attribute in attributes}
    found = {name: newest(name, folder) for name in names}
    missing = [
        name
        for name, known in found.items()
        if known is None or {**known.entry["settings"], **wanted} != known.entry["settings"]
    ]
    for name in missing:
        folder.mkdir(parents=True, exist_ok=True)
        with progress(f"fitting {name}", 2) as advance:
            found[name] = _fit_attribute(copy, name, names[name], folder, limit, advance)
    return [known for known in found.values() if known is not None]


def faces_at_hand(copy: CelebA, attributes: Sequence[str], folder: Path) -> list[Known]:
    """The tasks of some attributes, fitted to this copy of CelebA; what lacks is fitted.

    Raises:
        BayesgapError: a task was fitted to other faces, so that it may have seen this copy's test
            faces; and what `fit_faces` refuses.
    """
    found = {attribute: newest(task_name(attribute), folder) for attribute in attributes}
    for known in found.values():
        if known and known.entry["settings"].get("sha256_of_faces") != copy.checksum:
            raise BayesgapError(
                f"{known.path} was fitted to other faces than those of {copy.folder}: give another "
                f"--tasks folder, or fit it again (bayesgap fit {known.name} --celeba …)."
            )
    lacking = [attribute for attribute, known in found.items() if known is None]
    fitted = {known.name: known for known in fit_faces(copy, lacking, folder)}
    return [known or fitted[task_name(attribute)] for attribute, known in found.items()]


def newest(name: str, folder: Path) -> Known | None:
    """The newest version of a task in a folder."""
    entries = read_catalogue(folder).get(name)
    if not entries:
        return None
    entry = entries[-1]
    return Known(name, entry["version"], entry["sha256"], folder / entry["file"], entry)


def fit_by_name(
    names: Sequence[str], folder: Path, *, celeba: Path | None, limit: int | None
) -> list[Known]:
    """Fit tasks, such as "mnist-3-8", "celeba-smiling" or "celeba" for the paper's twelve.

    Digits are fitted anew, as a further version; faces where the folder lacks them.

    Raises:
        BayesgapError: a name of neither kind, faces without a copy of CelebA, and what the fits
            refuse.
    """
    jobs = [_fit_of(name, celeba) for name in names]  # no fit before all names are known
    copy = None if celeba is None else open_celeba(celeba)
    fitted: list[Known | None] = []
    for name, digits, attributes in jobs:
        if digits:
            fit_digits(digits, folder)
            fitted.append(newest(name, folder))
        elif copy is not None:
            fitted += fit_faces(copy, attributes, folder, limit=limit)
    return [known for known in fitted if known is not None]


def _fit_of(name: str, celeba: Path | None) -> tuple[str, list[int], list[str]]:
    """The digits or the attributes that a name stands for."""
    if name in read_catalogue():
        raise BayesgapError(
            f"{name} is released, and a fit of your own would not be found by that name: load it "
            "as it is."
        )
    digits = MNIST_NAME.fullmatch(name)
    if digits:
        return name, [int(digit) for digit in digits[1].split("-")[1:]], []
    if name.partition("-")[0] != "celeba":
        raise BayesgapError(
            f"There are no images for a task {name!r}: names are mnist-DIGIT-DIGIT, "
            "celeba-ATTRIBUTE and celeba."
        )
    if celeba is None:
        raise BayesgapError(f"{name} is fitted to faces: give your copy with --celeba.")
    return name, [], list(ATTRIBUTES) if name == "celeba" else [attribute_of(name)]


def _fit_attribute(
    copy: CelebA, name: str, attribute: str, folder: Path, limit: int | None, advance: Advance
) -> Known | None:
    path = _next_file(name, folder)
    rows, y = copy.select(attribute, split="train", limit=limit)
    classes = class_names(attribute)
    fits = []
    for label, label_name in enumerate(classes):
        x = copy.images[rows[y == label]]
        if len(x) <= FACE_LATENT:
            raise BayesgapError(
                f"{len(x)} training faces of class {label_name!r} are too few for {FACE_LATENT} "
                "factors: give a fuller copy, or a larger limit."
            )
        components = components_for(len(x))
        fits.append(fit_em(x, components, FACE_LATENT, seed=SEED))
        advance(note=f"{attribute}: {label_name}, {len(x)} faces, {components} components")
    settings = {
        "attribute": attribute,
        "faces": y.bincount().tolist(),
        "limit": limit,
        "components": [fit.density.components for fit in fits],
        "latent": FACE_LATENT,
        "seed": SEED,
        "iterations": [len(fit.log_likelihoods) for fit in fits],
        "converged": [fit.converged for fit in fits],
        "sha256_of_faces": copy.checksum,
    }
    task = Task(
        [fit.density for fit in fits],
        image_shape=IMAGE_SHAPE_OF_FACES,
        class_names=classes,
        name=f"{name}/fitted",
        spread=principal_spread(copy.images[rows]),
        facts=settings,
    )
    task.save(path, dtype=torch.float32)
    _catalogued(name, path, settings, _face_facts(Task.load(path), copy, attribute))
    return newest(name, folder)


def components_for(faces: int) -> int:
    """How many components a class of so many faces gets (appendix B.1)."""
    return max(1, round(faces / IMAGES_A_COMPONENT))


def _face_facts(fitted: Task, copy: CelebA, attribute: str) -> dict[str, Any]:
    """How well the densities describe unseen faces."""
    rows, y = copy.select(attribute, split="test", limit=UNSEEN_FACES)
    return {
        "held_out_nats": [
            density.log_prob(copy.images[rows[y == label]].flatten(1).double() / LEVELS)
            .mean()
            .item()
            for label, density in enumerate(fitted.densities)
        ],
        "real_test_images": len(rows),
    }


def _next_file(name: str, folder: Path) -> Path:
    """Where the next version of a task goes.

    Raises:
        BayesgapError: a file of that name is there, and not catalogued.
    """
    path = folder / f"{name}.v{_next_version(read_catalogue(folder).get(name, []))}.safetensors"
    if path.exists():
        raise BayesgapError(f"{path} exists, but not in the catalogue: move it away first.")
    return path


def _next_version(releases: Sequence[dict[str, Any]]) -> int:
    return max((entry["version"] for entry in releases), default=0) + 1


def _catalogued(
    name: str, path: Path, settings: dict[str, Any], facts: dict[str, Any]
) -> dict[str, Any]:
    """Add a saved task to the catalogue of its folder; the new entry."""
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
    return entry


def _fit(x: Float[Tensor, "n C H W"], floor: float) -> Fit:
    return fit_em(
        x,
        COMPONENTS,
        LATENT,
        seed=SEED,
        noise_floor=floor,
        dtype=torch.float64,
        tolerance=1e-6,
        max_iterations=500,
    )


def _choose_floor(
    x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"], digits: Sequence[int], advance: Advance
) -> tuple[float, list[float]]:
    held_out = torch.arange(len(x)) % HELD_OUT == 0
    tried = []
    for floor in FLOORS:
        total = 0.0
        for label, digit in enumerate(digits):
            density = _fit(x[(y == label) & ~held_out], floor).density
            total += density.log_prob(x[(y == label) & held_out].flatten(1)).sum().item()
            advance(note=f"digit {digit} at a floor of {floor:.3g}, to choose one")
        tried.append(total / int(held_out.sum()))
    return FLOORS[tried.index(max(tried))], tried


def _facts(fitted: Task, digits: Sequence[int]) -> dict[str, Any]:
    """How well the densities describe unseen digits, and whether their samples teach as much."""
    x, y = load_mnist(digits, split="test")
    facts: dict[str, Any] = {
        "held_out_nats": [
            density.log_prob(x[y == label].flatten(1)).mean().item()
            for label, density in enumerate(fitted.densities)
        ],
        "real_test_images": len(x),
    }
    for variant in ("symmetric", "asymmetric"):
        task = VARIANTS[variant](fitted)
        samples, labels = task.sample(TRAINING_IMAGES, seed=SEED)
        unseen, truth = task.sample(VALIDATION_IMAGES, seed=SEED + 1)
        classes = task.classes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            linear = train_linear_svm(samples, labels, classes=classes, seed=SEED)
        cnn, _ = train_allconv(samples, labels, width=CNN_WIDTH, classes=classes, seed=SEED)
        (rbf,) = train_rbf_svms(samples, labels, gammas=[RBF_GAMMA], classes=classes)
        classifiers = {
            BAYES: task.bayes_classifier(),
            "cnn": cnn,
            "linear-svm": linear,
            "rbf-svm": rbf,
        }
        facts[variant] = {
            "accuracy_on_samples": {
                name: accuracy(net, unseen, truth) for name, net in classifiers.items()
            },
            "accuracy_on_real_digits": {
                name: accuracy(net, x, y) for name, net in classifiers.items()
            },
        }
    return facts
