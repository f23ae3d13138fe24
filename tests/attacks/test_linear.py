import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import nn

from bayesgap.attacks.linear import LinearClosedForm
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import RBFSVM, LinearSVM
from bayesgap.errors import BayesgapError
from toys import SEEDS, normal, property_settings, uniform


@given(st.integers(**SEEDS), st.integers(1, 30))
@property_settings(60)
def test_for_two_classes_the_distance_is_that_to_the_hyperplane(seed, d):
    weight, bias, x = normal(seed, 1, d), normal(seed + 1, 1), normal(seed + 2, 9, 1, 1, d)
    machine = LinearSVM(weight, bias)
    found = LinearClosedForm()(machine, x, decisions(machine, x))
    w, b, z = weight[0].numpy(), bias.item(), x.flatten(1).numpy()
    expected = np.abs(z @ w + b) / np.linalg.norm(w)
    assert found.success.all()
    np.testing.assert_allclose(found.sizes.numpy(), expected, rtol=2e-9, atol=1e-12)
    assert (found.sizes.numpy() >= expected * (1 - 1e-12)).all()


def nearest_by_quadratic_programs(machine, x, y):
    """min ‖z − x‖ subject to f_k(z) ≥ f_y(z), over the other classes k, by SLSQP."""
    weight, bias = machine.weight.numpy(), machine.bias.numpy()
    distances = []
    for k in set(range(len(bias))) - {y}:
        slope, offset = weight[k] - weight[y], bias[k] - bias[y]
        solved = minimize(
            lambda z: ((z - x) ** 2).sum(),
            x,
            jac=lambda z: 2 * (z - x),
            constraints={
                "type": "ineq",
                "fun": lambda z, slope=slope, offset=offset: slope @ z + offset,
                "jac": lambda z, slope=slope: slope,
            },
            options={"ftol": 1e-12},
        )
        assert solved.success
        distances.append(np.linalg.norm(solved.x - x))
    return min(distances)


@given(st.integers(**SEEDS), st.integers(2, 4), st.integers(3, 4))
@property_settings(15)
def test_for_more_classes_the_distance_is_the_least_over_the_other_classes(seed, d, classes):
    machine = LinearSVM(normal(seed, classes, d), normal(seed + 1, classes))
    x = normal(seed + 2, 4, 1, 1, d)
    y = decisions(machine, x)
    found = LinearClosedForm()(machine, x, y)
    assert found.success.all()
    for i in range(4):
        expected = nearest_by_quadratic_programs(machine, x[i].flatten().numpy(), y[i].item())
        # SLSQP stops where the squared distance changes by less than 1e-12.
        assert found.sizes[i].item() == pytest.approx(expected, rel=1e-6, abs=2e-6)


def test_a_class_that_can_never_win_from_here_is_passed_over():
    weight = torch.tensor([[1.0, 0], [1.0, 0], [-1.0, 0]])  # classes 0 and 1 are parallel
    machine = LinearSVM(weight, torch.tensor([0.0, -1, 0]))
    x = torch.tensor([[[[2.0, 5.0]]]]).double()
    found = LinearClosedForm()(machine, x, torch.tensor([0]))
    assert found.sizes.item() == pytest.approx(2.0, rel=2e-9)
    assert decisions(machine, found.images).tolist() == [2]


def test_a_machine_that_never_changes_its_decision_is_an_honest_failure():
    machine = LinearSVM(torch.zeros(1, 2), torch.tensor([1.0]))
    found = LinearClosedForm()(machine, torch.zeros(2, 1, 1, 2), torch.tensor([1, 1]))
    assert found.sizes.tolist() == [np.inf, np.inf]


@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
def test_every_decision_flips_however_near_the_hyperplane_is(distance):
    weight, bias = normal(1, 1, 64), torch.tensor([-0.3])
    machine = LinearSVM(weight, bias)
    x = uniform(2, 40, 64)
    unit = weight[0] / weight[0].norm()
    signed = (x @ weight[0] + machine.bias) / weight[0].norm()
    x = (x + (distance - signed)[:, None] * unit).reshape(-1, 1, 8, 8)
    found = LinearClosedForm()(machine, x, decisions(machine, x))
    assert found.success.all()
    # x itself is known to 1e-15 or so along the normal.
    np.testing.assert_allclose(found.sizes.numpy(), distance, rtol=2e-9, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_linear_networks_are_served_within_the_rounding_of_their_dtype(dtype, classes, bias):
    layer = nn.Linear(64, classes)
    network = nn.Sequential(nn.Flatten(), layer)
    layer.weight.data = normal(1, classes, 64).to(dtype)
    layer.bias.data = (bias + normal(2, classes)).to(dtype)
    x = uniform(3, 200, 64).reshape(-1, 1, 8, 8).to(dtype)
    y = decisions(network, x)
    found = LinearClosedForm()(network, x, y)
    assert found.success.all()
    weight, offset = layer.weight.detach().double(), layer.bias.detach().double()
    scores = (x.double().flatten(1) @ weight.mT + offset).numpy()
    for i in range(len(x)):
        k = int(y[i])
        others = [j for j in range(classes) if j != k]
        exact = min(
            (scores[i, k] - scores[i, j]) / (weight[k] - weight[j]).norm().item() for j in others
        )
        rounding = 16 * torch.finfo(dtype).eps * (x[i].norm().item() + 2)
        assert exact <= found.sizes[i].item() <= exact * (1 + 2e-9) + 2 * rounding
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    "other",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Tanh()),
        RBFSVM(torch.zeros(1, 4), torch.zeros(1, 1), torch.zeros(1), 1.0),
    ],
)
def test_another_classifier_is_refused(other):
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(BayesgapError, match="for linear classifiers alone"):
        LinearClosedForm()(other, x, decisions(other, x))
