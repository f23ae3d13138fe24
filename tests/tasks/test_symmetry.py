import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from bayesgap.densities import fitting
from bayesgap.errors import BayesgapError
from bayesgap.tasks import symmetry
from bayesgap.tasks.spread import Spread
from bayesgap.tasks.symmetry import asymmetric, principal_spread, symmetric
from bayesgap.tasks.task import Task
from strategies import (
    PROPERTY,
    SEEDS,
    normal,
    random_task,
    seeded,
    task_settings,
    uniform,
    without_shape_checks,
)
from toys import Laplace


def with_spread(**settings):
    direction = normal(seeded(1), 4)
    spread = Spread(uniform(seeded(2), 4), direction / direction.norm(), 0.4)
    return random_task(**{"seed": 0, "spread": spread, **settings})


# The symmetric variant.


@PROPERTY
@given(task_settings(), st.sampled_from([1e-3, 0.05]))
def test_symmetric_replaces_the_noise_and_nothing_else(settings, noise_std):
    task = random_task(**settings)
    variant = symmetric(task, noise_std=noise_std)
    assert variant.image_shape == task.image_shape
    assert torch.equal(variant.priors, task.priors)
    for new, old in zip(variant.mixtures, task.mixtures, strict=True):
        assert torch.equal(new.noise, torch.full_like(old.noise, noise_std**2))
        assert torch.equal(new.means, old.means)
        assert torch.equal(new.factors, old.factors)
        assert torch.equal(new.weights, old.weights)


def test_symmetric_means_the_papers_noise_and_equal_smallest_variances():
    variant = symmetric(random_task(3, classes=3))
    for density in variant.mixtures:
        assert torch.equal(density.noise, torch.full_like(density.noise, 0.001**2))
        for k in range(density.components):
            smallest = np.linalg.eigvalsh(density.covariance(k).numpy())[0]
            # Below the rounding of a matrix of entries near 1.
            assert smallest == pytest.approx(1e-6, abs=1e-14)


def test_variants_are_named_after_their_task():
    assert symmetric(random_task(4, name="toy")).name == "toy/symmetric"
    assert symmetric(random_task(4, name="toy/fitted")).name == "toy/symmetric"
    assert asymmetric(with_spread(name="a/b/fitted")).name == "a/b/asymmetric"


def test_variants_keep_what_is_known_of_the_task():
    task = with_spread(classes=3, class_names=["a", "b", "c"], facts={"source": "nowhere"})
    for variant, settings in (
        (symmetric(task), {"noise_std": 1e-3}),
        (
            asymmetric(task),
            {"noise_std": 1e-3, "weight": 0.01, "variance": 0.5, "move": 1.0},
        ),
    ):
        assert variant.class_names == ("a", "b", "c")
        assert variant.facts == {"source": "nowhere", "variant": settings}
        assert variant.spread is task.spread
    assert "variant" not in task.facts
    assert symmetric(task).outliers is None


@pytest.mark.parametrize("noise_std", [0.0, -1e-3, math.nan])
def test_symmetric_needs_a_positive_noise(noise_std):
    with pytest.raises(BayesgapError, match=f"must be positive; got {noise_std}"):
        symmetric(random_task(5), noise_std=noise_std)
    with pytest.raises(BayesgapError, match=f"must be positive; got {noise_std}"):
        asymmetric(with_spread(), noise_std=noise_std)


@pytest.mark.parametrize("noise_std", [1e-200, math.inf])
def test_a_noise_whose_square_is_no_number_is_refused(noise_std):
    with pytest.raises(BayesgapError, match="The noise of a mixture"):
        symmetric(random_task(5), noise_std=noise_std)


@pytest.mark.parametrize("variant", [symmetric, asymmetric])
def test_densities_without_components_have_no_variants(variant):
    task = Task([Laplace([0.0] * 4, 1.0)] * 2, image_shape=(1, 2, 2), name="toy")
    with pytest.raises(BayesgapError) as caught:
        variant(task)
    assert str(caught.value) == (
        "Variants exist for mixtures of factor analyzers alone, and the density of 'class 0' in "
        "the task toy is a Laplace: give a task the densities that you mean."
    )


# The asymmetric variant.


@PROPERTY
@given(
    task_settings(),
    st.floats(0.001, 0.9),
    st.floats(0.01, 2.0),
    st.floats(-3.0, 3.0),
    st.sampled_from([1e-3, 0.05]),
)
def test_asymmetric_is_symmetric_plus_one_outlier_a_class(
    settings, weight, variance, move, noise_std
):
    task = with_spread(**settings)
    plain = symmetric(task, noise_std=noise_std)
    variant = asymmetric(task, noise_std=noise_std, weight=weight, variance=variance, move=move)
    assert torch.equal(variant.priors, task.priors)
    assert variant.outliers == tuple(d.components for d in task.densities)
    last = task.classes - 1
    for label, (new, old) in enumerate(zip(variant.mixtures, plain.mixtures, strict=True)):
        assert torch.equal(new.means[:-1], old.means)
        assert torch.equal(new.factors[:-1], old.factors)
        assert torch.equal(new.noise[:-1], old.noise)
        torch.testing.assert_close(new.weights[:-1], (1 - weight) * old.weights, rtol=1e-14, atol=0)
        # The first class on the positive side, the last on the other, the rest between.
        place = move * (1 - 2 * label / last)
        mean = task.spread.mean + place * 0.4 * task.spread.direction
        torch.testing.assert_close(new.means[-1], mean, rtol=1e-14, atol=1e-14)
        assert torch.equal(new.factors[-1], torch.zeros(4, 2, dtype=torch.float64))
        assert torch.equal(new.noise[-1], torch.full((4,), variance, dtype=torch.float64))
        assert new.weights[-1].item() == pytest.approx(weight, rel=1e-14)


def test_the_defaults_are_those_documented():
    task = with_spread(classes=3)
    variant = asymmetric(task)
    step = task.spread.deviation * task.spread.direction
    for density, place in zip(variant.mixtures, (1, 0, -1), strict=True):
        assert density.weights[-1].item() == pytest.approx(0.01, rel=1e-14)
        assert (density.noise[-1] == 0.5).all()
        assert (density.noise[:-1] == 0.001**2).all()
        torch.testing.assert_close(density.means[-1], task.spread.mean + place * step)


def test_samples_of_an_outlier_are_as_broad_as_it_is():
    task = asymmetric(with_spread(), weight=0.5)
    x, is_outlier = task.sample_given(torch.zeros(4_000, dtype=torch.int64), seed=0)
    own = (x[is_outlier].flatten(1) - task.mixtures[0].means[-1]).flatten()
    # Five standard errors of a variance.
    assert own.square().mean().item() == pytest.approx(0.5, rel=5 * (2 / len(own)) ** 0.5)


def test_asymmetric_needs_to_know_the_spread():
    with pytest.raises(BayesgapError, match="The task toy does not know its data's spread"):
        asymmetric(random_task(6, name="toy"))


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"weight": 0.0}, "got 0.0 and 0.5"),
        ({"weight": 1.0}, "got 1.0 and 0.5"),
        ({"weight": -0.1}, "got -0.1 and 0.5"),
        ({"weight": math.nan}, "got nan and 0.5"),
        ({"variance": 0.0}, "got 0.01 and 0.0"),
        ({"variance": -0.5}, "got 0.01 and -0.5"),
        ({"variance": math.nan}, "got 0.01 and nan"),
        ({"variance": math.inf}, "noise of a mixture must be finite"),
        ({"move": math.nan}, "means of a mixture must be finite"),
        ({"move": math.inf}, "means of a mixture must be finite"),
    ],
)
def test_outliers_out_of_range_are_refused(changes, held):
    with pytest.raises(BayesgapError) as caught:
        asymmetric(with_spread(), **changes)
    assert held in str(caught.value)


def test_variants_survive_their_files(tmp_path):
    task = asymmetric(with_spread())
    task.save(tmp_path / "a.safetensors")
    loaded = type(task).load(tmp_path / "a.safetensors")
    assert loaded.outliers == task.outliers
    assert loaded.facts == task.facts
    x, _ = task.sample(20, seed=0)
    torch.testing.assert_close(loaded.log_posterior(x), task.log_posterior(x))


# Where outliers go.


@PROPERTY
@given(SEEDS, st.integers(2, 30), st.integers(1, 8), st.data())
def test_the_spread_is_an_eigenvector_of_the_covariance(seed, n, dimension, data):
    rank = data.draw(st.integers(1, min(n - 1, dimension)))
    x = 5 + normal(seeded(seed), n, dimension) @ torch.diag(0.5 ** torch.arange(dimension)).double()
    spread = principal_spread(x, rank=rank)
    values, vectors = np.linalg.eigh(np.cov(x.numpy().T, bias=True).reshape(dimension, dimension))
    np.testing.assert_allclose(spread.mean, x.numpy().mean(axis=0), rtol=1e-12)
    value = values[-rank]
    # eigh of the covariance loses half the digits of a small deviation.
    assert spread.deviation**2 == pytest.approx(value, abs=1e-13 * values[-1] + 1e-13)
    gaps = np.abs(np.delete(values, dimension - rank) - value)
    assume(gaps.min(initial=np.inf) > 1e-6 * values[-1])  # else the direction is any of a plane
    assert abs(spread.direction.numpy() @ vectors[:, -rank]) == pytest.approx(1, abs=1e-6)
    assert spread.direction.norm().item() == pytest.approx(1, rel=1e-12)
    assert spread.direction[spread.direction.abs().argmax()] > 0


def test_the_spread_is_that_of_the_fiftieth_direction_by_default():
    deviations = torch.linspace(2, 1, 60, dtype=torch.float64)
    # Every pixel's two values, one at a time: the covariance is diagonal.
    x = torch.cat([torch.diag(deviations), -torch.diag(deviations)]).reshape(120, 3, 4, 5)
    spread = principal_spread(x)
    expected = torch.zeros(60, dtype=torch.float64)
    expected[49] = 1
    torch.testing.assert_close(spread.direction, expected, rtol=0, atol=1e-12)
    assert spread.deviation == pytest.approx(deviations[49].item() / 60**0.5, rel=1e-12)
    torch.testing.assert_close(spread.mean, torch.zeros(60).double())


def test_the_spread_of_single_precision_images_is_computed_in_double():
    x = 1000 + torch.rand(20, 1, 2, 3)
    single, double = principal_spread(x, rank=2), principal_spread(x.double(), rank=2)
    assert torch.equal(single.mean, double.mean)
    assert torch.equal(single.direction, double.direction)


def spectrum(seed, n, dimension):
    """Images whose variances fall like those of photographs, with a common offset."""
    scales = torch.arange(1, dimension + 1, dtype=torch.float64) ** -0.5
    rotation = torch.linalg.qr(normal(seeded(seed + 1), dimension, dimension)).Q
    return 0.5 + 0.1 * (normal(seeded(seed), n, dimension) * scales) @ rotation


@pytest.mark.parametrize(("n", "dimension"), [(900, 300), (250, 400)])
def test_the_spread_of_many_images_is_that_of_the_full_decomposition(monkeypatch, n, dimension):
    x = spectrum(n, n, dimension)
    full = principal_spread(x)
    monkeypatch.setattr(symmetry, "DENSE", 0.0)
    ours = principal_spread(x)
    torch.testing.assert_close(ours.mean, full.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(ours.direction, full.direction, rtol=0, atol=1e-11)
    assert ours.deviation == pytest.approx(full.deviation, rel=1e-13)


@pytest.mark.parametrize("dense", [0.0, math.inf])
def test_the_spread_of_levels_is_that_of_floats_in_255ths(monkeypatch, dense):
    monkeypatch.setattr(symmetry, "DENSE", dense)
    x = (255 * spectrum(3, 200, 120).clamp(0, 1)).round().to(torch.uint8).reshape(200, 3, 5, 8)
    levels, floats = principal_spread(x), principal_spread(x.float() / 255)
    assert torch.equal(levels.mean, floats.mean)
    assert torch.equal(levels.direction, floats.direction)
    assert levels.deviation == floats.deviation


def test_a_direction_that_its_neighbours_hide_is_said_to_be_inexact(monkeypatch):
    monkeypatch.setattr(symmetry, "DENSE", 0.0)
    monkeypatch.setattr(fitting, "LARGEST_BASIS", 120)
    with pytest.warns(ConvergenceWarning, match="eigenvalue number 50 is not exact"):
        principal_spread(normal(seeded(0), 2000, 300))  # white noise


@pytest.mark.parametrize(
    ("n", "dimension", "rank", "held"),
    [
        (30, 60, 50, "30 images of 60 values have no eigenvalue number 50"),
        (50, 60, 50, "50 images of 60 values have no eigenvalue number 50"),
        (60, 30, 50, "60 images of 30 values have no eigenvalue number 50"),
        (10, 10, 0, "eigenvalue number 0"),
        (10, 10, -1, "eigenvalue number -1"),
        (0, 10, 1, "0 images of 10 values"),
    ],
)
def test_too_few_images_or_pixels_for_a_rank_are_refused(n, dimension, rank, held):
    with without_shape_checks(), pytest.raises(BayesgapError, match=held):
        principal_spread(torch.rand(n, dimension), rank=rank)


def test_as_many_images_as_a_rank_needs_are_enough():
    spread = principal_spread(torch.rand(51, 60), rank=50)
    assert spread.deviation > 0


def test_images_that_are_no_finite_floats_have_no_spread():
    given: list[tuple[Any, str]] = [
        (torch.zeros(60, 60, dtype=torch.int64), r"got torch\.int64"),
        (torch.zeros(60, 60).numpy(), "got a ndarray"),
        (torch.full((60, 60), math.nan), "NaN or infinity"),
    ]
    for x, held in given:
        with without_shape_checks(), pytest.raises(BayesgapError, match=held):
            principal_spread(x)
