"""Fitting and releasing the paper's MNIST tasks, with the facts that say how far to trust them."""

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
from bayesgap.images.mnist import IMAGE_SHAPE, load_mnist
from bayesgap.paper.experiment import BAYES, VALIDATION_IMAGES, accuracy
from bayesgap.progress import Advance, progress
from bayesgap.tasks.catalog import CATALOGUE, VARIANTS, read_catalogue
from bayesgap.tasks.symmetry import principal_spread
from bayesgap.tasks.task import Task

PAIRS = ((0, 6), (2, 7), (4, 5))
COMPONENTS = 25  # appendix B.1
LATENT = 6  # appendix B.1
FLOORS = tuple(QUANTISATION_VARIANCE * 4**k for k in range(5))
HELD_OUT = 10  # every tenth training image, to choose the floor
SEED = 0
TRAINING_IMAGES = 4_000
CNN_WIDTH = 8
RBF_GAMMA = 0.1


def release(digits: Sequence[int], folder: Path) -> dict[str, Any]:
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
    catalogue = read_catalogue(folder)
    releases = catalogue.setdefault(name, [])
    version = max((entry["version"] for entry in releases), default=0) + 1
    path = folder / f"{name}.v{version}.safetensors"
    if path.exists():
        raise BayesgapError(f"{path} exists, but not in the catalogue: move it away first.")
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
    entry = {
        "version": version,
        "file": path.name,
        "sha256": files.sha256(path),
        "settings": settings,
        "facts": _facts(Task.load(path), digits),
    }
    releases.append(entry)
    text = files.dump(catalogue, indent=1) + "\n"
    files.write_whole(folder / CATALOGUE, lambda temporary: temporary.write_text(text))
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
