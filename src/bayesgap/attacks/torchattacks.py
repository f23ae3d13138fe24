"""Attacks of torchattacks behind this package's signature."""

import inspect
import re
from functools import partial
from typing import Any

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

# Powers of pixel units in which settings are measured.
POWERS = {"eps": 1, "alpha": 1, "std": 1, "noise_sd": 1, "c": 2, "initial_const": 2}


class TorchAttacks(LibraryAttack):
    """Any attack of torchattacks, by name or itself.

    The attack works in a box of [0, 1]. Settings that are lengths (eps, alpha, …) are in pixel
    units, and CW's c weighs logits against squared pixel units: both are converted. An attack with
    a budget (eps) is run at smaller ones too, with its steps in proportion, until the smallest that
    suffices for an image is found to half a percent. An instance's normalisation belongs to its
    user's model, and is left out.
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
            attack: The name of a class of torchattacks, such as "CW", or an instance, whose model
                is not asked.
            name: What results call the attack; by default its class's name.
            bayes_logit_scale: What a Bayes-optimal classifier's logits are multiplied by.
            bounds_margin: How far, in pixel units, the bounds lie beyond the images' own range.
            **settings: What the class itself takes, such as steps=100; an instance has its own.

        Raises:
            BayesgapError: torchattacks is not installed or has no such attack, not with these
                settings; it is aimed at the labels, or measures by another norm.
        """
        module, self.base = _torchattacks()
        classes = classes_of(module, self.base)
        build = builder(attack, settings, classes, "torchattacks", "torchattacks'")
        self.attack = build(nn.PReLU())  # a model that draws no weights
        kind = type(self.attack).__name__
        targeted = getattr(self.attack, "attack_mode", "") == "targeted(label)"
        check_untargeted(targeted, f"torchattacks' {kind}")
        check_norm(_torchattacks_norm(self.attack), f"torchattacks' {kind}")
        super().__init__(
            name=name or kind, bounds_margin=bounds_margin, bayes_logit_scale=bayes_logit_scale
        )

    def search(self, box: Box, u: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]) -> Any:
        """Call a copy of the attack, aimed at the classifier.

        Args:
            box: The classifier that it attacks.
            u: Images in [0, 1].
            y: The decision on each image.
        """
        _, parts = copied(self.attack, self.attack.model, box, self.base)
        has_budget = any(hasattr(part, "eps") for part in parts)
        return smallest(partial(self._within, box), has_budget, box, u, y)

    def _within(
        self, box: Box, u: Float[Tensor, "n C H W"], y: Int[Tensor, " n"], share: float
    ) -> Any:
        """What the attack makes of the images within a share of its budget."""
        attack, parts = copied(self.attack, self.attack.model, box, self.base)
        for part in parts:
            converted = in_units(vars(part), POWERS, box.span / share)
            bare = {"normalization_used": None, "_normalization_applied": None}
            vars(part).update(converted, device=u.device, **bare)
        return attack(u, y)


def _torchattacks() -> tuple[Any, type]:
    """The library, and the base class of its attacks."""
    try:
        import torchattacks
        from torchattacks.attack import Attack
    except Exception as error:
        raise not_installed("torchattacks", "torchattacks", error) from error
    return torchattacks, Attack


def _torchattacks_norm(attack: Any) -> object:
    """The norm that an attack has as a setting, or else that its class's description states."""
    norm = getattr(attack, "norm", None)
    if norm is None:
        stated = re.search(r"Distance Measure\s*:(.*)", inspect.getdoc(type(attack)) or "")
        norm = stated[1].strip() if stated else "L2"
    return "L2" if "L2" in str(norm) else norm
