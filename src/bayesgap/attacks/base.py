"""What an attack is: the smallest perturbation it can find that changes a decision.

The base class does what all have in common: it checks the input, casts it to the classifier,
works in chunks, verifies every image on the classifier itself, and measures it by the norm that
was asked for. A subclass holds its algorithm alone, and cannot report a success that is none.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesgap.classifiers.module import (
    decisions,
    evaluating,
    logits,
    outputs,
    placed,
    set_evaluating,
)
from bayesgap.errors import BayesgapError
from bayesgap.norms import L2, Norm
from bayesgap.progress import progress
from bayesgap.tasks.checks import check_dense, strange

CHUNK = 256  # images attacked at a time
OWN = __name__.partition(".")[0]


@dataclass(frozen=True)
class Adversarials:
    """What an attack found, one entry for each image.

    Attributes:
        images: In the classifier's dtype; where the attack failed, the image itself.
        success: Whether the classifier decides the image differently from the label given.
        sizes: The size of adversarial − image in pixel units, float64; infinite where the attack
            failed.
        norm: What the sizes were measured by.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> found = bayesgap.named_attack("ddn")(task.bayes_classifier(), *task.sample(2, seed=0))
        >>> found.success.tolist(), found.norm.name
        ([True, True], 'L2')
    """

    images: Float[Tensor, "n C H W"]
    success: Bool[Tensor, " n"]
    sizes: Float[Tensor, " n"]
    norm: Norm = L2


class Attack(ABC):
    """Call it with a classifier, images and labels; it looks for another decision nearby.

    Attributes:
        name: What results call it; by default the name of the class.

    Example:
        >>> class Mirror(bayesgap.Attack):
        ...     "Exchanges left and right, which is hardly the smallest perturbation."
        ...
        ...     def run(self, classifier, x, y):
        ...         return x.flip(3)
        >>> brighter = torch.nn.Flatten()  # of two pixels
        >>> found = Mirror()(brighter, torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([1]))
        >>> found.success.item(), round(found.sizes.item(), 3)
        (True, 1.414)
    """

    name: str

    def __init_subclass__(cls) -> None:
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    def __call__(
        self, classifier: nn.Module, x: Tensor, y: Tensor, *, norm: Norm = L2
    ) -> Adversarials:
        """Attack every image.

        Gradients are taken within `torch.no_grad` and `torch.inference_mode` too, and none reach
        what the images were made of.

        Args:
            classifier: From images (n, C, H, W) to logits (n, classes).
            x: Images (n, C, H, W).
            y: Labels (n,), integers; an image that is already decided otherwise is a success
                at distance 0.
            norm: What perturbations are measured by; the attacks of this package look for those
                of small L2, whatever it is.

        Raises:
            BayesgapError: shapes that do not fit, images with NaN, labels that are no classes, a
                classifier that is none or that computes in half precision.
        """
        check(x, y)
        found = []
        with (
            evaluating(classifier),
            torch.enable_grad(),
            progress(f"{self.name} on {len(x)} images", len(x)) as advance,
        ):
            x, y = placed(classifier, usable(x)), usable(y).long()
            if x.dtype not in (torch.float32, torch.float64):
                raise BayesgapError(
                    f"This classifier computes in {x.dtype}, too coarse for smallest "
                    "perturbations: attack classifier.float()."
                )
            if int(y.max()) >= (classes := logits(classifier, x[:1]).shape[1]):
                raise BayesgapError(f"Labels must lie in 0 to {classes - 1}; got {int(y.max())}.")
            for images, labels in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
                perturbed = self._perturb(classifier, images, labels)
                set_evaluating(classifier)  # whatever the attack left it in
                found.append(verified(classifier, images, labels, perturbed, norm=norm))
                advance(len(images))
        return Adversarials(
            torch.cat([part.images for part in found]),
            torch.cat([part.success for part in found]),
            torch.cat([part.sizes for part in found]),
            norm,
        )

    def _perturb(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Attack only what is decided as y; the rest is adversarial as it is."""
        rows = self._decided(classifier, x, y)
        images = x.clone()
        if len(rows):
            with _answerable(self):
                found = self.run(classifier, x[rows], y.to(x.device)[rows])
            given: object = f"a {type(found).__name__}"
            if isinstance(found, Tensor):
                given = strange(found) or tuple(found.shape)
            if given != tuple(x[rows].shape):
                raise BayesgapError(
                    f"The attack {self.name} must return images of shape {tuple(x[rows].shape)}; "
                    f"it returned {given}."
                )
            images[rows] = found.detach().to(x)
        return images

    def _decided(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Int[Tensor, " r"]:
        """Which of the images are decided as y, and so attacked."""
        return (decisions(classifier, x) == y.cpu()).nonzero().flatten().to(x.device)

    @abstractmethod
    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Perturb images that the classifier decides as y.

        Any tensor of the shape of x may come back: what is no success is found out.
        """


def usable(x: Tensor) -> Tensor:
    """The values alone, as a tensor that autograd takes: without a history or inference mode."""
    return x.clone() if x.is_inference() else x.detach()


@contextmanager
def blaming(attack: str) -> Iterator[None]:
    """Turn whatever someone else's attack raises into a sentence that names the attack.

    Args:
        attack: The attack's name.

    Raises:
        BayesgapError: the attack raised an exception, which is this one's cause.
    """
    try:
        yield
    except BayesgapError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].removesuffix(": ")
        raise BayesgapError(f"The attack {attack} failed with {reason}") from error


def _answerable(attack: Attack) -> AbstractContextManager[None]:
    """Blame a user's attack for what it raises; what this package's raise is a bug of ours."""
    own = type(attack).__module__.partition(".")[0] == OWN
    return nullcontext() if own else blaming(attack.name)


def check(x: Tensor, y: Tensor) -> None:
    """Refuse what no attack can work on: shapes, NaN, labels that are not integers ≥ 0."""
    for what, given in (("Images", x), ("Labels", y)):
        if not isinstance(given, Tensor):
            raise BayesgapError(f"{what} must be a torch tensor; got a {type(given).__name__}.")
        check_dense(given, what)
    if x.ndim != 4 or len(x) == 0:
        raise BayesgapError(f"An attack needs images (n, C, H, W); got shape {tuple(x.shape)}.")
    broken = ~torch.isfinite(x).flatten(1).all(dim=1)
    if broken.any():
        raise BayesgapError(
            f"{int(broken.sum())} of {len(x)} images hold NaN or infinity, "
            f"first: {int(broken.nonzero()[0])}."
        )
    if y.shape != (len(x),) or torch.is_floating_point(y) or y.dtype == torch.bool:
        raise BayesgapError(
            f"{len(x)} images need {len(x)} integer labels; got {y.dtype} of shape "
            f"{tuple(y.shape)}."
        )
    if int(y.min()) < 0:
        raise BayesgapError(f"Labels must be 0 or more; got {int(y.min())}.")


def verified(
    classifier: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    images: Float[Tensor, "n C H W"],
    *,
    norm: Norm = L2,
) -> Adversarials:
    """Ask the classifier which of the perturbed images it really decides otherwise.

    An image, a size or a logit beyond all numbers is a failure of that image alone.
    """
    finite = torch.isfinite(images).flatten(1).all(dim=1)
    images = torch.where(finite[:, None, None, None], images, x)
    sizes = norm.size(images.double() - x.double()).cpu()
    out = outputs(classifier, images)
    success = (out.argmax(dim=1) != y.cpu()) & out.isfinite().all(dim=1) & sizes.isfinite()
    images = torch.where(success.to(x.device)[:, None, None, None], images, x).cpu()
    return Adversarials(images, success, torch.where(success, sizes, torch.inf), norm)


def best_of(found: list[Adversarials]) -> Adversarials:
    """For each image the nearest of several attacks' successes.

    All must come from the same images and classifier.
    """
    sizes = torch.stack([part.sizes for part in found])
    nearest = sizes.argmin(dim=0)
    rows = torch.arange(sizes.shape[1])
    return Adversarials(
        torch.stack([part.images for part in found])[nearest, rows],
        torch.stack([part.success for part in found])[nearest, rows],
        sizes[nearest, rows],
        found[0].norm,
    )


class BestOf(Attack):
    """Several attacks, and for each image the nearest success.

    Example:
        >>> attacks = [bayesgap.named_attack(name) for name in ("ddn", "deepfool")]
        >>> bayesgap.BestOf(attacks).name
        'best of ddn, deepfool'
    """

    def __init__(self, attacks: list[Attack]):
        """Hold the attacks to try."""
        self.attacks = attacks
        self.name = "best of " + ", ".join(attack.name for attack in attacks)

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Run each and keep the nearest."""
        return best_of([attack(classifier, x, y) for attack in self.attacks]).images.to(x)
