"""Foolbox's attacks behind this package's signature.

Foolbox clips to bounds that it is told, so its units are pixel units; the bounds are part of an
attack's settings (`attacks.box`).
"""

import inspect
from functools import partial
from typing import Any

import foolbox
import torch
from foolbox.attacks.base import (
    AttackWithDistance,
    FixedEpsilonAttack,
    MinimizationAttack,
    Repeated,
)
from foolbox.models.pytorch import PyTorchModel
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.attacks.adapters import check_settings, class_named, classes_of, refuse_settings
from bayesgap.attacks.boundary import by_image, value_and_gradient
from bayesgap.attacks.box import Box, LibraryAttack, nearest_within
from bayesgap.errors import BayesgapError

BOUNDS_MARGIN = 10.0  # pixel units beyond the smallest and largest value of the images
FIRST = 0.1  # the first epsilon that is tried, in pixel units


class Foolbox(LibraryAttack):
    """Any of foolbox's attacks that look for small L2, by the name of its class or itself.

    Those that minimise are run as they are. Those that are told a size (`L2PGD` and other
    attacks with a fixed epsilon) are run at many: for each image the size is doubled until the
    attack succeeds within it, then bisected to half a percent; the nearest success counts.
    """

    unit = False
    dtype = None

    def __init__(
        self,
        attack: str | foolbox.attacks.base.Attack,
        *,
        name: str | None = None,
        bayes_logit_scale: float = 1.0,
        bounds_margin: float = BOUNDS_MARGIN,
        **settings: Any,
    ):
        """Build the attack.

        Args:
            attack: The name of a class of `foolbox.attacks`, such as "DDNAttack", or an instance.
            name: What results call the attack; by default its class's name.
            bayes_logit_scale: What a Bayes-optimal classifier's logits are multiplied by, for this
                attack alone: its temperature is ours to choose, and attacks differ in the best.
            bounds_margin: How far, in pixel units, the bounds lie beyond the images' own range.
            **settings: What the class itself takes, such as steps=1000; an instance has its own.

        Raises:
            BayesgapError: foolbox has no such attack, not with these settings, or it looks for
                small perturbations of another norm.
        """
        if not isinstance(attack, str):
            refuse_settings(attack, settings)
        self.attack: Any = _built(attack, settings) if isinstance(attack, str) else attack
        kind = type(self.attack).__name__
        super().__init__(
            name=name or kind, bounds_margin=bounds_margin, bayes_logit_scale=bayes_logit_scale
        )
        if not isinstance(self.attack, AttackWithDistance):
            raise BayesgapError(
                f"foolbox's {kind} looks for no small distance: take one that does, such as "
                "foolbox.attacks.DDNAttack()."
            )
        distance = _distance(self.attack)
        if distance is None:
            raise BayesgapError(
                f"foolbox's {kind} is not told what to minimise: build it with "
                "distance=foolbox.distances.l2."
            )
        if distance != foolbox.distances.l2:
            verb = "minimises" if isinstance(self.attack, MinimizationAttack) else "limits"
            raise BayesgapError(f"foolbox's {kind} {verb} {distance}, not L2.")

    def search(
        self, box: Box, u: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Run foolbox's attack without a limit on the perturbation, or at smaller and smaller ones.

        Args:
            box: The classifier to attack, with gradients.
            u: The images.
            y: The decision on each image.

        Raises:
            BayesgapError: the classifier has no gradient.
        """
        value_and_gradient(lambda image: box(image).sum(dim=1), u[:1])
        model = PyTorchModel(box, bounds=box.bounds, device=u.device)
        try:
            if _is_sized(self.attack):
                reach = (box.bounds[1] - box.bounds[0]) * u[0].numel() ** 0.5  # all of the box
                within = partial(_within, self.attack, model)
                return nearest_within(within, box, u, y, first=FIRST, last=reach)
            criterion = foolbox.criteria.Misclassification(y)
            if isinstance(self.attack, Repeated):
                images, _, _ = self.attack(model, u, criterion, epsilons=None)
            else:
                images = self.attack.run(model, u, criterion)
        except ImportError as error:
            raise _lacking(type(self.attack).__name__, error) from error
        # An image of zeros is how some attacks say that they found nothing.
        return torch.where(by_image((images == 0).flatten(1).all(dim=1)), u, images)


def _built(name: str, settings: dict[str, Any]) -> Any:
    """The attack of foolbox whose class has that name."""
    known = classes_of(foolbox.attacks, MinimizationAttack | FixedEpsilonAttack)
    kind = class_named(name, known, "foolbox")
    check_settings(kind, settings, f"foolbox's {name}", whole=True)
    if "distance" in inspect.signature(kind).parameters:
        settings = {"distance": foolbox.distances.l2, **settings}
    try:
        return kind(**settings)
    except TypeError as error:
        raise BayesgapError(f"foolbox's {name} cannot be set up: {error}.") from error
    except ImportError as error:
        raise _lacking(name, error) from error


def _distance(attack: AttackWithDistance) -> foolbox.distances.Distance | None:
    try:
        return attack.distance
    except (AttributeError, ValueError):  # what foolbox raises where none was given
        return None


def _is_sized(attack: object) -> bool:
    """Whether the attack, or the one that it repeats, must be told an epsilon."""
    while isinstance(attack, Repeated):
        attack = attack.attack
    return isinstance(attack, FixedEpsilonAttack)


def _within(
    attack: AttackWithDistance,
    model: PyTorchModel,
    u: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    epsilon: float,
) -> Float[Tensor, "n C H W"]:
    """What the attack makes of images, clipped to that distance from them."""
    criterion = foolbox.criteria.Misclassification(y)
    _, images, _ = attack(model, u, criterion, epsilons=epsilon)
    return images


def _lacking(attack: str, error: ImportError) -> BayesgapError:
    return BayesgapError(f"foolbox's {attack} needs a package that is not installed here: {error}.")


def ddn(steps: int = 100) -> Foolbox:
    """Decoupled direction and norm (Rony et al., 2019), with foolbox's defaults but the steps.

    Args:
        steps: The number of gradients.
    """
    return Foolbox("DDNAttack", name="ddn", steps=steps)


def cw_l2() -> Foolbox:
    """Carlini and Wagner's L2 attack at the paper's settings (appendix C.1).

    500 iterations, 3 binary searches, learning rate 0.01, and an initial constant of 0.01, the
    default of the library that the paper used. On a Bayes-optimal classifier it works at a
    hundredth of the default temperature: at that itself it breaks no point of a symmetric task.
    """
    return Foolbox(
        "L2CarliniWagnerAttack",
        name="cw-l2",
        bayes_logit_scale=100.0,
        bounds_margin=1.0,  # it searches in a space stretched between the bounds
        binary_search_steps=3,
        steps=500,
        stepsize=0.01,
        initial_const=0.01,
    )


def cw_l2_strong() -> Foolbox:
    """Carlini and Wagner's L2 attack with more searches and steps than the paper's.

    9 binary searches, which find a good constant from whatever start, and 1,000 steps.
    """
    return Foolbox(
        "L2CarliniWagnerAttack",
        name="cw-l2-strong",
        bayes_logit_scale=100.0,
        bounds_margin=1.0,
        binary_search_steps=9,
        steps=1_000,
        stepsize=0.01,
        initial_const=0.01,
    )


def deepfool() -> Foolbox:
    """DeepFool (Moosavi-Dezfooli et al., 2016), with foolbox's defaults."""
    return Foolbox("L2DeepFoolAttack", name="deepfool", steps=50)
