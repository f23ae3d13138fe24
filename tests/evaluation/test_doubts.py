"""Each kind of classifier that would flatter itself is doubted, and plain ones are not."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from bayesgap.attacks.base import Attack
from bayesgap.evaluation import doubts as names
from bayesgap.evaluation.doubts import Doubt, DoubtWarning, voiding, warn
from bayesgap.evaluation.evaluate import evaluate
from bayesgap.evaluation.record import Evaluation
from bayesgap.tasks.task import Task
from toys import Function, Returns, normal, present, spherical_task

PIXELS = 16
STEEP = 4.0  # so that outputs of the squashed ones saturate


def task(distance=3.0, classes=2):
    """Spheres in 16 pixels whose means lie so many standard deviations of 0.1 apart."""
    axes = torch.linalg.qr(normal(0, PIXELS, PIXELS)).Q[:classes]
    return spherical_task(0.5 + 0.1 * distance * axes / 2**0.5, 0.01)


def frame_of(known: Task) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The unit normal of the optimum's plane, a point of it, and a unit vector along it."""
    one, other = (density.means[0] for density in known.mixtures)
    axis = (other - one) / (other - one).norm()
    aside = torch.eye(PIXELS, dtype=torch.float64)[0] - axis[0] * axis
    return axis, (one + other) / 2, aside / aside.norm()


class Bent(nn.Module):
    """A smooth boundary that is not the optimum's; float32, and differentiable everywhere."""

    means: torch.Tensor

    def __init__(self, known: Task):
        super().__init__()
        means = torch.stack([density.means[0] for density in known.mixtures])
        self.register_buffer("means", means.float())

    def forward(self, x):
        away = x.flatten(1)[:, None] - self.means
        return -100 * (away.square().sum(dim=2) + 0.1 * away.sin().sum(dim=2).square())


class Quantised(nn.Module):
    def __init__(self, net: nn.Module, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.change(self.net, x)


class Cut(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return torch.zeros_like(gradient)


def reversed_gradient(net, x):
    return net(2 * x.detach() - x)


def drifting(net, x):
    """Slower and slower: what it says depends on how often it was asked."""
    net.asked = getattr(net, "asked", 0) + 1
    return net(x) * (1 + 1 / net.asked)


def looked_at_together(net, x):
    return net(x - x.mean(dim=0, keepdim=True) + 0.5)


# What is done to a classifier, what is doubted of it, and whether its sizes mean nothing then.
FLATTERERS = {
    "noise": (lambda net, x: net(x + 0.003 * torch.randn_like(x)), names.RANDOM, True),
    "dropout": (lambda net, x: net(nn.functional.dropout(x, 0.01)), names.RANDOM, True),
    "drift": (drifting, names.RANDOM, True),
    "batch statistics": (looked_at_together, names.BATCH, True),
    "rounding": (lambda net, x: net((255 * x).round() / 255), names.VANISHING, False),
    "cut gradients": (lambda net, x: net(Cut.apply(x)), names.VANISHING, False),
    "reversed gradients": (reversed_gradient, names.DISAGREEING, False),
    "detached": (lambda net, x: net(x.detach()), names.NO_GRADIENTS, False),
    "infinite gradients": (
        lambda net, x: net(x) + 0 * (x * 0).square().sum(dim=(1, 2, 3)).sqrt()[:, None],
        names.NOT_FINITE,
        False,
    ),
    "another range": (lambda net, x: net(x / 255), names.RANGE, True),
    "exchanged outputs": (lambda net, x: net(x).flip(1), names.LABELS, True),
    "sign": (lambda net, x: (net(x) - net(x).flip(1)).sign(), names.SATURATED, False),
    "constant": (lambda net, x: 0 * net(x) + torch.tensor([2.0, 1.0]), names.ACCURACY, True),
}


def doubted(found: Evaluation) -> set[str]:
    return {doubt.name for doubt in found.doubts}


def quietly(*args, **settings) -> Evaluation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DoubtWarning)
        return evaluate(*args, **settings)


@pytest.mark.parametrize("name", FLATTERERS)
def test_who_would_flatter_itself_is_doubted(name):
    change, expected, voids = FLATTERERS[name]
    known = task()
    torch.manual_seed(0)
    found = quietly(Quantised(Bent(known), change), known, per_class=20)
    assert expected in doubted(found)
    if voids:
        assert found.gap is None
        assert found.no_gap == voiding(found.doubts)


@pytest.mark.parametrize("name", ["rounding", "cut gradients", "detached", "reversed gradients"])
def test_where_gradients_mislead_the_sizes_are_those_of_the_plain_classifier(name):
    known = task()
    plain = present(quietly(Bent(known), known, per_class=15).best.mean).value
    found = quietly(Quantised(Bent(known), FLATTERERS[name][0]), known, per_class=15)
    assert "score-walk" in found.outcomes
    # Rounded pixels need to reach a threshold only, so that they can be broken a little nearer.
    assert 0.93 < present(found.best.mean).value / plain < 1.03
    assert found.gap is not None


@pytest.mark.parametrize("classes", [2, 3])
def test_plain_classifiers_are_not_doubted(classes):
    known = task(distance=5.0, classes=classes)
    for net in (Bent(known), known.bayes_classifier(), Bent(known).double()):
        assert evaluate(net, known, per_class=20).doubts == ()


def test_a_doubt_is_shown_as_a_warning():
    known = task()
    with pytest.warns(DoubtWarning, match="too few points: 6 of 6 points"):
        evaluate(known.bayes_classifier(), task(distance=9.0), per_class=3)


def test_accuracy_between_guessing_and_the_best_is_doubted_but_counts():
    known = task(distance=6.0)
    axis, middle, aside = frame_of(known)
    normal_of = 0.2 * axis + 0.96**0.5 * aside  # nearly along the optimum's plane

    def tilted(x):
        along = (x.flatten(1) - middle) @ normal_of
        return torch.stack([-along, along], dim=1)

    found = quietly(Function(tilted), known, per_class=60)
    assert 0.6 < present(found.best.clean_accuracy) < 0.75
    assert doubted(found) == {names.ACCURACY}
    assert found.gap is not None


class TowardsASample(Attack):
    """Bisects to the first image of class 1, or past it."""

    def __init__(self, target, beyond):
        self.target, self.beyond = target, beyond

    def run(self, classifier, x, y):
        way = self.target.to(x) - x
        shares = torch.linspace(0, 1, 2_000, dtype=x.dtype)[:, None, None, None, None]
        decided = classifier((x + shares * way).flatten(0, 1)).argmax(dim=1).reshape(2_000, -1)
        first = (decided != y).double().argmax(dim=0)
        return x + (self.beyond * shares[first.clamp(min=1)][:, 0]) * way


def test_attacks_that_only_reach_samples_are_doubted():
    known = task(distance=6.0)
    net = known.bayes_classifier()
    x, y = known.sample(2_000, seed=1)  # the pool of seed 0
    other = x[y == 1][0]
    points = (
        known.sample_given(torch.zeros(30, dtype=torch.long), seed=5)[0],
        torch.zeros(30).long(),
    )
    far = quietly(net, known, attacks=TowardsASample(other, 40.0), points=points, certificates=True)
    assert names.FARTHER in doubted(far)
    assert far.gap is None

    class ToNearest(Attack):
        def run(self, classifier, images, labels):
            nearest = torch.cdist(images.flatten(1), x[y == 1].flatten(1)).argmin(dim=1)
            return images + 0.999 * (x[y == 1][nearest] - images)

    near = quietly(net, known, attacks=ToNearest(), points=points, certificates=True)
    assert names.SAMPLES in doubted(near)
    assert near.gap is None


def test_what_stops_before_the_nearest_point_is_doubted():
    known = task(distance=6.0)
    axis, middle, aside = frame_of(known)

    def slanting(classifier, x, y):
        along = (x.flatten(1) - middle) @ axis
        step = -along * 1.001
        return x + (step[:, None] * axis + 0.6 * step.abs()[:, None] * aside).reshape(x.shape)

    found = quietly(known.bayes_classifier(), known, attacks=slanting, per_class=20)
    assert names.NOT_NEAREST in doubted(found)
    assert found.gap is not None


def test_what_withstands_is_doubted_and_has_no_gap():
    known = task(distance=9.0)
    found = quietly(known.bayes_classifier(), known, attacks=Returns(lambda x: x), per_class=20)
    assert names.UNBROKEN in doubted(found)
    assert present(found.no_gap).startswith("points withstood: 40 of the correctly decided points")


def test_an_attack_with_gradients_that_loses_to_one_without_is_doubted():
    known = task(distance=6.0)
    twice = Quantised(Bent(known), FLATTERERS["rounding"][0])
    found = quietly(twice, known, attacks=["boundary-walk", "score-walk"], per_class=15)
    assert names.ATTACKS in doubted(found)


def test_points_in_another_unit_are_doubted():
    known = task(distance=6.0)
    x, y = known.sample(40, seed=3)
    found = quietly(known.bayes_classifier(), known, points=(255 * x, y), attacks="ld-grad")
    assert names.UNLIKE in doubted(found)


def test_the_first_doubt_that_voids_is_the_reason():
    first, second = Doubt("a", "x", "y"), Doubt("b", "found", "mend", voids=True)
    assert voiding([first]) is None
    assert voiding([first, second]) == "b: found"
    with pytest.warns(DoubtWarning, match=r"b: found\. mend"):
        warn([second], stacklevel=1)
    assert second.record() == {"name": "b", "finding": "found", "remedy": "mend", "voids": True}


def test_quick_leaves_the_comparison_with_scores_out():
    known = task(distance=6.0)
    net = Bent(known)
    asked = []
    net.register_forward_hook(lambda *given: asked.append(len(given[2])))
    evaluate(net, known, per_class=15, doubts="quick")
    quick = sum(asked)
    asked.clear()
    evaluate(net, known, per_class=15)
    assert sum(asked) > quick + 8 * 2 * PIXELS - 1
    assert np.isfinite(quick)


def test_a_class_that_withstands_is_doubted_however_small_its_prior_is():
    means = torch.stack([density.means[0] for density in task(9.0).mixtures])
    known = spherical_task(means, 0.01, priors=[0.999, 0.001])

    def half(classifier, x, y):
        ended = evaluate_nothing(classifier, x, y)
        return torch.where((y == 0)[:, None, None, None], ended, x)

    def evaluate_nothing(classifier, x, y):
        axis, middle, _ = frame_of(known)
        along = (x.flatten(1) - middle) @ axis
        return x - 1.5 * along[:, None, None, None] * axis.reshape(x.shape[1:])

    found = quietly(known.bayes_classifier(), known, attacks=half, per_class=20)
    assert present(found.best.success_rate) > 0.99
    assert names.UNBROKEN in doubted(found)
    assert found.gap is None


def test_what_ends_farther_than_the_optimums_own_images_is_doubted():
    known = task(9.0)

    def far(classifier, x, y):
        axis, middle, _ = frame_of(known)
        along = (x.flatten(1) - middle) @ axis
        return x - 1.3 * along[:, None, None, None] * axis.reshape(x.shape[1:])

    found = quietly(known.bayes_classifier(), known, attacks=far, per_class=20, doubts="quick")
    (doubt,) = (each for each in found.doubts if each.name == names.NOT_NEAREST)
    assert "own adversarial image is nearer" in doubt.finding or "a little aside" in doubt.finding


def test_a_gradient_that_lacks_a_channel_of_large_images_is_doubted():
    shape, pixels = (3, 24, 24), 1_728
    means = 0.5 + 0.02 * normal(3, 2, pixels)
    small = spherical_task(means, 0.01)
    known = Task(small.densities, image_shape=shape)
    weight = means[1] - means[0]
    bias = -(weight @ means.mean(dim=0))

    def partly(x):
        seen = torch.cat([x[:, :1].detach(), x[:, 1:]], dim=1).flatten(1)
        along = 50 * (seen @ weight + bias)
        return torch.stack([-along, along], dim=1)

    found = quietly(Function(partly), known, per_class=12, attacks="boundary-walk")
    assert names.DISAGREEING in doubted(found)
