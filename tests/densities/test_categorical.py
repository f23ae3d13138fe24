import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from bayesgap.densities.categorical import (
    UNDECIDED,
    Categorical,
    distance_to,
    table_decisions,
    table_radius,
)
from bayesgap.errors import BayesgapError
from strategies import PROPERTY, SEEDS, seeded, uniform, without_shape_checks

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=3)
STEPS = (1.0, 0.1, 1 / 255, 1e-6, 300.0)


def random_tables(seed, levels, classes=2, zeros=0.3, repeats=0.3):
    """Tables with zeros, some of them where all classes have one, and with equal probabilities."""
    generator = seeded(seed)
    steps = [STEPS[int(i)] for i in torch.randint(len(STEPS), (len(levels),), generator=generator)]
    rough = uniform(generator, classes, *levels)
    rough = torch.where(uniform(generator, classes, *levels) < zeros, 0.0, rough)
    rough = torch.where(uniform(generator, *levels) < zeros / 2, 0.0, rough)
    rough = torch.where(uniform(generator, *levels) < repeats, rough[:1], rough)
    corner: tuple[slice | int, ...] = (slice(None), *[0] * len(levels))
    rough[corner] += 0.5  # or all might be 0
    totals = rough.flatten(1).sum(dim=1)
    return [
        Categorical(table / total, steps=steps) for table, total in zip(rough, totals, strict=True)
    ]


def brute_decisions(densities, priors):
    decided = {}
    for cell in itertools.product(*map(range, densities[0].levels)):
        joints = [p * d.table[cell].item() for d, p in zip(densities, priors, strict=True)]
        decided[cell] = joints.index(max(joints)) if max(joints) > 0 else UNDECIDED
    return decided


def brute_radius(decided, steps):
    """By comparing each cell with every other."""
    radius = {}
    for cell, own in decided.items():
        others = [c for c, label in decided.items() if label not in (own, UNDECIDED)]
        found = [np.linalg.norm((np.array(c) - cell) * steps) for c in others]
        radius[cell] = np.nan if own == UNDECIDED else min(found, default=np.inf)
    return radius


def as_array(by_cell, levels):
    return np.array([by_cell[cell] for cell in itertools.product(*map(range, levels))]).reshape(
        levels
    )


# The density.


@PROPERTY
@given(SEEDS, SHAPES)
def test_log_prob_is_the_logarithm_of_the_table(seed, levels):
    density, _ = random_tables(seed, levels)
    cells = torch.tensor(list(itertools.product(*map(range, levels))))
    found = density.log_prob(cells)
    assert torch.equal(found.exp() > 0, density.table.flatten() > 0)
    torch.testing.assert_close(found.exp(), density.table.flatten(), rtol=1e-14, atol=0)
    assert abs(found.exp().sum() - 1) < 1e-14


def test_a_point_has_one_value_for_each_feature():
    density, _ = random_tables(3, (4, 3, 2))
    assert density.dimension == density.features == 3


def test_samples_follow_the_table():
    density, _ = random_tables(3, (4, 3, 2))
    n = 20_000
    cells = density.sample(n, generator=seeded(0))
    assert cells.shape == (n, 3)
    assert cells.dtype == torch.int64
    flat = np.ravel_multi_index(tuple(cells.T.numpy()), density.levels)
    counts = np.bincount(flat, minlength=24)
    expected = n * density.table.flatten().numpy()
    possible = expected > 0
    assert 0 < possible.sum() < 24
    assert counts[~possible].sum() == 0
    assert stats.chisquare(counts[possible], expected[possible]).pvalue > 1e-3


def test_samples_depend_on_the_generator_alone():
    density, _ = random_tables(3, (4, 3))
    first, again = (density.sample(50, generator=seeded(5)) for _ in range(2))
    other = density.sample(50, generator=seeded(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert density.sample(0, generator=seeded(5)).shape == (0, 2)


def test_the_last_cells_are_never_drawn_when_impossible():
    density = Categorical(torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0, 0.0]))
    drawn = density.sample(5_000, generator=seeded(0)).flatten()
    assert set(drawn.tolist()) == {1, 3}


def test_a_number_on_the_edge_of_two_cells_draws_none_that_is_impossible(monkeypatch):
    density = Categorical(torch.tensor([0.0, 0.5, 0.0, 0.5]))
    edges = torch.tensor([0.0, 0.5], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: edges)
    assert density.sample(2, generator=seeded(0)).flatten().tolist() == [1, 3]


def test_tables_are_normalised_and_copied():
    table = torch.tensor([0.2, 0.3, 0.5 + 4e-6])
    density = Categorical(table)
    table[0] = 9.0
    assert density.table.dtype == torch.float64
    assert abs(density.table.sum() - 1) < 1e-15
    assert density.log_prob(torch.tensor([[0]])).exp().item() == pytest.approx(0.2, rel=1e-5)


def test_repr_tells_levels_and_steps():
    assert "levels=(2, 1), steps=[1.0, 0.5]" in repr(
        Categorical(torch.tensor([[0.5], [0.5]]), steps=[1.0, 0.5])
    )


@pytest.mark.parametrize(
    ("table", "steps", "message"),
    [
        (torch.tensor(1.0), None, "one axis for each feature"),
        (torch.zeros(0, 3), None, r"shape \(0, 3\)"),
        (torch.tensor([0.5, 0.6]), None, "sum to 1.1"),
        (torch.tensor([1.5, -0.5]), None, "not negative; one of them is -0.5"),
        (torch.tensor([1.0, torch.nan]), None, "finite and not negative; one of them is nan"),
        (torch.tensor([0.5, 0.5]), [1.0, 1.0], "1 features needs 1 steps; got 2"),
        (torch.tensor([0.5, 0.5]), [0.0], r"positive; got \[0.0\]"),
        (torch.tensor([0.5, 0.5]), [float("inf")], r"finite and positive; got \[inf\]"),
    ],
)
def test_what_is_no_table_is_refused(table, steps, message):
    with pytest.raises(BayesgapError, match=message):
        Categorical(table, steps=steps)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (torch.tensor([[0, 1], [2, 0]]), r"\[2, 0\] is not in a table of 2 × 2"),
        (torch.tensor([[0, -1]]), r"\[0, -1\]"),
        (torch.tensor([[0]]), r"of shape \(n, 2\); got torch.int64 of shape \(1, 1\)"),
        (torch.tensor([[0.0, 1.0]]), "got torch.float32"),
    ],
)
def test_what_is_no_cell_is_refused(cells, message):
    density = Categorical(torch.full((2, 2), 0.25))
    with without_shape_checks(), pytest.raises(BayesgapError, match=message):
        density.log_prob(cells)


def test_a_number_of_samples_is_checked():
    with without_shape_checks(), pytest.raises(BayesgapError, match="0 or more; got -1"):
        Categorical(torch.ones(1)).sample(-1, generator=seeded(0))


# Decisions and radii.


@PROPERTY
@given(SEEDS, SHAPES, st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_decisions_and_radii_are_those_of_comparing_all_cells(seed, levels, priors):
    densities = random_tables(seed, levels, classes=len(priors))
    steps = densities[0].steps.numpy()
    priors = [prior / sum(priors) for prior in priors]
    # Relative to the largest: the same rounding of products, and the same ties, as in the code.
    decided = brute_decisions(densities, [prior / max(priors) for prior in priors])
    found = table_decisions(densities, priors).numpy()
    np.testing.assert_array_equal(found, as_array(decided, levels))
    radius = table_radius(densities, priors).numpy()
    np.testing.assert_allclose(radius, as_array(brute_radius(decided, steps), levels), rtol=1e-14)


@PROPERTY
@given(SEEDS, st.lists(st.integers(2, 25), min_size=2, max_size=3))
def test_distances_are_those_of_scipy(seed, levels):
    generator = seeded(seed)
    marked = uniform(generator, *levels) < 0.1
    marked[*[0] * len(levels)] = True  # scipy's are undefined where nothing is marked
    steps = (0.2 + uniform(generator, len(levels))).tolist()
    expected = ndimage.distance_transform_edt(~marked.numpy(), sampling=steps)
    np.testing.assert_allclose(distance_to(marked, steps).numpy(), expected, rtol=1e-13)


def test_steps_are_not_rounded_to_single_precision():
    marked = torch.tensor([True, False])
    assert distance_to(marked, [0.1])[1].item() == 0.1


@PROPERTY
@given(SEEDS, SHAPES)
def test_no_radius_is_below_a_step_and_every_one_is_a_distance_between_cells(seed, levels):
    densities = random_tables(seed, levels)
    radius = table_radius(densities)
    steps = densities[0].steps
    longer = steps[torch.tensor(levels) > 1]
    finite = radius[radius.isfinite()]
    if len(finite):
        assert (finite >= longer.min()).all()
        extent = ((torch.tensor(levels) - 1) * steps).norm()
        assert (finite <= extent * (1 + 1e-15)).all()


@PROPERTY
@given(SEEDS, SHAPES)
def test_swapping_classes_changes_no_radius(seed, levels):
    one, other = random_tables(seed, levels, repeats=0.0)
    np.testing.assert_array_equal(table_radius([one, other]), table_radius([other, one]))


@PROPERTY
@given(SEEDS, SHAPES, st.sampled_from([0.125, 4.0]))
def test_scaling_the_steps_scales_the_radii(seed, levels, factor):
    densities = random_tables(seed, levels)
    scaled = [Categorical(d.table, steps=(factor * d.steps).tolist()) for d in densities]
    np.testing.assert_array_equal(table_radius(scaled), factor * table_radius(densities))


@PROPERTY
@given(SEEDS, SHAPES)
def test_a_third_class_can_only_bring_the_boundary_nearer_to_cells_that_keep_theirs(seed, levels):
    densities = random_tables(seed, levels, classes=3)
    two, three = table_decisions(densities[:2]), table_decisions(densities)
    kept = (two == three) & (two != UNDECIDED)
    before, after = table_radius(densities[:2]), table_radius(densities)
    assert (after[kept] <= before[kept]).all()


def test_what_nobody_can_produce_is_decided_by_nobody():
    one = Categorical(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    other = Categorical(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert table_decisions([one, other]).tolist() == [0, UNDECIDED, UNDECIDED, 1]
    assert table_radius([one, other]).nan_to_num(-1).tolist() == [3, -1, -1, 3]


def test_where_all_is_decided_alike_no_move_changes_it():
    one, other = (Categorical(torch.tensor(t)) for t in ([0.6, 0.4, 0.0], [0.3, 0.2, 0.5]))
    assert table_decisions([one, other], [0.9, 0.1]).tolist() == [0, 0, 1]
    assert table_decisions([one, one]).tolist() == [0, 0, UNDECIDED]
    assert table_radius([one, one])[:2].isinf().all()


def test_equal_probabilities_go_to_the_first_class_whatever_the_rounding_of_equal_priors():
    tables = [Categorical(torch.tensor([0.1, 0.9])) for _ in range(3)]
    assert table_decisions(tables).tolist() == [0, 0]


def test_the_smallest_probabilities_count():
    least = torch.tensor([5e-324, 1.0], dtype=torch.float64)
    one, other = Categorical(least), Categorical(torch.tensor([0.0, 1.0]))
    assert table_decisions([one, other]).tolist() == [0, 0]
    assert table_decisions([other, one]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("densities", "priors", "message"),
    [
        ([[1.0]], None, "2 or more tables; got 1"),
        ([[1.0], [0.5, 0.5]], None, r"levels \(1,\) with steps \[1.0\], another \(2,\)"),
        ([[1.0], [1.0]], [1.0], "2 tables came with 1 priors"),
        ([[1.0], [1.0]], [1.5, -0.5], r"positive and sum to 1; got \[1.5, -0.5\]"),
        ([[1.0], [1.0]], [0.5, 0.6], "sum to 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(densities, priors, message):
    tables = [Categorical(torch.tensor(table)) for table in densities]
    for function in (table_decisions, table_radius):
        with pytest.raises(BayesgapError, match=message):
            function(tables, priors)


def test_tables_with_other_steps_are_refused():
    tables = [Categorical(torch.ones(1), steps=[step]) for step in (1.0, 2.0)]
    with pytest.raises(BayesgapError, match=r"steps \[1.0\], another \(1,\) with steps \[2.0\]"):
        table_radius(tables)


# Edits and precision.


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda table: table.mul_(2), "must sum to 1; they sum to 2"),
        (lambda table: table.neg_(), "finite and not negative; one of them is -0.5"),
    ],
)
def test_a_table_that_was_edited_into_none_is_refused(edit, said):
    density = Categorical(torch.tensor([0.5, 0.5]))
    edit(density.table)
    uses = [
        lambda: density.log_prob(torch.tensor([[0]])),
        lambda: density.sample(3, generator=torch.Generator()),
        lambda: table_decisions([density, density]),
    ]
    for use in uses:
        with pytest.raises(BayesgapError, match=said):
            use()


def test_a_table_in_half_precision_is_refused():
    density = Categorical(torch.tensor([0.5, 0.5]))
    with pytest.raises(BayesgapError, match=r"A Categorical computes in .* not in torch\.float16"):
        density.half()
    assert density.float().table.dtype == torch.float32
