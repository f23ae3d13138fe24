"""The Bayes-optimal classifier of a task, as a module that attacks can differentiate."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError

Rule = Literal["log-sum-exp", "max-component"]


class BayesClassifier(nn.Module):
    """argmax over classes of log prior + log p(x given class); float64.

    The logits are log-joints less their mean over classes, divided by a temperature: decisions
    are those of the exact posterior, but no exponential of a million nats overflows in an
    attack's loss.
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
        """Hold the densities.

        Args:
            densities: One a class.
            priors: Of the classes.
            temperature: What logits are divided by, in nats.
            rule: "log-sum-exp" over a class's components (exact), or "max-component", which
                keeps only the largest (section 3 of the paper).

        Raises:
            BayesgapError: a temperature that is not positive, or another rule.
        """
        super().__init__()
        if not (temperature > 0 and math.isfinite(temperature)):
            raise BayesgapError(f"A temperature must be positive and finite; got {temperature}.")
        if rule not in ("log-sum-exp", "max-component"):
            raise BayesgapError(f"The rules are 'log-sum-exp' and 'max-component'; got {rule!r}.")
        self.temperature = temperature
        self.rule = rule
        self.sizes = [density.components for density in densities]
        # The density of images of any class has all components, with weights prior · pi, and
        # scores them all by the same two products.
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

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Logits; their differences are those of the log-posterior divided by the temperature."""
        log_joint = self.log_joint(x)
        return (log_joint - log_joint.mean(dim=1, keepdim=True)) / self.temperature

    def likeliest_components(
        self, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"], targets: int = 1
    ) -> tuple[Int[Tensor, " n"], Int[Tensor, "n targets"]]:
        """The likeliest component of the own class at x, and the likeliest of the other classes.

        Returns:
            Indices into `component_log_joints`; the targets from likelier to less likely.
        """
        joints = self.component_log_joints(x)
        own = self.component_class == y[:, None]
        source = joints.masked_fill(~own, -torch.inf).argmax(dim=1)
        targets = min(targets, int((~own).sum(dim=1).min()))
        return source, joints.masked_fill(own, -torch.inf).topk(targets, dim=1).indices
