import math
import re
import warnings

import pytest
import torch

from bayesgap.densities.em import fit_em
from bayesgap.densities.fitting import QUANTISATION_VARIANCE
from bayesgap.densities.ranges import (
    allowed_rounding,
    check_range,
    mean_log_prob,
    range_of,
    without_offset,
)
from bayesgap.densities.sgd import fit_sgd
from bayesgap.errors import BayesgapError
from bayesgap.images.mnist import load_mnist
from strategies import random_mixture, seeded, uniform

both_fits = pytest.mark.parametrize("fit", [fit_em, fit_sgd])
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture(scope="module")
def zeros():
    return load_mnist([0])[0][:200]


def quietly(fit, x, components=2, latent=2, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return fit(x, components, latent, **{"seed": 0, "max_iterations": 60, **settings})


def warned(fit, x, **settings):
    """What a fit warns of, and its result."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = fit(x, 1, 1, **{"seed": 0, "max_iterations": 9, **settings})
    return fitted, " ".join(str(warning.message) for warning in caught)


# In another unit.


@both_dtypes
@pytest.mark.parametrize(
    ("scale", "offset"), [(255.0, 0.0), (1e-6, 0.0), (2.0**40, 0.0), (3.0, 7.0)]
)
def test_with_a_floor_in_its_unit_a_fit_is_that_of_images_in_0_to_1(zeros, dtype, scale, offset):
    plain = quietly(fit_em, zeros, dtype=dtype)
    moved = fit_em(
        scale * zeros.double() + offset,
        2,
        2,
        seed=0,
        dtype=dtype,
        noise_floor=scale**2 * QUANTISATION_VARIANCE,
    )
    assert moved.converged
    change = zeros[0].numel() * math.log(scale)  # of the density of a variable in another unit
    assert moved.log_likelihood + change == pytest.approx(plain.log_likelihood, abs=0.2)
    torch.testing.assert_close(
        (moved.density.means - offset) / scale, plain.density.means, rtol=0, atol=2e-3
    )


@both_dtypes
@pytest.mark.parametrize("offset", [100.0, -1e6, 1e10])
def test_an_offset_costs_no_precision(zeros, dtype, offset):
    exact = zeros.double() + offset
    moved = fit_em(exact, 2, 2, seed=0, dtype=dtype)
    plain = fit_em((exact - offset).to(zeros.dtype), 2, 2, seed=0, dtype=dtype)
    assert moved.log_likelihood == pytest.approx(plain.log_likelihood, abs=0.1)
    mean = moved.density.log_prob(exact.flatten(1)).mean().item()
    assert moved.log_likelihood == pytest.approx(mean, rel=1e-9)
    torch.testing.assert_close(
        moved.density.means - offset, plain.density.means, rtol=0, atol=1e-3 + 1e-15 * abs(offset)
    )


def test_each_pixel_may_have_an_offset_of_its_own():
    x = uniform(seeded(0), 60, 4)
    offsets = torch.tensor([0.0, 1e5, -3e7, 12.0], dtype=torch.float64)
    plain, moved = (quietly(fit_em, data, 1, 1, noise_floor=1e-3) for data in (x, x + offsets))
    assert moved.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-3)
    torch.testing.assert_close(
        moved.density.means - offsets, plain.density.means, rtol=0, atol=1e-3
    )


def test_sgd_takes_an_offset_off_too():
    x = uniform(seeded(1), 60, 4)
    plain, moved = (
        quietly(fit_sgd, data, 1, 1, noise_floor=1e-3, max_iterations=5) for data in (x, x + 1e6)
    )
    assert moved.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-3)
    torch.testing.assert_close(moved.density.means - 1e6, plain.density.means, rtol=0, atol=0.01)


# What is taken off.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_offset_is_taken_off_exactly(dtype):
    x = (1e4 + uniform(seeded(2), 50, 6) * torch.linspace(1, 1200, 6)).to(dtype)
    near, offset = without_offset(x, range_of(x))
    assert offset is not None
    assert near.dtype == dtype
    assert torch.equal(near.double() + offset, x.double())
    assert near.abs().max() <= 1200


@pytest.mark.parametrize("lowest", [0.0, 0.5, 0.99])
def test_images_in_0_to_1_stay_what_they_are(lowest):
    x = lowest + (1 - lowest) * uniform(seeded(3), 20, 5)
    assert without_offset(x, range_of(x))[0] is x
    levels = torch.full((3, 4), 200, dtype=torch.uint8)
    assert without_offset(levels, range_of(levels)) == (levels, None)


def test_the_range_of_levels_is_that_of_255ths():
    x = torch.tensor([[0, 51], [255, 51]], dtype=torch.uint8)
    found = range_of(x)
    assert found.widest == 1.0
    assert str(found) == "from 0 to 1"
    assert found.lowest.tolist() == pytest.approx([0, 0.2])


# Doubts and refusals.


@both_fits
@both_dtypes
def test_images_of_levels_in_floats_are_doubted(zeros, fit, dtype):
    _, said = warned(fit, zeros * 255, dtype=dtype)
    assert re.search(r"reach from 0 to 255, and .*levels by 255.* noise_floor", said)


@both_fits
@pytest.mark.parametrize(
    "x", [1e-6 * uniform(seeded(4), 40, 6), torch.ones(9, 6), uniform(seeded(5), 1, 6)]
)
def test_images_below_the_floor_are_doubted(fit, x):
    _, said = warned(fit, x)
    assert re.search(r"No two of these .* deviation of the noise floor \(0\.00113\)", said)


@both_fits
@pytest.mark.parametrize(
    ("scale", "floor", "dtype"),
    [
        (1e6, 1e-6, torch.float32),
        (1e6, 1e-6, torch.float64),
        (1e19, 1e32, torch.float32),
        (1e-30, 1e-66, torch.float32),
        (1e160, 1e300, torch.float64),
        (1e30, 1e-6, torch.float64),
    ],
)
def test_images_beyond_the_digits_of_a_fit_are_refused(fit, scale, floor, dtype):
    x = scale * uniform(seeded(6), 40, 6)
    with pytest.raises(
        BayesgapError, match=r"at a noise floor of .* are beyond the digits of torch"
    ):
        fit(x, 1, 1, seed=0, noise_floor=floor, dtype=dtype)


def test_ordinary_images_are_not_doubted(zeros):
    for x in (zeros, 2 * zeros - 1, (zeros - 0.13) / 0.3, zeros / 50):
        check_range(x.flatten(1), QUANTISATION_VARIANCE, torch.float32)


# What rounding did.


def test_a_fit_that_rounding_spoils_has_not_converged(zeros):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spoilt = fit_em(zeros * 255, 2, 2, seed=0)
    doubt, verdict = (str(warning.message) for warning in caught)
    assert "reach from 0 to 255" in doubt
    assert "which rounding has spoilt" in verdict
    last, exact = spoilt.log_likelihoods[-1], spoilt.log_likelihood
    assert f"to {last:.6g} nats" in verdict
    assert f"(the density's is {exact:.6g})" in verdict
    assert "images from 0 to 255 leave torch.float32 too few digits" in verdict
    assert "fit in torch.float64, divide" in verdict
    assert not spoilt.converged
    assert abs(last - exact) > 10
    with pytest.warns(UserWarning, match="reach from 0 to 255"):
        sound = fit_em(zeros * 255, 2, 2, seed=0, dtype=torch.float64)
    assert sound.converged
    assert sound.log_likelihood > exact + 10


@both_fits
@both_dtypes
@pytest.mark.parametrize("scale", [1.0, 255.0])
@pytest.mark.parametrize("max_iterations", [1, 4, 60])
def test_the_log_likelihood_is_that_of_the_density(zeros, fit, dtype, scale, max_iterations):
    x = scale * zeros
    fitted = quietly(fit, x, dtype=dtype, max_iterations=max_iterations)
    mean = fitted.density.log_prob(x.flatten(1)).mean().item()
    assert fitted.log_likelihood == pytest.approx(mean, rel=1e-9)
    if fitted.converged:
        allowed = allowed_rounding(mean, 784, 1e-5)
        assert fit is fit_sgd or abs(fitted.log_likelihoods[-1] - mean) <= allowed
        assert max(fitted.log_likelihoods) - fitted.log_likelihoods[-1] <= allowed


@pytest.mark.parametrize("scale", [8.0, 16.0, 64.0, 1000.0])
@both_fits
def test_no_falling_log_likelihood_has_converged(zeros, fit, scale):
    fitted = quietly(fit, scale * zeros)
    fall = max(fitted.log_likelihoods) - fitted.log_likelihoods[-1]
    assert not (fitted.converged and fall > allowed_rounding(fitted.log_likelihood, 784, 1e-5))


def test_rounding_is_allowed_by_pixel_by_tolerance_or_a_little():
    assert allowed_rounding(-5.0, 4, 1e-5) == 0.1
    assert allowed_rounding(2000.0, 784, 1e-5) == pytest.approx(0.784)
    assert allowed_rounding(-2000.0, 784, 1e-2) == pytest.approx(20)
    assert allowed_rounding(2000.0, 784, -math.inf) == pytest.approx(0.784)


def test_the_mean_log_prob_does_not_depend_on_chunks(monkeypatch):
    density = random_mixture(0)
    x = density.sample(30, generator=seeded(7))
    expected = density.log_prob(x).mean().item()
    monkeypatch.setattr("bayesgap.densities.fitting.CHUNK", 7)
    assert mean_log_prob(density, x, "cpu") == pytest.approx(expected, rel=1e-12)
