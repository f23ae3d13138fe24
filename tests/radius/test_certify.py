import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from truths import (
    RULES,
    Dense,
    gaussians,
    plain,
    polar_distance,
    quadric_distance,
    quadric_of,
    random_task,
    slsqp_distance,
    task_of,
    task_settings,
)

import bayesgap as bg
from bayesgap.errors import BayesgapError
from bayesgap.radius import certify as certify_module
from bayesgap.radius.certify import certify
from strategies import PROPERTY, SEEDS, without_shape_checks

FEW = settings(PROPERTY, max_examples=6)
# Of one quadric. The proof keeps a reserve of 1e-9, and its shift of 1e-8 μ costs 1e-8 of the
# square and, where H is nearly singular, as much as the climb's retreat from the edge.
TOLERANCE = 2e-8
ACCURACY = 1e-3  # of a search over directions, which refines only the best of its grid


def images(points):
    return torch.as_tensor(np.asarray(points), dtype=torch.float64)[:, None, None]


def labels(*values):
    return torch.tensor(values)


def assert_bracket(bracket):
    """What holds of every bracket, whatever the task."""
    task, x, y = bracket.task, bracket.x, bracket.y
    decided = task.bayes_classifier(temperature=1.0, rule=bracket.rule)(x).argmax(dim=1)
    assert torch.equal(bracket.correct, decided == y)
    assert (bracket.lower <= bracket.upper).all()
    assert (bracket.lower >= 0).all()
    moved = (bracket.images - x).flatten(1).norm(dim=1)
    finite = bracket.upper.isfinite()
    torch.testing.assert_close(moved[finite], bracket.upper[finite], rtol=1e-12, atol=0)
    after = task.bayes_classifier(rule=bracket.rule)(bracket.images).argmax(dim=1)
    assert (after != y)[finite].all()
    wrong = ~bracket.correct
    for bound in (bracket.lower, bracket.upper):
        assert (bound[wrong] == 0).all()
    assert torch.equal(bracket.images[wrong], x[wrong])
    assert torch.equal(bracket.target_class[wrong], decided[wrong])
    assert (bracket.target[wrong] == -1).all()
    assert (bracket.source[wrong] == -1).all()
    right = bracket.correct
    owner = task.bayes_classifier(temperature=1.0).component_class
    assert torch.equal(owner[bracket.target[right]], bracket.target_class[right])
    assert (bracket.target_class[right] != y[right]).all()
    assert torch.equal(owner[bracket.source[right]], y[right])


# The bracket holds the truth.


@FEW
@given(task_settings(), st.sampled_from(RULES), SEEDS)
def test_in_2_dimensions_a_search_over_all_directions_ends_within_the_bracket(settings, rule, seed):
    task = random_task(**settings)
    x, y = task.sample(2, seed=seed % 2**31)
    bracket = certify(task, x, y, rule=rule)
    assert_bracket(bracket)
    for i in bracket.correct.nonzero().flatten().tolist():
        found = polar_distance(task, x[i].flatten().numpy(), int(y[i]), rule)
        assert bracket.lower[i] <= found * (1 + 1e-9)
        assert found <= bracket.upper[i] * (1 + ACCURACY)
        if found < math.inf:
            assert bracket.upper[i] <= 1.05 * found


@FEW
@given(task_settings(st.integers(3, 6)), st.sampled_from(RULES), SEEDS)
def test_in_more_dimensions_slsqp_finds_nothing_nearer_than_proven(settings, rule, seed):
    task = random_task(**settings)
    x, y = task.sample(2, seed=seed % 2**31)
    bracket = certify(task, x, y, rule=rule)
    assert_bracket(bracket)
    for i in bracket.correct.nonzero().flatten().tolist():
        found = slsqp_distance(task, x[i].flatten().numpy(), int(y[i]), rule, starts=4)
        assert bracket.lower[i] <= found * (1 + 1e-9)
        assert bracket.upper[i] <= 1.05 * found


@pytest.mark.parametrize("rule", RULES)
def test_brackets_of_interlocking_mixtures_are_narrow_on_the_whole(rule):
    found = []
    for seed in range(3):
        task = random_task(seed, 4, components=2, latent=1)
        bracket = certify(task, *task.sample(5, seed=seed), rule=rule)
        assert_bracket(bracket)
        right = bracket.correct
        found += (bracket.upper[right] / bracket.lower[right]).tolist()
    ratios = np.array(found)
    assert np.median(ratios) < 1.01
    assert ratios.max() < 2


# One component a class: the bracket is the distance.


@pytest.mark.parametrize("noises", ["isotropic equal", "isotropic unequal", "diagonal"])
@pytest.mark.parametrize(("d", "latent"), [(2, 0), (5, 2), (60, 1), (100, 0)])
def test_one_quadric(d, latent, noises):
    for seed in range(1):
        task = random_task(
            seed, d, components=1, latent=latent, noises=noises, spread=1.0 if d < 10 else 0.3
        )
        x, y = task.sample(3, seed=seed)
        bracket = certify(task, x, y, rule="max-component")
        assert_bracket(bracket)
        for i in bracket.correct.nonzero().flatten().tolist():
            own = int(y[i])
            exact = quadric_distance(*quadric_of(task, x[i].flatten().numpy(), own, 1 - own))
            assert bracket.lower[i] <= exact * (1 + 1e-9)
            if exact < math.inf:
                assert bracket.lower[i] == pytest.approx(exact, rel=TOLERANCE)
                assert bracket.upper[i] == pytest.approx(exact, rel=1e-6)


HARD = {
    "a broad target, symmetric about x": (
        plain([0.0, 0.0], 0.01),
        plain([1.0, 0.0], [0.01, 1.0]),
        [-0.3, 0.0],
    ),
    "the mean of both, isotropic": (plain([0.0, 0.0], 0.01), plain([0.0, 0.0], 1.0), [0.0, 0.0]),
    "the mean of both": (
        plain([0.0, 0.0], [0.01, 0.02]),
        plain([0.0, 0.0], [1.0, 0.03]),
        [0.0, 0.0],
    ),
    "the mean of both, factors": (
        plain([0.0, 0.0, 0.0], 0.01),
        plain([0.0, 0.0, 0.0], 0.01, [[1.0], [0.0], [0.0]]),
        [0.0, 0.0, 0.0],
    ),
    "in many dimensions": (
        plain(np.zeros(20), 0.01),
        plain(np.zeros(20), 0.0101, 0.3 * np.eye(20)[:, :2]),
        np.zeros(20),
    ),
    "a broad target on the axis": (
        plain([0.0, 0.0], 1.0),
        plain([0.5, 0.0], [1.0, 4.0]),
        [-1.0, 0.0],
    ),
}


def hard(name, rule):
    own, target, x = HARD[name]
    task = task_of(own, target)
    exact = quadric_distance(*quadric_of(task, np.asarray(x), 0, 1))
    bracket = certify(task, images([x]), labels(0), rule=rule)
    assert_bracket(bracket)
    assert 0 < exact < math.inf
    assert bracket.lower[0] <= exact * (1 + 1e-9)
    return bracket, exact


@pytest.mark.parametrize("name", HARD)
def test_lower_bounds_in_the_hard_case(name):
    bracket, exact = hard(name, "log-sum-exp")
    # The dual's maximum lies where H is singular: a proof needs to keep a little away.
    assert bracket.lower[0] == pytest.approx(exact, rel=1e-2)


@pytest.mark.parametrize("name", HARD)
def test_upper_bounds_in_the_hard_case(name):
    """The nearest points are a pair, to either side of where the multipliers' minimiser lies."""
    bracket, exact = hard(name, "max-component")
    assert exact <= bracket.upper[0] * (1 + 1e-9)
    assert bracket.upper[0] == pytest.approx(exact, rel=1e-2)


# Degenerate tasks.


def test_a_class_that_never_wins():
    task = task_of(plain([0.0, 0.0], 1.0), plain([0.0, 0.0], 0.5), priors=[0.99, 0.01])
    bracket = certify(task, images([[1.0, 1.0], [0.0, 0.0]]), labels(0, 0))
    assert_bracket(bracket)
    assert bracket.upper.isinf().all()
    assert bracket.lower.isfinite().all()
    assert (bracket.lower > 0.5).all()
    assert torch.equal(bracket.images, bracket.x)
    wrong = certify(task, images([[0.0, 0.0]]), labels(1))
    assert wrong.upper.tolist() == wrong.lower.tolist() == [0.0]


def test_equal_classes_have_radius_0():
    density = random_task(0).densities[0]
    task = task_of(density, density)
    for rule in RULES:
        bracket = certify(task, *task.sample(8, seed=0), rule=rule)
        assert (bracket.lower == 0).all()


def test_points_very_near_the_boundary():
    """Margins of 1e-6 nats: 1e-6 of a squared unit over twice the distance of the means."""
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    for nats in (1e-3, 1e-6, 1e-9):
        x = images([[1 - nats / 2, 3.0], [1 + nats / 2, 3.0]])
        bracket = certify(task, x, labels(0, 1))
        assert_bracket(bracket)
        assert bracket.correct.all()
        # Rounding bounds take 1e-13 nats or so; the image is moved until its decision is certain.
        expected = torch.full((2,), nats / 2).double()
        assert (bracket.lower <= expected + 1e-16).all()
        assert (bracket.lower > (1 - 1e-7) * expected - 1e-12).all()
        assert ((bracket.upper - expected).abs() < 1e-6 * nats + 1e-12).all()
    for seed in range(2):
        task = random_task(seed)
        x, y = task.sample(1, seed=seed)
        first = certify(task, x, y)
        if not first.correct.all():
            continue
        near = x + (1 - 1e-6) * (first.images - x)
        bracket = certify(task, near, y)
        assert_bracket(bracket)
        assert bracket.upper[0] <= 1.1e-6 * first.upper[0]


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("distance", [0.0, 1e-16, 1e-14, 1e-12, 1e-10])
def test_points_so_near_the_boundary_that_rounding_swallows_the_move(d, distance):
    task = task_of(plain([-1.0, *[0.0] * (d - 1)]), plain([1.0, *[0.0] * (d - 1)]))
    x = images([[-distance, *[0.3] * (d - 1)]])
    bracket = certify(task, x, labels(0))
    assert_bracket(bracket)
    assert bracket.correct.all()
    assert bracket.lower[0] <= distance <= bracket.upper[0] <= 1.1 * distance + 1e-12


def test_a_target_that_can_never_win_spoils_no_bound():
    """Its multipliers grow until H is singular within rounding; a far larger μ proves it away."""
    own = gaussians(
        [0.021, 0.857, 0.122],
        [[-0.334, -1.334], [1.299, 1.356], [0.964, 0.116]],
        [
            [[0.022, 0.066], [0.115, 0.288]],
            [[0.163, -0.38], [-0.574, -0.497]],
            [[0.087, -0.343], [-0.316, -0.222]],
        ],
        np.repeat([[0.0033], [0.0059], [0.0118]], 2, axis=1),
    )
    other = gaussians(
        [0.002, 0.171, 0.363, 0.384, 0.08],
        [[1.303, 1.153], [-0.64, 1.016], [-0.611, 2.739], [-0.292, -0.323], [1.453, 0.951]],
        [
            [[0.005, 0.002], [-0.002, -0.002]],
            [[-0.005, 0.004], [-0.011, 0.003]],
            [[0.031, -0.017], [0.019, -0.003]],
            [[0.003, -0.003], [-0.002, -0.029]],
            [[-0.032, 0.017], [0.019, -0.012]],
        ],
        np.repeat([[0.0049], [0.0173], [0.0048], [0.0109], [0.0173]], 2, axis=1),
    )
    task = task_of(other, own, priors=[0.052, 0.948])
    bracket = certify(task, images([[1.619, 1.105]]), labels(1), rule="max-component")
    assert_bracket(bracket)
    assert bracket.upper[0] <= 1.001 * bracket.lower[0]


def test_nearly_equal_components():
    """Means and factors that differ by 1e-9 change no radius by more than about that."""
    task = random_task(3, components=2)
    x, y = task.sample(2, seed=3)
    random = np.random.default_rng(0)

    def doubled(density):
        p = {name: t.numpy() for name, t in density.parameters_for_file().items()}
        weights = np.tile(p["weights"] / 2, 2)
        means, factors = (
            np.concatenate([p[name], p[name] + 1e-9 * random.normal(size=p[name].shape)])
            for name in ("means", "factors")
        )
        return gaussians(weights, means, factors, np.tile(p["noise"], (2, 1)))

    twice = task_of(*map(doubled, task.densities))
    one, two = certify(task, x, y), certify(twice, x, y)
    assert_bracket(two)
    torch.testing.assert_close(one.upper, two.upper, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(one.lower, two.lower, rtol=1e-2, atol=1e-8)


def test_a_component_of_weight_1e_12():
    """It wins far from all others, where it is broad; near its own mean where it is narrow."""
    for noise in (0.01, 9.0):
        faint = gaussians(
            [1 - 1e-12, 1e-12],
            [[3.0, 0.0], [0.0, 3.0]],
            np.zeros((2, 2, 1)),
            [[0.2] * 2, [noise] * 2],
        )
        task = task_of(plain([0.0, 0.0], 0.2), faint)
        x, y = images([[0.0, 0.0], [0.0, 1.0], [-1.0, 0.3]]), labels(0, 0, 0)
        bracket = certify(task, x, y)
        assert_bracket(bracket)
        for i in range(3):
            found = polar_distance(task, x[i].flatten().numpy(), 0, "log-sum-exp")
            assert bracket.lower[i] <= found * (1 + 1e-9)
            assert bracket.upper[i] == pytest.approx(found, rel=1e-3)
            assert bracket.lower[i] >= 0.9 * found


@pytest.mark.parametrize(("kind", "d"), [("zero", 3), ("twice", 30)])
def test_singular_factors(kind, d):
    task = random_task(0, d, latent=2, spread=1.0 if d < 10 else 0.4)
    densities = []
    for density in task.densities:
        factors = density.factors.clone()
        factors[:, :, 0] = 0.0 if kind == "zero" else factors[:, :, 1]
        densities.append(
            bg.MixtureOfFactorAnalyzers(density.weights, density.means, factors, density.noise)
        )
    singular = task_of(*densities)
    # The same covariances with one column.
    scale = 1.0 if kind == "zero" else math.sqrt(2)
    single = task_of(
        *(
            bg.MixtureOfFactorAnalyzers(p.weights, p.means, scale * p.factors[:, :, 1:], p.noise)
            for p in densities
        )
    )
    x, y = single.sample(2, seed=1)
    one, two = certify(single, x, y), certify(singular, x, y)
    assert_bracket(two)
    torch.testing.assert_close(one.lower, two.lower, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(one.upper, two.upper, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e4])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_extreme_scales(scale, offset):
    task = task_of(
        plain([offset * scale, 0.0], scale**2), plain([(offset + 2) * scale, 0.0], scale**2)
    )
    bracket = certify(task, images([[offset * scale, scale]]), labels(0))
    assert_bracket(bracket)
    tolerance = 1e-6 + 1e-13 * offset
    assert float(bracket.lower[0] / scale) == pytest.approx(1.0, rel=tolerance)
    assert float(bracket.upper[0] / scale) == pytest.approx(1.0, rel=tolerance)


def test_single_precision_densities_mean_what_their_numbers_say():
    """Weights times priors are float64, as in the proof; else lower bounds exceed the truth."""
    for seed in range(3):
        prior = float(np.random.default_rng(seed).uniform(0.1, 0.9))
        task = task_of(
            plain([0.0]).to(torch.float32),
            plain([2.0]).to(torch.float32),
            priors=[prior, 1 - prior],
        )
        boundary = 1 + math.log(prior / (1 - prior)) / 2
        bracket = certify(task, images([[boundary - 1e-8]]), labels(0))
        if bracket.correct[0]:
            assert bracket.lower[0] <= bracket.upper[0]
            assert bracket.upper[0] == pytest.approx(1e-8, rel=1e-2)


def test_many_classes():
    angles = 2 * np.pi * np.arange(9) / 9
    centres = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    task = task_of(*(plain(centre, 0.25) for centre in centres))
    bracket = certify(task, images(centres), torch.arange(9))
    assert_bracket(bracket)
    half = 3 * math.sin(math.pi / 9)
    torch.testing.assert_close(bracket.lower, torch.full((9,), half).double(), rtol=1e-7, atol=0)
    torch.testing.assert_close(bracket.upper, torch.full((9,), half).double(), rtol=1e-6, atol=0)
    neighbours = (bracket.target_class - torch.arange(9)) % 9
    assert ((neighbours == 1) | (neighbours == 8)).all()


# Boxes.


def test_in_a_box_images_stay_inside_and_the_lower_bound_is_the_unboxed_one():
    task = random_task(1, 3, components=2, spread=0.5)
    x, y = task.sample(10, seed=1)
    x = x.clamp(-0.6, 0.6)
    free, boxed = certify(task, x, y), certify(task, x, y, box=(-0.6, 0.6))
    assert_bracket(boxed)
    assert torch.equal(free.lower, boxed.lower)
    assert (boxed.upper >= free.lower).all()
    finite = boxed.correct & boxed.upper.isfinite()
    assert finite.sum() > 3
    assert (boxed.images[finite] >= -0.6).all()
    assert (boxed.images[finite] <= 0.6).all()
    assert (boxed.upper[finite] > free.upper[finite] * (1 + 1e-6)).any()  # the box matters


def test_a_box_that_cuts_off_the_other_class():
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    bracket = certify(task, images([[0.2, 0.3]]), labels(0), box=(0.0, 0.9))
    assert bracket.upper.isinf().all()
    assert bracket.lower[0] == pytest.approx(0.8, rel=1e-7)
    assert torch.equal(bracket.images, bracket.x)


def test_a_box_that_cuts_off_the_nearest_component_of_two():
    far = gaussians([0.5, 0.5], [[7.0, 0.0], [4.0, -4.0]], np.zeros((2, 2, 0)), np.ones((2, 2)))
    task = task_of(plain([4.0, 0.0]), far)
    bracket = certify(task, images([[4.0, 0.0]]), labels(0), box=(-5.0, 5.0))
    assert_bracket(bracket)
    # Straight down that component alone reaches the own one's log-joint where 4u − 8 = log 2; to
    # the right the other one helps a little.
    assert 0.999 <= bracket.upper[0] / (2 + math.log(2) / 4) <= 1 + 1e-6


def test_the_nearest_point_of_a_box():
    """The plane x + y = 2 from (0.5, 0), in a box that ends at x = 1.2."""
    task = task_of(plain([0.0, 0.0]), plain([2.0, 2.0]))
    bracket = certify(task, images([[0.9, -0.5]]), labels(0), box=(-1.0, 1.2))
    assert_bracket(bracket)
    assert bracket.lower[0] == pytest.approx(1.6 / math.sqrt(2), rel=1e-7)
    exact = math.hypot(1.2 - 0.9, 0.8 + 0.5)  # at (1.2, 0.8)
    assert exact * (1 - 1e-9) <= bracket.upper[0] <= 1.1 * exact


def test_a_point_outside_the_box():
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    x = images([[-0.5, 0.5], [0.5, 3.0], [-4.0, 0.2]])
    bracket = certify(task, x, labels(0, 0, 0), box=(0.0, 1.5))
    assert_bracket(bracket)
    finite = bracket.upper.isfinite()
    assert finite.any()
    assert (bracket.images[finite] >= 0.0).all()
    assert (bracket.images[finite] <= 1.5).all()
    nearest = torch.tensor([1.5, math.hypot(0.5, 1.5), 5.0]).double()
    assert (bracket.upper >= nearest * (1 - 1e-6)).all()
    missing = ~finite
    assert torch.equal(bracket.images[missing], x[missing])


# Invariances.


def invariant_task(seed=0, **kwargs):
    task = random_task(
        seed, 3, components=2, latent=1, noises="isotropic unequal", classes=3, **kwargs
    )
    return task, *task.sample(4, seed=seed)


def changed(task, change):
    """The task of x ↦ change(x), a similarity; with the noise multiplied by change.scale²."""
    return task_of(
        *(
            bg.MixtureOfFactorAnalyzers(
                p.weights,
                p.means @ change["turn"].mT * change["scale"] + change["shift"],
                change["scale"] * change["turn"] @ p.factors,
                change["scale"] ** 2 * p.noise,
            )
            for p in task.densities
        )
    )


@pytest.mark.parametrize("what", ["shift", "turn", "scale"])
def test_similarities_change_radii_as_they_should(what):
    task, x, y = invariant_task()
    turn, _ = torch.linalg.qr(
        torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    change: dict[str, Any] = {"shift": 0.0, "turn": torch.eye(3).double(), "scale": 1.0}
    change[what] = {"shift": torch.tensor([5.0, -3.0, 100.0]), "turn": turn, "scale": 255.0}[what]
    moved = x.flatten(1) @ change["turn"].mT * change["scale"] + change["shift"]
    before = certify(task, x, y)
    after = certify(changed(task, change), moved[:, None, None], y)
    assert_bracket(after)
    assert torch.equal(before.correct, after.correct)
    for name, tolerance in (("lower", 1e-4), ("upper", 1e-5)):
        torch.testing.assert_close(
            getattr(after, name), change["scale"] * getattr(before, name), rtol=tolerance, atol=1e-9
        )


def test_the_order_of_components_and_classes_does_not_matter():
    task, x, y = invariant_task()
    order = torch.tensor([2, 0, 1])  # new class of each class
    flipped = [
        bg.MixtureOfFactorAnalyzers(p.weights.flip(0), p.means.flip(0), p.factors.flip(0),
                                    p.noise.flip(0))
        for p in task.densities
    ]  # fmt: skip
    other = task_of(flipped[1], flipped[2], flipped[0])
    before, after = certify(task, x, y), certify(other, x, order[y])
    assert_bracket(after)
    torch.testing.assert_close(before.lower, after.lower, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(before.upper, after.upper, rtol=1e-5, atol=1e-9)
    assert torch.equal(order[before.target_class], after.target_class)


def test_a_point_twice_has_one_bracket_and_batches_do_not_matter(monkeypatch):
    task, x, y = invariant_task()
    whole = certify(task, x, y)
    twice = certify(task, torch.cat([x, x]), torch.cat([y, y]))
    monkeypatch.setattr(certify_module, "CHUNK", 2)
    split = certify(task, x, y)
    assert_bracket(split)
    for name, tolerance in (("lower", 1e-6), ("upper", 1e-6)):
        expected = getattr(whole, name)
        for actual in (getattr(twice, name)[:4], getattr(twice, name)[4:], getattr(split, name)):
            torch.testing.assert_close(actual, expected, rtol=tolerance, atol=1e-12)
    assert torch.equal(whole.target, split.target)
    assert split.statements.point.max() == whole.statements.point.max()


def test_more_own_components_never_make_the_lower_bound_exceed_the_upper():
    random = np.random.default_rng(0)
    target = plain([2.0, 0.0], 0.3)
    for components in (2, 6):
        own = gaussians(
            np.full(components, 1 / components),
            0.7 * random.normal(size=(components, 2)),
            0.3 * random.normal(size=(components, 2, 1)),
            random.uniform(0.05, 0.5, size=(components, 2)),
        )
        for rule in RULES:
            task = task_of(own, target)
            x, y = task.sample(2, seed=components)
            assert_bracket(certify(task, x, y, rule=rule))


# The released tasks.


@pytest.mark.parametrize("variant", ["symmetric", "asymmetric"])
def test_released_tasks_are_certified_tightly_and_no_attack_comes_nearer(variant, tmp_path):
    task = bg.load_task(f"mnist-0-6/{variant}")
    x, y = task.sample(12, seed=3)
    bracket = certify(task, x, y)
    assert_bracket(bracket)
    assert bracket.correct.all()
    assert (bracket.upper <= 1.001 * bracket.lower).all()
    assert bracket.lower.mean() == pytest.approx(
        {"symmetric": 2.8, "asymmetric": 0.12}[variant], rel=0.1
    )
    classifier = task.bayes_classifier()
    for name in ("ddn", "ld-grad-tight"):
        found = bg.named_attack(name)(classifier, x, y)
        assert found.success.float().mean() > 0.9
        assert (found.sizes >= bracket.lower).all()
    bracket.save(tmp_path / "certificate.safetensors")
    verified = bg.verify(tmp_path / "certificate.safetensors")
    assert verified.proven.all()
    assert verified.shown.all()
    assert verified.released


def test_points_of_outliers_are_certified_tightly():
    task = bg.load_task("mnist-0-6/asymmetric")
    y = torch.arange(300) % 2
    x, outlier = task.sample_given(y, seed=0)
    x, y = x[outlier], y[outlier]
    assert len(x) > 1
    bracket = certify(task, x, y)
    assert_bracket(bracket)
    right = bracket.correct
    assert right.any()
    assert (bracket.upper[right] <= 1.001 * bracket.lower[right]).all()


# What is said of brackets, and of bad input.


def test_a_bracket_says_what_it_is():
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]), name="two")
    right = certify(task, images([[0.0, 0.0]]), labels(0))
    assert repr(right) == ("Bracket('two', 1 of 1 points decided correctly, mean radius 1 to 1)")
    wrong = certify(task, images([[0.0, 0.0]]), labels(1))
    assert repr(wrong) == "Bracket('two', no point of 1 decided correctly)"


def test_single_precision_images_and_other_integers_are_computed_with_in_double():
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    x = torch.tensor([[[[0.25, 0.0]]]], dtype=torch.float32, requires_grad=True)
    with without_shape_checks():
        bracket = certify(task, x, torch.tensor([0], dtype=torch.uint8))
    assert bracket.x.dtype == bracket.lower.dtype == torch.float64
    assert bracket.lower[0] == pytest.approx(0.75, rel=1e-7)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no task": ({"task": "mnist"}, "A task is needed"),
    "images of another shape": (
        {"x": torch.zeros(1, 1, 1, 3).double()},
        r"the one given has \(1, 1, 1, 3\)",
    ),
    "integer images": ({"x": torch.zeros(1, 1, 1, 2).long()}, "floating-point"),
    "an array": ({"x": np.zeros((1, 1, 1, 2))}, "floating-point torch tensor"),
    "NaN": ({"x": torch.full((1, 1, 1, 2), math.nan)}, "NaN or infinity"),
    "no images": ({"x": torch.zeros(0, 1, 1, 2), "y": torch.zeros(0).long()}, "no points"),
    "labels in a list": ({"y": [0, 0, 0]}, "must be a torch tensor; got a list"),
    "too few labels": ({"y": torch.zeros(2).long()}, "integer labels"),
    "labels that are no integers": ({"y": torch.zeros(1)}, "integer labels"),
    "labels out of range": ({"y": torch.tensor([2])}, "labels 0 to 1; got 2"),
    "another rule": ({"rule": "median"}, "The rules are"),
    "an empty box": ({"box": (1.0, 1.0)}, "A box is"),
    "a box turned round": ({"box": (1.0, 0.0)}, "A box is"),
    "a box of NaN": ({"box": (0.0, math.nan)}, "A box is"),
    "a box of one number": ({"box": 1.0}, "A box is"),
    "a box of three": ({"box": (0.0, 1.0, 2.0)}, "A box is"),
    "a box of words": ({"box": ("low", "high")}, "A box is"),
    "half a box": ({"box": (None, 1.0)}, "A box is"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_a_sentence(name):
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    given: dict[str, Any] = {"task": task, "x": torch.zeros(1, 1, 1, 2), "y": labels(0)}
    change, message = BAD[name]
    given = {**given, **change}
    with without_shape_checks(), pytest.raises(BayesgapError, match=message):
        certify(given.pop("task"), given.pop("x"), given.pop("y"), **given)


def test_dense_truths_agree_with_the_classifier():
    """The independent search looks at the classifier that is certified."""
    for rule in RULES:
        task = random_task(0, 4, classes=3)
        x, _ = task.sample(30, seed=0)
        joints = task.bayes_classifier(temperature=1.0, rule=rule).log_joint(x)
        for label in range(3):
            others = joints.clone()
            others[:, label] = -math.inf
            gap = Dense(task, rule).gap(x.flatten(1).numpy(), label)
            expected = (joints[:, label] - others.amax(dim=1)).numpy()
            np.testing.assert_allclose(gap, expected, rtol=1e-9, atol=1e-9)
