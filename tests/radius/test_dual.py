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
    Precise,
    gaussians,
    plain,
    quadric_distance,
    quadric_of,
    random_task,
    task_of,
)

from bayesgap.radius import dual
from bayesgap.radius import search as search_module
from bayesgap.radius.dual import Pairs, ascend
from bayesgap.radius.frame import frame
from bayesgap.radius.search import search
from strategies import PROPERTY, SEEDS

TOLERANCE = 1e-8  # relative, of a distance; the climb ends at gains of 1e-8 of its square


def problem(task, x, own, target, *, log_weight=0.0):
    """One point against one target, from multipliers that suit a hyperplane."""
    framed = frame(task.bayes_classifier(temperature=1.0).marginal)
    z = framed.coordinates(torch.from_numpy(np.asarray(x, dtype=float))[None])
    c, g, _ = quadric_of(task, np.asarray(x, dtype=float), own[0], target)
    start = max(c, 0.01) / max(g @ g, 1.0) / len(own)
    return framed, Pairs(
        point=torch.zeros(1, dtype=torch.int64),
        z=z,
        target=torch.tensor([target]),
        own=torch.tensor([own]),
        used=torch.ones(1, len(own), dtype=torch.bool),
        log_weight=torch.tensor([log_weight], dtype=torch.float64),
        multipliers=torch.full((1, len(own)), start, dtype=torch.float64),
        value=torch.full((1,), -torch.inf, dtype=torch.float64),
        moves=torch.zeros_like(z),
    )


def climbed(task, x, own, target, *, entropic=False, enough=torch.inf, climbs=1, **kwargs):
    framed, pairs = problem(task, x, own, target, **kwargs)
    limit = torch.tensor([enough], dtype=torch.float64)
    for _ in range(climbs):
        ascend(framed, pairs, torch.zeros(1, dtype=torch.int64), entropic=entropic, enough=limit)
    return pairs


def bound(pairs):
    return float((2 * pairs.value.clamp(min=0)).sqrt())


def single(seed, d, noises, latent, noise_std=0.4, spread=1.0):
    """Two plain Gaussians and a point of the first."""
    task = random_task(
        seed, d, components=1, latent=latent, noises=noises, noise_std=noise_std, spread=spread
    )
    x = task.sample_given(torch.zeros(1, dtype=torch.int64), seed=seed)[0].flatten().numpy()
    return task, x


def assert_reaches(task, x, tolerance=TOLERANCE):
    c, g, q = quadric_of(task, x, 0, 1)
    exact, pairs = quadric_distance(c, g, q), climbed(task, x, [0], 1)
    if np.isinf(exact):
        assert bound(pairs) > 1e3
    else:
        assert bound(pairs) == pytest.approx(exact, rel=tolerance, abs=1e-12)
    return exact


@PROPERTY
@given(SEEDS, st.integers(1, 6), st.sampled_from(NOISES), st.integers(0, 2))
def test_one_quadric_in_few_dimensions(seed, d, noises, latent):
    assert_reaches(*single(seed, d, noises, latent))


@pytest.mark.parametrize("d", [60, 100])
@pytest.mark.parametrize("noises", NOISES)
@pytest.mark.parametrize("latent", [0, 2])
def test_one_quadric_in_many_dimensions(d, noises, latent):
    for seed in range(3):
        task, x = single(seed, d, noises, latent, spread=0.3)
        assert 0 < assert_reaches(task, x) < np.inf


@pytest.mark.parametrize("noises", ["isotropic equal", "isotropic unequal"])
def test_one_quadric_at_the_papers_noise(noises):
    """The dense eigendecomposition of a Hessian of 1e6 times its square loses the digits."""
    for seed in range(3):
        task, x = single(seed, 80, noises, 3, noise_std=1e-3, spread=3e-4)
        assert 0 < assert_reaches(task, x, 1e-7) < np.inf


def precise_distance(task, x):
    """The distance of one quadric in 50 digits: its eigenvectors and bisection of 1/λ."""
    own, target = Precise(task, 0, 0), Precise(task, 1, 0)
    constant = own.joint(x) - target.joint(x)
    gradient = target.pull(x) - own.pull(x)
    values, vectors = mpmath.eigsy(target.precision() - own.precision())
    g = vectors.T * gradient
    terms = [(g[i], values[i]) for i in range(len(x))]

    def value(ratio):
        return constant + sum(
            -(a**2) / (ratio + v) + v * a**2 / (2 * (ratio + v) ** 2) for a, v in terms
        )

    low = max(mpmath.mpf(0), -min(values))
    high = low + 1
    while value(high) < 0:
        high *= 4
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) < 0 else (low, middle)
    return mpmath.sqrt(sum((a / (high + v)) ** 2 for a, v in terms))


@pytest.mark.parametrize("noise_std", [0.4, 1e-2, 1e-3])
@pytest.mark.parametrize("noises", NOISES)
def test_one_quadric_agrees_with_50_digits(noise_std, noises):
    with mpmath.workdps(DIGITS):
        for seed in range(2):
            task, x = single(seed, 3, noises, 1, noise_std=noise_std, spread=2 * noise_std)
            c, g, q = quadric_of(task, x, 0, 1)
            if c <= 0:
                continue
            exact = float(precise_distance(task, x))
            assert quadric_distance(c, g, q) == pytest.approx(exact, rel=1e-9)
            assert bound(climbed(task, x, [0], 1)) == pytest.approx(exact, rel=TOLERANCE)


def test_the_hyperplane_between_equal_covariances():
    task = task_of(plain([0.0, 0.0, 0.0]), plain([3.0, 4.0, 0.0]), priors=[0.9, 0.1])
    pairs = climbed(task, np.zeros(3), [0], 1)
    assert bound(pairs) == pytest.approx(2.5 + np.log(9) / 5, rel=TOLERANCE)
    framed, _ = problem(task, np.zeros(3), [0], 1)
    nearest = framed.displacements(torch.zeros(1, 3).double(), pairs.moves)
    expected = torch.tensor([[0.6, 0.8, 0.0]]).double() * (2.5 + np.log(9) / 5)
    torch.testing.assert_close(nearest, expected, rtol=1e-6, atol=1e-6)


def test_the_hard_case_is_climbed_to_the_edge_of_definiteness():
    """g is orthogonal to the lowest eigenvector: the target reaches up and down, x lies between."""
    task = task_of(plain([0.0, 0.0], 0.01), plain([1.0, 0.0], [0.01, 1.0]))
    c, g, q = quadric_of(task, np.array([-0.3, 0.0]), 0, 1)
    exact = quadric_distance(c, g, q)
    assert np.linalg.norm(g[1]) == 0
    pairs = climbed(task, np.array([-0.3, 0.0]), [0], 1)
    assert bound(pairs) == pytest.approx(exact, rel=1e-6)
    assert bound(pairs) <= exact * (1 + 1e-9)


def test_the_mean_of_both():
    """g = 0, so that Ψ is linear up to the edge of definiteness."""
    task = task_of(plain([0.0, 0.0], [0.01, 0.02]), plain([0.0, 0.0], 1.0))
    c, g, q = quadric_of(task, np.zeros(2), 0, 1)
    assert np.abs(g).max() == 0
    pairs = climbed(task, np.zeros(2), [0], 1)
    assert bound(pairs) == pytest.approx(quadric_distance(c, g, q), rel=1e-6)


def test_a_target_that_never_wins_is_pushed_away_without_end():
    task = task_of(plain([0.0, 0.0], 1.0), plain([0.0, 0.0], 0.5), priors=[0.99, 0.01])
    assert np.isinf(quadric_distance(*quadric_of(task, np.ones(2), 0, 1)))
    assert bound(climbed(task, np.ones(2), [0], 1)) > 1e6


def test_a_point_beyond_has_no_bound():
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    assert bound(climbed(task, np.array([1.5, 0.0]), [0], 1)) == 0


@PROPERTY
@given(SEEDS, st.integers(2, 5), st.sampled_from(NOISES), st.booleans())
def test_with_several_own_components_no_other_multipliers_do_better(seed, d, noises, entropic):
    task = random_task(seed, d, components=3, noises=noises)
    x = task.sample_given(torch.zeros(1, dtype=torch.int64), seed=seed)[0].flatten().numpy()
    # Near the edge of definiteness a climb ends early; the search goes on in rounds.
    pairs = climbed(task, x, [0, 1, 2], 3, entropic=entropic, log_weight=-0.3, climbs=6)
    quadrics = [quadric_of(task, x, own, 3) for own in range(3)]

    def value(multipliers):
        hessian = np.eye(d) + sum(m * q for m, (_, _, q) in zip(multipliers, quadrics, strict=True))
        if np.linalg.eigvalsh(hessian)[0] <= 1e-12:
            return -np.inf
        g = sum(m * g for m, (_, g, _) in zip(multipliers, quadrics, strict=True))
        c = sum(m * (c - 0.3) for m, (c, _, _) in zip(multipliers, quadrics, strict=True))
        if entropic:
            c -= (multipliers * np.log(np.maximum(multipliers / multipliers.sum(), 1e-300))).sum()
        return c - 0.5 * g @ np.linalg.solve(hessian, g)

    found = pairs.multipliers[0].numpy()
    here = float(pairs.value)
    if not here > 1e-6 or here > 1e4:  # nothing to climb to, or no end
        return
    assert value(found) == pytest.approx(here, rel=1e-8)
    random = np.random.default_rng(seed)
    for size in (1e-4, 1e-2, 0.1, 1.0):
        for _ in range(50):
            other = found * np.exp(size * random.normal(size=3))
            other += size * found.sum() * random.dirichlet(np.ones(3)) * random.integers(2)
            assert value(other) <= here * (1 + 1e-3)


@pytest.mark.parametrize("entropic", [False, True])
def test_slope_and_curvature_are_derivatives(entropic):
    task = random_task(0, 4, components=3)
    framed, pairs = problem(task, np.zeros(4), [0, 1, 2], 3)
    at = dual._local(framed, pairs)
    multipliers = torch.tensor([[0.02, 0.01, 0.03]], dtype=torch.float64)
    here, step = dual._dual_value(at, multipliers, entropic), 1e-6
    assert here.legal.all()
    for i in range(3):
        moved = torch.zeros_like(multipliers)
        moved[0, i] = step
        ahead = dual._dual_value(at, multipliers + moved, entropic)
        behind = dual._dual_value(at, multipliers - moved, entropic)
        slope = (ahead.value - behind.value) / (2 * step)
        torch.testing.assert_close(slope, here.slope[:, i], rtol=1e-6, atol=1e-7)
        bend = (ahead.slope - behind.slope) / (2 * step)
        torch.testing.assert_close(-bend, here.curvature[:, i], rtol=1e-5, atol=1e-5)


def test_multipliers_at_which_nothing_is_definite_are_illegal():
    task = task_of(plain([0.0, 0.0], 0.01), plain([1.0, 0.0], 1.0))
    framed, pairs = problem(task, np.zeros(2), [0], 1)
    at = dual._local(framed, pairs)
    edge = 1 / (100.0 - 1.0)
    for share, legal in ((1 + 1e-9, False), (1 - 1e-9, True), (3.0, False), (0.1, True)):
        there = dual._dual_value(at, torch.tensor([[share * edge]], dtype=torch.float64), False)
        assert bool(there.legal) is legal


def test_a_climb_ends_where_it_is_high_enough_and_leaves_unused_places_alone():
    density = gaussians([0.5, 0.5], [[0.0, 0.0], [0.0, 5.0]], np.zeros((2, 2, 1)), np.ones((2, 2)))
    task = task_of(density, plain([4.0, 0.0]))
    framed, pairs = problem(task, np.zeros(2), [0, 1], 2)
    pairs.used[0, 1] = False
    pairs.multipliers[0, 1] = 0.0
    rows, none = torch.zeros(1, dtype=torch.int64), torch.tensor([torch.inf]).double()
    ascend(framed, pairs, rows, entropic=True, enough=none)
    assert pairs.multipliers[0, 1] == 0
    full = float(pairs.value)
    early = climbed(task, np.zeros(2), [0], 2, enough=0.1 * full)
    assert 0.1 * full < float(early.value) <= full * (1 + 1e-9)


def test_chunks_make_no_difference(monkeypatch):
    task = random_task(1, 3, components=2)
    framed, one = problem(task, np.zeros(3), [0, 1], 2)
    many = Pairs(**{name: torch.cat([t] * 7) for name, t in vars(one).items()})
    limit, rows = torch.full((7,), torch.inf).double(), torch.arange(7)
    monkeypatch.setattr(dual, "CHUNK_BYTES", 1)
    ascend(framed, many, rows[1:], entropic=True, enough=limit)
    assert many.value[0] == -torch.inf  # not among the rows
    ascend(framed, one, rows[:1], entropic=True, enough=limit[:1])
    torch.testing.assert_close(many.value[1:], one.value.expand(6), rtol=1e-12, atol=0)


@pytest.mark.parametrize("rule", RULES)
def test_multipliers_are_worth_what_they_are_said_to_be(rule, monkeypatch):
    """Also where more own components hold a point than have a place, so that they take turns."""
    monkeypatch.setattr(search_module, "WIDTH", 2)
    for seed in range(3):
        task = random_task(seed, 5, components=8, latent=1, spread=0.3)
        x, y = task.sample(10, seed=seed)
        classifier = task.bayes_classifier(temperature=1.0, rule=rule)
        decided = classifier(x).argmax(dim=1) == y
        framed = frame(classifier.marginal)
        pairs = search(classifier, framed, x[decided].flatten(1), y[decided]).pairs
        again = pairs[torch.arange(len(pairs.point))]
        ascend(
            framed,
            again,
            torch.arange(len(pairs.point)),
            entropic=rule == "log-sum-exp",
            enough=torch.full_like(pairs.value, -torch.inf),  # one evaluation suffices
        )
        torch.testing.assert_close(again.value, pairs.value, rtol=1e-9, atol=1e-12)
