"""Figure 5: gradient descent against autograd, distances and claims against closed forms."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from bayesgap import files
from bayesgap.paper import fig5
from bayesgap.paper.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.paper.exhibit import Setting

SETTING = Setting("quick", 0, {})


def computed(seed=0):
    stages = fig5.stages(dataclasses.replace(SETTING, seed=seed))
    found = {}
    for name, stage in stages.items():
        inputs = {"data": found["symmetric"]} if stage.inputs else {}
        found[name] = stage.function(**inputs, **stage.settings, seed=stage.seed)
    return found


@pytest.fixture(scope="module")
def found():
    return computed()


def test_descent_is_that_of_autograd():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 20, 2, generator=generator, dtype=torch.float64)
    y = (x[..., 0] > 0).long()
    start = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    found = fig5.descend(x, y, start, steps=7, rate=0.5)
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
    found = fig5.signed_distances(parameters, x, torch.tensor([1, 0]))
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.5, 0.5]], atol=1e-15)
    for row, column in ((0, 0), (1, 0), (1, 1)):
        w, b = parameters[row, :2], parameters[row, 2]
        foot = x[column] - (w @ x[column] + b) / (w @ w) * w
        assert (w @ foot + b).abs() < 1e-14
        assert (foot - x[column]).norm() == pytest.approx(abs(found[row, column].item()))


def test_points_that_are_decided_wrongly_have_negative_distances():
    parameters = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    assert fig5.signed_distances(parameters, x, torch.tensor([0])) == -2


def test_the_symmetric_optimum_lies_half_way(found):
    tensors = found["symmetric"].tensors
    expected = tensors["x"][:, 0].abs()
    good = ~tensors["lower"].isnan()
    torch.testing.assert_close(tensors["lower"][good], expected[good], rtol=1e-6, atol=0)


def test_the_weight_across_stays_where_it_started(found):
    for name, start in fig5.STARTS.items():
        begin, end = (found[name].tensors[key] for key in ("start", "parameters"))
        torch.testing.assert_close(end[:, 1], begin[:, 1], rtol=0.01, atol=1.0)
        assert ((begin[:, 1].abs() - start).abs() < 5 * fig5.JITTER).all()
        assert (end[:, 0] > 5).all()


def test_either_half_is_reproduced(found):
    data, learning = fig5.claims(found)
    assert (data.verdict, learning.verdict) == (REPRODUCED, REPRODUCED)
    assert learning.numbers[-1].trainings == 5
    assert fig5.relative(found, "good")[0] > 0.95
    assert "1.00" in learning.remarks[0]


def test_the_claims_can_fail(found):
    data, _ = fig5.claims({**found, "asymmetric": found["symmetric"]})
    assert data.verdict == NOT_REPRODUCED
    _, learning = fig5.claims({**found, "bad": found["good"]})
    assert learning.verdict == NOT_REPRODUCED


def test_one_training_decides_nothing(found):
    bad = found["bad"]
    tensors = {name: tensor[:1] for name, tensor in bad.tensors.items()}
    one = dataclasses.replace(
        bad, tensors=tensors, values={**bad.values, "correct": bad.values["correct"][:1]}
    )
    assert fig5.claims({**found, "bad": one})[1].verdict == NOT_DECIDED


def test_results_can_be_stored_and_follow_from_the_seed(found):
    for result in found.values():
        files.dump(result.values)
    again, other = computed(), computed(seed=1)
    for name in fig5.STARTS:
        first = found[name].tensors["parameters"]
        assert torch.equal(first, again[name].tensors["parameters"])
        assert not torch.equal(first, other[name].tensors["parameters"])
        assert len(first.unique(dim=0)) == len(first)
