"""Figure 8: the helix's density against quadrature, and its fits."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from bayesgap import files
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.experiment.setting import Setting
from bayesgap.paper.fig8 import exhibit as fig8
from bayesgap.paper.fig8 import study
from exhibits import SETTING, computed, drawn, sure

SMALL = fig8.exhibit({"quick": fig8.Size(400, 400, (1, 4, fig8.SHOWN))})


@pytest.fixture(scope="module")
def found():
    return computed(SMALL)


def test_the_density_is_that_of_quadrature():
    x = study.sample_helix(6, seed=0)
    length = 2 * np.pi * study.TURNS

    def joint(angle, point):
        mean = [np.cos(angle), np.sin(angle), study.RISE * angle / (2 * np.pi)]
        return multivariate_normal(mean, study.NOISE_STD**2).pdf(point) / length

    expected = [quad(joint, 0, length, args=(p,), limit=500, epsabs=1e-12)[0] for p in x.numpy()]
    np.testing.assert_allclose(study.helix_log_prob(x), np.log(expected), rtol=1e-6, atol=1e-6)


def test_samples_are_near_the_helix_and_all_along_it():
    x = study.sample_helix(4_000, seed=0)
    radius = x[:, :2].norm(dim=1)
    assert (radius - 1).abs().max() < 6 * study.NOISE_STD
    counts = torch.histc(x[:, 2], bins=8, min=0, max=study.TURNS * study.RISE)
    assert counts.min() > 420


def test_ellipses_are_two_deviations_of_what_lies_in_the_plane():
    factors = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    mean, noise = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.5, 0.25, 9.0]])
    density = MixtureOfFactorAnalyzers(torch.ones(1), mean, factors, noise)
    (outline,) = (study.ellipses(density, corners=400) - mean).numpy()
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
    outline = (study.ellipses(density)[0] - mean).numpy()
    np.testing.assert_allclose(outline @ normal, 0, atol=1e-12)
    inverse = np.linalg.inv(density.covariance(0).numpy())
    # For spherical noise the conditional and the marginal in the plane are the same.
    np.testing.assert_allclose(np.einsum("ni,ij,nj->n", outline, inverse, outline), 4, rtol=1e-9)


def test_more_components_lack_less_and_none_is_better_than_the_truth(found):
    fits = fig8.fits(found)
    assert [fit.values["components"] for fit in fits] == [1, 4, fig8.SHOWN]
    lacking = [sure(fig8.divergence(fit)) for fit in fits]
    assert all(low > 0 for _, low, _ in lacking)
    assert lacking[0][1] > lacking[1][2] > lacking[1][1] > lacking[2][2]
    assert lacking[2][0] < 1
    truth, fit = (sure(fig8.log_likelihood(fits[0], name)) for name in ("truth", "fit"))
    assert truth[0] - fit[0] == pytest.approx(lacking[0][0], rel=1e-9)


def test_all_fits_see_the_same_points(found):
    first, *others = fig8.fits(found)
    for fit in others:
        assert torch.equal(fit.tensors["truth"], first.tensors["truth"])
        assert torch.equal(fit.tensors["x"], first.tensors["x"])
    assert not torch.equal(study.sample_helix(5, seed=0), study.sample_helix(5, seed=1))


def test_every_scale_has_the_fit_of_the_picture_and_seeds_count():
    for scale in fig8.SIZES:
        assert fig8.Fit(fig8.SHOWN) in fig8.EXHIBIT.wants(Setting(scale, 0, {})).stages
    other = fig8.EXHIBIT.wants(Setting("quick", 1, {})).stages
    for key, stage in fig8.EXHIBIT.wants(SETTING).stages.items():
        assert str(key) == str(stage.settings["components"])
        assert stage.identity != other[key].identity


def test_fits_stand_in_order_of_their_components(found):
    turned = dict(reversed(found.results.items()))
    again = fig8.fits(dataclasses.replace(found, results=turned))
    assert [fit.values["components"] for fit in again] == [1, 4, fig8.SHOWN]


def test_results_can_be_stored_and_claim_nothing(found):
    for result in found.results.values():
        files.dump(result.values)
    assert fig8.EXHIBIT.claims(found) == ()


def test_the_picture_shows_all_components_and_divergences(found):
    section = fig8.section(found)
    space, curve = drawn(section)[0].axes
    discs = [c for c in space.collections if type(c).__name__ == "Poly3DCollection"]
    assert len(discs) == 1
    assert len(discs[0].get_paths()) == fig8.SHOWN
    expected = [sure(fig8.divergence(fit))[0] for fit in fig8.fits(found)]
    np.testing.assert_allclose(np.asarray(curve.get_lines()[0].get_ydata()), expected)
    assert [row[0] for row in section.tables[0].rows] == ["1", "4", str(fig8.SHOWN)]
