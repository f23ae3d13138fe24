"""A classifier of this package made of whatever a user has."""

import inspect
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayesgap.classifiers.adapted import (
    ONE_VALUE,
    OUTPUTS,
    SLACK,
    Adapted,
    Reading,
    UnreadableError,
)
from bayesgap.classifiers.estimators import is_estimator, of_estimator
from bayesgap.classifiers.module import called, evaluating, kind_of, placed
from bayesgap.errors import BayesgapError, check_integer

PROBES = (3, 1)  # images in the batches that show what is returned; some squeeze a batch of one
AGREEMENT = 1e-4  # of scores of the same images as a tensor and as an array, in float32 too


def as_classifier(
    thing: object,
    *,
    image_shape: Sequence[int],
    classes: int,
    outputs: str = "logits",
    take: int | str | None = None,
    labels: Sequence[Any] | None = None,
) -> nn.Module:
    """A module from images (n, C, H, W) to logits (n, classes) of anything that classifies.

    It is called on a few random images in [0, 1], to see what it returns.

    - A `torch.nn.Module`, on any device, in float32 or float64: itself where it returns logits
      (n, classes), else behind a reader of its output. Scripted, traced and exported ones too,
      these with a dynamic size of batch; what was traced or exported in training mode stays in it.
      Of a compiled one the original is called.
    - A fitted scikit-learn classifier or pipeline of flattened images. Linear models, support
      vector machines of two classes and MLPClassifier become modules with exact gradients, behind
      StandardScaler, MinMaxScaler, MaxAbsScaler and PCA too; so does one nearest neighbour. Others
      are asked as they are, without gradients. All decide as their `predict`; integer labels are
      classes in sorted order, others need `labels`.
    - A function, or any callable, of images as a torch tensor (tried first, in float64, then
      float32; gradients are kept) or as a numpy array, on the CPU. A network that it uses must be
      in evaluation mode. Models of Keras, JAX or ONNX are not supported; functions that call
      them are, without gradients.

    Args:
        thing: The classifier.
        image_shape: (C, H, W) of the images.
        classes: The number of classes, 2 or more.
        outputs: What it returns: "logits" (n, classes), or any scores the largest of which
            decides; "probabilities" (n, classes), whose logarithm is taken; for two classes one
            value an image, "one-logit" f, positive for class 1, which becomes (−f/2, f/2), or
            "one-probability" of class 1; "labels" (n,), which become 1 for that class and 0 for
            the others. An estimator says it itself.
        take: Which of several things that it returns: an index, a key or an attribute.
        labels: What an estimator, or a function that returns labels, calls classes 0, 1, ….

    Raises:
        BayesgapError: it is nothing of the kind, is not fitted or initialised, fails on such
            images, or returns something else than was said.

    Example:
        >>> brightness = lambda x: x.mean(dim=(1, 2, 3)) - 0.5
        >>> told = {"image_shape": (1, 2, 2), "classes": 2, "outputs": "one-logit"}
        >>> bayesgap.as_classifier(brightness, **told)(torch.ones(1, 1, 2, 2)).tolist()
        [[-0.25, 0.25]]
    """
    shape = _checked_shape(image_shape)
    classes = check_integer(classes, "number of classes", least=2)
    names = None if labels is None else _checked_labels(labels, classes)
    _check_words(classes, outputs, take)
    return _of(thing, shape, Reading(classes, outputs, _plain(take), names))


def _of(thing: object, shape: tuple[int, ...], reading: Reading) -> nn.Module:
    if isinstance(thing, type):
        raise BayesgapError(
            f"The class {thing.__name__} itself is no classifier: give an object, "
            f"{thing.__name__}(…)."
        )
    if isinstance(thing, torch.export.ExportedProgram):
        return _of_exported(thing, shape, reading)
    # Of a compiled one the original: attacks change batches and gradients, which compiles anew.
    thing = getattr(thing, "_orig_mod", thing)
    if isinstance(thing, nn.Module):
        return _of_module(thing, shape, reading)
    if is_estimator(thing):
        return _of_estimator(thing, shape, reading)
    if callable(thing):
        return _of_function(thing, shape, reading)
    asked = hasattr(thing, "predict")
    remedy = ": give a function that asks it, lambda x: model.predict(x)" if asked else ""
    raise BayesgapError(
        "A classifier is a torch module, a fitted scikit-learn classifier or a function of images; "
        f"this is a {type(thing).__name__}{remedy}."
    )


def _checked_shape(image_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(map(_plain, image_shape)) if isinstance(image_shape, Iterable) else (image_shape,)
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise BayesgapError(f"Images have a shape (C, H, W); got {image_shape!r}.")
    return shape


def _checked_labels(labels: Sequence[Any], classes: int) -> tuple[Any, ...]:
    """What the classes are called, in their order; of an array or a tensor, plain values."""
    names = labels.tolist() if isinstance(labels, np.ndarray | Tensor) else labels
    several = isinstance(names, Sequence) and not isinstance(names, str)
    told = several and all(isinstance(name, Hashable) for name in names)
    if not told or not len(names) == len(set(names)) == classes:
        raise BayesgapError(
            f"There are {classes} classes, and labels=[…] must name each once, in their order; got "
            f"{labels!r}."
        )
    return tuple(names)


def _check_words(classes: int, outputs: object, take: object) -> None:
    if not isinstance(outputs, str) or outputs not in OUTPUTS:
        raise BayesgapError(f"Outputs are one of {', '.join(OUTPUTS)}; got {outputs!r}.")
    if outputs in ONE_VALUE and classes != 2:
        raise BayesgapError(f"The outputs {outputs!r} are of two classes; there are {classes}.")
    if not isinstance(take, Integral | str | None) or isinstance(take, bool):
        raise BayesgapError(f"take is an index, a key or an attribute's name; got {take!r}.")


def _plain(value: Any) -> Any:
    """An integer of numpy as one of Python; whatever else as it is."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _probe(n: int, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, *shape, dtype=torch.float64, generator=generator)


def _of_exported(
    program: torch.export.ExportedProgram, shape: tuple[int, ...], reading: Reading
) -> nn.Module:
    try:
        return _of_module(program.module(), shape, reading, kind="ExportedProgram")
    except UnreadableError:
        raise
    except BayesgapError as error:
        raise BayesgapError(
            f"{error} A program takes one size of batch unless it was exported with "
            "dynamic_shapes={0: torch.export.Dim.DYNAMIC} of its images."
        ) from error


def _of_module(
    module: nn.Module, shape: tuple[int, ...], reading: Reading, kind: str | None = None
) -> nn.Module:
    """The module itself where it already is what it should be."""
    _refuse_labels(reading)
    adapted = Adapted(module, reading, kind=kind or kind_of(module))
    with evaluating(adapted), torch.no_grad():
        batches = [placed(adapted, _probe(n, shape)) for n in PROBES]
        raw = [called(module, x.clone(), kind=adapted.adapted_kind) for x in batches]
        scores = [adapted(x.clone()) for x in batches]
        if not isinstance(module, Adapted):  # of which it is known what it meant
            _check_meaning(scores[0], reading, adapted.adapted_kind)
        adapted.detached = not _takes_gradients(adapted, batches[0])
    expected = [(n, reading.classes) for n in PROBES]
    given = [
        tuple(out.shape) if isinstance(out, Tensor) and torch.is_floating_point(out) else None
        for out in raw
    ]
    # Of what is scripted no forward can be counted but behind a module.
    scripted = isinstance(module, torch.jit.ScriptModule)
    plain = reading.outputs == "logits" and given == expected
    return module if plain and not adapted.detached and not scripted else adapted


def _takes_gradients(adapted: Adapted, x: Tensor) -> bool:
    """Whether it can be called with images that have a gradient; numpy cannot."""
    try:
        with torch.enable_grad():
            adapted(x.clone().requires_grad_().clone())  # a forward may change its input in place
    except BayesgapError:
        return False
    return True


def _refuse_labels(reading: Reading) -> None:
    if reading.labels is not None and reading.outputs != "labels":
        raise BayesgapError(
            'labels=[…] are for estimators and for outputs="labels"; the columns of logits are '
            "the classes in their order."
        )


def _check_meaning(scores: Float[Tensor, "n classes"], reading: Reading, kind: str) -> None:
    """Refuse probabilities that are taken for logits: their margins saturate at 1.

    Rows of 0 and a single 1 may be any scores, such as those of a constant decision.
    """
    if reading.outputs != "logits" or ((scores == 0) | (scores == 1)).all():
        return
    if (scores >= 0).all() and ((scores.sum(dim=1) - 1).abs() <= SLACK).all():
        raise UnreadableError(
            f"This {kind} gives rows that are not negative and sum to 1, as probabilities do: say "
            'outputs="probabilities".'
        )


def _of_estimator(estimator: Any, shape: tuple[int, ...], reading: Reading) -> nn.Module:
    if reading.outputs != "logits" or reading.take is not None:
        raise BayesgapError(
            f"This {type(estimator).__name__} says itself what it returns: leave outputs and take "
            "out."
        )
    features = int(np.prod(shape))
    with torch.inference_mode(False):
        classifier = of_estimator(
            estimator, features=features, classes=reading.classes, labels=reading.labels
        )
    with torch.no_grad():
        for n in PROBES:
            called(classifier, _probe(n, shape))
    return classifier


class OfFunction(nn.Module):
    """A function of images as a module, whose images are of the dtype that the function takes."""

    def __init__(self, function: Callable[[Any], Any], *, arrays: bool, dtype: torch.dtype):
        """Hold the function.

        Args:
            function: The function of images (n, C, H, W).
            arrays: Whether it is given numpy arrays instead of tensors.
            dtype: The dtype of its images.
        """
        super().__init__()
        self.function = function
        self.arrays = arrays
        # The module whose method it is goes into evaluation mode with this one.
        owner = getattr(function, "__self__", None)
        self.owner = owner if isinstance(owner, nn.Module) else None
        self.register_buffer("place", torch.zeros((), dtype=dtype), persistent=False)

    def forward(self, x: Float[Tensor, "n C H W"]) -> Any:
        """Whatever the function returns.

        Args:
            x: The images.
        """
        return self.function(x.detach().cpu().numpy() if self.arrays else x)


def _of_function(
    function: Callable[[Any], Any], shape: tuple[int, ...], reading: Reading
) -> nn.Module:
    """The function with the kind of images that it takes, which is found out by trying."""
    _refuse_labels(reading)
    kind = f"function {getattr(function, '__name__', type(function).__name__)}"
    if _takes_nothing(function):
        raise BayesgapError(
            f"This {kind} takes no images: give what it makes, by calling it, where that is the "
            "classifier."
        )
    failures: list[BayesgapError] = []
    array = _with(function, reading, kind, arrays=True)
    for detached in (False, True):
        for dtype in (torch.float64, torch.float32):
            candidate = _with(function, reading, kind, dtype=dtype, detached=detached)
            found = _tried(candidate, shape, failures)
            if found is not None:
                as_array = _tried(array, shape, [])
                if as_array is not None and _differ(found, as_array, _tried(candidate, shape, [])):
                    raise BayesgapError(
                        f"This {kind} scores a numpy array otherwise than the same images as a "
                        "torch tensor: let it convert them first, by np.asarray or "
                        "torch.as_tensor."
                    )
                return candidate
        if _tried(array, shape, failures) is not None:
            return array
    raise _most_telling(failures, kind)


def _takes_nothing(function: Callable[[Any], Any]) -> bool:
    """Whether it cannot be called with images, as what makes a classifier."""
    try:
        return not inspect.signature(function).parameters
    except (TypeError, ValueError):  # of what does not tell
        return False


def _with(
    function: Callable[[Any], Any],
    reading: Reading,
    kind: str,
    *,
    arrays: bool = False,
    dtype: torch.dtype = torch.float64,
    detached: bool = False,
) -> Adapted:
    """The function, called with images of one kind."""
    with torch.inference_mode(False):
        adapted = Adapted(OfFunction(function, arrays=arrays, dtype=dtype), reading, kind=kind)
        adapted.detached = detached
    return adapted


def _tried(
    candidate: Adapted, shape: tuple[int, ...], failures: list[BayesgapError]
) -> Tensor | None:
    """The scores of a few images, with the gradients that an attack would ask for."""
    try:
        with evaluating(candidate), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, several = (
                candidate(placed(candidate, _probe(n, shape)).requires_grad_().clone())
                for n in sorted(PROBES)
            )
    except BayesgapError as error:
        failures.append(error)
        return None
    scores: Tensor = several.detach().double().cpu()
    _check_meaning(scores, candidate.reading, candidate.adapted_kind)
    return scores


def _differ(one: Tensor, other: Tensor, again: Tensor | None) -> bool:
    """Whether scores differ, unless those of the same images do so each time."""

    def far(a: Tensor, b: Tensor) -> bool:
        return not torch.allclose(a, b, rtol=AGREEMENT, atol=AGREEMENT, equal_nan=True)

    return far(one, other) and again is not None and not far(one, again)


def _most_telling(failures: list[BayesgapError], kind: str) -> BayesgapError:
    """What it returned and could not be read; else how it failed on tensors and on arrays."""
    for failure in reversed(failures):
        if isinstance(failure, UnreadableError):
            return failure
    raised = [error.__cause__ or error for error in failures]
    causes = [f"{type(error).__name__}: {error}" for error in raised]
    first, last = (cause.partition("\n")[0].rstrip(".") for cause in (causes[0], causes[-1]))
    failed = BayesgapError(
        f"This {kind} takes images neither as torch tensors ({first}) nor as numpy arrays ({last})."
    )
    failed.__cause__ = failures[-1]
    return failed
