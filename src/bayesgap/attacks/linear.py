"""The linear SVM's closed form: its minimal perturbation, straight to the nearest hyperplane."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError

OVERSHOOT = 1e-9  # of the distance: the hyperplane itself may still be decided as before
ROUNDINGS = 8  # of the image's own size, for images that lie nearly on the hyperplane


class LinearClosedForm(Attack):
    """‖perturbation‖ = |f_y − f_k| / ‖w_y − w_k‖ for the nearest other class k, exactly."""

    name = "closed-form"

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Step onto the nearest of the hyperplanes between y and the other classes.

        Args:
            classifier: The linear SVM to attack.
            x: The images, float64.
            y: The decision on each image.

        Raises:
            BayesgapError: the classifier is no linear SVM.
        """
        if not isinstance(classifier, LinearSVM):
            raise BayesgapError(
                "The closed form is for bayesgap's LinearSVM alone; it knows nothing of other "
                "classifiers."
            )
        logits = classifier(x)
        # Logit differences are linear in x; with one function f they are −f and f.
        weight = classifier.weight
        weight = weight if len(weight) > 1 else torch.cat([-weight / 2, weight / 2])
        slopes = weight[y][:, None, :] - weight[None, :, :]
        gaps = logits.gather(1, y[:, None]) - logits
        lengths = slopes.norm(dim=2)
        distances = (gaps / lengths).masked_fill(lengths == 0, torch.inf)
        distance, other = distances.min(dim=1)
        rows = torch.arange(len(x), device=x.device)
        distance = (1 + OVERSHOOT) * distance
        distance += ROUNDINGS * torch.finfo(x.dtype).eps * x.flatten(1).norm(dim=1)
        steps = slopes[rows, other] * (distance / lengths[rows, other])[:, None]
        images: Float[Tensor, "n C H W"] = x - steps.reshape(x.shape)
        return images
