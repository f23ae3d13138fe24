"""Fitted scikit-learn classifiers as torch modules: exactly where that is possible.

Linear models, support vector machines of two classes, multi-layer perceptrons and one nearest
neighbour become torch modules with exact gradients, behind scalers and PCA too. All others are
asked as they are, without gradients. What an estimator decides is what its `predict` says.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, StandardScaler
from sklearn.svm import SVC, NuSVC
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from bayesgap.classifiers.linear import Affine, AffineStep, of_functions
from bayesgap.classifiers.nearest import NearestNeighbour, neighbour_of
from bayesgap.classifiers.perceptron import of_perceptron
from bayesgap.classifiers.svm import RBFSVM, PolynomialSVM
from bayesgap.errors import BayesgapError

PROBES = 16  # random images at which a module must score as the estimator does
AGREEMENT = 1e-6  # of a score, or absolute
SMALLEST = float(np.finfo(np.float64).tiny)  # probability that is told from 0


def is_estimator(thing: object) -> bool:
    """Whether something is of scikit-learn, or made to be used like it.

    Args:
        thing: Anything.
    """
    return isinstance(thing, BaseEstimator) or (
        hasattr(thing, "predict") and hasattr(thing, "classes_")
    )


def of_estimator(
    estimator: Any, *, features: int, classes: int, labels: Sequence[Any] | None = None
) -> nn.Module:
    """A fitted classifier that takes flattened images, as a module.

    Args:
        estimator: The classifier, or a pipeline that ends with one.
        features: The number of pixels of an image.
        classes: The number of classes.
        labels: What the classes are called, in their order, where not by numbers.

    Returns:
        `Affine`, `RBFSVM`, `PolynomialSVM`, the layers of a perceptron, `NearestNeighbour`, or one
        of them behind `AffineStep`s, where the estimator is one; else `Estimator`, which is
        without gradients.

    Raises:
        BayesgapError: it is not fitted, is no classifier, or is one of other images or classes.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)  # of a search
    order = _order(estimator, classes, labels)
    taken = getattr(estimator, "n_features_in_", features)
    if taken != features:
        raise BayesgapError(
            f"This {type(estimator).__name__} was fitted on rows of {taken} values, and images "
            f"have {features} pixels."
        )
    plain = Estimator(estimator, order)
    exact = _exact(estimator, order)
    return exact if exact is not None and _agree(exact, plain, features) else plain


def _order(estimator: Any, classes: int, labels: Sequence[Any] | None) -> list[int]:
    """For each class, its place in the estimator's `classes_`."""
    kind = type(estimator).__name__
    if not hasattr(estimator, "classes_"):
        try:
            check_is_fitted(estimator)
        except NotFittedError as error:
            raise BayesgapError(f"This {kind} is not fitted: call its fit first.") from error
        raise BayesgapError(f"This {kind} is no classifier: it has no classes_ and no scores.")
    if isinstance(estimator.classes_, list):
        raise BayesgapError(f"This {kind} gives several labels an image; one is needed.")
    known = np.asarray(estimator.classes_)
    if len(known) != classes:
        raise BayesgapError(
            f"This {kind} knows the classes {known.tolist()}, and there are {classes}."
        )
    if labels is None:
        if known.dtype.kind not in "biu" and not _whole(known):
            raise BayesgapError(
                f"This {kind} calls its classes {known.tolist()}: say labels=[…] to "
                f"bayesgap.as_classifier, what it calls the classes 0 to {classes - 1} in their "
                "order."
            )
        return list(range(classes))  # classes_ is sorted
    if set(labels) != set(known.tolist()):
        raise BayesgapError(
            f"This {kind} calls its classes {known.tolist()}, not {list(labels)}: labels=[…] are "
            "the same in the order of the task."
        )
    return [known.tolist().index(label) for label in labels]


def _whole(known: np.ndarray) -> bool:
    return known.dtype.kind == "f" and bool((known == np.round(known)).all())


class Estimator(nn.Module):
    """A fitted classifier asked as it is: no gradient reaches the images.

    Scores are log-probabilities where it gives any, else its decision function, else 1 for what
    it predicts. Where the largest of them is not what it predicts (a tuned threshold, votes), what
    it predicts is put just above it.
    """

    def __init__(self, estimator: Any, order: Sequence[int]):
        """Hold the estimator.

        Args:
            estimator: The fitted classifier, of rows of pixels.
            order: For each class, its place in the estimator's `classes_`.
        """
        super().__init__()
        self.estimator = estimator
        self.order = list(order)
        self.adapted_kind = type(estimator).__name__
        # By which images reach it in float64.
        self.register_buffer("place", torch.zeros((), dtype=torch.float64), persistent=False)

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Scores.

        Args:
            x: The images, float64.
        """
        rows = x.detach().flatten(1).cpu().numpy()
        with warnings.catch_warnings():
            # Fitted on a table with named columns: its pixels are these, in order.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            predicted = np.asarray(self.estimator.predict(rows))
            scores = self._scores(rows)
        places = np.searchsorted(self.estimator.classes_, predicted)
        every = np.arange(len(rows))
        if scores is None:
            scores = np.zeros((len(rows), len(self.order)))
            scores[every, places] = 1.0
        other = scores.argmax(axis=1) != places
        scores[every[other], places[other]] = np.nextafter(scores.max(axis=1), np.inf)[other]
        return torch.from_numpy(scores[:, self.order]).to(x)

    def _scores(self, rows: np.ndarray) -> np.ndarray | None:
        """Of the classes in `classes_`; None where it gives none."""
        if hasattr(self.estimator, "predict_proba"):
            probabilities = np.asarray(self.estimator.predict_proba(rows), dtype=np.float64)
            logarithms: np.ndarray = np.log(probabilities.clip(min=SMALLEST))
            return logarithms
        if not hasattr(self.estimator, "decision_function"):
            return None
        scores = np.array(self.estimator.decision_function(rows), dtype=np.float64)
        if scores.shape == (len(rows),):
            return np.stack([-scores / 2, scores / 2], axis=1)
        votes = getattr(_last(self.estimator), "decision_function_shape", None) == "ovo"
        return None if votes or scores.shape != (len(rows), len(self.order)) else scores


def _exact(estimator: Any, order: Sequence[int]) -> nn.Module | None:
    """The module of one of the families that are known here; None of anything else.

    A further family is one more function here, tried like these.
    """
    steps = _steps(estimator)
    last = _last(estimator)
    if steps is None:
        return None
    if isinstance(last, SVC | NuSVC):
        found = _svm(last, order)
    elif isinstance(last, MLPClassifier):
        found = of_perceptron(last, order)
    elif isinstance(last, KNeighborsClassifier):
        found = _neighbour(last, order)
    else:
        found = _linear(last, order)
    if isinstance(found, Affine):
        return _folded(steps, found)
    return nn.Sequential(*steps, found) if steps and found is not None else found


def _neighbour(last: KNeighborsClassifier, order: Sequence[int]) -> NearestNeighbour | None:
    """Of one nearest neighbour by L2."""
    power = (last.effective_metric_params_ or {}).get("p", 2)
    if last.n_neighbors != 1 or last.effective_metric_ != "euclidean" or power != 2:
        return None
    places = np.argsort(order)  # the class of each place in classes_
    images, labels = _dense(last._fit_X), places[np.asarray(last._y)]
    if len(np.unique(images, axis=0)) < len(np.unique(np.column_stack([images, labels]), axis=0)):
        return None  # of equal images with different labels it takes one or the other
    return NearestNeighbour(torch.from_numpy(images)[:, None, None, :], torch.from_numpy(labels))


def _folded(steps: Sequence[AffineStep], linear: Affine) -> Affine:
    weight, bias = linear.weight, linear.bias
    for step in reversed(steps):
        weight, bias = step.before(weight, bias)
    return Affine(weight, bias)


def _linear(last: Any, order: Sequence[int]) -> Affine | None:
    """Of anything with a weight and a bias for each class, or for the second of two."""
    if not all(hasattr(last, name) for name in ("coef_", "intercept_", "decision_function")):
        return None
    weight = np.atleast_2d(_dense(last.coef_))
    functions = 1 if len(order) == 2 else len(order)
    if len(weight) != functions:
        return None
    # Without an intercept, some give the number 0.
    bias = np.broadcast_to(np.asarray(last.intercept_, dtype=np.float64), (functions,)).copy()
    weights, biases = of_functions(torch.from_numpy(weight), torch.from_numpy(bias))
    return Affine(weights[list(order)], biases[list(order)])


def _svm(last: Any, order: Sequence[int]) -> nn.Module | None:
    """Of two classes; for more, libsvm lets pairs of classes vote."""
    if len(order) != 2:
        return None
    if last.kernel == "linear":
        return _linear(last, order)
    if last.kernel not in ("rbf", "poly", "sigmoid") or not hasattr(last, "_gamma"):
        return None
    sign = 1.0 if list(order) == [0, 1] else -1.0
    support = torch.from_numpy(_dense(last.support_vectors_))
    coefficients = sign * torch.from_numpy(_dense(last.dual_coef_)).mT
    bias = sign * torch.as_tensor(last.intercept_, dtype=torch.float64)
    if last.kernel == "rbf":
        return RBFSVM(support, coefficients, bias, float(last._gamma))
    degree = int(last.degree) if last.kernel == "poly" else None
    return PolynomialSVM(
        support,
        coefficients,
        bias,
        gamma=float(last._gamma),
        coef0=float(last.coef0),
        degree=degree,
    )


def _dense(values: Any) -> np.ndarray:
    full = values.toarray() if hasattr(values, "toarray") else values
    return np.array(full, dtype=np.float64)


def _last(estimator: Any) -> Any:
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def _steps(estimator: Any) -> list[AffineStep] | None:
    """What a pipeline does before its last step; None where that is not affine for certain."""
    if not isinstance(estimator, Pipeline):
        return []
    steps: list[AffineStep] = []
    for _, transformer in estimator.steps[:-1]:
        if isinstance(transformer, Pipeline):
            inner = _steps(Pipeline([*transformer.steps, ("end", None)]))
        else:
            inner = _step(transformer)
        if inner is None:
            return None
        steps += inner
    inner = _steps(estimator.steps[-1][1])
    return None if inner is None else steps + inner


def _step(transformer: Any) -> list[AffineStep] | None:
    """One step, or none of what does nothing; None where it is not affine for certain."""
    kind = type(transformer)
    if transformer is None or transformer == "passthrough":
        return []
    if kind is FunctionTransformer and transformer.func is None:
        return []
    if getattr(transformer, "clip", False):
        return None
    if kind is StandardScaler:
        mean, scale = transformer.mean_, transformer.scale_
        factor = np.ones(transformer.n_features_in_) if scale is None else 1 / scale
        shift = -mean * factor if transformer.with_mean else np.zeros(len(factor))
    elif kind is MinMaxScaler:
        factor, shift = transformer.scale_, transformer.min_
    elif kind is MaxAbsScaler:
        factor, shift = 1 / transformer.scale_, np.zeros(len(transformer.scale_))
    elif kind is PCA:
        factor = transformer.components_
        if transformer.whiten:
            spread = np.sqrt(transformer.explained_variance_)
            factor = factor / spread.clip(min=np.finfo(spread.dtype).eps)[:, None]
        shift = -factor @ transformer.mean_
    else:
        return None
    return [AffineStep(torch.from_numpy(_dense(factor)), torch.from_numpy(_dense(shift)))]


def _agree(exact: nn.Module, plain: Estimator, features: int) -> bool:
    """Whether a module scores and decides as the estimator does, at random images."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(PROBES, 1, 1, features, dtype=torch.float64, generator=generator)
    rows = x.flatten(1).numpy()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = exact(x).numpy()
        decided = plain(x).argmax(dim=1).numpy()
        if neighbour_of(exact) is not None:  # whose scores are its own
            return bool((got.argmax(axis=1) == decided).all())
        if hasattr(plain.estimator, "decision_function"):
            expected = np.asarray(plain.estimator.decision_function(rows))
        else:  # of a perceptron, probabilities alone
            expected, got = plain.estimator.predict_proba(rows), softmax(got, axis=1)
    if expected.ndim == 1:
        expected = np.stack([-expected / 2, expected / 2], axis=1)
    expected = expected[:, plain.order]
    gap = np.abs(np.diff(np.sort(got, axis=1)[:, -2:], axis=1)[:, 0])
    clear = gap > AGREEMENT * (1 + np.abs(got).max(axis=1))
    return bool(
        np.allclose(got, expected, rtol=AGREEMENT, atol=AGREEMENT)
        and (got.argmax(axis=1) == decided)[clear].all()
    )
