import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning

from bayesgap.densities import em
from bayesgap.densities.em import expectation, fit_em, maximisation, varying_pixels
from bayesgap.densities.fitting import QUANTISATION_VARIANCE, Parameters, initialise
from bayesgap.images.mnist import load_mnist
from strategies import (
    COSTLY_PROPERTY,
    PROPERTY,
    SEEDS,
    normal,
    random_mixture,
    random_parameters,
    seeded,
    uniform,
)

FLOOR = 1e-9  # below all noise in these tests, unless they are about the floor
NEVER = -math.inf  # a tolerance at which no fit converges
NAMES = ("weights", "means", "factors", "noise")


def fit(x, components, latent, **settings):
    """Fit in double precision, and do not mind when the iterations run out."""
    settings = {"seed": 0, "noise_floor": FLOOR, "dtype": torch.float64, **settings}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "EM stopped after", ConvergenceWarning)
        return fit_em(x, components, latent, **settings)


def step(x, parameters, *, dtype=torch.float64, chunk=1024, isotropic=False, noise_floor=FLOOR):
    workspace = torch.empty(2, min(chunk, len(x)), x.shape[1], dtype=dtype)
    everything = torch.arange(x.shape[1])
    statistics, whitening = expectation(x, everything, parameters, workspace)
    new = maximisation(statistics, whitening, isotropic=isotropic, noise_floor=noise_floor)
    return new, statistics.log_likelihoods.mean().item()


def mean_log_prob(density, x):
    return density.log_prob(x.flatten(1)).mean().item()


def data_from(seed, n, dimension=5, latent=2, components=2, noise_std=0.3):
    density = random_mixture(seed, components, dimension, latent, noise_std=noise_std)
    return density.sample(n, generator=seeded(seed))


def falls(fit):
    """By how much each iteration lowered the likelihood, but for those that may."""
    steps = zip(fit.log_likelihoods, fit.log_likelihoods[1:], strict=False)
    return [a - b for i, (a, b) in enumerate(steps) if i not in {*fit.reseeded, *fit.dropped}]


# Against Ghahramani and Hinton's formulas, one image and one component at a time.


def slow_step(x, parameters, *, isotropic, noise_floor):
    x = x.numpy()
    weights, means, factors, noise = (getattr(parameters, name).numpy() for name in NAMES)
    (n, dimension), latent = x.shape, factors.shape[2]
    joint = np.stack(
        [
            np.log(pi) + stats.multivariate_normal(mu, a @ a.T + np.diag(d)).logpdf(x).reshape(n)
            for pi, mu, a, d in zip(weights, means, factors, noise, strict=True)
        ],
        axis=1,
    )
    evidence = np.logaddexp.reduce(joint, axis=1)
    shares = np.exp(joint - evidence[:, None])
    new = []
    for h, mu, a, d in zip(shares.T, means, factors, noise, strict=True):
        beta = a.T @ np.linalg.inv(a @ a.T + np.diag(d))
        cross, outer = np.zeros((dimension, latent + 1)), np.zeros((latent + 1, latent + 1))
        codes = []
        for share, point in zip(h, x, strict=True):
            z = beta @ (point - mu)
            second = np.eye(latent) - beta @ a + np.outer(z, z)
            code = np.append(z, 1)
            cross += share * np.outer(point, code)
            outer += share * np.block([[second, z[:, None]], [z[None], np.ones((1, 1))]])
            codes.append(code)
        regression = cross @ np.linalg.inv(outer)
        left = sum(
            share * (point - regression @ code) * point
            for share, point, code in zip(h, x, codes, strict=True)
        )
        variance = left / h.sum()
        if isotropic:
            variance = np.full(dimension, variance.mean())
        variance = np.maximum(variance, noise_floor)
        new.append((h.sum() / n, regression[:, -1], regression[:, :-1], variance))
    return [np.stack(arrays) for arrays in zip(*new, strict=True)], evidence.mean()


@PROPERTY
@given(
    SEEDS,
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([FLOOR, 0.05]),
    st.sampled_from([0.1, 0.5]),
)
def test_one_iteration_is_that_of_ghahramani_and_hinton(
    seed, components, dimension, latent, isotropic, floor, noise_std
):
    latent = min(latent, dimension)
    x = data_from(seed, 40, dimension, latent, components, noise_std)
    parameters = random_parameters(seed + 1, components, dimension, latent, noise_std=noise_std)
    expected, log_likelihood = slow_step(x, parameters, isotropic=isotropic, noise_floor=floor)
    assume(expected[0].min() * len(x) > 0.1)  # a component of nothing has no parameters
    new, own_log_likelihood = step(x, parameters, isotropic=isotropic, noise_floor=floor, chunk=16)
    assert own_log_likelihood == pytest.approx(log_likelihood, rel=1e-9, abs=1e-9)
    for name, array in zip(NAMES, expected, strict=True):
        np.testing.assert_allclose(getattr(new, name).numpy(), array, rtol=1e-8, atol=1e-8)


# Against what is known of one component.


def test_one_component_is_factor_analysis():
    x = data_from(3, 400, dimension=8, latent=2, components=1, noise_std=0.4)
    ours = fit(x, 1, 2, tolerance=1e-14, max_iterations=5_000)
    assert ours.converged
    # Its own tolerance is on the sum over images.
    reference = FactorAnalysis(2, tol=1e-10, max_iter=100_000, svd_method="lapack").fit(x.numpy())
    assert ours.density.noise.min() > 10 * FLOOR
    assert mean_log_prob(ours.density, x) == pytest.approx(reference.score(x.numpy()), rel=1e-10)
    np.testing.assert_allclose(
        ours.density.covariance(0).numpy(), reference.get_covariance(), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(ours.density.means[0].numpy(), reference.mean_, atol=1e-12)


def probabilistic_pca(x, latent):
    """Tipping and Bishop's maximum, from scikit-learn's unbiased one."""
    n = len(x)
    covariance = PCA(latent).fit(x.numpy()).get_covariance() * (n - 1) / n
    return covariance, stats.multivariate_normal(x.mean(dim=0), covariance).logpdf(x).mean()


def test_one_isotropic_component_is_probabilistic_pca():
    x = data_from(4, 300, dimension=6, latent=2, components=1)
    density = fit(x, 1, 2, isotropic=True, tolerance=1e-14, max_iterations=2_000).density
    covariance, score = probabilistic_pca(x, 2)
    assert mean_log_prob(density, x) == pytest.approx(score, rel=1e-10)
    np.testing.assert_allclose(density.covariance(0).numpy(), covariance, atol=1e-5)


def test_isotropic_em_reaches_probabilistic_pca_from_anywhere():
    x = data_from(5, 300, dimension=6, latent=2, components=1)
    parameters = random_parameters(6, 1, 6, 2)
    parameters = dataclasses.replace(parameters, noise=parameters.noise[:, :1].expand(1, 6))
    for _ in range(250):
        parameters, _ = step(x, parameters, isotropic=True)
    covariance, score = probabilistic_pca(x, 2)
    assert mean_log_prob(parameters.density(), x) == pytest.approx(score, rel=1e-9)
    np.testing.assert_allclose(parameters.density().covariance(0).numpy(), covariance, atol=1e-4)


def test_without_factors_one_component_has_the_moments_of_the_data():
    x = data_from(7, 50)
    density = fit(x, 1, 0).density
    torch.testing.assert_close(density.means[0], x.mean(dim=0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(density.noise[0], x.var(dim=0, correction=0), rtol=1e-10, atol=0)


def test_a_known_mixture_is_found_again():
    truth = random_mixture(8, 2, 4, 1, noise_std=0.1)
    truth.means[1] += 3.0
    truth = Parameters(truth.weights, truth.means, truth.factors, truth.noise).density()
    x, component = truth.sample_with_components(4_000, generator=seeded(0))
    found = fit(x, 2, 1, tolerance=1e-9).density
    order = torch.cdist(truth.means, found.means).argmin(dim=1)
    # Five standard errors of a share and of a mean; the noise to 15 %.
    counts = component.bincount(minlength=2)
    assert ((found.weights[order] - counts / 4_000).abs() < 1e-6).all()
    deviation = torch.stack([truth.covariance(k).diagonal().sqrt() for k in (0, 1)])
    error = (found.means[order] - truth.means).abs() / (deviation / counts[:, None].sqrt())
    assert error.max() < 5
    assert ((found.noise[order] / truth.noise).log().abs() < 0.15).all()


# The likelihood never falls.


@st.composite
def problems(draw):
    """Data with structure or without, and settings; many images for each component."""
    dimension = draw(st.integers(1, 5))
    x = data_from(
        draw(SEEDS),
        draw(st.integers(30, 60)),
        dimension,
        min(2, dimension),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([0.02, 0.3])),
    )
    settings = {
        "seed": draw(st.integers(0, 99)),
        "isotropic": draw(st.booleans()),
        "noise_floor": draw(st.sampled_from([FLOOR, 1e-3, 0.1])),
        "max_iterations": 25,
        "tolerance": NEVER,
    }
    return x, draw(st.integers(1, 3)), draw(st.integers(0, dimension)), settings


@PROPERTY
@given(problems())
def test_in_double_precision_the_log_likelihood_never_falls(problem):
    x, components, latent, settings = problem
    fitted = fit(x, components, latent, **settings)
    scale = max(1, *map(abs, fitted.log_likelihoods))
    # Squared distances of up to d / D cancel.
    rounding = 1e-15 * x.shape[1] / fitted.density.noise.min().item()
    assert max(falls(fitted)) <= 1e-9 * scale + rounding
    assert (fitted.density.noise >= settings["noise_floor"]).all()


@PROPERTY
@given(problems())
def test_in_single_precision_it_falls_by_no_more_than_rounding(problem):
    x, components, latent, settings = problem
    settings["noise_floor"] = max(settings["noise_floor"], QUANTISATION_VARIANCE)
    fitted = fit(x, components, latent, **settings, dtype=torch.float32)
    width = (x - x.mean(dim=0)).square().sum(dim=1).max().item()
    # Squared distances of up to this cancel, each rounded at 2⁻²⁴.
    largest = width / fitted.density.noise.min().item() + x.shape[1] * 20
    assert max(falls(fitted)) <= 2**-24 * largest


@COSTLY_PROPERTY
@given(SEEDS, st.booleans())
def test_from_any_start_each_iteration_improves_until_it_stands(seed, isotropic):
    x = data_from(seed, 50)
    parameters = random_parameters(seed + 1, 2, 5, 2)
    history = []
    for _ in range(30):
        parameters, log_likelihood = step(x, parameters, isotropic=isotropic)
        history.append(log_likelihood)
    # The first step leads from any parameters to isotropic ones, if those are asked for.
    improvements = np.diff(history[1:])
    assert improvements.min() >= -1e-9 * max(map(abs, history))
    assert history[-1] > history[0]


# What the history holds.


def test_the_history_starts_with_the_start():
    x = data_from(9, 60)
    start = initialise(x, 3, 2, isotropic=False, noise_floor=FLOOR, seed=5)
    fitted = fit(x, 3, 2, seed=5, max_iterations=3)
    assert fitted.log_likelihoods[0] == pytest.approx(mean_log_prob(start.density(), x), rel=1e-10)


def test_the_history_holds_the_value_at_the_start_of_each_iteration():
    x = data_from(10, 60)
    long = fit(x, 3, 2, max_iterations=6, tolerance=NEVER)
    for iterations in range(1, 6):
        short = fit(x, 3, 2, max_iterations=iterations, tolerance=NEVER)
        assert short.log_likelihoods == long.log_likelihoods[:iterations]
        after = mean_log_prob(short.density, x)
        assert after == pytest.approx(long.log_likelihoods[iterations], rel=1e-10)


def test_a_converged_fit_returns_the_density_of_its_last_entry():
    x = data_from(11, 80)
    fitted = fit(x, 2, 2, tolerance=1e-6, max_iterations=1_000)
    last, before = fitted.log_likelihoods[-1], fitted.log_likelihoods[-2]
    assert fitted.converged
    assert last == pytest.approx(mean_log_prob(fitted.density, x), rel=1e-10)
    assert 0 <= last - before <= 1e-6 * abs(last)
    steps = np.diff(fitted.log_likelihoods[:-1])
    assert (steps > 1e-6 * np.abs(fitted.log_likelihoods[1:-1])).all()


def test_running_out_of_iterations_warns():
    with pytest.warns(ConvergenceWarning, match=r"after 2 iterations .* below 1e-12"):
        fitted = fit_em(data_from(12, 50), 2, 2, seed=0, max_iterations=2, tolerance=1e-12)
    assert not fitted.converged
    assert len(fitted.log_likelihoods) == 2


# What the result does not depend on.


@COSTLY_PROPERTY
@given(SEEDS, st.integers(1, 70), st.booleans())
def test_chunks_mean_nothing(seed, chunk, isotropic):
    x = data_from(seed, 60)
    settings = {"isotropic": isotropic, "max_iterations": 10, "tolerance": NEVER}
    whole, parts = (fit(x, 2, 2, chunk=c, **settings) for c in (1024, chunk))
    assert parts.log_likelihoods == pytest.approx(whole.log_likelihoods, rel=1e-8)
    for name in NAMES:
        torch.testing.assert_close(
            getattr(parts.density, name), getattr(whole.density, name), rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_seed_gives_the_same_bits(dtype):
    x = data_from(13, 80)
    first, again, other = (fit(x, 3, 2, seed=s, dtype=dtype) for s in (1, 1, 2))
    assert first.log_likelihoods == again.log_likelihoods
    for name in NAMES:
        assert torch.equal(getattr(first.density, name), getattr(again.density, name))
    assert first.log_likelihoods != other.log_likelihoods


def test_every_image_twice_is_the_same_data():
    x = data_from(14, 40)
    once, twice = (
        fit(data, 1, 2, max_iterations=20, tolerance=NEVER) for data in (x, torch.cat([x, x]))
    )
    assert twice.log_likelihoods == pytest.approx(once.log_likelihoods, rel=1e-8)
    torch.testing.assert_close(twice.density.covariance(0), once.density.covariance(0))


def test_the_shape_of_images_means_nothing():
    x = uniform(seeded(15), 30, 1, 2, 3)
    images, points = (fit(data, 2, 1, max_iterations=5) for data in (x, x.flatten(1)))
    assert images.log_likelihoods == points.log_likelihoods


def test_a_common_offset_moves_the_means_alone():
    x = data_from(16, 60)
    plain, moved = (fit(data, 1, 2, max_iterations=15, tolerance=NEVER) for data in (x, x + 4096))
    assert moved.log_likelihoods == pytest.approx(plain.log_likelihoods, rel=1e-7)
    torch.testing.assert_close(moved.density.means, plain.density.means + 4096, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        moved.density.covariance(0), plain.density.covariance(0), rtol=1e-6, atol=1e-8
    )


def test_single_precision_fits_real_digits_as_well_as_double():
    x = load_mnist([0])[0][:300]
    settings = {"noise_floor": QUANTISATION_VARIANCE, "max_iterations": 8, "tolerance": NEVER}
    single, double = (fit(x, 2, 3, dtype=t, **settings) for t in (torch.float32, torch.float64))
    assert single.density.means.dtype == torch.float64
    scores = [mean_log_prob(fitted.density, x.double()) for fitted in (single, double)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    # The history in single precision is of squared distances of millions.
    assert single.log_likelihoods == pytest.approx(double.log_likelihoods, rel=2e-3)


# Forms of noise.


def test_isotropic_components_have_one_variance_each():
    density = fit(data_from(17, 60), 2, 1, isotropic=True).density
    assert torch.equal(density.noise, density.noise[:, :1].expand(2, 5))
    assert density.noise[0, 0] != density.noise[1, 0]


def test_noise_rests_on_the_floor_and_no_lower():
    x = data_from(18, 60, noise_std=0.05)
    noise = fit(x, 2, 2, noise_floor=0.01, max_iterations=20).density.noise
    assert noise.min() == 0.01
    free = fit(x, 2, 2, noise_floor=FLOOR, max_iterations=20).density.noise
    assert free.min() < 0.01


@pytest.mark.parametrize("isotropic", [False, True])
def test_a_constant_pixel_gets_the_floor_and_its_value(isotropic):
    x = data_from(19, 60)
    x[:, 2] = 0.25
    density = fit(x, 2, 2, noise_floor=1e-5, isotropic=isotropic).density
    torch.testing.assert_close(density.means[:, 2], torch.full((2,), 0.25).double())
    if isotropic:  # its D is everyone's
        assert (density.noise[:, 2] == density.noise[:, 0]).all()
        assert density.factors[:, 2].abs().max() < 1e-3
    else:
        assert (density.noise[:, 2] == 1e-5).all()
        assert not density.factors[:, 2].any()


def test_leaving_constant_pixels_out_changes_nothing_else():
    """One M-step makes a constant pixel's A, mean and D what `fit_em` says from the start."""
    x = data_from(19, 60)
    x[:, [1, 4]] = torch.tensor([0.25, 0.0], dtype=torch.float64)
    start = initialise(x, 2, 2, isotropic=False, noise_floor=1e-5, seed=0)
    with_all, _ = step(x, start, noise_floor=1e-5)
    likelihoods = []
    for _ in range(5):
        with_all, likelihood = step(x, with_all, noise_floor=1e-5)
        likelihoods.append(likelihood)
    assert (with_all.noise[:, [1, 4]] == 1e-5).all()
    varying = varying_pixels(x, isotropic=False)
    assert varying.tolist() == [i for i in range(x.shape[1]) if i not in (1, 4)]
    fitted = fit(x, 2, 2, noise_floor=1e-5, max_iterations=7)
    # The start's small random factors at constant pixels leave a trace in a pixel's first step.
    assert fitted.log_likelihoods[2:] == pytest.approx(likelihoods, abs=0.05)
    mean_of = mean_log_prob(fit(x, 2, 2, noise_floor=1e-5, max_iterations=6).density, x)
    assert fitted.log_likelihoods[-1] == pytest.approx(mean_of, rel=1e-12)


def test_one_image_over_and_over_is_a_point_with_the_floors_noise():
    image = uniform(seeded(20), 1, 1, 3, 3)
    with pytest.warns(UserWarning, match=r"No two of these .* give images that differ"):
        density = fit(image.expand(30, 1, 3, 3), 1, 2, noise_floor=1e-4).density
    torch.testing.assert_close(density.means, image.flatten(1), rtol=0, atol=1e-12)
    assert torch.equal(density.noise, torch.full((1, 9), 1e-4, dtype=torch.float64))
    # The factors, a tenth of the noise at the start, can only shrink.
    assert mean_log_prob(density, image) == pytest.approx(
        -4.5 * math.log(2 * math.pi * 1e-4), abs=0.1
    )


def test_as_many_components_as_images_is_legal():
    x = 10 * torch.eye(5, dtype=torch.float64)
    density = fit(x, 5, 1, noise_floor=1e-3).density
    assert density.components == 5
    torch.testing.assert_close(density.means.sum(dim=0), x.sum(dim=0))


# Empty components.


def two_clusters():
    x = 0.1 * normal(seeded(21), 60, 2)
    x[:20] += 5
    return x


@pytest.fixture
def one_far_away(monkeypatch):
    """A start at the data, but for one of two components, which no image will choose."""

    def start(x, components, latent, **_):
        assert components == 2
        parameters = random_parameters(22, 2, x.shape[1], latent, noise_std=2.0)
        parameters.means[1] += 1e4
        return parameters

    monkeypatch.setattr(em, "initialise", start)


@pytest.mark.usefixtures("one_far_away")
@pytest.mark.parametrize("isotropic", [False, True])
def test_an_empty_component_starts_anew_where_images_are_worst_explained(isotropic):
    fitted = fit(two_clusters(), 2, 0, isotropic=isotropic, tolerance=1e-9)
    assert fitted.reseeded
    assert fitted.reseeded[0] == 0
    assert fitted.converged
    weights, order = fitted.density.weights.sort()
    torch.testing.assert_close(weights, torch.tensor([1 / 3, 2 / 3]).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        fitted.density.means[order],
        torch.stack([two_clusters()[:20].mean(dim=0), two_clusters()[20:].mean(dim=0)]),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.usefixtures("one_far_away")
def test_re_seeding_is_reproducible():
    fits = [fit(two_clusters(), 2, 1, seed=s, max_iterations=5) for s in (3, 3, 4)]
    assert fits[0].reseeded == fits[1].reseeded == [0]
    assert fits[0].log_likelihoods == fits[1].log_likelihoods
    assert fits[0].log_likelihoods != fits[2].log_likelihoods


@pytest.mark.usefixtures("one_far_away")
def test_a_component_that_stays_empty_is_dropped_with_a_warning(monkeypatch):
    monkeypatch.setattr(em, "RESEEDINGS", 0)
    x = two_clusters()
    with pytest.warns(ConvergenceWarning, match="1 of 2 components stayed empty and were dropped"):
        fitted = fit(x, 2, 0, tolerance=1e-9)
    assert fitted.density.components == 1
    assert (fitted.reseeded, fitted.dropped) == ([], [0])
    torch.testing.assert_close(fitted.density.means[0], x.mean(dim=0))
    torch.testing.assert_close(fitted.density.noise[0], x.var(dim=0, correction=0))


@pytest.mark.usefixtures("one_far_away")
def test_components_are_re_seeded_so_often_and_no_more(monkeypatch):
    monkeypatch.setattr(em, "EMPTY", 25.0)  # the smaller cluster has 20
    with pytest.warns(ConvergenceWarning, match="1 of 2 components stayed empty"):
        fitted = fit(two_clusters(), 2, 0, max_iterations=60)
    assert len(fitted.reseeded) == em.RESEEDINGS
    assert len(fitted.dropped) == 1
    assert fitted.dropped[0] > fitted.reseeded[-1]
    assert fitted.density.components == 1


def test_more_components_than_the_images_have_room_for_are_no_error():
    for seed in range(12):
        x = uniform(seeded(seed), 18, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            density = fit(x, 7, 1, seed=seed, max_iterations=60, noise_floor=1e-5).density
        assert 1 <= density.components <= 7


def test_dropping_a_component_is_no_convergence(monkeypatch):
    monkeypatch.setattr(em, "EMPTY", 8.0)
    monkeypatch.setattr(em, "RESEEDINGS", 0)
    x = uniform(seeded(0), 40, 3)
    with pytest.warns(ConvergenceWarning, match="were dropped"):
        fitted = fit(x, 4, 1, max_iterations=100)
    assert fitted.density.components < 4
    # The drop lowers the likelihood, which then rises again: that it fell is not the end.
    drop = fitted.dropped[-1]
    assert fitted.log_likelihoods[drop + 1] < fitted.log_likelihoods[drop]
    assert max(falls(fitted)) <= 1e-9
    assert len(fitted.log_likelihoods) > drop + 3


@COSTLY_PROPERTY
@given(SEEDS, st.integers(4, 8), st.integers(0, 2))
def test_only_re_seeding_and_dropping_lower_the_log_likelihood(seed, components, latent):
    x = uniform(seeded(seed), 24, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = fit(x, components, latent, noise_floor=1e-4, tolerance=NEVER, max_iterations=40)
    assert bool(fitted.dropped) == (fitted.density.components < components)
    assert max(falls(fitted)) <= 1e-9 * max(1, *map(abs, fitted.log_likelihoods))
