"""The minimal perturbation itself, of the classifiers for which it is known how to compute it."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.linear import LinearClosedForm
from bayesgap.attacks.nearest import NearestClosedForm
from bayesgap.classifiers.linear import affine_of
from bayesgap.classifiers.nearest import neighbour_of
from bayesgap.errors import BayesgapError


class ClosedForm(Attack):
    """The closed form of the classifier's own kind: of the linear ones, and of one neighbour."""

    name = "closed-form"

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Let the form of that kind step onto the boundary.

        Args:
            classifier: The classifier to attack.
            x: The images.
            y: The decision on each image.

        Raises:
            BayesgapError: the classifier is of a kind that has no closed form here.
        """
        form = _form_of(classifier)
        if form is None:
            raise BayesgapError(
                "There are closed forms for linear classifiers and for one nearest neighbour "
                f"alone; a {type(classifier).__name__} has none."
            )
        return form.run(classifier, x, y)


def has_closed_form(classifier: nn.Module) -> bool:
    """Whether `ClosedForm` knows the classifier's minimal perturbations.

    Args:
        classifier: The classifier to attack.
    """
    return _form_of(classifier) is not None


def _form_of(classifier: nn.Module) -> Attack | None:
    if neighbour_of(classifier) is not None:
        return NearestClosedForm()
    return None if affine_of(classifier) is None else LinearClosedForm()
