from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC, LinearSVC

from bayesgap.classifiers import svm
from bayesgap.classifiers.module import decisions, margin
from bayesgap.classifiers.svm import (
    RBFSVM,
    LinearSVM,
    squared_distances,
    train_linear_svm,
    train_rbf_svms,
)
from bayesgap.errors import BayesgapError
from toys import SEEDS, normal, property_settings, two_blobs


def flat(x):
    return x.flatten(1).numpy()


def test_the_linear_svm_of_two_classes_is_scikit_learns():
    x, y = two_blobs(0, 60)
    test, _ = two_blobs(1, 40)
    machine = train_linear_svm(x, y, classes=2, seed=5)
    expected = LinearSVC(random_state=5).fit(flat(x), y.numpy()).decision_function(flat(test))
    logits = machine(test)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], torch.from_numpy(expected))
    torch.testing.assert_close(
        margin(logits, decisions(machine, test)), torch.from_numpy(np.abs(expected))
    )
    assert (decisions(machine, test).numpy() == (expected > 0)).all()


def test_the_linear_svm_of_three_classes_is_scikit_learns_one_against_the_rest():
    x, y = two_blobs(2, 90, classes=3, separation=2.0)
    test, _ = two_blobs(3, 40, classes=3)
    expected = LinearSVC(random_state=0).fit(flat(x), y.numpy()).decision_function(flat(test))
    machine = train_linear_svm(x, y, classes=3, seed=0)
    torch.testing.assert_close(machine(test), torch.from_numpy(expected), rtol=1e-8, atol=1e-8)


def test_the_linear_svm_follows_its_seed_where_its_solver_is_random():
    x, y = two_blobs(4, 30, image_shape=(1, 8, 8), separation=0.1)  # more pixels than images
    machine = train_linear_svm(x, y, classes=2, seed=2**32 + 9)
    expected = LinearSVC(random_state=9).fit(flat(x), y.numpy())
    np.testing.assert_allclose(machine.weight.numpy(), expected.coef_, rtol=1e-12)
    np.testing.assert_allclose(machine.bias.numpy(), expected.intercept_, rtol=1e-12)


def test_a_linear_svm_says_whether_its_solver_converged():
    x, y = two_blobs(4, 60)
    assert train_linear_svm(x, y, classes=2, seed=0).converged
    alike = 100 + normal(0, 60, 1, 8, 8)  # a common offset is what slows its solver
    with pytest.warns(ConvergenceWarning):
        stopped = train_linear_svm(alike, y, classes=2, seed=0)
    assert not stopped.converged


def test_a_linear_svm_takes_images_of_any_shape_with_the_right_number_of_values():
    weight, bias = normal(0, 3, 12), normal(1, 3)
    x = normal(2, 5, 3, 2, 2)
    expected = [
        [w @ image + b for w, b in zip(weight, bias, strict=True)] for image in x.flatten(1)
    ]
    machine = LinearSVM(weight, bias)
    assert machine.converged is None
    torch.testing.assert_close(machine(x), torch.tensor(expected).double())


@pytest.mark.parametrize("classes", [2, 3])
def test_every_gammas_rbf_svm_is_scikit_learns_fitted_on_the_points(classes):
    x, y = two_blobs(5, 60, classes=classes)
    test, _ = two_blobs(6, 40, classes=classes)
    gammas = [0.01, 0.3, 5.0]
    machines = train_rbf_svms(x, y, gammas=gammas, classes=classes, cost=2.0)
    assert [machine.gamma for machine in machines] == gammas
    for machine, gamma in zip(machines, gammas, strict=True):
        positive = [1] if classes == 2 else range(classes)
        expected = [
            SVC(C=2.0, kernel="rbf", gamma=gamma)
            .fit(flat(x), y.numpy() == k)
            .decision_function(flat(test))
            for k in positive
        ]
        logits = machine(test).numpy()
        got = [logits[:, 1] - logits[:, 0]] if classes == 2 else list(logits.T)
        # libsvm stops where the optimality conditions hold within 1e-3, and kernels that differ
        # by rounding may lead it to another such point.
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("gamma", [0.01, 0.3, 5.0])
def test_an_rbf_svm_with_scikit_learns_numbers_has_its_decision_function(gamma):
    x, y = two_blobs(5, 60)
    test, _ = two_blobs(6, 40)
    fit = SVC(kernel="rbf", gamma=gamma).fit(flat(x), y.numpy())
    numbers = (fit.support_vectors_, fit.dual_coef_.T.copy(), fit.intercept_)
    support, coefficients, bias = map(torch.from_numpy, numbers)
    logits = RBFSVM(support, coefficients, bias, gamma)(test)
    np.testing.assert_allclose(
        (logits[:, 1] - logits[:, 0]).numpy(),
        fit.decision_function(flat(test)),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("gamma", [0.1, 0.5, 5.0])
def test_a_trained_rbf_svm_solves_the_svms_problem(gamma):
    x, y = two_blobs(9, 50)
    machine = train_rbf_svms(x, y, gammas=[gamma], classes=2, cost=1.5)[0]
    function = (2 * machine(x)[:, 1]).numpy() * (2 * y.numpy() - 1)
    support = [tuple(row) for row in machine.support.tolist()]
    rows = dict(zip(support, machine.coefficients[:, 0].tolist(), strict=True))
    alpha = np.array([rows.get(tuple(row), 0.0) for row in flat(x)]) * (2 * y.numpy() - 1)
    assert alpha.min() >= 0
    assert alpha.max() <= 1.5
    assert machine.coefficients.sum().item() == pytest.approx(0, abs=1e-9)
    # libsvm's tolerance on the optimality conditions is 1e-3.
    assert (function[alpha < 1.5] >= 1 - 2e-3).all()
    assert (function[alpha > 0] <= 1 + 2e-3).all()


def test_an_rbf_svms_two_logits_are_opposite():
    x, y = two_blobs(5, 30)
    logits = train_rbf_svms(x, y, gammas=[0.5], classes=2)[0](x)
    assert torch.equal(logits[:, 0], -logits[:, 1])


def test_an_rbf_svm_keeps_support_vectors_only():
    x, y = two_blobs(7, 60, separation=3.0)
    machine = train_rbf_svms(x, y, gammas=[0.1], classes=2)[0]
    expected = SVC(kernel="rbf", gamma=0.1).fit(flat(x), y.numpy())
    assert len(machine.support) == len(expected.support_) < 60
    kept = {tuple(row) for row in machine.support.tolist()}
    assert kept == {tuple(row) for row in expected.support_vectors_.tolist()}


def test_the_default_cost_is_scikit_learns():
    x, y = two_blobs(8, 40, separation=0.3)
    machine = train_rbf_svms(x, y, gammas=[0.5], classes=2)[0]
    expected = SVC(kernel="rbf", gamma=0.5).fit(flat(x), y.numpy()).decision_function(flat(x))
    # As above: the solver's own tolerance. Half or twice the cost changes values by 0.1.
    np.testing.assert_allclose(2 * machine(x)[:, 1].numpy(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("budget", [1, 8 * 25 * 3])
def test_a_chunked_rbf_svm_equals_an_unchunked_one(monkeypatch, budget):
    machine = RBFSVM(normal(0, 25, 4), normal(1, 25, 3), normal(2, 3), 0.4)
    x = normal(3, 10, 1, 2, 2)
    whole = machine(x)
    kernels = []

    def counted(rows, support):
        kernels.append(len(rows))
        return squared_distances(rows, support)

    monkeypatch.setattr(svm, "CHUNK_BYTES", budget)
    monkeypatch.setattr(svm, "squared_distances", counted)
    torch.testing.assert_close(machine(x), whole, rtol=1e-13, atol=1e-13)
    assert max(kernels) == max(1, budget // (8 * 25))
    assert sum(kernels) == 10


@given(st.integers(**SEEDS), st.integers(1, 30), st.sampled_from([0.0, 1.0, 100.0]))
@property_settings(40)
def test_squared_distances_are_scipys_and_never_negative(seed, d, offset):
    random = np.random.default_rng(seed)
    x = offset + random.normal(size=(6, d))
    z = np.concatenate([offset + random.normal(size=(4, d)), x[:3], x[:3] + 1e-9])
    got = squared_distances(torch.from_numpy(x), torch.from_numpy(z)).numpy()
    assert (got >= 0).all()
    # The squares that cancel have this size, and their sums d terms.
    size = (x**2).sum(axis=1)[:, None] + (z**2).sum(axis=1)
    error = np.abs(got - cdist(x, z, "sqeuclidean"))
    assert (error <= 2 * (d + 4) * np.finfo(float).eps * size).all()


TRAINERS: dict[str, Callable[..., object]] = {
    "linear": partial(train_linear_svm, seed=0),
    "rbf": partial(train_rbf_svms, gammas=[1.0]),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", TRAINERS)
def test_a_class_without_images_is_refused_by_its_number(kind, classes):
    x, y = normal(0, 6, 1, 2, 2), torch.arange(6) % (classes - 1)
    with pytest.raises(BayesgapError, match=f"none of class {classes - 1}"):
        TRAINERS[kind](x, y, classes=classes)


@pytest.mark.parametrize("kind", TRAINERS)
def test_a_label_beyond_the_classes_is_refused(kind):
    x, y = normal(0, 6, 1, 2, 2), torch.arange(6) % 3
    with pytest.raises(BayesgapError, match="2"):
        TRAINERS[kind](x, y, classes=2)


@pytest.mark.parametrize("gamma", [0.0, -1.0, np.nan, np.inf])
def test_a_gamma_that_is_not_positive_and_finite_is_refused_before_any_fit(gamma):
    x, y = two_blobs(0, 10)
    with pytest.raises(BayesgapError, match=f"positive gamma; got {gamma}"):
        train_rbf_svms(x, y, classes=2, gammas=[1.0, gamma])
