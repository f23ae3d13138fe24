"""The one-nearest-neighbour classifier: no training, and a decision boundary that is known exactly.

Its cells are polyhedra, so that the smallest perturbation which changes a decision can be computed
(`bayesgap.attacks.nearest`).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayesgap.classifiers.linear import AffineStep
from bayesgap.classifiers.module import check_labels
from bayesgap.classifiers.svm import CHUNK_BYTES, squared_distances
from bayesgap.errors import BayesgapError


class NearestNeighbour(nn.Module):
    """Decides as the nearest training image is labelled; of equally near ones, the least label.

    The logit of a class is −‖x − s‖² of its nearest training image s. Of −‖x − s‖, which decides
    the same, the gradient jumps at s; of the square, the margin between two classes is linear in x
    as long as their nearest images stay the same, so that one Newton step ends on the bisector.

    Attributes:
        images: The training images, flattened and sorted by label; (m, d), float64.
        labels: The label of each, of shape (m,).
    """

    images: Tensor
    labels: Tensor

    def __init__(self, images: Tensor, labels: Tensor):
        """Hold the training images.

        Args:
            images: The training images (m, …), flattened or not.
            labels: The label (m,) of each image: each of 0 to classes − 1, of two classes or more.

        Raises:
            BayesgapError: no images, an image with NaN or infinity, not one label an image, or a
                class without images.
        """
        super().__init__()
        if labels.shape != images.shape[:1]:
            raise BayesgapError(
                f"{len(images)} training images need as many labels; got shape "
                f"{tuple(labels.shape)}."
            )
        check_labels(labels, max([1, *labels.tolist()]) + 1)
        if not torch.isfinite(images).all():
            raise BayesgapError("Training images must be finite; some hold NaN or infinity.")
        missing = (labels.bincount(minlength=2) == 0).nonzero()
        if len(missing):
            raise BayesgapError(
                f"A nearest neighbour needs images of every class; none of class {int(missing[0])}."
            )
        order = labels.argsort(stable=True)
        self.register_buffer("images", images.flatten(1).double()[order])
        self.register_buffer("labels", labels.long()[order])

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Logits; distances to all training images are made for a chunk of images at a time.

        Args:
            x: The images, float64.
        """
        classes = self.images.split(self.labels.bincount().tolist())
        rows = max(1, CHUNK_BYTES // (8 * max(self.images.shape)))
        return torch.cat(
            [
                torch.stack([-_to_nearest(chunk, images) for images in classes], dim=1)
                for chunk in x.flatten(1).split(rows)
            ]
        )


def _to_nearest(x: Float[Tensor, "n d"], images: Float[Tensor, "m d"]) -> Float[Tensor, " n"]:
    """‖x − s‖² of the nearest image s, from the difference itself.

    The product by which it is found cancels digits; and so an image that two classes share has
    the same logit in both, to the last bit.
    """
    with torch.no_grad():
        nearest = squared_distances(x, images).argmin(dim=1)
    return (x - images[nearest]).square().sum(dim=1)


def neighbour_of(classifier: nn.Module) -> tuple[list[AffineStep], NearestNeighbour] | None:
    """The nearest neighbour that a classifier is, and the affine steps that images take before.

    Args:
        classifier: Any classifier.

    Returns:
        The steps, in order, and the neighbour; None where the classifier is nothing of the kind.
    """
    if isinstance(classifier, NearestNeighbour):
        return [], classifier
    if type(classifier) is not nn.Sequential or not len(classifier):
        return None
    if any(part._forward_hooks or part._forward_pre_hooks for part in classifier.modules()):
        return None
    *before, last = classifier
    steps = [step for step in before if type(step) is AffineStep]
    return (steps, last) if len(steps) == len(before) and type(last) is NearestNeighbour else None
