"""The plane's tasks, against SciPy's dense Gaussians and decisions on fine grids."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from scipy.stats import multivariate_normal

from bayesgap.errors import BayesgapError
from bayesgap.radius.certify import certify
from bayesgap.tasks import plane
from toys import dense_log_joints

TASKS = plane.plane_tasks()
SIBLINGS = {"e": "a", "f": "b", "h": "d"}


def least_deviations(density):
    covariances = [density.covariance(k).numpy() for k in range(density.components)]
    return np.sqrt([np.linalg.eigvalsh(covariance)[0] for covariance in covariances])


def test_an_ellipse_is_the_gaussian_of_its_deviations_and_angle():
    ellipse = plane.Ellipse((0.3, -0.2), narrow=0.1, wide=0.7, angle=0.4)
    task = plane.plane_task([[ellipse], [plane.Ellipse((0.0, 0.0), 1.0, 1.0)]], "one")
    turn = np.array([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    covariance = turn @ np.diag([0.01, 0.49]) @ turn.T
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = multivariate_normal([0.3, -0.2], covariance).logpdf(x.numpy())
    np.testing.assert_allclose(task.densities[0].log_prob(x), expected, rtol=1e-9)


def test_deviations_that_are_none_are_refused():
    parts = [plane.Ellipse((0.0, 0.0), 0.0, 1.0)], [plane.Ellipse((1.0, 0.0), 1.0, 1.0)]
    with pytest.raises(BayesgapError, match="must be positive"):
        plane.plane_task(parts, "flat")


@pytest.mark.parametrize("letter", TASKS)
def test_tasks_are_named_after_their_panels(letter):
    assert TASKS[letter].name == f"plane/{letter}"
    assert TASKS[letter].image_shape == (1, 1, 2)


@pytest.mark.parametrize("letter", ["a", "b", "d"])
def test_the_least_variances_of_symmetric_tasks_are_alike(letter):
    own, other = map(least_deviations, TASKS[letter].densities)
    np.testing.assert_allclose(own, own[0], rtol=1e-12)
    np.testing.assert_allclose(other, own[0], rtol=1e-12)


@pytest.mark.parametrize(("low", "top"), SIBLINGS.items())
def test_siblings_have_the_same_means_and_much_larger_variances_somewhere(low, top):
    for density, sibling in zip(TASKS[low].mixtures, TASKS[top].mixtures, strict=True):
        assert torch.equal(density.means[: sibling.components], sibling.means)
    least = np.concatenate([least_deviations(density) for density in TASKS[low].densities])
    assert least.max() / least.min() > 20


def test_only_the_mixtures_below_have_outliers_which_are_rare():
    assert [letter for letter, task in TASKS.items() if task.outliers] == ["h"]
    outliers = TASKS["h"].outliers
    assert outliers is not None
    for density, outlier in zip(TASKS["h"].mixtures, outliers, strict=True):
        assert density.weights[outlier] == pytest.approx(0.01)
        assert least_deviations(density)[outlier] == plane.OUTLIER_STD


@pytest.mark.parametrize(("move", "other_is_likelier"), [(0.35, True), (-0.35, False)])
def test_where_an_outlier_is_moved_decides_whose_is_likelier_at_the_bars(move, other_is_likelier):
    task = plane.mixtures(move)
    for label, density in enumerate(task.mixtures):
        own, other = (
            d.component_log_prob(density.means[:2])[:, 2]
            for d in (density, task.mixtures[1 - label])
        )
        assert ((other > own) == other_is_likelier).all()


GRIDS = {  # centre and half width of a window around points of class 1 and their nearest boundary
    "a": ((-0.3, 0.0), 0.9),
    "b": ((-0.3, 0.0), 0.9),
    "d": ((0.0, 0.3), 0.9),
    "e": ((-0.5, 0.0), 0.05),
    "f": ((-0.5, 0.0), 0.05),
    "h": ((0.0, 0.5), 0.05),
}


@pytest.mark.parametrize("letter", TASKS)
def test_certified_radii_are_those_of_the_nearest_cell_of_a_fine_grid(letter):
    """A distance within the window that is less than to its edge is the true one, to a cell."""
    (x0, y0), half = GRIDS[letter]
    cells, task = 401, TASKS[letter]
    xs, ys = (np.linspace(c - half, c + half, cells) for c in (x0, y0))
    step = xs[1] - xs[0]
    grid = np.stack(np.meshgrid(xs, ys, indexing="ij"), axis=-1).reshape(-1, 1, 1, 2)
    decided = dense_log_joints(task, torch.from_numpy(grid)).argmax(axis=1).reshape(cells, cells)
    distance = distance_transform_edt(decided == 0, sampling=step)
    points, _ = task.sample_given(torch.zeros(400, dtype=torch.int64), seed=1)
    flat = points.flatten(1).numpy()
    inside = np.flatnonzero(np.abs(flat - [x0, y0]).max(axis=1) < half - step)[:30]
    at = np.rint((flat[inside] - [xs[0], ys[0]]) / step).astype(int)
    edge = half - np.abs(flat[inside] - [x0, y0]).max(axis=1)
    expected = distance[at[:, 0], at[:, 1]]
    found = certify(task, points[inside], torch.zeros(len(inside), dtype=torch.int64))
    sure = (expected < edge) & found.correct.numpy()
    assert sure.sum() >= 8
    lower, upper = found.lower.numpy()[sure], found.upper.numpy()[sure]
    assert (lower <= expected[sure] + 1.5 * step).all()
    assert (upper >= expected[sure] - 1.5 * step).all()
    assert (upper / lower < 1.02).all()
