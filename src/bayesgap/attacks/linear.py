"""The linear classifier's closed form: its minimal perturbation, straight to a hyperplane."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.classifiers.linear import affine_of
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError

OVERSHOOT = 1e-9  # of the distance: the hyperplane itself may still be decided as before
ROUNDINGS = 8  # of the image's own size, for images that lie nearly on the hyperplane


class LinearClosedForm(Attack):
    """‖perturbation‖ = |f_y − f_k| / ‖w_y − w_k‖ for the nearest other class k, exactly.

    It is lengthened so that rounding cannot take the decision back: by 1e-9 of itself in float64,
    and by some 1e-6 of the image's size in float32.
    """

    name = "closed-form"

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Step onto the nearest of the hyperplanes between y and the other classes.

        Args:
            classifier: The linear classifier to attack, as `affine_of` knows it.
            x: The images.
            y: The decision on each image.

        Raises:
            BayesgapError: the classifier is not known to be linear.
        """
        known = affine_of(classifier)
        if known is None:
            raise BayesgapError(
                "The closed form is for linear classifiers alone (see "
                "bayesgap.classifiers.linear.affine_of); it knows nothing of others."
            )
        weight, bias = known
        with torch.no_grad():
            # Logit differences are linear in x; with one function f they are −f and f.
            logits = (
                classifier(x)
                if x.dtype == torch.float64
                else nn.functional.linear(x.flatten(1).double(), weight, bias)
            )
            slopes = weight[y][:, None, :] - weight[None, :, :]
            gaps = logits.gather(1, y[:, None]) - logits
            lengths = slopes.norm(dim=2)
            distances = (gaps / lengths).masked_fill(lengths == 0, torch.inf)
            distance, other = distances.min(dim=1)
            rows = torch.arange(len(x), device=x.device)
            length = lengths[rows, other]
            rounding = ROUNDINGS * torch.finfo(x.dtype).eps
            size = x.flatten(1).norm(dim=1)
            if not isinstance(classifier, LinearSVM):
                # A scaler's shift makes biases that outweigh the image.
                size = size + (bias[y].abs() + bias[other].abs()) / length
            distance = (1 + max(OVERSHOOT, rounding)) * distance + rounding * size
            steps = slopes[rows, other] * (distance / length)[:, None]
            images: Float[Tensor, "n C H W"] = (x - steps.reshape(x.shape)).to(x)
        return images
