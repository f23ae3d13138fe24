"""What every classifier is to this package: a `torch.nn.Module` from images to logits.

Whoever calls one casts images to the dtype and device where the classifier's tensors lie, takes
them in chunks, and finds out whether it is a classifier at all; these are the only places that
do so.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bayesgap.errors import BayesgapError
from bayesgap.tasks.checks import check_dense, strange

CHUNK = 256  # images at a time
NO_GRADIENT = (
    "This attack follows gradients, and the classifier's logits have none with respect to the "
    "images: it detaches them, or computes outside torch."
)


def check_labels(y: Int[Tensor, " n"], classes: int) -> None:
    """Refuse to train with no images, or with labels that are no classes.

    Args:
        y: The labels of the images to train on.
        classes: The number of classes.

    Raises:
        BayesgapError: there are none, or one of them is no class.
    """
    if not len(y):
        raise BayesgapError("Training needs images; there are none.")
    wrong = y[(y < 0) | (y >= classes)]
    if len(wrong):
        raise BayesgapError(f"Labels must lie in 0 to {classes - 1}; got {wrong[0].item()}.")


def placed(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n *image"]:
    """The images in the classifier's dtype, on its device; in float32 where it has no tensors.

    Args:
        classifier: The classifier that is to see them.
        x: The images.
    """
    for tensor in itertools.chain(classifier.parameters(), classifier.buffers()):
        if torch.is_floating_point(tensor):
            return x.to(tensor)
    return x.float()


@contextmanager
def evaluating(classifier: nn.Module) -> Iterator[None]:
    """Put a classifier into evaluation mode with frozen parameters, and back as it was after.

    An attack differentiates by images alone: without this it would leave gradients behind on
    parameters that their owner goes on to train. Within `torch.inference_mode` the block is out of
    it, and tensors of the classifier that were made in it, which autograd refuses, are copied
    meanwhile. Whatever is raised, each module gets its own mode back, and each parameter its
    `requires_grad`.

    Args:
        classifier: The classifier, changed within the block.

    Raises:
        BayesgapError: it is no module, was never initialised, has parameters that were not or
            that hold no numbers, or cannot be put into evaluation mode or back.
    """
    if not isinstance(classifier, nn.Module):
        raise BayesgapError(
            "A classifier is a torch.nn.Module from images to logits; this is a "
            f"{type(classifier).__name__}: give bayesgap.as_classifier(…) of it."
        )
    tensors = _tensors(classifier)
    if any(map(is_lazy, tensors)):
        raise BayesgapError(
            f"This {kind_of(classifier)} has lazy layers that no image has passed yet, so it is "
            "untrained: call it once on images, then train it."
        )
    for tensor in tensors:
        if tensor.is_meta:  # sparse ones are its own affair
            check_dense(tensor, f"Each tensor of this {kind_of(classifier)}")
    # Modules frozen by torch.jit have no mode.
    modes = [(module, getattr(module, "training", False)) for module in classifier.modules()]
    learned = [(parameter, parameter.requires_grad) for parameter in classifier.parameters()]
    inferring = torch.is_inference_mode_enabled()
    failed: Exception | None = None
    with torch.inference_mode(False) if inferring else nullcontext(), _usable_tensors(classifier):
        try:
            set_evaluating(classifier)
            _require_gradients([(parameter, False) for parameter in classifier.parameters()])
            yield
        finally:
            try:
                _restore_modes(modes)
            except Exception as error:
                failed = error
            finally:
                for module, mode in modes:
                    if getattr(module, "training", mode) != mode:
                        module.training = mode
                _require_gradients(learned)
        if failed is not None:
            raise BayesgapError(
                f"This {kind_of(classifier)} cannot be put back into training mode by its own "
                f"train: {reason_of(failed)}"
            ) from failed


def _tensors(classifier: nn.Module) -> list[Tensor]:
    """All parameters and buffers.

    Raises:
        BayesgapError: it is no module yet.
    """
    try:
        return [*classifier.parameters(), *classifier.buffers()]
    except AttributeError as error:
        raise BayesgapError(
            f"This {kind_of(classifier)}, or a module in it, was never initialised: its __init__ "
            f"must call super().__init__() first ({error})."
        ) from error


def set_evaluating(classifier: nn.Module) -> None:
    """Put a classifier into evaluation mode, unless it is.

    Args:
        classifier: The classifier, changed.

    Raises:
        BayesgapError: its own `eval` or `train` failed.
    """
    if not any(getattr(module, "training", False) for module in classifier.modules()):
        return
    try:
        _set_mode(classifier, False)
    except Exception as error:
        raise BayesgapError(
            f"This {kind_of(classifier)} cannot be put into evaluation mode: {reason_of(error)}"
        ) from error


def _set_mode(module: nn.Module, mode: bool) -> None:
    """By the module's own methods, which may do more and return None."""
    try:
        if mode:
            module.train()
        else:
            module.eval()
    except NotImplementedError:  # of what torch.export made, whose graph is of one mode
        module.training = mode
        for child in module.children():
            _set_mode(child, mode)


def _restore_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Parents come first: what is then amiss is a child's own mode."""
    for module, mode in modes:
        if getattr(module, "training", mode) != mode:
            _set_mode(module, mode)


def _require_gradients(wanted: list[tuple[nn.Parameter, bool]]) -> None:
    for parameter, required in wanted:
        if parameter.requires_grad != required:
            parameter.requires_grad_(required)


@contextmanager
def _usable_tensors(classifier: nn.Module) -> Iterator[None]:
    """Copies in place of tensors that were made in `torch.inference_mode`."""
    replaced: list[tuple[Any, str, Tensor]] = []
    try:
        for module in classifier.modules():
            held: Any
            for held in (module._parameters, module._buffers):
                for name, tensor in list(held.items()):
                    if tensor is not None and tensor.is_inference():
                        replaced.append((held, name, tensor))
                        copy = tensor.detach().clone()
                        held[name] = (
                            nn.Parameter(copy, requires_grad=False)
                            if isinstance(tensor, nn.Parameter)
                            else copy
                        )
        yield
    finally:
        for held, name, tensor in replaced:
            held[name] = tensor


def kind_of(classifier: nn.Module) -> str:
    """What messages call a classifier: its class, or that of what `as_classifier` was given.

    Args:
        classifier: The classifier to name.
    """
    return str(getattr(classifier, "adapted_kind", type(classifier).__name__))


def reason_of(error: Exception) -> str:
    """The kind of error and the most telling line of what it says, as the end of a sentence.

    Args:
        error: What was raised.
    """
    lines = str(error).strip().splitlines() or [""]
    # TorchScript's begins with where it failed, and ends with why.
    said = lines[-1] if "TorchScript interpreter" in lines[0] else lines[0]
    kind = type(error).__name__
    return f"{kind}: {said.removeprefix(f'{kind}: ')}".rstrip(":. ") + "."


def called(classifier: nn.Module, x: Float[Tensor, "n *image"], *, kind: str | None = None) -> Any:
    """What a classifier returns for images, whatever that is.

    Args:
        classifier: The classifier to call.
        x: The images, in its dtype.
        kind: What messages call it; by default as `kind_of` says.

    Raises:
        BayesgapError: whatever the classifier raises.
    """
    try:
        return classifier(x)
    except BayesgapError:
        raise
    except Exception as error:
        raise BayesgapError(
            f"This {kind or kind_of(classifier)} failed on images of {tuple(x.shape)}, {x.dtype}: "
            f"{reason_of(error)}"
        ) from error


def gradient_of(
    value: Float[Tensor, " n"], z: Float[Tensor, "n *image"], *, again: bool = False
) -> Float[Tensor, "n *image"]:
    """The gradient of each image's value in that image.

    Args:
        value: Computed from z, each entry from its image alone.
        z: The images.
        again: Whether gradients of what led from z to the value are wanted again.

    Raises:
        BayesgapError: there is none, or the classifier's backward pass failed.
    """
    if not value.requires_grad:
        raise BayesgapError(NO_GRADIENT)
    try:
        (gradient,) = torch.autograd.grad(value.sum(), z, retain_graph=again, allow_unused=True)
    except (BayesgapError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the operations' own backwards may raise anything
        raise BayesgapError(
            f"This attack follows gradients, and the classifier's backward pass failed: "
            f"{reason_of(error)}"
        ) from error
    if gradient is None:
        raise BayesgapError(NO_GRADIENT)
    found: Tensor = gradient
    return found


def outputs(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n classes"]:
    """What the classifier says of each image, finite or not, without gradients, on the CPU.

    Args:
        classifier: The classifier to ask.
        x: The images, of any float dtype and device.

    Raises:
        BayesgapError: the classifier cannot take the images, or its output is not one row of
            logits an image.
    """
    rows = []
    for chunk in x.split(CHUNK):
        with torch.no_grad():
            # A copy, for a forward may change its input in place.
            out = called(classifier, placed(classifier, chunk).clone())
        given: object = f"a {type(out).__name__}"
        if isinstance(out, Tensor):
            given = strange(out) or tuple(out.shape)
        if not (
            isinstance(out, Tensor)
            and not strange(out)
            and out.ndim == 2
            and len(out) == len(chunk)
            and out.shape[1] >= 2
        ):
            raise BayesgapError(
                f"A classifier must turn images (n, C, H, W) into logits (n, classes); this "
                f"{kind_of(classifier)} turned {tuple(chunk.shape)} into {given}: see "
                "bayesgap.as_classifier."
            )
        rows.append(out.cpu())
    return torch.cat(rows)


def logits(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n classes"]:
    """The classifier's logits, without gradients, on the CPU.

    Args:
        classifier: The classifier to ask.
        x: The images, of any float dtype and device.

    Raises:
        BayesgapError: the classifier's output is not one row of finite logits an image.
    """
    out = outputs(classifier, x)
    if not torch.isfinite(out).all():
        raise BayesgapError(
            f"This {kind_of(classifier)} gave NaN or infinite logits for "
            f"{int((~torch.isfinite(out)).any(dim=1).sum())} of {len(x)} images."
        )
    return out


def decisions(classifier: nn.Module, x: Float[Tensor, "n *image"]) -> Int[Tensor, " n"]:
    """The class that each image is put in: the first of the largest logits; on the CPU.

    Args:
        classifier: The classifier to ask.
        x: The images, of any float dtype and device.

    Raises:
        BayesgapError: the classifier's output is not one row of finite logits an image.
    """
    return logits(classifier, x).argmax(dim=1)


def margin(logit: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The logit of y less the largest other one: negative where the decision is not y.

    Args:
        logit: The logits of each image.
        y: The class whose margin is meant, for each image.
    """
    own = torch.nn.functional.one_hot(y, logit.shape[1]).bool()
    return logit[own] - logit.masked_fill(own, -torch.inf).amax(dim=1)


def as_two(function: Float[Tensor, "n 1"]) -> Float[Tensor, "n 2"]:
    """(−f/2, f/2): the logits of two classes whose margin is |f|.

    Args:
        function: f of each image, positive for class 1.
    """
    return torch.cat([-function / 2, function / 2], dim=1)


class Boxed(nn.Module):
    """A classifier of images that are clipped to a box of pixel values first.

    Where an image lies in the box, clipping brings no point of the box's outside farther from it.

    Attributes:
        classifier: The classifier that sees clipped images.
        low: The smallest pixel value.
        high: The largest pixel value.
    """

    def __init__(self, classifier: nn.Module, box: tuple[float, float]):
        """Hold the classifier and the box.

        Args:
            classifier: The classifier that sees clipped images.
            box: The smallest and the largest pixel value.
        """
        super().__init__()
        self.classifier = classifier
        self.low, self.high = box

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """The classifier's logits of the clipped images."""
        logits: Tensor = self.classifier(x.clamp(self.low, self.high))
        return logits
