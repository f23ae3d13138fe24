import pytest
import torch
from torch import nn

from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.score_walk import ScoreWalk
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from toys import Function, normal, uniform


def linear(d):
    return LinearSVM(normal(0, 1, d), normal(1, 1))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_logits_does_not_matter(scale):
    machine, x = linear(16), normal(2, 10, 1, 4, 4)
    y = decisions(machine, x)
    attack = ScoreWalk(normal(3, 30, 1, 4, 4), queries=800)
    scaled = LinearSVM(scale * machine.weight, scale * machine.bias)
    plain, found = attack(machine, x, y), attack(scaled, x, y)
    torch.testing.assert_close(found.sizes, plain.sizes, rtol=1e-6, atol=0)


@pytest.mark.parametrize("levels", [255, 15])
def test_rounding_of_the_images_does_not_hide_the_boundary(levels):
    machine, x = linear(64), uniform(2, 15, 1, 8, 8)
    rounded = Function(lambda x: machine((levels * x).round() / levels))
    y = decisions(rounded, x)
    expected = (2 * machine(x)[:, 1]).abs() / machine.weight.norm()
    found = ScoreWalk(uniform(3, 60, 1, 8, 8), queries=3_000)(rounded, x, y)
    assert found.success.all()
    # Rounding moves every image by half a level of each pixel at most.
    slack = 0.5 / levels * machine.weight.abs().sum() / machine.weight.norm()
    assert (found.sizes <= 1.01 * expected + slack).all()
    assert found.sizes.mean() <= 1.03 * expected.mean()


def test_a_layer_without_a_gradient_is_walked_like_the_network_without_it():
    class Blind(nn.Module):
        def forward(self, x):
            return x.detach()

    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3)).double()
    for seed, parameter in enumerate(network.parameters()):
        parameter.data = normal(seed, *parameter.shape)
    x, pool = normal(9, 15, 1, 4, 4), normal(10, 60, 1, 4, 4)
    y = decisions(network, x)
    with_gradients = BoundaryWalk(pool, samples=5)(network, x, y)
    found = ScoreWalk(pool, queries=3_000)(nn.Sequential(Blind(), network), x, y)
    assert found.success.all()
    assert found.sizes.mean() <= 1.03 * with_gradients.sizes.mean()
