"""Figure 5: gradient descent against autograd, distances and claims against closed forms."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from bayesgap import files
from bayesgap.experiment.setting import Setting
from bayesgap.paper.engine.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.paper.engine.exhibit import Named
from bayesgap.paper.fig5 import exhibit as fig5
from bayesgap.paper.fig5.training import JITTER, descend, signed_distances
from bayesgap.runs.store import Result
from exhibits import computed, drawn, found_of, replaced, sure


@pytest.fixture(scope="module")
def found():
    return computed(fig5.EXHIBIT)


@pytest.fixture(scope="module")
def results(found):
    return {key.name: result for key, result in found.results.items()}


@pytest.fixture(scope="module")
def section(found):
    return fig5.section(found)


@pytest.fixture(scope="module")
def figure(section):
    (figure,) = drawn(section)
    return figure


def test_descent_is_that_of_autograd():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 20, 2, generator=generator, dtype=torch.float64)
    y = (x[..., 0] > 0).long()
    start = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    found = descend(x, y, start, steps=7, rate=0.5)
    for row in range(3):
        layer = nn.Linear(2, 1).double()
        with torch.no_grad():
            layer.weight.copy_(start[row, :2])
            layer.bias.copy_(start[row, 2])
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
        for _ in range(7):
            optimizer.zero_grad()
            heights = layer(x[row]).squeeze(1)
            nn.functional.binary_cross_entropy_with_logits(heights, y[row].double()).backward()
            optimizer.step()
        expected = torch.cat([layer.weight[0], layer.bias]).detach()
        torch.testing.assert_close(found[row], expected, rtol=1e-10, atol=1e-12)
    assert not torch.equal(start, found)


def test_distances_are_those_to_the_foot_on_the_line():
    parameters = torch.tensor([[3.0, 4.0, 5.0], [0.0, -2.0, 1.0]], dtype=torch.float64)
    x = torch.tensor([[0.0, 0.0], [-3.0, 1.0]], dtype=torch.float64)
    found = signed_distances(parameters, x, torch.tensor([1, 0]))
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.5, 0.5]], atol=1e-15)
    for row, column in ((0, 0), (1, 0), (1, 1)):
        w, b = parameters[row, :2], parameters[row, 2]
        foot = x[column] - (w @ x[column] + b) / (w @ w) * w
        assert (w @ foot + b).abs() < 1e-14
        assert (foot - x[column]).norm() == pytest.approx(abs(found[row, column].item()))


def test_points_that_are_decided_wrongly_have_negative_distances():
    parameters = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    assert signed_distances(parameters, x, torch.tensor([0])) == -2


def test_the_symmetric_optimum_lies_half_way(results):
    tensors = results["symmetric"].tensors
    expected = tensors["x"][:, 0].abs()
    good = ~tensors["lower"].isnan()
    torch.testing.assert_close(tensors["lower"][good], expected[good], rtol=1e-6, atol=0)


def test_the_weight_across_stays_where_it_started(results):
    for name, start in fig5.STARTS.items():
        begin, end = (results[name].tensors[key] for key in ("start", "parameters"))
        torch.testing.assert_close(end[:, 1], begin[:, 1], rtol=0.01, atol=1.0)
        assert ((begin[:, 1].abs() - start).abs() < 5 * JITTER).all()
        assert (end[:, 0] > 5).all()


def test_either_half_is_reproduced(found):
    data, learning = fig5.claims(found)
    assert (data.verdict, learning.verdict) == (REPRODUCED, REPRODUCED)
    assert learning.numbers[-1].trainings == 5
    assert sure(fig5.relative(found, "good"))[0] > 0.95
    assert "1.00" in learning.remarks[0]


def test_the_claims_can_fail(found, results):
    data = fig5.brittle_data(replaced(found, {"asymmetric": results["symmetric"]}))
    assert data.verdict == NOT_REPRODUCED
    learning = fig5.brittle_learning(replaced(found, {"bad": results["good"]}))
    assert learning.verdict == NOT_REPRODUCED


def test_one_training_decides_nothing(found, results):
    bad = results["bad"]
    tensors = {name: tensor[:1] for name, tensor in bad.tensors.items()}
    one = dataclasses.replace(
        bad, tensors=tensors, values={**bad.values, "correct": bad.values["correct"][:1]}
    )
    assert fig5.brittle_learning(replaced(found, {"bad": one})).verdict == NOT_DECIDED


POINTS = 40  # of each class


def data(first, *, second=1.0):
    """Made-up radii of the optimum, class 1's between two numbers and class 2's all the same."""
    own = torch.linspace(first[0], first[1], POINTS, dtype=torch.float64)
    radii = torch.cat([own, torch.full((POINTS,), second, dtype=torch.float64)])
    y = torch.arange(2).repeat_interleave(POINTS)
    return Result({"y": y, "lower": radii, "upper": radii})


def learned(distances, correct):
    """Made-up distances to learned boundaries, the same at all points, and counts of 1,000."""
    table = torch.tensor(distances, dtype=torch.float64)[:, None].expand(-1, 2 * POINTS)
    parameters = torch.zeros(len(table), 3, dtype=torch.float64)
    return Result(
        {"distance": table.contiguous(), "parameters": parameters},
        {"images": 1_000, "correct": correct},
    )


@pytest.mark.parametrize(
    ("first", "verdict"),
    [
        ((0.01, 0.05), REPRODUCED),
        ((0.3, 0.5), NOT_REPRODUCED),
        ((0.0, 0.2), NOT_DECIDED),
    ],
)
def test_brittle_data_are_judged_by_the_first_class(first, verdict):
    results = {"asymmetric": data(first, second=9.0), "symmetric": data((1, 1), second=0.001)}
    assert fig5.brittle_data(found_of(results)).verdict == verdict


@pytest.mark.parametrize(
    ("optimum", "correct", "distances", "verdict"),
    [
        (0.4, [1_000, 999, 998], [0.04, 0.05, 0.06], REPRODUCED),
        (0.2, [1_000, 999, 998], [0.04, 0.05, 0.06], NOT_REPRODUCED),  # the optimum is brittle
        (0.25, [1_000, 999, 998], [0.04, 0.05, 0.06], NOT_DECIDED),
        (0.4, [950, 951, 949], [0.04, 0.05, 0.06], NOT_REPRODUCED),  # has not learned
        (0.4, [990, 989, 991], [0.04, 0.05, 0.06], NOT_DECIDED),
        (0.4, [1_000, 999, 998], [0.31, 0.32, 0.33], NOT_REPRODUCED),  # as robust
        (0.4, [1_000, 999, 998], [0.1, 0.2, 0.3], NOT_DECIDED),
    ],
)
def test_brittle_learning_is_judged_by_optimum_accuracy_and_distance(
    optimum, correct, distances, verdict
):
    symmetric = data((0.9 * optimum, 1.1 * optimum), second=optimum)
    good = learned([optimum] * 3, [1_000] * 3)
    found = found_of({"symmetric": symmetric, "bad": learned(distances, correct), "good": good})
    claim = fig5.brittle_learning(found)
    assert claim.verdict == verdict
    assert "reaches 1.00 of the optimum's mean radius" in claim.remarks[0]


def test_what_never_learned_gives_no_remark():
    never = learned([np.nan] * 3, [0] * 3)
    found = found_of({"symmetric": data((0.4, 0.5)), "bad": never, "good": never})
    assert fig5.brittle_learning(found).remarks == []


def test_results_can_be_stored_and_follow_from_the_seed(found, results):
    for result in results.values():
        files.dump(result.values)
    again, other = computed(fig5.EXHIBIT), computed(fig5.EXHIBIT, Setting("quick", 1, {}))
    for name in fig5.STARTS:
        first = results[name].tensors["parameters"]
        assert torch.equal(first, again[Named(name)].tensors["parameters"])
        assert not torch.equal(first, other[Named(name)].tensors["parameters"])
        assert len(first.unique(dim=0)) == len(first)


def test_the_picture_shows_every_boundary_where_it_is(figure, results):
    right = figure.axes[1]
    parameters = torch.cat([results[start].tensors["parameters"] for start in ("bad", "good")])
    assert len(right.get_lines()) == len(parameters)
    for drawn_line, (x, y, bias) in zip(right.get_lines(), parameters.tolist(), strict=True):
        xs, ys = drawn_line.get_data()
        np.testing.assert_allclose((x * xs + y * ys + bias) / np.hypot(x, y), 0, atol=1e-9)
        assert np.hypot(*np.diff([xs, ys], axis=1).ravel()) > 4
    regions = figure.axes[0].get_images()[0].get_array()
    middle, far = regions[180, 240], regions[100, 240]  # upon class 1, and beside it
    assert (middle, far) == (0, 1)
    assert len(figure.axes[2].get_lines()) == 5


def test_the_text_states_what_the_table_does(found, section):
    (table,) = section.tables
    for row in table.rows:
        value = float(row[-1].partition(" ")[0])
        assert value == pytest.approx(fig5.relative(found, row[0]).value, rel=1e-3)
        assert row[-1] in section.text[1]
