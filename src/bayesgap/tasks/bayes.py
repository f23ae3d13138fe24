"""The Bayes-optimal classifier of a task, as a module that attacks can differentiate.

There are two: one for any densities, and one for mixtures of factor analyzers, which scores all
components of all classes at once and can name those that decide (certificates and LD-Grad need
them). `optimal_classifier` chooses.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.densities.base import Density, PreciseModule
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError

Rule = Literal["log-sum-exp", "max-component"]


class OptimalClassifier(PreciseModule, ABC):
    """argmax over classes of log prior + log p(x given class).

    The logits are log-joints less their mean over classes, divided by a temperature: decisions
    are those of the exact posterior, but no exponential of a million nats overflows in an
    attack's loss.

    Attributes:
        temperature: What logits are divided by, in nats.
    """

    def __init__(self, *, temperature: float):
        """Check the temperature.

        Args:
            temperature: What logits are divided by, in nats.

        Raises:
            BayesgapError: a temperature that is not positive and finite.
        """
        super().__init__()
        if not (temperature > 0 and math.isfinite(temperature)):
            raise BayesgapError(f"A temperature must be positive and finite; got {temperature}.")
        self.temperature = temperature

    @abstractmethod
    def log_joint(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """log prior + log p(x given class) in nats, without temperature."""

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Logits; their differences are those of the log-posterior divided by the temperature."""
        log_joint = self.log_joint(x)
        return (log_joint - log_joint.mean(dim=1, keepdim=True)) / self.temperature


class DensityClassifier(OptimalClassifier):
    """The optimum of any densities; float64.

    Densities that are modules are copied, so that what is done to the classifier (moved, cast,
    frozen) is done to no density of the task; they lie where the priors lie.
    """

    log_priors: Tensor

    def __init__(
        self,
        densities: Sequence[Density],
        priors: Float[Tensor, " classes"],
        *,
        temperature: float,
    ):
        """Hold the densities.

        Args:
            densities: One density for each class, all over points of the same length.
            priors: The probability of each class, positive; they sum to 1.
            temperature: What logits are divided by, in nats.

        Raises:
            BayesgapError: a temperature that is not positive and finite.
        """
        super().__init__(temperature=temperature)
        self.densities = tuple(_held(density, priors.device) for density in densities)
        # What is registered moves with this module.
        self.density_modules = nn.ModuleList(
            [density for density in self.densities if isinstance(density, nn.Module)]
        )
        self.register_buffer("log_priors", priors.double().log())

    def log_joint(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """log prior + log p(x given class) in nats, without temperature.

        Raises:
            BayesgapError: a density's `log_prob` gives no single value for each point.
        """
        points = x.flatten(1).to(self.log_priors)
        scores = [self._score(density, points) for density in self.densities]
        return torch.stack(scores, dim=1) + self.log_priors

    def _score(self, density: Density, points: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        score = density.log_prob(points)
        given = tuple(score.shape) if isinstance(score, Tensor) else f"a {type(score).__name__}"
        if given != (len(points),):
            raise BayesgapError(
                f"The log_prob of a {type(density).__name__} must give a tensor of one value for "
                f"each point, here of shape {(len(points),)}; it gave {given}."
            )
        return score.to(self.log_priors)


class BayesClassifier(OptimalClassifier):
    """The optimum of mixtures of factor analyzers, with their components; float64.

    Attributes:
        rule: How a class collects its components, "log-sum-exp" or "max-component".
        sizes: The number of components of each class.
        marginal: The density of images of any class: it has the components of all classes, class
            after class, with weights prior · pi.
        component_class: The class of each of these components, (components,).
    """

    component_class: Tensor

    def __init__(
        self,
        densities: Sequence[MixtureOfFactorAnalyzers],
        priors: Float[Tensor, " classes"],
        *,
        temperature: float,
        rule: Rule = "log-sum-exp",
    ):
        """Hold the components of all densities.

        Args:
            densities: One mixture for each class, all over points of the same length.
            priors: The probability of each class, positive; they sum to 1.
            temperature: What logits are divided by, in nats.
            rule: "log-sum-exp" over a class's components (exact), or "max-component", which
                keeps only the largest (section 3 of the paper).

        Raises:
            BayesgapError: a temperature that is not positive and finite, or another rule.
        """
        super().__init__(temperature=temperature)
        _check_rule(rule)
        self.rule = rule
        self.sizes = [density.components for density in densities]
        # One density of all classes' components scores them all by the same two products.
        latent = max(density.latent for density in densities)
        self.marginal = MixtureOfFactorAnalyzers(
            torch.cat(
                [
                    prior * d.weights.double()
                    for prior, d in zip(priors.double(), densities, strict=True)
                ]
            ),
            torch.cat([d.means for d in densities]),
            torch.cat([nn.functional.pad(d.factors, (0, latent - d.latent)) for d in densities]),
            torch.cat([d.noise for d in densities]),
        )
        classes = torch.arange(len(densities))
        self.register_buffer("component_class", classes.repeat_interleave(torch.tensor(self.sizes)))

    def component_log_joints(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n components"]:
        """log (prior · pi · N) of every class's components, in the order of `component_class`."""
        return self.marginal.component_log_prob(x.flatten(1))

    def log_joint(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """log prior + log p(x given class) under the rule, in nats, without temperature."""
        parts = self.component_log_joints(x).split(self.sizes, dim=1)
        if self.rule == "max-component":
            return torch.stack([part.amax(dim=1) for part in parts], dim=1)
        return torch.stack([part.logsumexp(dim=1) for part in parts], dim=1)

    def likeliest_components(
        self, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"], targets: int = 1
    ) -> tuple[Int[Tensor, " n"], Int[Tensor, "n targets"]]:
        """The likeliest component of the own class at x, and the likeliest of the other classes.

        Args:
            x: Images.
            y: The own class of each image.
            targets: The number of components of other classes that are wanted; there are fewer
                where the other classes have fewer.

        Returns:
            Indices into `component_log_joints`: of the own component, (n,), and of the others,
            (n, targets), from likelier to less likely.
        """
        joints = self.component_log_joints(x)
        own = self.component_class == y[:, None]
        source = joints.masked_fill(~own, -torch.inf).argmax(dim=1)
        targets = min(targets, int((~own).sum(dim=1).min()))
        return source, joints.masked_fill(own, -torch.inf).topk(targets, dim=1).indices


def optimal_classifier(
    densities: Sequence[Density],
    priors: Float[Tensor, " classes"],
    *,
    temperature: float,
    rule: Rule = "log-sum-exp",
) -> OptimalClassifier:
    """The optimum of any densities: a `BayesClassifier` where all are mixtures.

    Args:
        densities: One density for each class, all over points of the same length.
        priors: The probability of each class, positive; they sum to 1.
        temperature: What logits are divided by, in nats.
        rule: How a class collects its components; "max-component" needs mixtures.

    Raises:
        BayesgapError: a temperature that is not positive and finite, or a rule that does not
            exist or not for these densities.
    """
    mixtures = [d for d in densities if isinstance(d, MixtureOfFactorAnalyzers)]
    if len(mixtures) == len(densities):
        return BayesClassifier(mixtures, priors, temperature=temperature, rule=rule)
    _check_rule(rule)
    if rule == "max-component":
        other = next(d for d in densities if not isinstance(d, MixtureOfFactorAnalyzers))
        raise BayesgapError(
            "The rule 'max-component' exists for mixtures of factor analyzers alone, and a "
            f"{type(other).__name__} has no components: take 'log-sum-exp', the exact rule."
        )
    return DensityClassifier(densities, priors, temperature=temperature)


def _check_rule(rule: str) -> None:
    if rule not in get_args(Rule):
        raise BayesgapError(f"The rules are 'log-sum-exp' and 'max-component'; got {rule!r}.")


def _held(density: Density, device: torch.device) -> Density:
    """The density itself; of a module a copy that is not trained, on the device."""
    if not isinstance(density, nn.Module):
        return density
    return copy.deepcopy(density).to(device).eval().requires_grad_(False)
