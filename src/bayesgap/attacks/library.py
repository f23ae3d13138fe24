"""Foolbox's minimisation attacks behind this package's signature.

Foolbox clips to bounds. Samples of a density are not confined to [0, 1], so the bounds are the
data's own range with a margin, wide enough not to bind; they are part of an attack's settings.
"""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import foolbox
import torch
from foolbox.models.pytorch import PyTorchModel
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import value_and_gradient
from bayesgap.errors import BayesgapError
from bayesgap.tasks.bayes import OptimalClassifier

BOUNDS_MARGIN = 10.0  # pixel units beyond the smallest and largest value of the images


class Foolbox(Attack):
    """Any of foolbox's minimisation attacks that minimise L2, by the name of its class."""

    def __init__(
        self,
        attack: str,
        *,
        name: str,
        bayes_logit_scale: float = 1.0,
        bounds_margin: float = BOUNDS_MARGIN,
        **settings: Any,
    ):
        """Build the attack.

        Args:
            attack: The name of a class of `foolbox.attacks`, such as "DDNAttack".
            name: What results call the attack.
            bayes_logit_scale: What a Bayes-optimal classifier's logits are multiplied by, for this
                attack alone: its temperature is ours to choose, and attacks differ in the best.
            bounds_margin: How far, in pixel units, the bounds lie beyond the images' own range.
            **settings: What the class itself takes, such as steps=1000.

        Raises:
            BayesgapError: foolbox has no such minimisation attack, not with these settings, or
                it minimises another norm.
        """
        kind = getattr(foolbox.attacks, attack, None)
        if not (isinstance(kind, type) and _is_minimisation(kind)):
            known = [
                name for name, found in vars(foolbox.attacks).items() if _is_minimisation(found)
            ]
            near = difflib.get_close_matches(attack, known) or known
            raise BayesgapError(
                f"foolbox has no minimisation attack called {attack!r}; it has {', '.join(near)}."
            )
        _check_settings(kind, settings)
        try:
            self.attack = kind(**settings)
        except TypeError as error:
            raise BayesgapError(f"foolbox's {attack} cannot be set up: {error}.") from error
        except ImportError as error:
            raise _lacking(attack, error) from error
        if self.attack.distance != foolbox.distances.l2:
            raise BayesgapError(f"foolbox's {attack} minimises {self.attack.distance}, not L2.")
        self.name = name
        self.bayes_logit_scale = bayes_logit_scale
        self.bounds_margin = bounds_margin

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Run foolbox's attack without a limit on the perturbation.

        Args:
            classifier: The classifier to attack, with gradients.
            x: The images.
            y: The decision on each image.

        Raises:
            BayesgapError: the classifier has no gradient.
        """
        value_and_gradient(lambda image: classifier(image).sum(dim=1), x[:1])
        bounds = (x.min().item() - self.bounds_margin, x.max().item() + self.bounds_margin)
        scale = self.bayes_logit_scale if isinstance(classifier, OptimalClassifier) else 1.0
        scaled = _Scaled(classifier, scale)
        scaled.training = False  # as the classifier is already, which may have no eval of its own
        model = PyTorchModel(scaled, bounds=bounds, device=x.device)
        # Some of foolbox's attacks draw from the global generator: lend them one, and take it back.
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            torch.manual_seed(0)
            try:
                images = self.attack.run(model, x, foolbox.criteria.Misclassification(y))
            except ImportError as error:
                raise _lacking(type(self.attack).__name__, error) from error
        # An image of zeros is how some attacks say that they found nothing.
        nothing = (images == 0).flatten(1).all(dim=1)
        return torch.where(nothing[:, None, None, None], x, images)


def _is_minimisation(kind: object) -> bool:
    base = foolbox.attacks.base.MinimizationAttack
    return isinstance(kind, type) and issubclass(kind, base) and not inspect.isabstract(kind)


def _check_settings(kind: type, settings: Mapping[str, Any]) -> None:
    """Refuse a setting that is no number where the class's default is one."""
    for name, parameter in inspect.signature(kind).parameters.items():
        for number, what in ((int, "a whole number"), (float, "a number")):
            given = settings.get(name, parameter.default)
            fits = isinstance(given, int | number | None) and not isinstance(given, bool)
            if type(parameter.default) is number and not fits:
                raise BayesgapError(
                    f"The setting {name!r} of foolbox's {kind.__name__} is {what}; got {given!r}."
                )


def _lacking(attack: str, error: ImportError) -> BayesgapError:
    return BayesgapError(f"foolbox's {attack} needs a package that is not installed here: {error}.")


class _Scaled(nn.Module):
    def __init__(self, classifier: nn.Module, scale: float):
        super().__init__()
        self.classifier = classifier
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = self.scale * self.classifier(x)
        return scaled


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
