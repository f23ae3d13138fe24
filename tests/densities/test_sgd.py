import warnings

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from bayesgap.densities.em import fit_em
from bayesgap.densities.fitting import initialise
from bayesgap.densities.sgd import fit_sgd
from strategies import random_mixture, seeded

FLOOR = 1e-6


def fit(x, components=2, latent=1, **settings):
    settings = {"seed": 0, "noise_floor": FLOOR, "max_iterations": 30, **settings}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SGD stopped after", ConvergenceWarning)
        return fit_sgd(x, components, latent, **settings)


def easy_data(seed=0, n=400, noise_std=0.3):
    return random_mixture(seed, 2, 4, 1, noise_std=noise_std).sample(n, generator=seeded(seed))


def mean_log_prob(density, x):
    return density.log_prob(x).mean().item()


@pytest.mark.parametrize("isotropic", [False, True])
def test_it_comes_near_the_maximum_that_em_finds(isotropic):
    x = easy_data()
    start = initialise(x, 2, 1, isotropic=isotropic, noise_floor=FLOOR, seed=0).density()
    best = fit_em(
        x,
        2,
        1,
        seed=0,
        isotropic=isotropic,
        noise_floor=FLOOR,
        dtype=torch.float64,
        tolerance=1e-7,
        max_iterations=2_000,
    )
    fitted = fit(x, isotropic=isotropic, max_iterations=150, tolerance=0.0)
    scores = [mean_log_prob(d, x) for d in (start, fitted.density, best.density)]
    # Both climb from the same start; 0.02 nats is a third of the way that EM goes here.
    assert scores[2] > scores[0] + 0.03
    assert abs(scores[2] - scores[1]) < 0.02
    assert scores[1] > scores[0] + 0.02


def test_the_history_is_of_the_likelihood_and_ends_near_the_result():
    x = easy_data(1)
    start = initialise(x, 2, 1, isotropic=False, noise_floor=FLOOR, seed=0).density()
    whole = fit(x, chunk=400, max_iterations=60, tolerance=-1.0)
    # One batch an epoch: its value is that of the parameters before the step.
    assert whole.log_likelihoods[0] == pytest.approx(mean_log_prob(start, x), rel=1e-5)
    assert whole.log_likelihoods[-1] == pytest.approx(mean_log_prob(whole.density, x), rel=1e-4)
    assert len(whole.log_likelihoods) == 60
    assert whole.reseeded == []


def test_forms_of_noise_are_those_asked_for():
    x = easy_data(2)
    free, equal, floored = (
        fit(x, max_iterations=3, **settings).density.noise
        for settings in ({}, {"isotropic": True}, {"noise_floor": 0.1})
    )
    assert not torch.equal(free, free[:, :1].expand(2, 4))
    assert torch.equal(equal, equal[:, :1].expand(2, 4))
    # In single precision, as the fit is.
    assert floored.min().item() == pytest.approx(0.1, rel=1e-6)
    assert free.min() < 0.1


def test_the_same_seed_gives_the_same_bits():
    x = easy_data(3, n=100)
    first, again, other = (fit(x, seed=s, max_iterations=3, chunk=16) for s in (1, 1, 2))
    assert first.log_likelihoods == again.log_likelihoods
    assert torch.equal(first.density.means, again.density.means)
    assert first.log_likelihoods != other.log_likelihoods


def test_three_epochs_without_improvement_end_it():
    fitted = fit(easy_data(4), tolerance=10.0)  # no epoch improves by tenfold
    assert fitted.converged
    assert len(fitted.log_likelihoods) == 4  # the first is better than none


def test_a_log_likelihood_that_fell_has_not_converged():
    x = easy_data(4, n=200, noise_std=0.05)
    with pytest.warns(
        ConvergenceWarning, match=r"log-likelihood fell from .*: lower learning_rate"
    ):
        fitted = fit_sgd(x, 2, 1, seed=0, learning_rate=1.0)
    assert not fitted.converged
    assert max(fitted.log_likelihoods) - fitted.log_likelihoods[-1] > 5


def test_running_out_of_epochs_warns():
    with pytest.warns(ConvergenceWarning, match=r"after 2 epochs .* below 1e-05"):
        fitted = fit_sgd(easy_data(5), 2, 1, seed=0, max_iterations=2)
    assert not fitted.converged


def test_double_precision_is_followed():
    x = easy_data(6)
    single, double = (fit(x, dtype=t, max_iterations=5) for t in (torch.float32, torch.float64))
    assert single.log_likelihoods == pytest.approx(double.log_likelihoods, rel=1e-4)
    assert single.log_likelihoods != double.log_likelihoods
    assert double.density.means.dtype == torch.float64


def test_the_gradient_step_leaves_the_images_alone():
    x = easy_data(7)
    before = x.clone()
    fit(x, max_iterations=2)
    assert torch.equal(x, before)
