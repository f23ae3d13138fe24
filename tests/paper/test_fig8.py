"""Figure 8: the helix's density against quadrature, and its fits."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from bayesgap import files
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.paper import fig8
from bayesgap.paper.exhibit import Setting

SETTING = Setting("quick", 0, {})


@pytest.fixture(scope="module")
def found():
    stages = fig8.stages(SETTING)
    return {
        name: stage.function(**{**stage.settings, "images": 400, "held_out": 400}, seed=stage.seed)
        for name, stage in stages.items()
    }


def test_the_density_is_that_of_quadrature():
    x = fig8.sample_helix(6, seed=0)
    length = 2 * np.pi * fig8.TURNS

    def joint(angle, point):
        mean = [np.cos(angle), np.sin(angle), fig8.RISE * angle / (2 * np.pi)]
        return multivariate_normal(mean, fig8.NOISE_STD**2).pdf(point) / length

    expected = [quad(joint, 0, length, args=(p,), limit=500, epsabs=1e-12)[0] for p in x.numpy()]
    np.testing.assert_allclose(fig8.helix_log_prob(x), np.log(expected), rtol=1e-6, atol=1e-6)


def test_samples_are_near_the_helix_and_all_along_it():
    x = fig8.sample_helix(4_000, seed=0)
    radius = x[:, :2].norm(dim=1)
    assert (radius - 1).abs().max() < 6 * fig8.NOISE_STD
    counts = torch.histc(x[:, 2], bins=8, min=0, max=fig8.TURNS * fig8.RISE)
    assert counts.min() > 420


def test_ellipses_are_two_deviations_of_what_lies_in_the_plane():
    factors = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    mean, noise = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.5, 0.25, 9.0]])
    density = MixtureOfFactorAnalyzers(torch.ones(1), mean, factors, noise)
    (outline,) = (fig8.ellipses(density, corners=400) - mean).numpy()
    np.testing.assert_allclose(outline[:, 2], 0, atol=1e-12)  # the noise across it is left out
    scaled = outline[:, 0] ** 2 / 4.5 + outline[:, 1] ** 2 / 1.25
    np.testing.assert_allclose(scaled, 4, rtol=1e-12)
    assert outline[:, 0].max() == pytest.approx(2 * 4.5**0.5, rel=1e-3)


def test_ellipses_of_a_turned_component_lie_in_the_plane_of_its_factors():
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(1, 3, 2, generator=generator, dtype=torch.float64)
    mean = torch.randn(1, 3, generator=generator, dtype=torch.float64)
    density = MixtureOfFactorAnalyzers(torch.ones(1), mean, factors, torch.full((1, 3), 0.1))
    normal = np.cross(*factors[0].mT.numpy())
    outline = (fig8.ellipses(density)[0] - mean).numpy()
    np.testing.assert_allclose(outline @ normal, 0, atol=1e-12)
    inverse = np.linalg.inv(density.covariance(0).numpy())
    # For spherical noise the conditional and the marginal in the plane are the same.
    np.testing.assert_allclose(np.einsum("ni,ij,nj->n", outline, inverse, outline), 4, rtol=1e-9)


def test_more_components_lack_less_and_none_is_better_than_the_truth(found):
    fits = fig8.fits(found)
    assert [fit.values["components"] for fit in fits] == [1, 4, fig8.SHOWN]
    lacking = [fig8.divergence(fit) for fit in fits]
    assert all(low > 0 for _, low, _ in lacking)
    assert lacking[0][1] > lacking[1][2] > lacking[1][1] > lacking[2][2]
    assert lacking[2][0] < 1
    truth, fit = (fig8.log_likelihood(fits[0], name) for name in ("truth", "fit"))
    assert truth[0] - fit[0] == pytest.approx(lacking[0][0], rel=1e-9)


def test_all_fits_see_the_same_points(found):
    first, *others = fig8.fits(found)
    for fit in others:
        assert torch.equal(fit.tensors["truth"], first.tensors["truth"])
        assert torch.equal(fit.tensors["x"], first.tensors["x"])
    assert not torch.equal(fig8.sample_helix(5, seed=0), fig8.sample_helix(5, seed=1))


def test_every_scale_has_the_fit_of_the_picture_and_seeds_count():
    for scale in fig8.SIZES:
        stages = fig8.stages(dataclasses.replace(SETTING, scale=scale))
        assert str(fig8.SHOWN) in stages
    other = fig8.stages(dataclasses.replace(SETTING, seed=1))
    for name, stage in fig8.stages(SETTING).items():
        assert stage.identity != other[name].identity


def test_results_can_be_stored(found):
    for result in found.values():
        files.dump(result.values)
    assert fig8.EXHIBIT.claims(found) == ()
