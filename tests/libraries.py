"""Stand-ins for ART, torchattacks and adv-lib, which are not installed where tests run.

They have the signatures of art 1.20, torchattacks 3.5 and adv-lib 0.2, keep what those keep, and
refuse what those cannot take: images outside [0, 1], other dtypes than float32.
"""

import inspect
import random
import sys
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch


def module(name, contents=(), **others):
    made = ModuleType(name)
    for each in contents:
        each.__module__ = name
        setattr(made, each.__name__, each)
    vars(made).update(others)
    return made


def put(monkeypatch, *modules):
    """Let these be what is imported by their names, and as attributes of their packages."""
    by_name = {each.__name__: each for each in modules}
    for name, each in by_name.items():
        monkeypatch.setitem(sys.modules, name, each)
        package, _, last = name.rpartition(".")
        if package:
            setattr(by_name[package], last, each)


def checked(u):
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() <= 1


def margin_gradient(model, u, y):
    """How far the logit of y lies above the best other, and the gradient of that."""
    u = u.detach().requires_grad_()
    logits = model(u)
    own = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
    margin = logits[own] - logits.masked_fill(own, -torch.inf).amax(dim=1)
    (gradient,) = torch.autograd.grad(margin.sum(), u)
    return margin.detach(), gradient


def foot(model, u, y, overshoot=0.02):
    """DeepFool's step: the nearest point beyond the boundary's tangent plane."""
    margin, gradient = margin_gradient(model, u, y)
    share = margin / gradient.square().sum(dim=(1, 2, 3))
    return (u - (1 + overshoot) * share[:, None, None, None] * gradient).clamp(0, 1)


def descend(model, u, y, eps, step, steps):
    """Steps against the margin within an L2 ball."""
    z = u
    for _ in range(steps):
        _, gradient = margin_gradient(model, z, y)
        move = z - step * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None] - u
        length = move.flatten(1).norm(dim=1)[:, None, None, None]
        z = (u + move * (eps / length).clamp(max=1)).clamp(0, 1)
    return z


def with_torchattacks(monkeypatch):
    """Install a stand-in for torchattacks; what its CW is told is kept in `CW.told`."""

    class Attack:
        def __init__(self, name, model):
            self.attack = name
            self._attacks = {}
            self.model = model
            self.device = next(model.parameters()).device
            self.attack_mode = "default"
            self.targeted = False
            self.normalization_used = None
            self._normalization_applied = None

        def set_normalization_used(self, mean, std):
            self.normalization_used = {"mean": mean, "std": std}
            self._normalization_applied = True

        def set_mode_targeted_by_label(self, quiet=False):
            self.targeted, self.attack_mode = True, "targeted(label)"

        def get_logits(self, inputs):
            return self.model(inputs)

        def forward(self, images, labels):
            raise NotImplementedError

        def __call__(self, inputs, labels=None):
            assert not self._normalization_applied
            assert inputs.device == self.device
            checked(inputs)
            self.model.train(False)
            return self.forward(inputs, labels)

    class DeepFool(Attack):
        """DeepFool.

        Distance Measure : L2
        """

        def __init__(self, model, steps=50, overshoot=0.02):
            super().__init__("DeepFool", model)
            self.steps = steps
            self.overshoot = overshoot

        def forward(self, images, labels):
            return foot(self.model, images, labels, self.overshoot)

    class PGDL2(Attack):
        """PGD.

        Distance Measure : L2
        """

        def __init__(self, model, eps=1.0, alpha=0.2, steps=10):
            super().__init__("PGDL2", model)
            self.eps, self.alpha, self.steps = eps, alpha, steps

        def forward(self, images, labels):
            return descend(self.model, images, labels, self.eps, self.alpha, self.steps)

    class PGD(Attack):
        """PGD.

        Distance Measure : Linf
        """

        def __init__(self, model, eps=8 / 255, alpha=2 / 255, steps=10):
            super().__init__("PGD", model)
            self.eps, self.alpha, self.steps = eps, alpha, steps

    class CW(Attack):
        """CW.

        Distance Measure : L2
        """

        told: ClassVar[list[Any]] = []

        def __init__(self, model, c=1, kappa=0, steps=50, lr=0.01):
            super().__init__("CW", model)
            self.c, self.kappa, self.steps, self.lr = c, kappa, steps, lr

        def forward(self, images, labels):
            self.told.append(self)
            return foot(self.model, images, labels)

    class APGD(PGDL2):
        """APGD.

        Distance Measure : Linf, L2
        """

        def __init__(self, model, norm="Linf", eps=8 / 255, steps=10):
            super().__init__(model, eps, 2 * eps / steps, steps)
            self.norm = norm

    class MultiAttack(Attack):
        """Several."""

        def __init__(self, attacks, verbose=False):
            super().__init__("MultiAttack", attacks[0].model)
            assert len({id(attack.model) for attack in attacks}) == 1
            self.attacks = attacks

        def forward(self, images, labels):
            final = images.clone()
            for attack in self.attacks:
                rows = self.get_logits(final).argmax(dim=1) == labels
                if rows.any():
                    final[rows] = attack(images[rows], labels[rows])
            return final

    class Noise(Attack):
        """Noise from all generators."""

        def __init__(self, model):
            super().__init__("Noise", model)

        def forward(self, images, labels):
            noise = torch.randn_like(images) + torch.from_numpy(np.random.randn(*images.shape))  # noqa: NPY002
            return (images + (0.1 * noise + 0.1 * random.random()).float()).clamp(0, 1)

    class Broken(Attack):
        """Raises, after it has changed itself."""

        def __init__(self, model):
            super().__init__("Broken", model)

        def forward(self, images, labels):
            self.model = self.device = None
            raise IndexError("no third class\nand more")

    kinds = (DeepFool, PGDL2, PGD, CW, APGD, MultiAttack, Noise, Broken)
    library = module("torchattacks", **{kind.__name__: kind for kind in kinds})
    attacks = module("torchattacks.attacks", kinds)
    put(monkeypatch, library, attacks, module("torchattacks.attack", [Attack]))
    return library


def with_art(monkeypatch):
    """Install a stand-in for ART."""

    class EvasionAttack:
        _estimator_requirements = ()

        def __init__(self, estimator):
            assert hasattr(estimator, "nb_classes")
            self._estimator = estimator

        @property
        def estimator(self):
            return self._estimator

        def torch_of(self, x, y):
            assert x.dtype == y.dtype == np.float32
            assert y.shape == (len(x), self.estimator.nb_classes)
            assert x.shape[1:] == self.estimator.input_shape
            return torch.from_numpy(x), torch.from_numpy(y).argmax(dim=1)

    class PyTorchClassifier:
        def __init__(
            self, model, loss, input_shape, nb_classes, clip_values=None, device_type="gpu"
        ):
            assert clip_values == (0, 1)
            assert device_type == "cpu"
            self.model, self.input_shape, self.nb_classes = model, input_shape, nb_classes

    class DeepFool(EvasionAttack):
        def __init__(self, classifier, max_iter=100, epsilon=1e-6, verbose=True):
            super().__init__(estimator=classifier)
            if max_iter <= 0:
                raise ValueError("The number of iterations must be a positive integer.")
            self.max_iter, self.epsilon, self.verbose = max_iter, epsilon, verbose

        def generate(self, x, y=None, **kwargs):
            u, labels = self.torch_of(x, y)
            np.random.rand(3)  # noqa: NPY002
            return foot(self.estimator.model, u, labels, 0.02).numpy()

    class Inner(EvasionAttack):
        def __init__(self, estimator, eps, eps_step, max_iter):
            super().__init__(estimator)
            self.eps, self.eps_step, self.max_iter = eps, eps_step, max_iter

        def generate(self, x, y=None):
            u, labels = self.torch_of(x, y)
            model = self.estimator.model
            return descend(model, u, labels, self.eps, self.eps_step, self.max_iter).numpy()

    class ProjectedGradientDescent(EvasionAttack):
        def __init__(
            self, estimator, norm=np.inf, eps=0.3, eps_step=0.1, max_iter=100, targeted=False
        ):
            super().__init__(estimator=estimator)
            self.norm, self.eps, self.eps_step, self.targeted = norm, eps, eps_step, targeted
            self._attack = Inner(estimator, eps, eps_step, max_iter)

        def generate(self, x, y=None):
            return self._attack.generate(x=x, y=y)

    class AdversarialPatch(EvasionAttack):
        def __init__(self, classifier):
            super().__init__(estimator=classifier)

        def generate(self, x, y=None):
            return x, y

    class Poisoning:
        def poison(self, x, y):
            return x, y

    evasion = module("art.attacks.evasion", [DeepFool, ProjectedGradientDescent, AdversarialPatch])
    put(
        monkeypatch,
        module("art"),
        module("art.attacks"),
        module("art.attacks.attack", [EvasionAttack]),
        evasion,
        module("art.attacks.poisoning", [Poisoning]),
        module("art.estimators"),
        module("art.estimators.classification", [PyTorchClassifier]),
    )
    return evasion


def with_adv_lib(monkeypatch):
    """Install a stand-in for adv-lib; what its functions are told is kept in `told`."""
    told: dict[str, dict[str, Any]] = {}

    def df(model, inputs, labels, targeted=False, steps=100, overshoot=0.02, norm=2):
        checked(inputs)
        return foot(model, inputs, labels, overshoot)

    def fmn(model, inputs, labels, norm, targeted=False, steps=10, α_init=1.0, α_final=None):
        checked(inputs)
        told["fmn"] = locals()
        return foot(model, inputs, labels)

    def ddn(model, inputs, labels, targeted=False, steps=100, γ=0.05, init_norm=1.0, levels=256):
        assert levels is None
        told["ddn"] = locals()
        return foot(model, inputs, labels)

    def apgd(model, inputs, labels, eps, norm, targeted=False, n_iter=20):
        assert norm == 2
        return descend(model, inputs, labels, eps, 2 * eps / n_iter, n_iter)

    def carlini_wagner_l2(model, inputs, labels, targeted=False, initial_const=0.001):
        told["carlini_wagner_l2"] = locals()
        return foot(model, inputs, labels)

    def pgd_linf(model, inputs, labels, ε, targeted=False):
        raise AssertionError

    def nothing(model, inputs, labels):
        return None

    functions = [df, fmn, ddn, apgd, carlini_wagner_l2, pgd_linf, nothing]
    assert all(inspect.isfunction(function) for function in functions)
    attacks = module("adv_lib.attacks", functions, told=told)
    put(monkeypatch, module("adv_lib"), attacks)
    return attacks
