"""Attacks of ART, the Adversarial Robustness Toolbox, behind this package's signature."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.adapters import (
    BOUNDS_MARGIN,
    builder,
    check_norm,
    check_untargeted,
    classes_of,
    copied,
    in_units,
    not_installed,
    smallest,
)
from bayesgap.attacks.box import Box, LibraryAttack
from bayesgap.errors import BayesgapError

STAND_IN = (1, 28, 28)  # shape of the images that settings are tried with
# Powers of pixel units in which settings are measured.
POWERS = {"eps": 1, "eps_step": 1, "initial_const": 2}
# Of attacks whose objects do not say so.
NORMS = {"CarliniLInfMethod": "inf", "CarliniL0Method": 0, "SaliencyMapMethod": 0}


class ART(LibraryAttack):
    """Any evasion attack of the Adversarial Robustness Toolbox, by name or itself.

    The attack works in a box of [0, 1]: some of ART's, such as its DeepFool, scale their steps by
    the width of other bounds. Settings that are lengths (eps, eps_step) are in pixel units, and
    CW's initial_const weighs logits against squared pixel units: all are converted. An attack with
    a budget (eps) is run at smaller ones too, with its steps in proportion, until the smallest that
    suffices for an image is found to half a percent.
    """

    def __init__(
        self,
        attack: Any,
        *,
        name: str | None = None,
        bayes_logit_scale: float = 1.0,
        bounds_margin: float = BOUNDS_MARGIN,
        **settings: Any,
    ):
        """Build the attack.

        Args:
            attack: The name of a class of `art.attacks.evasion`, such as "DeepFool", or an
                instance, whose estimator is not asked.
            name: What results call the attack; by default its class's name.
            bayes_logit_scale: What a Bayes-optimal classifier's logits are multiplied by.
            bounds_margin: How far, in pixel units, the bounds lie beyond the images' own range.
            **settings: What the class itself takes, such as max_iter=10; an instance has its own.

        Raises:
            BayesgapError: ART is not installed or has no such attack, not with these settings; it
                is aimed at classes, or measures by another norm.
        """
        module, self.base = _art()
        self.build = builder(attack, settings, classes_of(module, self.base), "ART", "ART's")
        attack = self.build(_estimator(nn.Flatten(), torch.zeros(1, *STAND_IN)))
        kind = type(attack).__name__
        if not isinstance(attack, self.base):
            raise BayesgapError(f"ART's {kind} is none of its evasion attacks.")
        self.has_budget = hasattr(attack, "eps")
        check_untargeted(bool(getattr(attack, "targeted", False)), f"ART's {kind}")
        check_norm(getattr(attack, "norm", NORMS.get(kind, 2)), f"ART's {kind}")
        super().__init__(
            name=name or kind, bounds_margin=bounds_margin, bayes_logit_scale=bayes_logit_scale
        )

    def search(self, box: Box, u: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]) -> Any:
        """Call ART with a PyTorch estimator of the classifier.

        Args:
            box: The classifier that it attacks.
            u: Images between the box's bounds.
            y: The decision on each image.
        """
        estimator = _estimator(box, u)
        return smallest(partial(self._within, box, estimator), self.has_budget, box, u, y)

    def _within(
        self,
        box: Box,
        estimator: Any,
        u: Float[Tensor, "n C H W"],
        y: Int[Tensor, " n"],
        share: float,
    ) -> Tensor:
        """What ART makes of the images within a share of the attack's budget."""
        source = self.build(estimator)
        attack, parts = copied(source, source.estimator, estimator, self.base)
        for part in parts:
            vars(part).update(in_units(vars(part), POWERS, box.span / share))
        labels = nn.functional.one_hot(y, estimator.nb_classes).float()
        return torch.as_tensor(attack.generate(x=u.cpu().numpy(), y=labels.cpu().numpy()))


def _art() -> tuple[Any, type]:
    """The library's evasion attacks, and their base class."""
    try:
        import art.attacks.evasion
        from art.attacks.attack import EvasionAttack
    except Exception as error:  # libraries of another age fail at import in many ways
        raise not_installed("ART", "adversarial-robustness-toolbox", error) from error
    return art.attacks.evasion, EvasionAttack


def _estimator(classifier: nn.Module, u: Float[Tensor, "n C H W"]) -> Any:
    """ART's view of a classifier of such images."""
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = classifier(u[:1]).shape[1]
    with torch.cuda.device(u.device if u.is_cuda else -1):  # ART takes the current one
        return PyTorchClassifier(
            classifier,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(u.shape[1:]),
            nb_classes=classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if u.is_cuda else "cpu",
        )
