import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.ld_grad import LDGrad, TightLDGrad
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.tasks.task import Task
from toys import (
    SEEDS,
    dense_log_joints,
    mixture_task,
    normal,
    property_settings,
    spherical_radius,
    spherical_task,
    threshold_svm,
    uniform,
)

SPHERES = {
    "seed": st.integers(**SEEDS),
    "d": st.integers(1, 20),
    "variance": st.floats(0.01, 1.0),
    "prior": st.floats(0.1, 0.9),
}


def spheres(seed, d, variance, prior):
    """Two spherical classes, points, their distances to the hyperplane, and a pool across it."""
    means, priors = normal(seed, 2, d).numpy(), [prior, 1 - prior]
    optimal = spherical_task(means, variance, priors=priors).bayes_classifier()
    x = normal(seed + 1, 12, 1, 1, d)
    y = decisions(optimal, x)
    radius = spherical_radius(x, y, means, variance, priors)
    beyond = 100 * torch.from_numpy(np.diff(means, axis=0)).reshape(1, 1, 1, d)
    return optimal, x, y, radius, torch.cat([beyond, -beyond]) + normal(seed + 2, 2, 1, 1, d)


@given(**SPHERES, overshoot=st.floats(1e-3, 0.5))
@property_settings(25)
def test_between_spheres_plain_ld_grad_overshoots_by_its_share(seed, d, variance, prior, overshoot):
    optimal, x, y, radius, _ = spheres(seed, d, variance, prior)
    found = LDGrad(overshoot=overshoot)(optimal, x, y)
    assert found.success.all()
    # Log-densities of thousands of nats cancel in each difference.
    np.testing.assert_allclose(found.sizes.numpy(), (1 + overshoot) * radius, rtol=1e-9, atol=1e-10)


@given(**SPHERES)
@example(seed=11, d=11, variance=0.5, prior=0.5)  # a radius of 0.003
@property_settings(10)
def test_between_spheres_tight_ld_grad_and_the_walk_find_the_exact_distance(
    seed, d, variance, prior
):
    optimal, x, y, radius, pool = spheres(seed, d, variance, prior)
    for attack in (TightLDGrad(), BoundaryWalk(pool)):
        found = attack(optimal, x, y)
        assert (found.sizes.numpy() >= radius * (1 - 1e-9) - 1e-12).all()
        # A walk ends where a turn gains less than 1e-5, and turns at once into a hyperplane.
        np.testing.assert_allclose(found.sizes.numpy(), radius, rtol=1e-6, atol=1e-10)


def test_on_a_linear_machine_ld_grad_follows_the_margin():
    machine = LinearSVM(normal(0, 1, 4), normal(1, 1))
    x = normal(2, 20, 1, 2, 2)
    distance = (2 * machine(x)[:, 1]).abs() / machine.weight.norm()
    y = decisions(machine, x)
    plain, tight = LDGrad(overshoot=0.2)(machine, x, y), TightLDGrad()(machine, x, y)
    torch.testing.assert_close(plain.sizes, 1.2 * distance, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(tight.sizes, distance, rtol=1e-9, atol=1e-14)


def dense_steps(task, x, label, steps, overshoot):
    """Appendix C.2 in numpy for one image: dense covariances, gradients written out."""
    own: list[tuple[float, np.ndarray, np.ndarray]] = []
    other: list[tuple[float, np.ndarray, np.ndarray]] = []
    for k, density in enumerate(task.densities):
        for weight, mean, factors, noise in zip(
            density.weights.numpy(),
            density.means.numpy(),
            density.factors.numpy(),
            density.noise.numpy(),
            strict=True,
        ):
            covariance = factors @ factors.T + np.diag(noise)
            constant = np.log(weight * task.priors[k].item()) - np.linalg.slogdet(covariance)[1] / 2
            part = (constant, mean, np.linalg.inv(covariance))
            (own if k == label else other).append(part)

    def score(part, z):
        constant, mean, precision = part
        return constant - (z - mean) @ precision @ (z - mean) / 2

    source = max(own, key=lambda part: score(part, x))
    target = max(other, key=lambda part: score(part, x))
    initial = score(source, x) - score(target, x)
    z = x
    for _ in range(steps):
        value = score(source, z) - score(target, z) + overshoot * abs(initial)
        gradient = target[2] @ (z - target[1]) - source[2] @ (z - source[1])
        z = z - value / (gradient @ gradient) * gradient
    return z


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("steps", [1, 3])
def test_ld_grads_steps_are_those_of_the_equations(classes, steps):
    task = mixture_task(4, 3, classes=classes)
    optimal = task.bayes_classifier()
    x, _ = task.sample(20, seed=0)
    y = decisions(optimal, x)
    end = LDGrad(steps, overshoot=0.1).run(optimal, x, y).flatten(1).numpy()
    for i in range(20):
        expected = dense_steps(task, x[i].flatten().numpy(), y[i].item(), steps, 0.1)
        np.testing.assert_allclose(end[i], expected, rtol=1e-7, atol=1e-9)


@given(st.integers(**SEEDS), st.integers(2, 4), st.integers(2, 3))
@property_settings(6)
def test_ld_grad_may_fail_but_never_lies(seed, d, classes):
    task = mixture_task(seed, d, classes=classes)
    optimal = task.bayes_classifier()
    x, _ = task.sample(20, seed=0)
    y = decisions(optimal, x)
    for attack in (LDGrad(), TightLDGrad(steps=5, targets=3, walk_steps=5)):
        found = attack(optimal, x, y)
        joints = dense_log_joints(task, found.images)
        own = joints[np.arange(20), y]
        best = np.max(np.where(np.arange(classes) == y.numpy()[:, None], -np.inf, joints), axis=1)
        # Tight ends lie within rounding of the boundary, where scipy rounds differently.
        assert (best[found.success] >= own[found.success] - 1e-6).all()
        assert torch.equal(found.images[~found.success], x[~found.success])
        distance = np.linalg.norm((found.images - x).flatten(1).numpy(), axis=1)
        np.testing.assert_allclose(
            found.sizes.numpy(), np.where(found.success, distance, np.inf), rtol=1e-13
        )


def test_plain_ld_grad_fails_somewhere_on_mixtures():
    task = mixture_task(0, 3, components=6)
    optimal = task.bayes_classifier()
    x, _ = task.sample(200, seed=0)
    success = LDGrad(overshoot=1e-3)(optimal, x, decisions(optimal, x)).success.double().mean()
    assert 0.3 < success < 1


def directions(d, n):
    """Unit vectors that cover the sphere evenly (exactly so in 2 dimensions)."""
    if d == 2:
        angles = torch.arange(n).double() * (2 * torch.pi / n)
        return torch.stack([angles.cos(), angles.sin()], dim=1)
    vectors = normal(0, n, d)
    return vectors / vectors.norm(dim=1, keepdim=True)


def nearest_by_search(optimal, x, label, limit, rays, shells):
    """The nearest of `shells` distances up to `limit` with another decision on any ray."""
    distances = torch.linspace(0, limit, shells + 1).double()[1:]
    points = x + (distances[:, None, None] * rays).reshape(-1, *x.shape)
    with torch.no_grad():
        other = (optimal(points).argmax(dim=1) != label).reshape(shells, -1).any(dim=1)
    return distances[other].min().item() if other.any() else np.inf


@pytest.mark.parametrize(
    ("d", "rays", "shells", "points", "classes"),
    [(2, 360, 250, 14, 2), (2, 360, 250, 10, 3), (3, 2500, 120, 8, 2), (4, 6000, 50, 5, 2)],
)
def test_no_attack_lands_below_the_nearest_point_of_a_dense_search(
    d, rays, shells, points, classes
):
    task = mixture_task(d, d, classes=classes)
    optimal = task.bayes_classifier()
    (x, _), (pool, _) = task.sample(points, seed=0), task.sample(100, seed=1)
    y = decisions(optimal, x)
    walked = BoundaryWalk(pool, attacks=[TightLDGrad()], samples=3)(optimal, x, y).sizes
    tight = TightLDGrad()(optimal, x, y).sizes
    assert walked.isfinite().all()
    rays = directions(d, rays)
    searched = torch.tensor(
        [
            nearest_by_search(optimal, x[i], y[i], 1.1 * walked[i].item(), rays, shells)
            for i in range(points)
        ]
    )
    # What rays and shells may miss: 1 % in 2 dimensions, more where rays are sparse.
    resolution = {2: 0.01, 3: 0.03, 4: 0.09}[d]
    assert (walked >= searched * (1 - resolution)).all()
    assert (tight >= searched * (1 - resolution)).all()
    assert (walked <= searched * 1.03).double().mean() >= 0.9


def test_more_targets_are_never_worse_and_sometimes_better():
    task = mixture_task(1, 4, components=6)
    optimal = task.bayes_classifier()
    x, _ = task.sample(40, seed=0)
    y = decisions(optimal, x)
    one, five = (TightLDGrad(targets=n)(optimal, x, y).sizes for n in (1, 5))
    assert (five <= one * (1 + 1e-9)).all()
    assert (five < 0.99 * one).any()


def test_more_targets_than_there_are_components_is_no_error():
    task = spherical_task([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], 0.1)
    optimal = task.bayes_classifier()
    x = torch.zeros(1, 1, 1, 2).double()
    found = TightLDGrad(targets=9)(optimal, x, torch.tensor([0]))
    assert found.sizes.item() == pytest.approx(0.5, rel=1e-6)


def halves(copies):
    """Class 0: `copies` equal components at 0; class 1: one at 1. The boundary is at 1/2."""
    own = MixtureOfFactorAnalyzers(
        torch.full((copies,), 1 / copies).double(),
        torch.zeros(copies, 1),
        torch.zeros(copies, 1, 0),
        torch.full((copies, 1), 0.1),
    )
    other = MixtureOfFactorAnalyzers(
        torch.ones(1), torch.ones(1, 1), torch.zeros(1, 1, 0), torch.full((1, 1), 0.1)
    )
    return Task([own, other], image_shape=(1, 1, 1)).bayes_classifier()


@pytest.mark.parametrize("copies", [1, 2, 8])
def test_tight_ld_grad_breaks_points_where_one_component_alone_would_already_decide_otherwise(
    copies,
):
    x = torch.tensor([0.0, 0.3, 0.45, 0.49]).double().reshape(4, 1, 1, 1)
    found = TightLDGrad()(halves(copies), x, torch.zeros(4, dtype=torch.int64))
    np.testing.assert_allclose(found.sizes.numpy(), [0.5, 0.2, 0.05, 0.01], rtol=1e-6)


def test_ld_grad_on_an_rbf_svm_stays_honest_where_gradients_vanish():
    machine, _ = threshold_svm(500.0)
    x = torch.cat([uniform(5, 20, 1, 2, 2), torch.full((1, 1, 2, 2), 50.0).double()])
    y = decisions(machine, x)
    for attack in (LDGrad(), TightLDGrad()):
        found = attack(machine, x, y)
        assert not found.success[-1]
        assert torch.equal(decisions(machine, found.images) != y, found.success)
