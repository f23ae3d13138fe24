"""Walking along a decision boundary: the attack that does not flatter a classifier.

A gradient that vanishes, as an RBF SVM's does far from its support vectors, leaves gradient
attacks with the easy points only, and the mean over their successes misleads. Here every image
has a start that cannot fail: the nearest samples that the classifier puts into another class.
The boundary between is found by bisection, then followed towards the image.
"""

from collections.abc import Iterable, Iterator, Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import (
    FIRST_BISECTIONS,
    beyond,
    bisect,
    gaps,
    nearest_samples,
    nearest_success,
    settled,
    walk,
)


def nearest_crossing(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    starts: Iterable[Float[Tensor, "n C H W"]],
    steps: int,
) -> Float[Tensor, "n C H W"]:
    """Bring each start onto the boundary and walk from there; the nearest end of each image.

    An image none of whose starts lies on the far side comes back itself.

    Args:
        classifier: The classifier whose boundary is meant, with gradients.
        x: The images.
        y: The decision on each image.
        starts: Points to start from, one for each image at a time.
        steps: The largest number of turns of each walk.
    """
    gap = gaps(classifier, y)

    def candidates() -> Iterator[Float[Tensor, "n C H W"]]:
        for start in starts:
            crossing = bisect(gap, x, start, FIRST_BISECTIONS)
            walked = walk(classifier, x, y, crossing, steps)
            # Rounding may take the end back to the near side; then the start is not lost with it.
            yield from (start, crossing, beyond(gap, x, walked))

    return settled(gap, x, nearest_success(classifier, x, y, candidates()))


class BoundaryWalk(Attack):
    """Walks from every start at hand along the boundary to the point nearest to the image.

    Starts are the successes of other attacks, and the nearest samples that the classifier puts
    into another class; the latter exist for every image.
    """

    name = "boundary-walk"

    def __init__(
        self,
        pool: Float[Tensor, "m C H W"],
        *,
        attacks: Sequence[Attack] = (),
        samples: int = 1,
        steps: int = 20,
    ):
        """Hold the starting points.

        Args:
            pool: Images to start from, such as samples of the task; for each decision that is
                attacked, at least one of another.
            attacks: Attacks whose successes to start from as well.
            samples: How many images of the pool, the nearest ones, to walk from.
            steps: The largest number of turns of each walk.
        """
        self.pool = pool
        self.attacks = tuple(attacks)
        self.samples = samples
        self.steps = steps

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Walk from each start.

        Args:
            classifier: The classifier to attack, with gradients.
            x: The images.
            y: The decision on each image.
        """
        return nearest_crossing(classifier, x, y, self._starts(classifier, x, y), self.steps)

    def _starts(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Iterator[Float[Tensor, "n C H W"]]:
        for attack in self.attacks:
            yield attack(classifier, x, y).images.to(x)
        yield from nearest_samples(classifier, x, y, self.pool, self.samples)
