import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from truths import (
    DIGITS,
    NOISES,
    RULES,
    Dense,
    Precise,
    critical_steepness,
    gaussians,
    plain,
    polar_distance,
    precise_height,
    random_task,
    task_of,
    task_settings,
)

from bayesgap.errors import BayesgapError
from bayesgap.radius import proof
from bayesgap.radius.proof import SHIFT, Component, Enclosure, Prover, Statement
from strategies import COSTLY_PROPERTY, PROPERTY, SEEDS

SLACK = 1.1 * SHIFT  # the proof's price, in shares of ½μ‖u‖² at the maximum
PAPER = 1e-3  # the paper's noise, a standard deviation


def contained(enclosure, truth, point):
    """Whether all bounds of one component at one point hold, in 50 digits."""
    squared, pull = truth.squared(point), truth.pull(point)
    joint = truth.constant - squared / 2
    away = mpmath.norm(mpmath.matrix(enclosure.pull[0].tolist()) - pull)
    return (
        mpmath.mpf(enclosure.low[0]) <= joint <= mpmath.mpf(enclosure.high[0])
        and mpmath.mpf(enclosure.near[0]) <= squared <= mpmath.mpf(enclosure.far[0])
        and away <= mpmath.mpf(enclosure.pull_error[0])
    )


def enclose(task, label, index, point):
    component = Component(label, task.priors[label].item(), task.densities[label], index)
    return component, Enclosure(component, np.asarray(point, dtype=float)[None])


# What is known of one component.


@pytest.mark.parametrize(("d", "latent"), [(30, 6), (30, 0), (8, 3), (1, 1)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_at_the_papers_noise_bounds_hold_and_are_narrow(d, latent, offset):
    random = np.random.default_rng(d + latent)
    # Factors as large as those of the released densities: a noise 500 times smaller.
    task = task_of(
        *(
            gaussians(
                [0.3, 0.7],
                offset + random.uniform(size=(2, d)),
                0.5 * random.normal(size=(2, d, latent)),
                np.full((2, d), PAPER**2),
            )
            for _ in range(2)
        )
    )
    x = task.sample(2, seed=0)[0].flatten(1).numpy()
    with mpmath.workdps(DIGITS):
        for label in range(2):
            truth = Precise(task, label, 1)
            for point in x:
                component, enclosure = enclose(task, label, 1, point)
                assert contained(enclosure, truth, point)
                error = abs(mpmath.mpf(component.constant) - truth.constant)
                assert error <= component.constant_error < 1e-6
                # Of millions of nats; an offset of 1e4 is rounded by 1e-12, a billionth of D^(1/2).
                assert enclosure.high[0] - enclosure.low[0] < 1e-6 + 1e-9 * enclosure.far[0]


@st.composite
def gaussian_settings(draw):
    """One component at extreme scales, often with degenerate factors, and a point near or far."""
    return {
        "seed": draw(SEEDS),
        "d": draw(st.integers(1, 5)),
        "latent": draw(st.sampled_from((0, 1, 2, 3, 9))),
        "size": 10.0 ** draw(st.integers(-6, 3)),
        "noise_std": 10.0 ** draw(st.integers(-6, 6)),
        "offset": 10.0 ** draw(st.integers(-4, 4)),
        "ratio": 10.0 ** draw(st.integers(0, 3)),
        "weight": draw(st.sampled_from((1.0, 1e-12, 1e-300))),
        "degenerate": draw(st.sampled_from((None, "zero", "twice", "nearly"))),
        "away": draw(st.sampled_from((0.0, 1e-3, 1.0, 1e4))),
    }


def extreme_gaussian(settings):
    """A task whose class 0 has the component twice, and a point; None where it is refused."""
    random, s = np.random.default_rng(settings["seed"]), settings
    factors = s["size"] * random.normal(size=(s["d"], s["latent"]))
    if s["latent"] and s["degenerate"] == "zero":
        factors[:, 0] = 0
    if s["latent"] > 1 and s["degenerate"] in ("twice", "nearly"):
        off = 1e-9 * random.normal(size=s["d"]) if s["degenerate"] == "nearly" else 0.0
        factors[:, 1] = factors[:, 0] * (1 + off)
    noise = s["noise_std"] ** 2 * s["ratio"] ** random.uniform(-1, 1, size=s["d"])
    mean = s["offset"] * random.normal(size=s["d"])
    point = mean + factors @ random.normal(size=s["latent"])
    point += s["away"] * np.sqrt(noise) * random.normal(size=s["d"])
    weights = [s["weight"], 1 - s["weight"]] if s["weight"] < 1 else [0.5, 0.5]
    try:
        density = gaussians(weights, [mean] * 2, [factors] * 2, [noise] * 2)
        Component(0, 0.5, density, 0)
    except BayesgapError:  # its factors are too large for its noise
        return None, point
    return task_of(density, plain(np.zeros(s["d"]))), point


@PROPERTY
@given(gaussian_settings())
def test_bounds_hold_at_extreme_scales(settings):
    task, point = extreme_gaussian(settings)
    if task is None:
        return
    with mpmath.workdps(DIGITS + 30):  # the condition number may reach 1e18
        truth = Precise(task, 0, 0)
        component, enclosure = enclose(task, 0, 0, point)
        assert contained(enclosure, truth, point)
        error = abs(mpmath.mpf(component.constant) - truth.constant)
        assert error <= component.constant_error


def test_factors_that_nearly_hide_the_noise_are_refused_in_a_sentence():
    # The density still has some digits of its determinant right; a bound of all roundings has none.
    random = np.random.default_rng(0)
    d = 2_000
    for size in (1e2, 1e4):
        factors = size * random.normal(size=(d, 2))
        factors[:, 1] = factors[:, 0] * (1 + 1e-6 * random.normal(size=d))
        density = gaussians([1.0], [np.zeros(d)], [factors], [np.full(d, 1e-12)])
        with pytest.raises(BayesgapError, match="too large for its noise"):
            Component(0, 1.0, density, 0)


# The constants C of statements.


def heights(task, rule, x, y, statements):
    """C of several statements at each of several points."""
    return [mine.tolist() for mine in Prover(task, rule).heights(x, y, statements)]


def height(task, rule, x, statement):
    y = class_of_components(task)[statement.own[:1]]
    ((only,),) = heights(task, rule, x[None], y, [[statement]])
    return only


def class_of_components(task):
    return np.repeat(range(task.classes), [density.components for density in task.densities])


def keys(task, indices):
    """(class, index within it) of components."""
    sizes = np.cumsum([0, *(density.components for density in task.densities)])
    labels = [int(np.searchsorted(sizes, k, side="right")) - 1 for k in indices]
    return [(label, int(k - sizes[label])) for label, k in zip(labels, indices, strict=True)]


def random_statement(task, random, y):
    """A statement against a random component of another class; legal, but from no solver."""
    labels = class_of_components(task)
    target = int(random.choice(np.nonzero(labels != y)[0]))
    mine = np.nonzero(labels == y)[0]
    own = random.choice(mine, size=random.integers(1, len(mine) + 1), replace=False).tolist()
    shares = random.dirichlet(np.full(len(own), random.choice([0.05, 1.0])))
    shares = np.maximum(shares, 1e-15) * 10.0 ** random.uniform(-3, 3)
    scale = 1 / float(task.densities[0].noise.min())
    return Statement(target, own, shares, scale * 10.0 ** random.uniform(-2, 2))


@PROPERTY
@given(task_settings(st.integers(1, 4)), st.sampled_from(RULES), SEEDS)
def test_heights_are_never_below_the_exact_maximum_and_close_to_it(settings, rule, seed):
    task, random = random_task(**settings), np.random.default_rng(seed)
    x, y = task.sample(3, seed=seed % 2**31)
    with mpmath.workdps(DIGITS):
        for point, label in zip(x.flatten(1).numpy(), y.tolist(), strict=True):
            statement = random_statement(task, random, label)
            own, (target,) = keys(task, statement.own), keys(task, [statement.target])
            arguments = (own, target, statement.shares, statement.steepness)
            exact, loss = precise_height(task, rule, point, *arguments)
            proven = height(task, rule, point, statement)
            assert mpmath.mpf(proven) >= exact
            critical = critical_steepness(task, own, target, statement.shares)
            if statement.steepness > 1.0001 * critical:
                assert mpmath.mpf(proven) <= exact + SLACK * loss + 1e-9 * (1 + abs(exact))


@pytest.mark.parametrize("block", [1, 2**20])
@pytest.mark.parametrize("noises", NOISES)
@pytest.mark.parametrize("rule", RULES)
def test_statements_do_not_disturb_each_other(rule, noises, block, monkeypatch):
    task = random_task(0, 3, classes=3, components=3, latent=2, noises=noises)
    random = np.random.default_rng(0)
    x, y = task.sample(20, seed=0)
    x, y = x.flatten(1).numpy(), y.numpy()
    statements = [
        [random_statement(task, random, label) for _ in range(i % 4)] for i, label in enumerate(y)
    ]
    alone = [
        height(task, rule, point, statement)
        for point, mine in zip(x, statements, strict=True)
        for statement in mine
    ]
    assert 5 < np.isfinite(alone).sum() < len(alone)
    monkeypatch.setattr(proof, "BLOCK_BYTES", block)  # one point at a time, or all
    together = [c for mine in heights(task, rule, x, y, statements) for c in mine]
    assert together == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_heights_at_the_papers_noise(rule):
    """The log-joints are millions of nats; the height is proven to 1e-4 of one."""
    random = np.random.default_rng(0)
    d, latent = 12, 3
    task = task_of(
        *(
            gaussians(
                [0.4, 0.6],
                random.uniform(size=(2, d)),
                0.3 * random.normal(size=(2, d, latent)),
                np.full((2, d), PAPER**2),
            )
            for _ in range(2)
        )
    )
    x = task.sample_given(torch.zeros(2, dtype=torch.int64), seed=0)[0].flatten(1).numpy()
    with mpmath.workdps(DIGITS):
        for point in x:
            for own, shares in (([0], [1.0]), ([0, 1], [0.7, 0.3])):
                holders, (target,) = keys(task, own), keys(task, [2])
                critical = float(critical_steepness(task, holders, target, shares))
                assert critical > 1e3
                for factor in (1.001, 1.5, 30.0):
                    statement = Statement(2, own, np.array(shares), factor * critical)
                    exact, loss = precise_height(
                        task, rule, point, holders, target, shares, statement.steepness
                    )
                    proven = height(task, rule, point, statement)
                    assert mpmath.mpf(proven) >= exact
                    assert proven - exact < 1e-4 + SLACK * loss


DEFINITENESS: dict[str, dict[str, Any]] = {
    "isotropic": {"noises": "isotropic unequal"},
    "isotropic, no factors": {"noises": "isotropic unequal", "latent": 0},
    "diagonal": {"noises": "diagonal"},
    "the paper's noise": {"noises": "isotropic equal", "noise_std": PAPER},
    "diagonal, the paper's noise": {"noises": "diagonal", "noise_std": PAPER},
}


@pytest.mark.parametrize("name", DEFINITENESS)
def test_nothing_is_proven_where_the_hessian_is_indefinite(name):
    seed = 0
    task = random_task(seed, 5, **{"latent": 2, **DEFINITENESS[name]})
    x = task.sample_given(torch.zeros(1, dtype=torch.int64), seed=seed)[0].flatten().numpy()
    own, shares, checked = [0, 1], np.array([0.4, 0.6]), 0
    with mpmath.workdps(DIGITS):
        for target in (2, 3):
            for held, v in ((own, shares), ([0], np.ones(1)), ([1], np.ones(1))):
                holders, (rival,) = keys(task, held), keys(task, [target])
                critical = critical_steepness(task, holders, rival, v)
                if critical <= 0:
                    continue
                checked += 1
                for share in (1e-12, 1e-9, 1e-6, 1e-2, 0.9):
                    short = float(critical * (1 - mpmath.mpf(share)))
                    assert height(task, "max-component", x, Statement(target, held, v, short)) == (
                        math.inf
                    ), share
                # Just within, too, nothing need be proven, but what is must be true.
                for share in (0.0, 1e-12, 1e-9, 3e-8, 1e-6):
                    statement = Statement(
                        target, held, v, float(critical * (1 + mpmath.mpf(share)))
                    )
                    exact, _ = precise_height(
                        task, "max-component", x, holders, rival, v, statement.steepness
                    )
                    assert mpmath.mpf(height(task, "max-component", x, statement)) >= exact
                beyond = Statement(target, held, v, float(1.01 * critical))
                assert height(task, "max-component", x, beyond) < math.inf
    # Without factors a narrower target leaves H definite whatever the steepness.
    assert checked >= (0 if "no factors" in name else 4)


@pytest.mark.parametrize("repeats", [2, 40])
def test_the_order_and_number_of_own_components_do_not_matter(repeats):
    density = gaussians(
        np.full(repeats, 1 / repeats),
        np.random.default_rng(0).normal(size=(repeats, 3)),
        np.zeros((repeats, 3, 1)),
        np.ones((repeats, 3)),
    )
    task = task_of(density, plain([3.0, 0.0, 0.0]))
    x, shares = np.zeros(3), np.random.default_rng(1).dirichlet(np.ones(repeats))
    forward = Statement(repeats, list(range(repeats)), shares, 0.7)
    backward = Statement(repeats, list(range(repeats))[::-1], shares[::-1], 0.7)
    first, second = (height(task, "log-sum-exp", x, statement) for statement in (forward, backward))
    assert first == pytest.approx(second, rel=1e-9)


# Radii.


@COSTLY_PROPERTY
@given(task_settings(), st.sampled_from(RULES), SEEDS)
def test_no_multipliers_whatsoever_prove_more_than_the_true_radius(settings, rule, seed):
    """The key to soundness: random shares, steepness and own components, for some targets."""
    task, random = random_task(**settings), np.random.default_rng(seed)
    prover = Prover(task, rule)
    x, y = task.sample(2, seed=seed % 2**31)
    flat, labels = x.flatten(1).numpy(), y.numpy()
    for point, label in zip(flat, labels, strict=True):
        truth = polar_distance(task, point, label, rule)
        if truth == 0:
            continue
        for _ in range(6):
            statements = {}
            for _ in range(random.integers(1, 6)):
                statement = random_statement(task, random, label)
                statements[statement.target] = statement
            stated = [list(statements.values())]
            radii, weights = prover.radii(point[None], np.array([label]), stated)
            assert radii[0] <= truth * (1 + 1e-9)
            # Nor is more confirmed, with whatever weights.
            if truth == math.inf:
                continue
            farther = np.array([truth * (1 + 1e-9)])
            for weight in (weights[0], weights[0] + 1.0, np.full(len(statements), -1e-3)):
                assert not prover.confirm(
                    point[None], np.array([label]), stated, farther, [weight]
                )[0]


@pytest.mark.parametrize("rule", RULES)
def test_random_multipliers_often_prove_something(rule):
    """Else the test above would be empty."""
    random, proven, shares = np.random.default_rng(0), 0, []
    for seed in range(4):
        task = random_task(seed, components=1)
        prover = Prover(task, rule)
        x, y = task.sample(2, seed=seed)
        for point, label in zip(x.flatten(1).numpy(), y.numpy(), strict=True):
            truth = polar_distance(task, point, label, rule)
            if not 0 < truth < math.inf:
                continue
            statements = [[random_statement(task, random, label)] for _ in range(20)]
            best = max(
                prover.radii(point[None], np.array([label]), [statement])[0][0]
                for statement in statements
            )
            proven += best > 0
            shares.append(best / truth)
    assert proven > 3
    assert np.mean(np.array(shares) > 0.5) > 0.4


@pytest.mark.parametrize("rule", RULES)
def test_without_statements_mahalanobis_distances_alone_prove_a_radius(rule):
    positive = 0
    for seed in range(3):
        task = random_task(seed, spread=2.0)
        x, y = task.sample(3, seed=seed)
        flat, labels = x.flatten(1).numpy(), y.numpy()
        radii, weights = Prover(task, rule).radii(flat, labels, [[]] * 3)
        assert [len(w) for w in weights] == [0] * 3
        for point, label, radius in zip(flat, labels, radii, strict=True):
            assert radius <= polar_distance(task, point, label, rule)
        positive += int((radii > 0).sum())
    assert positive > 2


@pytest.mark.parametrize("exponent", [-40, -30, -12, -6, 6, 12, 40])
def test_radii_are_found_at_any_scale(exponent):
    """Two unit Gaussians, in other units: half a unit to the plane between, 2 from x."""
    unit = 10.0**exponent
    task = task_of(plain([0.0, 0.0], unit**2), plain([unit, 0.0], unit**2))
    prover, x, y = Prover(task, "log-sum-exp"), np.array([[-1.5 * unit, 0.0]]), np.array([0])
    radii, _ = prover.radii(x, y, [[]])
    assert 0 < radii[0] <= 2 * unit
    statement = Statement(1, [0], np.ones(1), 0.5 / unit**2)
    radii, _ = prover.radii(x, y, [[statement]])
    assert 0.99 * 2 * unit <= radii[0] <= 2 * unit


def test_points_decided_otherwise_have_radius_0_and_ties_too():
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    x = np.array([[1.5, 0.0], [1.0, 0.0], [1.0 - 1e-14, 0.0]])
    statements = [[Statement(1, [0], np.ones(1), 1.0)]] * 3
    for rule in RULES:
        prover = Prover(task, rule)
        radii, weights = prover.radii(x, np.zeros(3, dtype=int), statements)
        assert (radii == 0).all()
        tiny = np.full(3, 1e-9)
        assert not prover.confirm(x, np.zeros(3, dtype=int), statements, tiny, weights).any()
        assert prover.confirm(x, np.zeros(3, dtype=int), statements, np.zeros(3), weights).all()


def test_the_weights_of_targets_must_leave_room():
    """Two equal targets, each with more than half of the weight, prove nothing together."""
    density = gaussians([0.5, 0.5], [[2.0, 0.0]] * 2, np.zeros((2, 2, 0)), np.ones((2, 2)))
    task = task_of(plain([0.0, 0.0]), density)
    prover, x, y = Prover(task, "log-sum-exp"), np.zeros((1, 2)), np.zeros(1, dtype=int)
    statements = [[Statement(k, [0], np.ones(1), 2.0) for k in (1, 2)]]
    radii, weights = prover.radii(x, y, statements)
    assert radii[0] == pytest.approx(1.0, rel=1e-6)
    assert radii[0] <= 1.0
    held = [
        prover.confirm(x, y, statements, radii, [np.log(np.array(w))])[0]
        for w in ([0.5, 0.5], [0.6, 0.6], [0.7, 0.2], [1.0, 0.0 + 1e-300])
    ]
    assert held == [False, False, False, False]
    lower = 0.9 * radii
    assert prover.confirm(x, y, statements, lower, [np.log([0.45, 0.45])])[0]
    assert not prover.confirm(x, y, statements, lower, [np.log([0.6, 0.6])])[0]
    assert not prover.confirm(x, y, statements, lower, [np.log([0.2, 0.2])])[0]
    assert prover.confirm(x, y, statements, 0.9 * radii, weights)[0]


def test_an_own_component_counts_once():
    """Repeating it k times would add log k to the entropy, and prove radii of any size."""
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    prover, x, y = Prover(task, "log-sum-exp"), np.zeros((1, 2)), np.zeros(1, dtype=int)
    for repeats in (2, 50):
        for steepness in (0.2, 0.4, 0.8, 1.6):
            statement = Statement(1, [0] * repeats, np.full(repeats, 1 / repeats), steepness)
            try:
                radii, _weights = prover.radii(x, y, [[statement]])
                held = prover.confirm(x, y, [[statement]], np.array([1.5]), [np.array([-1e-6])])
            except BayesgapError:
                continue
            assert radii[0] <= 1.0
            assert not held[0]


def test_a_target_that_overflows_is_not_forgotten():
    """Its bounds are NaN, which compare as neither more nor less: nothing may be proven."""
    tiny = 1e-300
    own, harmless = plain([0.0, 0.0]), plain([-1e26, 0.0])
    wins = plain([0.0, 0.0], tiny, [[2.0], [0.0]])
    x = np.array([[1e25, 0.0]])
    for others in ((harmless, wins), (wins, harmless), (wins,)):
        with np.errstate(all="ignore"):
            try:
                prover = Prover(task_of(own, *others), "log-sum-exp")
            except BayesgapError:
                continue
            held = prover.confirm(x, np.array([0]), [[]], np.array([1.0]), [np.zeros(0)])
        assert not held[0]


@pytest.mark.parametrize("first", [1, 2])
def test_a_statement_of_nan_proves_nothing_even_beside_others(first):
    """As of multipliers that are all 0; NaN must not be lost in a maximum over classes."""
    others = [plain([2.0, 0.0]), plain([0.0, 20.0])]
    task = task_of(plain([0.0, 0.0]), *(others if first == 1 else others[::-1]))
    good = Statement(3 - first, [0], np.ones(1), 2.0)
    bad = Statement(first, [0], np.full(1, math.nan), math.inf)
    x, y = np.array([[0.0, 0.0]]), np.array([0])
    for rule in RULES:
        with np.errstate(all="ignore"):
            radii, _ = Prover(task, rule).radii(x, y, [[good, bad]])
        assert radii[0] <= 1.0


def test_statements_of_wrong_classes_are_refused():
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]), plain([0.0, 2.0]))
    prover, x = Prover(task, "log-sum-exp"), np.zeros((1, 2))
    for target, own in ((0, [0]), (1, [1]), (1, [2]), (1, [0, 2])):
        statement = Statement(target, own, np.full(len(own), 1 / len(own)), 1.0)
        with pytest.raises(
            BayesgapError, match="A statement at a point of class 0 holds components"
        ):
            prover.radii(x, np.array([0]), [[statement]])


@PROPERTY
@given(task_settings(st.integers(1, 4)), st.sampled_from(RULES), SEEDS)
def test_points_are_said_to_be_decided_otherwise_only_where_they_are(settings, rule, seed):
    task = random_task(**settings)
    x, _y = task.sample(20, seed=seed % 2**31)
    flat = x.flatten(1).numpy()
    dense, prover = Dense(task, rule), Prover(task, rule)
    for label in range(task.classes):
        certain = prover.decided_otherwise(flat, np.full(20, label))
        gap = dense.gap(flat, label)
        assert (certain == (gap < 0)).all() or np.abs(gap[certain != (gap < 0)]).max() < 1e-9


def test_a_tie_is_not_decided_otherwise():
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    x = np.array([[1.0, 5.0], [1.0 + 1e-15, 0.0], [1.0 + 1e-9, 0.0]])
    certain = Prover(task, "log-sum-exp").decided_otherwise(x, np.zeros(3, dtype=int))
    assert certain.tolist() == [False, False, True]


def test_numbers_that_are_no_statements_prove_nothing():
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    x, y = np.zeros((1, 2)), np.zeros(1, dtype=int)
    for rule in RULES:
        prover = Prover(task, rule)
        for shares, steepness in (
            ([1.0], 1e308),
            ([1.0], 1e-308),
            ([1.0], math.nan),
            ([1e308], 1.0),
            ([math.nan], 1.0),
            ([1e-320], 1.0),
        ):
            statement = Statement(1, [0], np.array(shares), steepness)
            with np.errstate(all="ignore"):
                held = prover.confirm(x, y, [[statement]], np.array([1.1]), [np.array([-1e-6])])
            assert not held[0]
