import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from bayesgap.densities import fitting
from bayesgap.densities.em import fit_em
from bayesgap.densities.fitting import (
    QUANTISATION_VARIANCE,
    check_images,
    initialise,
    pixel_means,
    pixel_variances,
    principal_directions,
)
from bayesgap.densities.sgd import fit_sgd
from bayesgap.errors import BayesgapError
from strategies import PROPERTY, SEEDS, normal, seeded, uniform, without_shape_checks

both_fits = pytest.mark.parametrize("fit", [fit_em, fit_sgd])


def one_hot_images(pixels):
    """Images told apart exactly by any linear map: one bright pixel each."""
    return torch.eye(8)[pixels].reshape(-1, 1, 2, 4)


def test_the_default_floor_is_the_variance_of_rounding_to_8_bits():
    values = uniform(seeded(0), 1_000_000)
    error = (values * 255).round() / 255 - values
    # The standard error of this estimate is 0.1 %.
    assert math.isclose(error.square().mean().item(), QUANTISATION_VARIANCE, rel_tol=5e-3)


# What is refused, by either way of fitting.


@both_fits
@pytest.mark.parametrize(
    ("x", "settings", "held"),
    [
        (torch.rand(5), {}, r"Images \(n, …\) .* got \(5,\)"),
        (torch.rand(0, 4), {}, r"got \(0, 4\)"),
        (torch.rand(5, 0), {}, r"got \(5, 0\)"),
        (torch.ones(5, 4, dtype=torch.int8), {}, r"these are torch\.int8"),
        (torch.ones(5, 4, dtype=torch.int64), {}, r"these are torch\.int64"),
        (torch.rand(5, 4), {"components": 0}, r"got 0 and 1"),
        (torch.rand(5, 4), {"components": -3}, r"got -3 and 1"),
        (torch.rand(5, 4), {"latent": -1}, r"0 to 4 latent factors; got 2 and -1"),
        (torch.rand(5, 2, 2), {"latent": 5}, r"0 to 4 latent factors; got 2 and 5"),
        (torch.rand(5, 4), {"seed": 2**64}, "got 18446744073709551616"),
        (torch.rand(5, 4), {"seed": -1}, "seed must be an integer, 0 to .*; got -1"),
        (torch.rand(5, 4), {"noise_floor": 0.0}, r"positive and finite; got 0\.0"),
        (torch.rand(5, 4), {"noise_floor": -1e-3}, r"positive and finite; got -0\.001"),
        (torch.rand(5, 4), {"noise_floor": math.nan}, r"positive and finite; got nan"),
        (one_hot_images([0]), {}, r"1 images \(1 distinct\) .* 2 components"),
        (one_hot_images([0, 1, 0, 1]), {"components": 3}, r"4 images \(2 distinct\) .* 3 comp"),
    ],
)
def test_images_and_settings_that_no_density_fits_are_refused(fit, x, settings, held):
    with pytest.raises(BayesgapError, match=held):
        fit(x, **{"components": 2, "latent": 1, "seed": 0, **settings})


@both_fits
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_images_that_are_not_finite_are_counted_and_the_first_named(fit, value):
    x = torch.rand(7, 1, 2, 2)
    x[3, 0, 1, 1] = value
    x[5] = value
    with pytest.raises(BayesgapError, match="2 of 7 images hold NaN or infinity, first: 3"):
        fit(x, 2, 1, seed=0)


def test_an_infinite_floor_is_refused():
    with pytest.raises(BayesgapError, match="inf"):
        fit_em(torch.rand(9, 4), 2, 1, seed=0, noise_floor=math.inf)


def test_sgd_without_iterations_is_refused():
    with pytest.raises(BayesgapError):
        fit_sgd(torch.rand(9, 4), 2, 1, seed=0, max_iterations=0)


@both_fits
def test_an_empty_chunk_is_refused(fit):
    with pytest.raises(BayesgapError):
        fit(torch.rand(9, 4), 2, 1, seed=0, chunk=0)


def test_images_of_any_shape_become_points():
    x = torch.rand(6, 2, 3, 4)
    assert torch.equal(check_images(x, 2, 1, 1e-3), x.flatten(1))


def test_equal_images_are_not_counted_as_distinct():
    for n in (3, 5, 1025, 1500):
        for dimension in (16, 100, 784):
            image = torch.rand(1, dimension, generator=seeded(n + dimension))
            x = image.expand(n, dimension).contiguous()
            with pytest.raises(BayesgapError, match=r"\(1 distinct\)"):
                fit_em(x, 2, 1, seed=0)


def test_zeros_of_either_sign_are_one_image():
    x = torch.zeros(4, 3)
    x[0] = -0.0
    with pytest.raises(BayesgapError, match=r"4 images \(1 distinct\)"):
        fit_em(x, 2, 1, seed=0)


def test_images_that_only_rounding_tells_apart_are_no_error():
    # The projection that k-means sees has 50 directions, which 1e-9 does not reach.
    x = 10 * torch.eye(56, 60, dtype=torch.float64)
    x[55] = x[0]
    x[55, 59] = 1e-9
    with pytest.warns(ConvergenceWarning, match="1 of 56 components stayed empty"):
        density = fit_em(x, 56, 1, seed=0, dtype=torch.float64).density
    torch.testing.assert_close(density.weights @ density.means, x.mean(dim=0))


@both_fits
@pytest.mark.parametrize("change", [torch.Tensor.bfloat16, torch.Tensor.requires_grad_])
def test_any_floating_point_images_can_be_fitted(fit, change):
    x = change(torch.rand(30, 4, generator=seeded(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert fit(x, 1, 1, seed=0, max_iterations=3).density.components == 1


# Levels.


def levels(seed, *shape):
    """8-bit images that differ in where they are bright, so that clusters and factors exist."""
    generator = seeded(seed)
    bright = 200 * (uniform(generator, *shape[:1], *[1] * (len(shape) - 1)) < 0.5)
    noise = 50 * uniform(generator, *shape)
    ramp = torch.linspace(0, 1, shape[-1], dtype=torch.float64)
    return (bright * ramp + noise).round().to(torch.uint8)


@both_fits
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("isotropic", [False, True])
def test_levels_are_fitted_like_floats_in_255ths(fit, dtype, isotropic):
    x = levels(0, 90, 2, 3, 2)
    x[:, 0, 1, 1] = 37  # a pixel that never varies
    settings = {"seed": 0, "isotropic": isotropic, "dtype": dtype, "max_iterations": 8, "chunk": 32}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours, floats = (fit(data, 3, 2, **settings) for data in (x, x.float() / 255))
    assert ours.log_likelihoods == floats.log_likelihoods
    for name in ("weights", "means", "factors", "noise"):
        assert torch.equal(getattr(ours.density, name), getattr(floats.density, name))


@both_fits
def test_levels_may_lie_in_a_file_mapped_into_memory(fit, tmp_path):
    x = levels(1, 60, 3, 4)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    before = (tmp_path / "x.npy").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [fit(data, 2, 1, seed=0, max_iterations=4) for data in (x, mapped)]
    assert fits[0].log_likelihoods == fits[1].log_likelihoods
    assert torch.equal(mapped, x)
    assert (tmp_path / "x.npy").read_bytes() == before


def test_equal_levels_are_not_counted_as_distinct():
    x = levels(2, 1, 16).expand(1500, 16)
    with pytest.raises(BayesgapError, match=r"1500 images \(1 distinct\)"):
        fit_em(x, 2, 1, seed=0)


@pytest.mark.parametrize("values", [1, 30, 10**6])
def test_moments_do_not_depend_on_chunks(monkeypatch, values):
    monkeypatch.setattr(fitting, "CHUNK_VALUES", values)
    x = levels(3, 40, 7)
    exact = x.numpy() / 255
    means = pixel_means(x)
    np.testing.assert_allclose(means, exact.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(pixel_variances(x, means), exact.var(axis=0), rtol=1e-6)


# The leading directions of many images.


@pytest.mark.parametrize(("n", "dimension", "count"), [(300, 120, 7), (60, 200, 12), (90, 8, 8)])
def test_leading_directions_are_those_of_the_full_decomposition(n, dimension, count):
    scales = torch.linspace(1, 0.05, dimension, dtype=torch.float64)
    x = 3 + normal(seeded(n), n, dimension) * scales
    mean = x.mean(dim=0)
    directions, values, residual = principal_directions(x, mean, count)
    _, singular, expected = torch.linalg.svd(x - mean, full_matrices=False)
    torch.testing.assert_close(values, singular[:count].square() / n, rtol=1e-12, atol=0)
    cosines = (directions * expected[:count]).sum(dim=1).abs()
    torch.testing.assert_close(cosines, torch.ones(count).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        directions @ directions.mT, torch.eye(count).double(), rtol=0, atol=1e-12
    )
    assert residual < 1e-13


def test_a_tolerance_ends_the_search_for_directions_sooner(monkeypatch):
    x = normal(seeded(0), 900, 400) * torch.linspace(1, 0.2, 400, dtype=torch.float64)
    products = []
    times = fitting._covariance_times

    def counted(*args):
        products.append(1)
        return times(*args)

    monkeypatch.setattr(fitting, "_covariance_times", counted)
    mean = x.mean(dim=0)
    exact = principal_directions(x, mean, 3)
    needed = len(products)
    near = principal_directions(x, mean, 3, tolerance=1e-3)
    assert len(products) - needed < needed
    assert exact[2] < 1e-13 < near[2] <= 1e-3
    # An eigenvalue is off by no more than the residual.
    assert (near[1] - exact[1]).abs().max() <= near[2] * exact[1][0]


def test_images_of_fewer_dimensions_than_directions_asked_for_span_the_rest():
    x = normal(seeded(1), 50, 2) @ normal(seeded(2), 2, 30)
    directions, values, residual = principal_directions(x, x.mean(dim=0), 5)
    assert (values[:2] > 0.1).all()
    assert values[2:].abs().max() < 1e-12
    torch.testing.assert_close(
        directions @ directions.mT, torch.eye(5).double(), rtol=0, atol=1e-12
    )
    assert residual < fitting.ROUNDED


def test_a_start_of_many_images_spans_what_an_exact_one_spans(monkeypatch):
    x = levels(4, 200, 30)
    arguments: dict[str, Any] = {"isotropic": False, "noise_floor": 1e-5, "seed": 0}
    exact = initialise(x, 2, 1, **arguments)
    monkeypatch.setattr(fitting, "DENSE", 0.0)
    monkeypatch.setattr(fitting, "SMALLEST_BLOCK", 4)
    iterative = initialise(x, 2, 1, **arguments)
    torch.testing.assert_close(iterative.weights, exact.weights)
    torch.testing.assert_close(iterative.means, exact.means)
    for ours, theirs in zip(iterative.factors, exact.factors, strict=True):
        torch.testing.assert_close(ours @ ours.mT, theirs @ theirs.mT, rtol=0, atol=2e-3)


# The start.


@st.composite
def starts(draw):
    n, dimension = draw(st.integers(4, 30)), draw(st.integers(1, 6))
    seed = draw(SEEDS)
    x = uniform(seeded(seed), n, dimension)
    return x, draw(st.integers(1, 4)), draw(st.integers(0, dimension)), seed


@PROPERTY
@given(starts(), st.booleans(), st.sampled_from([QUANTISATION_VARIANCE, 0.05]))
def test_a_start_is_a_partition_of_the_images(start, isotropic, floor):
    x, components, latent, seed = start
    parameters = initialise(
        x, components, latent, isotropic=isotropic, noise_floor=floor, seed=seed
    )
    shares = parameters.weights * len(x)
    torch.testing.assert_close(shares, shares.round().clamp(min=1), rtol=0, atol=1e-9)
    torch.testing.assert_close(parameters.weights @ parameters.means, x.mean(dim=0))
    assert parameters.factors.shape == (components, x.shape[1], latent)
    assert (parameters.noise >= floor).all()
    assert not isotropic or (parameters.noise == parameters.noise[:, :1]).all()
    # All factors away from zero, which EM would not leave.
    assert (parameters.factors.abs().sum(dim=1) > 0).all()


def test_clusters_that_are_far_apart_are_found():
    centres = 10 * torch.eye(3, 60, dtype=torch.float64)  # more pixels than k-means sees
    labels = torch.arange(90) % 3
    x = centres[labels] + 0.1 * uniform(seeded(0), 90, 60)
    start = initialise(x, 3, 2, isotropic=False, noise_floor=1e-6, seed=1)
    torch.testing.assert_close(start.weights, torch.full((3,), 1 / 3, dtype=torch.float64))
    means = torch.stack([x[labels == label].mean(dim=0) for label in range(3)])
    order = torch.cdist(means, start.means).argmin(dim=1)
    assert sorted(order.tolist()) == [0, 1, 2]
    torch.testing.assert_close(start.means[order], means)


@pytest.mark.parametrize("n", [12, 40], ids=["fewer images than pixels", "more"])
def test_one_cluster_starts_from_its_principal_components(n):
    x = uniform(seeded(2), n, 20) @ torch.diag(torch.linspace(3, 0.1, 20).double())
    start = initialise(x, 1, 3, isotropic=True, noise_floor=1e-9, seed=0)
    values, vectors = torch.linalg.eigh(torch.cov(x.mT, correction=0))
    rest = values[:-3].sum() / 17
    expected = vectors[:, -3:] @ torch.diag(values[-3:] - rest) @ vectors[:, -3:].mT
    factors = start.factors[0]
    # The random part is a tenth of the floor's standard deviation.
    torch.testing.assert_close(factors @ factors.mT, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(start.noise[0, 0], rest, rtol=1e-3, atol=0)


def test_the_start_depends_on_the_seed_alone():
    x = uniform(seeded(3), 60, 5)

    def start(seed):
        return initialise(x, 4, 2, isotropic=False, noise_floor=1e-6, seed=seed)

    torch.manual_seed(1)
    first = start(7)
    torch.manual_seed(2)
    again = start(7)
    assert all(torch.equal(getattr(first, f), getattr(again, f)) for f in vars(first))
    assert any(not torch.equal(start(seed).means, first.means) for seed in range(5))


def test_the_projection_may_come_from_some_of_the_images(monkeypatch):
    x = torch.cat([uniform(seeded(4), 50, 3), uniform(seeded(5), 50, 3) + 5])
    monkeypatch.setattr(fitting, "BASIS_IMAGES", 20)
    start = initialise(x, 2, 1, isotropic=False, noise_floor=1e-6, seed=0)
    torch.testing.assert_close(start.weights, torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_a_failed_check_needs_no_shape_checker():
    with without_shape_checks(), pytest.raises(BayesgapError):
        fit_em(torch.rand(5), 1, 1, seed=0)


@pytest.mark.parametrize("fit", [fit_em, fit_sgd])
@pytest.mark.parametrize(
    ("x", "settings", "said"),
    [
        ([[0.0, 1.0]], {}, "must be a torch tensor; got a list"),
        (torch.rand(9, 3), {"dtype": torch.float16}, r"got torch\.float16"),
        (torch.rand(9, 3), {"device": "nowhere"}, "There is no device 'nowhere' here"),
    ],
)
def test_what_cannot_be_computed_is_refused(fit, x, settings, said):
    with without_shape_checks(), pytest.raises(BayesgapError, match=said):
        fit(x, 1, 1, seed=0, **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_fit_on_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(BayesgapError, match="There is no device 'cuda' here"):
        fit_em(torch.rand(9, 3), 1, 1, seed=0, device="cuda")
