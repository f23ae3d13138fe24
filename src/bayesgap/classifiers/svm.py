"""Support vector machines: fitted by scikit-learn, evaluated and attacked as torch modules.

Two classes have one decision function f and logits (−f/2, f/2), so that their margin is |f|;
more classes have one function each, against all others.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.svm import SVC, LinearSVC
from torch import Tensor, nn

from bayesgap.classifiers.module import as_two, check_labels
from bayesgap.errors import BayesgapError

CHUNK_BYTES = 64 * 2**20  # of the kernel between a chunk of images and the support vectors


def _as_logits(functions: Float[Tensor, "n f"]) -> Float[Tensor, "n classes"]:
    return functions if functions.shape[1] > 1 else as_two(functions)


def _targets(y: Int[Tensor, " n"], classes: int) -> list[np.ndarray]:
    """±1 for each decision function: class 1 against 0, or each class against all others.

    Raises:
        BayesgapError: a class without images, or a label that is no class.
    """
    check_labels(y, classes)
    missing = sorted(set(range(classes)) - set(y.tolist()))
    if missing:
        raise BayesgapError(f"An SVM needs images of every class; none of class {missing[0]}.")
    positive = [1] if classes == 2 else range(classes)
    return [np.where(y.numpy() == label, 1, -1) for label in positive]


class LinearSVM(nn.Module):
    """f(x) = w·x + b for each decision function; float64.

    Attributes:
        weight: w of each of the f functions, of shape (f, d).
        bias: b of each function, of shape (f,).
        converged: Whether the solver found the optimum; None where that is not known.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Float[Tensor, "f d"],
        bias: Float[Tensor, " f"],
        *,
        converged: bool | None = None,
    ):
        """Hold the fitted functions.

        Args:
            weight: w of each of the f functions: of one for two classes, else of one a class.
            bias: b of each function.
            converged: Whether the solver found the optimum before its iterations ran out; None
                where that is not known, as of a machine that was stored.
        """
        super().__init__()
        self.converged = converged
        self.register_buffer("weight", weight.to(torch.float64, copy=True))
        self.register_buffer("bias", bias.to(torch.float64, copy=True))

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Logits.

        Args:
            x: The images, float64.
        """
        return _as_logits(nn.functional.linear(x.flatten(1), self.weight, self.bias))


def train_linear_svm(
    x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"], *, classes: int, seed: int
) -> LinearSVM:
    """scikit-learn's linear SVC with its defaults (appendix B.4), on flattened images.

    Where its solver runs out of iterations it warns, and the machine's `converged` is False.

    Args:
        x: The images to train on.
        y: The label of each image.
        classes: The number of classes.
        seed: Seed of the random generator by which the solver orders its visits to images.

    Raises:
        BayesgapError: a class without images.
    """
    points = x.flatten(1).double().numpy()
    fits = [
        LinearSVC(random_state=seed % 2**32).fit(points, target) for target in _targets(y, classes)
    ]
    return LinearSVM(
        torch.from_numpy(np.concatenate([fit.coef_ for fit in fits])),
        torch.from_numpy(np.concatenate([fit.intercept_ for fit in fits])),
        converged=all(fit.n_iter_ < fit.max_iter for fit in fits),
    )


def squared_distances(x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """‖x_i − z_j‖² for all pairs, by one matrix product; never below 0.

    Args:
        x: The points x_i, one a row.
        z: The points z_j, one a row.
    """
    squares = x.square().sum(1)[:, None] + z.square().sum(1)
    return torch.addmm(squares, x, z.mT, alpha=-2).clamp(min=0)


class KernelSVM(nn.Module):
    """f(x) = Σ_s c_s k(x, s) + b over the support vectors s; float64.

    Attributes:
        support: The support vectors as flattened images, of shape (s, d).
        coefficients: c of each support vector in each of the f functions, of shape (s, f).
        bias: b of each function, of shape (f,).
    """

    support: Tensor
    coefficients: Tensor
    bias: Tensor

    def __init__(
        self,
        support: Float[Tensor, "s d"],
        coefficients: Float[Tensor, "s f"],
        bias: Float[Tensor, " f"],
    ):
        """Hold the fitted functions.

        Args:
            support: The support vectors, as flattened images.
            coefficients: c of each support vector in each of the f functions: in one for two
                classes, else in one a class.
            bias: b of each function.
        """
        super().__init__()
        self.register_buffer("support", support.to(torch.float64, copy=True))
        self.register_buffer("coefficients", coefficients.to(torch.float64, copy=True))
        self.register_buffer("bias", bias.to(torch.float64, copy=True))

    @abstractmethod
    def kernel(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n s"]:
        """k between flattened images and the support vectors.

        Args:
            x: The images.
        """

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n classes"]:
        """Logits; the kernel is made for a chunk of images at a time.

        Args:
            x: The images, float64.
        """
        rows = max(1, CHUNK_BYTES // (8 * len(self.support)))
        chunks = x.flatten(1).split(rows)
        functions = [self.kernel(chunk) @ self.coefficients for chunk in chunks]
        return _as_logits(torch.cat(functions) + self.bias)


class RBFSVM(KernelSVM):
    """k(x, s) = exp(−gamma ‖x − s‖²).

    Attributes:
        gamma: The kernel's gamma, in 1 / squared pixel units.
    """

    def __init__(
        self,
        support: Float[Tensor, "s d"],
        coefficients: Float[Tensor, "s f"],
        bias: Float[Tensor, " f"],
        gamma: float,
    ):
        """Hold the fitted functions.

        Args:
            support: The support vectors, as flattened images.
            coefficients: c of each support vector in each of the f functions.
            bias: b of each function.
            gamma: The kernel's gamma, in 1 / squared pixel units (appendix B.5: 1 / (2 sigma²)).
        """
        super().__init__(support, coefficients, bias)
        self.gamma = gamma

    def kernel(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n s"]:
        """As the class says.

        Args:
            x: The images.
        """
        return torch.exp(-self.gamma * squared_distances(x, self.support))


class PolynomialSVM(KernelSVM):
    """libsvm's polynomial or sigmoid kernel: t^degree or tanh t, with t = gamma x·s + coef0."""

    def __init__(
        self,
        support: Float[Tensor, "s d"],
        coefficients: Float[Tensor, "s f"],
        bias: Float[Tensor, " f"],
        *,
        gamma: float,
        coef0: float,
        degree: int | None,
    ):
        """Hold the fitted functions.

        Args:
            support: The support vectors, as flattened images.
            coefficients: c of each support vector in each of the f functions.
            bias: b of each function.
            gamma: What products of images are multiplied by.
            coef0: What is added to them.
            degree: Of the polynomial; None for tanh.
        """
        super().__init__(support, coefficients, bias)
        self.gamma, self.coef0, self.degree = gamma, coef0, degree

    def kernel(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n s"]:
        """As the class says.

        Args:
            x: The images.
        """
        inner = self.gamma * (x @ self.support.mT) + self.coef0
        return inner.tanh() if self.degree is None else inner**self.degree


def train_rbf_svms(
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    *,
    gammas: Sequence[float],
    classes: int,
    cost: float = 1.0,
) -> list[RBFSVM]:
    """One RBF SVM for each gamma, all from one matrix of distances between the images.

    The solver (libsvm's, through scikit-learn) has no randomness. Memory: two (n, n) matrices.

    Args:
        x: The images to train on.
        y: The label of each image.
        gammas: The kernel's gamma of each machine, in 1 / squared pixel units; positive.
        classes: The number of classes.
        cost: The machines' C, the price of a violated margin; by default scikit-learn's.

    Raises:
        BayesgapError: a class without images, or a gamma that is not positive.
    """
    for gamma in gammas:
        if not (gamma > 0 and math.isfinite(gamma)):
            raise BayesgapError(f"An RBF kernel needs a positive gamma; got {gamma}.")
    points = x.flatten(1).double()
    distances = squared_distances(points, points)
    targets = _targets(y, classes)
    machines = []
    for gamma in gammas:
        kernel = torch.exp(-gamma * distances).numpy()
        coefficients = torch.zeros(len(points), len(targets), dtype=torch.float64)
        bias = torch.zeros(len(targets), dtype=torch.float64)
        for function, target in enumerate(targets):
            fit = SVC(C=cost, kernel="precomputed").fit(kernel, target)
            coefficients[fit.support_, function] = torch.from_numpy(fit.dual_coef_[0])
            bias[function] = float(fit.intercept_[0])
        used = (coefficients != 0).any(dim=1)
        machines.append(RBFSVM(points[used], coefficients[used], bias, gamma))
    return machines
