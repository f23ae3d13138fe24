"""What every density promises: one contract, which each inherits with two hooks."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from bayesgap.densities.base import Density, check_density
from bayesgap.densities.categorical import Categorical
from bayesgap.densities.fitting import Fit
from bayesgap.errors import BayesgapError
from strategies import random_mixture, seeded, without_shape_checks
from toys import Laplace, StudentT

MANY = 40_000
LARGEST_Z = 5.0  # standard errors that a mean may be off by; seeds are fixed


class DensityContract:
    """A subclass gives a density, and its log-density at points by other means."""

    def density(self):
        raise NotImplementedError

    def oracle(self, x):
        raise NotImplementedError

    def points(self):
        """Where the oracle is asked."""
        return self.density().sample(30, generator=seeded(0)).detach()

    def test_it_has_the_members_of_the_protocol(self):
        assert isinstance(self.density(), Density)
        check_density(self.density())
        assert self.density().dimension >= 1

    @pytest.mark.parametrize("n", [0, 1, 7])
    def test_as_many_points_are_drawn_as_were_asked_for(self, n):
        density = self.density()
        assert density.sample(n, generator=seeded(0)).shape == (n, density.dimension)

    def test_samples_depend_on_the_generator_alone_and_it_advances(self):
        density, generator = self.density(), seeded(2)
        first, second = (density.sample(50, generator=generator) for _ in range(2))
        torch.manual_seed(99)
        assert torch.equal(density.sample(50, generator=seeded(2)), first)
        assert not torch.equal(first, second)

    def test_the_log_density_is_that_of_the_oracle_and_finite(self):
        x = self.points()
        found = self.density().log_prob(x).detach()
        assert found.shape == (len(x),)
        assert found.isfinite().all()
        expected = torch.as_tensor(np.asarray(self.oracle(x.numpy())))
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)

    def test_no_points_have_no_log_densities(self):
        assert self.density().log_prob(self.points()[:0]).shape == (0,)

    @pytest.mark.parametrize("n", [-1, 5e3, "7"])
    def test_a_number_of_points_that_is_none_is_refused(self, n):
        with without_shape_checks(), pytest.raises(BayesgapError, match="integer, 0 or more"):
            self.density().sample(n, generator=seeded(0))


class SmoothContract(DensityContract):
    """Of densities over all of space, which attacks can follow and tasks be made of."""

    def points(self):
        own = super().points()
        scattered = 3 * torch.randn(own.shape, generator=seeded(1), dtype=torch.float64)
        return torch.cat([own, own.mean(dim=0) + scattered * own.std(dim=0)])

    def scattered(self):
        """Many points of a much broader density, and exp(log p) at each over that one's."""
        near = self.density().sample(MANY, generator=seeded(3)).detach().double()
        spread = np.cov(near.T.numpy()).reshape(2 * [near.shape[1]])
        broad = stats.multivariate_t(near.mean(dim=0).numpy(), spread, df=2, seed=4)
        x = broad.rvs(MANY).reshape(MANY, -1)
        score = self.density().log_prob(torch.from_numpy(x)).detach().numpy()
        return near.numpy(), x, np.exp(score - broad.logpdf(x))

    def test_the_density_integrates_to_one(self):
        _, _, ratio = self.scattered()
        assert abs(ratio.mean() - 1) < LARGEST_Z * ratio.std() / MANY**0.5
        assert ratio.std() / MANY**0.5 < 0.02

    def test_samples_follow_the_log_density(self):
        own, x, ratio = self.scattered()
        random = np.random.default_rng(5)
        for _ in range(8):
            wave = random.normal(size=own.shape[1]) / own.std(axis=0)
            for bounded in (np.sin, np.cos):
                drawn, weighed = bounded(own @ wave), ratio * bounded(x @ wave)
                error = math.hypot(drawn.std(), weighed.std()) / MANY**0.5
                assert abs(drawn.mean() - weighed.mean()) < LARGEST_Z * error

    def test_points_of_single_precision_are_scored_too(self):
        single = self.points().float()
        found = self.density().log_prob(single)
        assert torch.equal(found, self.density().log_prob(single.double()))

    def test_the_log_density_can_be_differentiated(self):
        assert torch.autograd.gradcheck(self.density().log_prob, [self.points().requires_grad_()])


class TestMixture(SmoothContract):
    def density(self):
        return random_mixture(5, 3, 3, 1)

    def oracle(self, x):
        mixture = self.density()
        parts = [
            math.log(mixture.weights[k])
            + stats.multivariate_normal(mixture.means[k], mixture.covariance(k)).logpdf(x)
            for k in range(mixture.components)
        ]
        return np.logaddexp.reduce(parts)


class TestMixtureOfOneValue(SmoothContract):
    def density(self):
        return random_mixture(6, 1, 1, 0)

    def oracle(self, x):
        mixture = self.density()
        return stats.norm(mixture.means[0], mixture.noise[0].sqrt()).logpdf(x)[:, 0]


class TestLaplace(SmoothContract):
    def density(self):
        return Laplace([0.5, -1.0, 0.0], [0.1, 2.0, 1.0])

    def oracle(self, x):
        return stats.laplace([0.5, -1.0, 0.0], [0.1, 2.0, 1.0]).logpdf(x).sum(axis=1)


class TestStudentT(SmoothContract):
    def density(self):
        return StudentT([0.5, -1.0], 0.3)

    def oracle(self, x):
        return stats.multivariate_t([0.5, -1.0], 0.09 * np.eye(2), df=3).logpdf(x)


class TestCategorical(DensityContract):
    table = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.0, 0.4]], dtype=torch.float64)

    def density(self):
        return Categorical(self.table)

    def oracle(self, x):
        return np.log(self.table.numpy()[tuple(x.T)])


# What is no density.


class OnlySamples:
    dimension = 4

    def sample(self, n, *, generator):
        return torch.rand(n, 4, generator=generator)


@pytest.mark.parametrize(
    ("given", "lacks"),
    [
        (OnlySamples(), "a OnlySamples without log_prob."),
        (torch.zeros(3), "a Tensor without dimension, log_prob or sample."),
        (torch.distributions.Normal(0.0, 1.0), "a Normal without dimension."),
    ],
)
def test_what_a_density_lacks_is_named(given, lacks):
    assert not isinstance(given, Density)
    with pytest.raises(BayesgapError) as caught:
        check_density(given)
    assert str(caught.value) == (
        "A density has dimension, log_prob and sample (bayesgap.densities.base.Density); got "
        + lacks
    )


def test_a_fit_is_no_density_but_has_one():
    fit = Fit(random_mixture(31), [0.0], [], [], converged=True, log_likelihood=0.0)
    with pytest.raises(
        BayesgapError, match=r"a Fit without .* or sample; a fit's is its \.density\."
    ):
        check_density(fit)
    check_density(fit.density)
