import numpy as np
import pytest
import torch
from torch import nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.ld_grad import LDGrad
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.evaluate import evaluate
from strategies import without_shape_checks
from toys import Function, Returns, normal, spherical_radius, spherical_task

MEANS, VARIANCE, PRIORS = np.array([[0.0, 0, 0], [1, 1, 0]]), 0.25, (0.5, 0.5)


def task():
    return spherical_task(MEANS, VARIANCE)


def test_the_optimum_of_two_spheres_needs_its_distance_to_the_plane_between():
    known = task()
    found = evaluate(known.bayes_classifier(), known, per_class=40, seed=3)
    y = torch.arange(2).repeat(40)
    x, _ = known.sample_given(y, seed=3)
    radius = spherical_radius(x, y, MEANS, VARIANCE, PRIORS)
    assert found.best["clean_accuracy"] == (radius > 0).mean() < 1
    assert found.best["success_rate"] == 1
    # Bisection ends within 1e-12 of the boundary, and a step beyond.
    assert found.best["mean_l2"] == pytest.approx(radius[radius > 0].mean(), rel=1e-9)
    assert found.best["mean_l2_low"] < found.best["mean_l2"] < found.best["mean_l2_high"]
    np.testing.assert_allclose(found.outcomes["boundary-walk"].l2, np.abs(radius), rtol=1e-8)


def test_the_best_is_the_nearest_of_all_attacks():
    known = task()
    far = Returns(lambda x: 100 - x)
    found = evaluate(known.bayes_classifier(), known, attacks=["ld-grad", far], per_class=10)
    assert list(found.records) == ["ld-grad", "returns"]
    assert found.best["mean_l2"] <= min(r["mean_l2"] for r in found.records.values())
    assert found.records["returns"]["mean_l2"] > 50


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
    with pytest.warns(UserWarning, match=r"Only 0\.0% of the correctly decided points"):
        found = evaluate(known.bayes_classifier(), known, attacks=Returns(lambda x: x), per_class=5)
    assert found.best["success_rate"] == 0
    assert found.best["mean_l2"] is None
    assert found.best["unbroken"] == round(10 * found.best["clean_accuracy"])


def test_a_network_is_left_in_its_mode_and_its_summary_is_short():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2), nn.Dropout()).train()
    found = evaluate(network, task(), per_class=5)
    assert all(module.training for module in network.modules())
    assert "tensor" not in repr(found)


def test_a_function_can_be_an_attack():
    known = task()

    def away(net, x, y):
        return 10 - x

    with pytest.warns(UserWarning, match='Add "boundary-walk"'):
        found = evaluate(known.bayes_classifier(), known, attacks=away, per_class=5)
    assert 0 < found.records["away"]["success_rate"] < 1


def test_advice_is_not_what_was_done_already():
    known = task()
    constant = Function(
        lambda x: torch.stack([x.sum(dim=(1, 2, 3)) * 0, x.sum(dim=(1, 2, 3)) * 0 - 1], 1)
    )
    with pytest.warns(UserWarning, match=r"says little\.$"):
        evaluate(constant, known, per_class=5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "mnist-0-6/symmetric"}, "A task is needed, .* got a str"),
        ({"classifier": "resnet"}, "this is a str"),
        ({"classifier": Function(lambda x: x.flatten(1))}, "gives 3 logits, .* has 2 classes"),
        ({"attacks": []}, "At least one attack"),
        ({"attacks": ["nosuch"]}, "no attack 'nosuch'"),
        ({"attacks": [LDGrad]}, r"the class itself is none, LDGrad\(…\) is"),
        ({"attacks": [LDGrad(), LDGrad(4)]}, "different names; got ld-grad, ld-grad"),
        ({"per_class": 0}, "got .* and 0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(changes, said):
    known = task()
    arguments = {"classifier": known.bayes_classifier(), "task": known, "per_class": 2, **changes}
    with without_shape_checks(), pytest.raises(BayesgapError, match=said):
        evaluate(**arguments)


def test_an_attack_of_ones_own_is_told_the_truth():
    class Guess(Attack):
        def run(self, classifier, x, y):
            return x + normal(0, *x.shape)

    known = task()
    with pytest.warns(UserWarning, match="were broken"):
        found = evaluate(known.bayes_classifier(), known, attacks=[Guess()], per_class=20)
    outcome = found.outcomes["Guess"]
    assert 0 < found.best["success_rate"] < 1
    assert torch.equal(outcome.before != outcome.after, outcome.l2.isfinite())


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
    assert found.gap_low < found.gap < found.gap_high
    assert found.no_gap is None
    np.testing.assert_allclose(
        found.bracket.lower[found.bracket.correct], optimal[optimal > 0], rtol=2e-8
    )


def test_the_optimum_itself_has_no_gap_to_speak_of():
    known = task()
    found = evaluate(known.bayes_classifier(), known, per_class=20)
    assert 0 > found.gap > -1e-7


def test_there_is_no_gap_without_success():
    known = task()
    with pytest.warns(UserWarning, match="were broken"):
        found = evaluate(known.bayes_classifier(), known, attacks=Returns(lambda x: x), per_class=5)
    assert found.gap is None
    assert found.gap_low is None
    assert "only 0.0% of the points" in found.no_gap
