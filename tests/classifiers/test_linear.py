import pytest
import torch
from torch import nn

from bayesgap.classifiers.adapt import as_classifier
from bayesgap.classifiers.linear import Affine, affine_of
from bayesgap.classifiers.module import logits
from bayesgap.classifiers.svm import RBFSVM, LinearSVM
from toys import normal, present

D = 4
SHAPE = (1, 2, 2)


def layers(*between, classes=3):
    network = nn.Sequential(nn.Flatten(), *between, nn.Linear(D, classes))
    for place, parameter in enumerate(network.parameters()):
        parameter.data = normal(place, *parameter.shape).float()
    return network


LINEAR = {
    "affine": Affine(normal(0, 3, D), normal(1, 3)),
    "one function": LinearSVM(normal(0, 1, D), normal(1, 1)),
    "three functions": LinearSVM(normal(0, 3, D), normal(1, 3)),
    "layer": layers(),
    "layer in float64": layers().double(),
    "no bias": nn.Sequential(nn.Flatten(), nn.Linear(D, 2, bias=False)),
    "several": layers(nn.Linear(D, 5), nn.Identity(), nn.Linear(5, D)),
    "dropout": layers(nn.Dropout()).eval(),
    "nested": nn.Sequential(nn.Sequential(nn.Flatten(), nn.Identity()), layers()),
    "one logit": as_classifier(
        layers(classes=1), image_shape=SHAPE, classes=2, outputs="one-logit"
    ),
}


@pytest.mark.parametrize("classifier", LINEAR.values(), ids=LINEAR)
def test_what_is_linear_is_known_with_its_weight_and_bias(classifier):
    weight, bias = present(affine_of(classifier))
    assert weight.dtype == bias.dtype == torch.float64
    x = normal(5, 20, *SHAPE)
    got = x.flatten(1) @ weight.mT + bias
    torch.testing.assert_close(got, logits(classifier, x).double(), rtol=1e-5, atol=1e-5)
    assert not weight.requires_grad


class Strange(LinearSVM):
    def forward(self, x):
        return super().forward(x) ** 3


def hooked(kind):
    network = layers()
    getattr(network[1], kind)(lambda module, *passed: passed[-1] if len(passed) > 1 else None)
    return network


UNKNOWN = {
    "kernel": RBFSVM(torch.zeros(1, D), torch.zeros(1, 1), torch.zeros(1), 1.0),
    "nonlinear": layers(nn.ReLU()),
    "no flattening": nn.Sequential(nn.Linear(D, 2)),
    "bare layer": nn.Linear(D, 2),
    "flattening of the batch": nn.Sequential(nn.Flatten(0), nn.Linear(D, 2)),
    "only flattening": nn.Sequential(nn.Flatten()),
    "nothing": nn.Sequential(),
    "one output": layers(classes=1),
    "subclass": Strange(normal(0, 1, D), normal(1, 1)),
    "hook": hooked("register_forward_hook"),
    "hook before": hooked("register_forward_pre_hook"),
    "convolution": nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten()),
    "parametrised": nn.utils.parametrizations.weight_norm(layers()[1]),
    "probabilities": as_classifier(
        nn.Sequential(layers(), nn.Softmax(1)),
        image_shape=SHAPE,
        classes=3,
        outputs="probabilities",
    ),
    "one of two": as_classifier(lambda x: (x.flatten(1), x), image_shape=SHAPE, classes=4, take=0),
}


@pytest.mark.parametrize("classifier", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_linear_for_certain_is_not_known(classifier):
    assert affine_of(classifier) is None


def test_an_affine_module_keeps_tensors_of_its_own():
    weight, bias = normal(0, 2, D), normal(1, 2)
    module = Affine(weight, bias)
    weight.zero_()
    assert module.weight.abs().sum() > 0
    x = normal(2, 3, *SHAPE)
    torch.testing.assert_close(module(x), x.flatten(1) @ normal(0, 2, D).mT + bias)
