import json
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.ld_grad import LDGrad
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.doubts import DoubtWarning
from bayesgap.evaluation.evaluate import evaluate
from bayesgap.evaluation.measure import summarise
from bayesgap.evaluation.record import NO_CERTIFICATE
from bayesgap.tasks.task import Task
from linf import LINF
from strategies import without_shape_checks
from toys import (
    Function,
    Laplace,
    Returns,
    StudentT,
    normal,
    present,
    spherical_radius,
    spherical_task,
)

# What these are about is not doubted in them; tests/evaluation/test_doubts.py is about doubts.
pytestmark = pytest.mark.filterwarnings("ignore::bayesgap.evaluation.doubts.DoubtWarning")

MEANS, VARIANCE, PRIORS = np.array([[0.0, 0, 0], [1, 1, 0]]), 0.25, (0.5, 0.5)


def task():
    return spherical_task(MEANS, VARIANCE)


def test_the_optimum_of_two_spheres_needs_its_distance_to_the_plane_between():
    known = task()
    found = evaluate(known.bayes_classifier(), known, per_class=40, seed=3)
    y = torch.arange(2).repeat(40)
    x, _ = known.sample_given(y, seed=3)
    radius = spherical_radius(x, y, MEANS, VARIANCE, PRIORS)
    assert found.best.clean_accuracy == (radius > 0).mean() < 1
    assert found.best.success_rate == 1
    # Bisection ends within 1e-12 of the boundary, and a step beyond.
    mean, low, high = present(found.best.mean)
    assert mean == pytest.approx(radius[radius > 0].mean(), rel=1e-9)
    assert low < mean < high
    np.testing.assert_allclose(found.nearest.sizes, np.abs(radius), rtol=1e-8)


def test_the_best_is_the_nearest_of_all_attacks():
    known = task()
    far = Returns(lambda x: 100 - x)
    found = evaluate(known.bayes_classifier(), known, attacks=["ld-grad", far], per_class=10)
    assert list(found.attacks) == ["ld-grad", "returns"]
    means = {name: present(each.mean).value for name, each in found.attacks.items()}
    assert present(found.best.mean).value <= min(means.values())
    assert means["returns"] > 50


@pytest.mark.parametrize("attacks", ["ld-grad", LDGrad(), ["ld-grad"]])
def test_one_attack_needs_no_list(attacks):
    known = task()
    found = evaluate(known.bayes_classifier(), known, attacks=attacks, per_class=5)
    assert list(found.outcomes) == ["ld-grad"]


def test_the_same_seed_gives_the_same_numbers():
    known = task()
    first, again, other = (
        evaluate(known.bayes_classifier(), known, per_class=5, seed=seed).best for seed in (1, 1, 2)
    )
    assert first == again != other


def test_what_was_not_broken_has_no_mean():
    known = task()
    with pytest.warns(DoubtWarning, match="points withstood: 10 of the correctly decided points"):
        found = evaluate(known.bayes_classifier(), known, attacks=Returns(lambda x: x), per_class=5)
    assert found.best.success_rate == 0
    assert found.best.mean.value is None
    assert found.best.unbroken == round(10 * present(found.best.clean_accuracy))


def test_a_network_is_left_in_its_mode_and_its_summary_is_short():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2), nn.Dropout()).train()
    found = evaluate(network, task(), per_class=5)
    assert all(module.training for module in network.modules())
    assert "tensor" not in repr(found)


def test_a_function_can_be_an_attack():
    known = task()

    def away(net, x, y):
        return 10 - x

    with pytest.warns(DoubtWarning, match='such as "closest"'):
        found = evaluate(known.bayes_classifier(), known, attacks=away, per_class=5)
    assert 0 < present(found.attacks["away"].success_rate) < 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "mnist-0-6/symmetric"}, "A task is needed, .* got a str"),
        ({"classifier": "resnet"}, "this is a str"),
        ({"seed": None}, "seed must be an integer, 0 to 9223372036854775807; got None"),
        ({"seed": 2**63}, "0 to 9223372036854775807; got 9223372036854775808"),
        ({"seed": 2**64 - 1}, "got 18446744073709551615"),
        ({"seed": 2**64}, "got 18446744073709551616"),
        ({"seed": -1}, "got -1"),
        ({"box": (1.0, 0.0)}, "A box is a smallest and a larger pixel value"),
        ({"box": (0.0, math.nan)}, r"both finite; got \(0.0, nan\)"),
        ({"box": (0.0, math.inf)}, r"both finite; got \(0.0, inf\)"),
        ({"box": 1}, "both finite; got 1"),
        ({"box": "01"}, "both finite; got '01'"),
        ({"box": torch.zeros(3)}, r"both finite; got tensor"),
        ({"certificates": "no"}, "certificates=True, or not by False; got 'no'"),
        ({"certificates": 1}, "got 1"),
        ({"doubts": ["full"]}, r"got \['full'\]"),
        ({"points": (np.zeros((2, 1, 1, 3), np.uint8), [0, 1])}, "such as x / 255; got uint8"),
        ({"points": (torch.zeros(2, 1, 1, 3), [0.0, 1.0])}, "a torch tensor; got a list"),
        ({"points": (torch.zeros(2, 1, 1, 3), ["0", "1"])}, "a torch tensor; got a list"),
        ({"points": (torch.zeros(2, 1, 1, 3), np.array([0.0, 1.0]))}, "integers; got float64"),
        ({"points": (torch.zeros(2, 1, 1, 3), torch.zeros(2) + 0j)}, "a torch.complex64 tensor"),
        ({"points": (torch.zeros(2, 1, 1, 3).to_sparse(), [0, 1])}, "a torch.sparse_coo tensor"),
        ({"points": (torch.zeros(2, 1, 1, 3, device="meta"), [0, 1])}, "on the device meta"),
        ({"doubts": "none"}, 'looked for "full" or "quick"; got .none.'),
        ({"points": (torch.zeros(0, 1, 1, 3), torch.zeros(0).long())}, "no points to attack"),
        ({"points": 5}, "Points are images and their labels"),
        ({"classifier": Function(lambda x: x.flatten(1))}, "gives 3 values .* are 2 classes"),
        ({"attacks": []}, "At least one attack"),
        ({"attacks": ["nosuch"]}, "no attack 'nosuch'"),
        ({"attacks": [LDGrad]}, r"the class itself is none, LDGrad\(…\) is"),
        ({"attacks": [LDGrad(), LDGrad(4)]}, "different names; got ld-grad, ld-grad"),
        ({"per_class": 0}, "points a class must be an integer, 1 or more; got 0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(changes, said):
    known = task()
    arguments = {"classifier": known.bayes_classifier(), "task": known, "per_class": 2, **changes}
    with without_shape_checks(), pytest.raises(BayesgapError, match=said):
        evaluate(**arguments)


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y.tolist(),
        lambda y: y.int(),
        lambda y: y.to(torch.uint8),
        lambda y: y.bool(),
        lambda y: y.numpy(),
        lambda y: y.numpy().astype("u2"),
        lambda y: y.numpy().astype(">i4"),
        lambda y: y.numpy() == 1,
        lambda y: tuple(y.numpy()),
    ],
)
def test_points_may_be_of_whatever_means_the_same(labels):
    known = task()
    x, y = known.sample(24, seed=5)
    evaluated = partial(evaluate, known.bayes_classifier(), known, attacks="ld-grad")
    plain = evaluated(points=(x, y))
    as_list: Any = [x.numpy()[::-1][::-1], labels(y)]
    with without_shape_checks():
        assert evaluated(points=(x, labels(y))) == plain
        assert evaluated(points=as_list) == plain


def test_truths_are_no_labels_of_three_classes():
    known = spherical_task(np.eye(3), VARIANCE)
    x, y = known.sample(6, seed=0)
    with pytest.raises(BayesgapError, match=r"6 integer labels; got torch\.bool"):
        evaluate(known.bayes_classifier(), known, points=(x, y == 1))


def test_numbers_of_numpy_are_settings_too():
    known = task()
    evaluated = partial(evaluate, known.bayes_classifier(), known, attacks="ld-grad")
    plain = evaluated(per_class=3, seed=2, box=(-9.0, 9.0), certificates=True)
    for box in (np.array([-9, 9]), torch.tensor([-9, 9]), [np.float32(-9), np.float32(9)]):
        same: Any = {
            "box": box,
            "per_class": np.int64(3),
            "seed": np.uint8(2),
            "certificates": np.True_,
        }
        with without_shape_checks():
            found = evaluated(**same)
        assert found == plain
        assert json.dumps(found.facts.settings) == json.dumps(plain.facts.settings)


def test_the_largest_seed_is_one():
    known = task()
    found = evaluate(known.bayes_classifier(), known, attacks="ddn", per_class=3, seed=2**63 - 1)
    assert found.facts.settings["seed"] == 2**63 - 1


def test_an_attack_of_ones_own_is_told_the_truth():
    class Guess(Attack):
        def run(self, classifier, x, y):
            return x + normal(0, *x.shape)

    known = task()
    with pytest.warns(DoubtWarning, match="were not broken"):
        found = evaluate(known.bayes_classifier(), known, attacks=[Guess()], per_class=20)
    outcome = found.outcomes["Guess"]
    assert 0 < present(found.best.success_rate) < 1
    assert torch.equal(outcome.before != outcome.after, outcome.sizes.isfinite())


def test_the_gap_is_that_of_a_boundary_that_was_moved():
    """A plane parallel to the optimum's, much nearer to class 0, leaves class 0 a share."""
    known = task()
    axis, middle = np.array([1.0, 1, 0]) / np.sqrt(2), np.sqrt(2) / 2
    moved = 0.6 * middle

    def logits(x):
        along = x.flatten(1) @ torch.from_numpy(axis) - moved
        return torch.stack([-along, along], dim=1)

    found = evaluate(Function(logits), known, per_class=60, seed=1)
    y = torch.arange(2).repeat(60)
    x, _ = known.sample_given(y, seed=1)
    side = np.where(y.numpy() == 0, -1, 1)
    own, optimal = (side * (x.flatten(1).numpy() @ axis - at) for at in (moved, middle))
    both = (own > 0) & (optimal > 0)
    # The certificates keep 1e-9, and their shift 1e-8 of the square, in reserve.
    assert found.gap == pytest.approx(1 - own[both].mean() / optimal[both].mean(), abs=2e-8)
    assert present(found.gap_low) < found.gap < present(found.gap_high)
    assert found.no_gap is None
    bracket = present(found.bracket)
    np.testing.assert_allclose(bracket.lower[bracket.correct], optimal[optimal > 0], rtol=2e-8)


def test_the_optimum_itself_has_no_gap_to_speak_of():
    known = task()
    found = evaluate(known.bayes_classifier(), known, per_class=20)
    assert 0 > present(found.gap) > -1e-7


def test_there_is_no_gap_without_success():
    known = task()
    with pytest.warns(DoubtWarning, match="were not broken"):
        found = evaluate(known.bayes_classifier(), known, attacks=Returns(lambda x: x), per_class=5)
    assert found.gap is None
    assert found.gap_low is None
    assert present(found.no_gap).startswith("points withstood: ")


def test_the_numbers_of_each_attack_are_those_of_its_outcome():
    known = task()
    found = evaluate(known.bayes_classifier(), known, attacks=["ld-grad", "ddn"], per_class=10)
    y = torch.arange(2).repeat(10)
    for name, outcome in found.outcomes.items():
        assert found.attacks[name] == summarise([outcome], y)
    assert found.gap == found.to_optimum.estimate.value
    assert (found.gap_low, found.gap_high) == found.to_optimum.estimate[1:]


# Another norm than L2.


def test_sizes_are_measured_by_the_norm_that_was_asked_for():
    known = task()
    attack = partial(evaluate, known.bayes_classifier(), known, attacks="ld-grad", per_class=20)
    plain, other = attack(), attack(norm=LINF)
    y = torch.arange(2).repeat(20)
    x, _ = known.sample_given(y, seed=0)
    outcome, as_l2 = other.outcomes["ld-grad"], plain.outcomes["ld-grad"]
    # The attack is the same, and only measured otherwise.
    assert torch.equal(outcome.images, as_l2.images)
    expected = (outcome.images - x).abs().flatten(1).amax(dim=1)
    np.testing.assert_allclose(outcome.sizes, expected, rtol=1e-14)
    assert (outcome.sizes < as_l2.sizes).all()
    correct = outcome.before == y
    assert other.best.norm == LINF
    assert other.best.mean.value == pytest.approx(expected[correct].mean().item(), rel=1e-12)
    assert "mean_linf" in other.best.record()


def test_of_another_norm_there_are_neither_certificates_nor_a_gap():
    known = task()
    found = evaluate(known.bayes_classifier(), known, per_class=5, norm=LINF)
    assert found.bracket is None
    assert found.gap is found.gap_low is found.gap_high is None
    assert found.no_gap == "certificates are of L2, the sizes of Linf"


def test_a_warning_names_the_norm():
    known = task()
    attack = Returns(lambda x: x)
    with pytest.warns(DoubtWarning, match="The mean Linf leaves them out"):
        evaluate(known.bayes_classifier(), known, attacks=attack, per_class=5, norm=LINF)


# Densities without certificates.


def heavy_tailed_task(density):
    """Two densities that differ in their means alone, and so are equal half way between these."""
    return Task([density([0.0, 0.0, 0.0]), density([2.0, 0.0, 0.0])], image_shape=(1, 1, 3))


@pytest.mark.parametrize("density", [lambda mean: Laplace(mean, 0.5), StudentT])
def test_a_density_of_ones_own_is_evaluated_without_certificates(density):
    known = heavy_tailed_task(density)
    found = evaluate(known.bayes_classifier(), known, per_class=60, seed=5)
    y = torch.arange(2).repeat(60)
    x, _ = known.sample_given(y, seed=5)
    signed = torch.where(y == 0, 1, -1) * (1 - x[:, 0, 0, 0])
    assert 0.7 < present(found.best.clean_accuracy) == (signed > 0).double().mean() < 1
    assert found.best.success_rate == 1
    np.testing.assert_allclose(found.nearest.sizes, signed.abs(), rtol=1e-5, atol=1e-9)
    assert found.bracket is None
    assert found.gap is None
    assert found.no_gap == "certificates exist for mixtures of factor analyzers alone"


def test_one_density_without_certificates_leaves_the_task_without_them():
    (mixture, _) = task().densities
    known = Task([mixture, StudentT([3.0, 0.0, 0.0])], image_shape=(1, 1, 3))
    found = evaluate(known.bayes_classifier(), known, per_class=5)
    assert found.bracket is None
    assert found.no_gap == NO_CERTIFICATE
