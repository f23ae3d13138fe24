import warnings

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier

from bayesgap.attacks.library import ddn
from bayesgap.attacks.linear import LinearClosedForm
from bayesgap.classifiers.adapt import as_classifier
from bayesgap.classifiers.estimators import Estimator
from bayesgap.classifiers.linear import Affine, AffineStep, affine_of
from bayesgap.classifiers.module import decisions, logits
from bayesgap.classifiers.nearest import NearestNeighbour
from bayesgap.classifiers.svm import RBFSVM, PolynomialSVM
from bayesgap.errors import BayesgapError
from toys import normal, present, two_blobs

D = 6
SHAPE = (1, 2, 3)


def data(classes=2, n=120, seed=0, spread=0.25):
    centres = np.random.default_rng(seed).random((classes, D))
    return make_blobs(n, D, centers=centres, cluster_std=spread, random_state=seed)


def fitted(estimator, classes=2, **settings):
    return fitted_to(estimator, *data(classes, **settings))


def fitted_to(estimator, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers that stop early
        return estimator.fit(x, y)


def adapted(estimator, classes=2, **settings):
    return as_classifier(estimator, image_shape=SHAPE, classes=classes, **settings)


def some_points(n=400):
    """Wider than the data."""
    return 0.5 + normal(7, n, *SHAPE)


def scores_of(estimator, x):
    """The decision function as a table; of two classes −f/2 and f/2."""
    f = estimator.decision_function(x.flatten(1).numpy())
    return np.stack([-f / 2, f / 2], axis=1) if f.ndim == 1 else f


def check_exact(estimator, classifier):
    """Scores are the estimator's to 1e-9, and decisions where they are no tie."""
    x = some_points()
    got, expected = logits(classifier, x).numpy(), scores_of(estimator, x)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    top = np.sort(expected, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-8
    assert clear.mean() > 0.9
    predicted = estimator.predict(x.flatten(1).numpy())
    assert (decisions(classifier, x).numpy() == predicted)[clear].all()
    assert len(set(predicted.tolist())) > 1


LINEAR = [
    LogisticRegression(),
    LogisticRegression(fit_intercept=False),
    LinearSVC(),
    LinearSVC(fit_intercept=False),
    SGDClassifier(random_state=0),
    RidgeClassifier(),
    Perceptron(),
    LinearDiscriminantAnalysis(),
]


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("estimator", LINEAR, ids=repr)
def test_linear_models_are_affine_modules(estimator, classes):
    classifier = adapted(fitted(estimator, classes), classes)
    assert type(classifier) is Affine
    check_exact(estimator, classifier)


def test_sparse_coefficients_are_read_too():
    estimator = fitted(SGDClassifier(random_state=0, penalty="l1"), 3).sparsify()
    classifier = adapted(estimator, 3)
    assert type(classifier) is Affine
    check_exact(estimator, classifier)


SCALERS = {
    "standard": [StandardScaler()],
    "mean": [StandardScaler(with_std=False)],
    "std": [StandardScaler(with_mean=False)],
    "neither": [StandardScaler(with_mean=False, with_std=False)],
    "min-max": [MinMaxScaler((-1, 3))],
    "max-abs": [MaxAbsScaler()],
    "pca": [PCA(3)],
    "whitened": [StandardScaler(), PCA(3, whiten=True)],
    "nothing": [FunctionTransformer(None), "passthrough", None],
    "nested": [make_pipeline(StandardScaler(), PCA(4)), make_pipeline(MinMaxScaler())],
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("steps", SCALERS.values(), ids=SCALERS)
def test_affine_steps_are_folded_into_linear_models(steps, classes):
    estimator = fitted(make_pipeline(*steps, LogisticRegression()), classes)
    classifier = adapted(estimator, classes)
    assert type(classifier) is Affine
    check_exact(estimator, classifier)


@pytest.mark.parametrize("steps", SCALERS.values(), ids=SCALERS)
def test_affine_steps_come_before_kernel_machines(steps):
    estimator = fitted(make_pipeline(*steps, SVC()))
    classifier = adapted(estimator)
    assert not any(isinstance(module, Estimator) for module in classifier.modules())
    check_exact(estimator, classifier)


def test_a_pipeline_within_a_pipeline_at_the_end_is_folded_too():
    estimator = fitted(make_pipeline(PCA(4), make_pipeline(StandardScaler(), LinearSVC())))
    check_exact(estimator, adapted(estimator))
    assert type(adapted(estimator)) is Affine


@pytest.mark.parametrize(
    "step", [MinMaxScaler(clip=True), Normalizer(), FunctionTransformer(np.tanh)]
)
def test_steps_that_are_not_affine_are_asked_as_they_are(step):
    estimator = fitted(make_pipeline(step, LogisticRegression()))
    classifier = adapted(estimator)
    assert type(classifier) is Estimator
    x = some_points()
    assert (decisions(classifier, x).numpy() == estimator.predict(x.flatten(1).numpy())).all()


MACHINES = [
    (SVC(), RBFSVM),
    (SVC(gamma=3.0), RBFSVM),
    (SVC(gamma="auto", C=10), RBFSVM),
    (SVC(kernel="poly"), PolynomialSVM),
    (SVC(kernel="poly", degree=2, coef0=1.5, gamma=0.7), PolynomialSVM),
    (SVC(kernel="sigmoid", gamma=0.1, coef0=-0.2), PolynomialSVM),
    (SVC(kernel="linear"), Affine),
    (NuSVC(), RBFSVM),
    (NuSVC(kernel="linear"), Affine),
]


@pytest.mark.parametrize(("estimator", "kind"), MACHINES, ids=repr)
def test_support_vector_machines_of_two_classes_are_exact(estimator, kind):
    classifier = adapted(fitted(estimator))
    assert type(classifier) is kind
    check_exact(estimator, classifier)


@pytest.mark.parametrize(
    "estimator",
    [fitted(make_pipeline(StandardScaler(), machine)) for machine, _ in MACHINES],
    ids=repr,
)
def test_gradients_are_those_of_the_decision_function(estimator):
    x = some_points(3)
    z = x.clone().requires_grad_()
    (got,) = torch.autograd.grad(adapted(estimator)(z)[:, 1].sum(), z)
    step = 1e-6
    for place in range(D):
        moved = torch.zeros(D, dtype=torch.float64)
        moved[place] = step
        moved = moved.reshape(SHAPE)
        slope = (scores_of(estimator, x + moved) - scores_of(estimator, x - moved)) / (2 * step)
        np.testing.assert_allclose(got.flatten(1)[:, place], slope[:, 1], rtol=1e-5, atol=1e-8)


# Perceptrons


def perceptron(activation="relu", layers=(7, 5), **settings):
    """Trained for a short while, in large steps."""
    settings |= {"max_iter": 40, "learning_rate_init": 0.05, "random_state": 0}
    return MLPClassifier(layers, activation=activation, **settings)


def check_probabilities(estimator, classifier):
    """Probabilities are the estimator's to rounding, and so are decisions where they are no tie."""
    x = some_points()
    rows = x.flatten(1).numpy()
    expected = estimator.predict_proba(rows)
    got = logits(classifier, x)
    np.testing.assert_allclose(got.softmax(dim=1), expected, rtol=1e-10, atol=1e-13)
    assert expected.std() > 0.01
    top = np.sort(expected, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-9
    predicted = np.searchsorted(estimator.classes_, estimator.predict(rows))
    assert (got.argmax(dim=1).numpy() == predicted)[clear].all()
    assert clear.mean() > 0.99


@pytest.mark.parametrize("steps", [[], [StandardScaler(), PCA(4)]], ids=["alone", "behind steps"])
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_perceptrons_are_their_layers(activation, classes, steps):
    estimator = fitted(make_pipeline(*steps, perceptron(activation)), classes)
    classifier = adapted(estimator, classes)
    assert not any(isinstance(module, Estimator) for module in classifier.modules())
    assert (type(classifier) is Affine) == (activation == "identity")
    check_probabilities(estimator, classifier)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_perceptron_without_inner_layers_is_affine(classes):
    estimator = fitted(make_pipeline(StandardScaler(), perceptron(layers=())), classes)
    assert type(adapted(estimator, classes)) is Affine
    check_probabilities(estimator, adapted(estimator, classes))


def test_a_perceptron_that_was_fitted_in_float32_is_read_exactly():
    x, y = data(3)
    estimator = fitted_to(perceptron(), x.astype(np.float32), y)
    assert estimator.coefs_[0].dtype == np.float32
    check_probabilities(estimator, adapted(estimator, 3))


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c"]])
def test_a_perceptron_s_classes_may_be_permuted(names):
    x, y = data(len(names))
    estimator = fitted_to(perceptron("tanh"), x, np.array(names)[y])
    labels = [*names[1:], names[0]]
    points = some_points()
    got = logits(adapted(estimator, len(names), labels=labels), points).softmax(dim=1)
    expected = estimator.predict_proba(points.flatten(1).numpy())
    order = [names.index(label) for label in labels]
    np.testing.assert_allclose(got, expected[:, order], rtol=1e-10, atol=1e-13)


def test_a_perceptron_s_gradients_reach_the_images_and_no_random_number_is_drawn():
    estimator = fitted(make_pipeline(StandardScaler(), perceptron("tanh")))
    torch.manual_seed(3)
    classifier = adapted(estimator)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)
    x = some_points(3)
    z = x.clone().requires_grad_()
    (got,) = torch.autograd.grad(classifier(z).log_softmax(dim=1)[:, 1].sum(), z)
    for place in range(D):
        moved = torch.zeros(D, dtype=torch.float64)
        moved[place] = 1e-6
        ends = (
            estimator.predict_log_proba((x + sign * moved.reshape(SHAPE)).flatten(1).numpy())
            for sign in (1, -1)
        )
        slope = np.subtract(*ends)[:, 1] / 2e-6
        np.testing.assert_allclose(got.flatten(1)[:, place], slope, rtol=1e-5, atol=1e-8)
    decided = decisions(classifier, x)
    assert ddn(30)(classifier, x, decided).success.any()


def test_a_perceptron_that_predicts_otherwise_is_asked_as_it_is():
    class Contrary(MLPClassifier):  # type: ignore[misc]
        def predict(self, x):
            return 1 - super().predict(x)

    classifier = adapted(fitted(Contrary((5,), max_iter=20)))
    assert type(classifier) is Estimator


# One of three classes has as many pairs as classes.
@pytest.mark.parametrize(("shape", "ties"), [("ovr", True), ("ovr", False), ("ovo", False)])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_machines_of_more_classes_decide_as_they_predict(kernel, shape, ties):
    estimator = SVC(kernel=kernel, decision_function_shape=shape, break_ties=ties)
    fitted(estimator, 3, spread=0.6)
    classifier = adapted(estimator, 3)
    assert type(classifier) is Estimator
    x = some_points(2_000)
    assert (decisions(classifier, x).numpy() == estimator.predict(x.flatten(1).numpy())).all()


OTHERS = [
    RandomForestClassifier(5, random_state=0),
    DecisionTreeClassifier(random_state=0),
    GradientBoostingClassifier(n_estimators=5),
    HistGradientBoostingClassifier(max_iter=5),
    AdaBoostClassifier(n_estimators=5),
    KNeighborsClassifier(1, metric="manhattan"),
    KNeighborsClassifier(4),
    NearestCentroid(),
    GaussianNB(),
    QuadraticDiscriminantAnalysis(),
    OneVsRestClassifier(LinearSVC()),
    CalibratedClassifierCV(LinearSVC(), cv=2),
    VotingClassifier([("a", GaussianNB()), ("b", RidgeClassifier())]),
]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("estimator", OTHERS, ids=lambda each: type(each).__name__)
def test_all_others_decide_as_they_predict_without_a_gradient(estimator, classes):
    classifier = adapted(fitted(estimator, classes, n=60), classes)
    assert type(classifier) is Estimator
    x = some_points(100)
    decided = decisions(classifier, x)
    assert (decided.numpy() == estimator.predict(x.flatten(1).numpy())).all()
    with pytest.raises(BayesgapError, match="have none with respect to the images"):
        ddn(2)(classifier, x[:3], decided[:3])


def test_scores_are_log_probabilities_where_there_are_any():
    estimator = fitted(GaussianNB())
    x = some_points(20)
    expected = estimator.predict_log_proba(x.flatten(1).numpy())
    got = logits(adapted(estimator), x).numpy()
    np.testing.assert_allclose(got, expected.clip(min=np.log(np.finfo(float).tiny)), rtol=1e-6)


def test_a_threshold_that_was_tuned_is_kept():
    estimator = fitted(FixedThresholdClassifier(GaussianNB(), threshold=0.95))
    x = some_points()
    rows = x.flatten(1).numpy()
    predicted = estimator.predict(rows)
    assert (predicted != estimator.predict_proba(rows).argmax(axis=1)).any()
    assert (decisions(adapted(estimator), x).numpy() == predicted).all()


def test_of_a_search_the_best_is_taken():
    estimator = fitted(GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2))
    check_exact(estimator, adapted(estimator))
    assert type(adapted(estimator)) is Affine


def test_what_is_not_what_its_family_is_is_asked_as_it_is():
    class Contrary(LogisticRegression):  # type: ignore[misc]
        def predict(self, x):
            return 1 - super().predict(x)

    estimator = fitted(Contrary())
    classifier = adapted(estimator)
    assert type(classifier) is Estimator
    x = some_points(50)
    assert (decisions(classifier, x).numpy() == estimator.predict(x.flatten(1).numpy())).all()


# Labels

KINDS = [LogisticRegression(), SVC(), SVC(kernel="linear"), GaussianNB(), NuSVC(kernel="poly")]


@pytest.mark.parametrize("names", [[0, 6], [-1, 1], [False, True], [0.0, 1.0], [3, 5]])
@pytest.mark.parametrize("estimator", KINDS, ids=repr)
def test_numbers_are_the_classes_in_sorted_order(estimator, names):
    x, y = data()
    estimator.fit(x, np.array(names)[y])
    points = some_points()
    predicted = estimator.predict(points.flatten(1).numpy())
    assert (np.array(names)[decisions(adapted(estimator), points).numpy()] == predicted).all()


@pytest.mark.parametrize("labels", [["zero", "six"], ["six", "zero"]])
@pytest.mark.parametrize("estimator", KINDS, ids=repr)
def test_words_are_the_classes_in_the_order_that_is_said(estimator, labels):
    x, y = data()
    estimator.fit(x, np.array(["zero", "six"])[y])
    with pytest.raises(BayesgapError, match=r"\['six', 'zero'\]: say labels="):
        adapted(estimator)
    classifier = adapted(estimator, labels=labels)
    points = some_points()
    predicted = estimator.predict(points.flatten(1).numpy())
    assert [labels[place] for place in decisions(classifier, points)] == predicted.tolist()


def test_more_classes_may_be_permuted_too():
    names = np.array(["a", "b", "c"])
    x, y = data(3)
    for estimator in (LogisticRegression(), GaussianNB()):
        estimator.fit(x, names[y])
        labels = ["c", "a", "b"]
        points = some_points()
        decided = decisions(adapted(estimator, 3, labels=labels), points)
        predicted = estimator.predict(points.flatten(1).numpy())
        assert [labels[place] for place in decided] == predicted.tolist()


# What is refused


@pytest.mark.parametrize(
    ("estimator", "settings", "said"),
    [
        (LogisticRegression(), {}, "This LogisticRegression is not fitted: call its fit"),
        (make_pipeline(StandardScaler(), SVC()), {}, "This Pipeline is not fitted: call its fit"),
        (fitted(LinearRegression()), {}, "This LinearRegression is no classifier"),
        (fitted(SVC(), 3), {"classes": 2}, r"knows the classes \[0, 1, 2\], and there are 2"),
        (fitted(SVC()), {"classes": 3}, r"knows the classes \[0, 1\], and there are 3"),
        (fitted(SVC()), {"labels": ["a", "b"]}, r"calls its classes \[0, 1\], not \['a', 'b'\]"),
        (fitted(SVC()), {"outputs": "probabilities"}, "says itself what it returns"),
        (fitted(SVC()), {"take": 0}, "says itself what it returns"),
    ],
)
def test_what_cannot_be_a_classifier_is_refused_in_a_sentence(estimator, settings, said):
    with pytest.raises(BayesgapError, match=said) as refusal:
        adapted(estimator, **settings)
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize("estimator", [SVC(), make_pipeline(PCA(2), GaussianNB())], ids=repr)
def test_images_of_another_size_are_refused_with_both(estimator):
    with pytest.raises(BayesgapError, match="rows of 6 values, and images have 784 pixels"):
        as_classifier(fitted(estimator), image_shape=(1, 28, 28), classes=2)


def test_several_labels_an_image_are_refused():
    x, y = data()
    estimator = RandomForestClassifier(2).fit(x, np.stack([y, y], axis=1))
    with pytest.raises(BayesgapError, match="several labels an image"):
        adapted(estimator)


# Uses


@pytest.mark.parametrize("classes", [2, 3])
def test_the_closed_form_serves_linear_models_behind_scalers(classes):
    estimator = fitted(make_pipeline(StandardScaler(), PCA(4), LinearSVC()), classes)
    classifier = adapted(estimator, classes)
    x = some_points(40)
    found = LinearClosedForm()(classifier, x, decisions(classifier, x))
    assert found.success.all()
    weight, bias = present(affine_of(classifier))
    scores = x.flatten(1) @ weight.mT + bias
    for i, row in enumerate(scores):
        k = row.argmax()
        others = [j for j in range(classes) if j != k]
        distance = min((row[k] - row[j]) / (weight[k] - weight[j]).norm() for j in others)
        assert found.sizes[i].item() == pytest.approx(distance.item(), rel=2e-9)


def test_estimators_are_adapted_within_inference_mode():
    with torch.inference_mode():
        for estimator in (LogisticRegression(), SVC(), make_pipeline(PCA(2), SVC())):
            classifier = adapted(fitted(estimator))
            x = some_points(5)
            ddn(3)(classifier, x, decisions(classifier, x))


def test_a_step_maps_back_what_comes_after_it():
    step = AffineStep(normal(0, 3, 5), normal(1, 3))
    weight, bias = step.before(normal(2, 2, 3), normal(3, 2))
    x = normal(4, 7, 1, 1, 5)
    after = step(x).flatten(1) @ normal(2, 2, 3).mT + normal(3, 2)
    torch.testing.assert_close(x.flatten(1) @ weight.mT + bias, after, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [None, ["six", "zero"]])
def test_one_nearest_neighbour_becomes_the_one_whose_distances_are_exact(order):
    x, y = two_blobs(0, 60)
    names = y.numpy() if order is None else np.array(["six", "zero"])[y.numpy()]
    fitted = KNeighborsClassifier(1).fit(x.flatten(1).numpy(), names)
    module = as_classifier(fitted, image_shape=x.shape[1:], classes=2, labels=order)
    assert isinstance(module, NearestNeighbour)
    fresh, _ = two_blobs(0, 200)
    expected = fitted.predict(fresh.flatten(1).numpy())
    decided = module(fresh).argmax(dim=1).numpy()
    assert ((decided if order is None else np.array(order)[decided]) == expected).all()


def test_equal_images_with_different_labels_are_asked_of_the_estimator():
    x, y = data(2)
    twice = fitted_to(KNeighborsClassifier(1), np.vstack([x, x[:1]]), np.append(y, 1 - y[0]))
    assert isinstance(adapted(twice), Estimator)
    same = fitted_to(KNeighborsClassifier(1), np.vstack([x, x[:1]]), np.append(y, y[0]))
    assert isinstance(adapted(same), NearestNeighbour)
