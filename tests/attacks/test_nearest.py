from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from torch import nn

from bayesgap.attacks.base import verified
from bayesgap.attacks.closed_form import ClosedForm, has_closed_form
from bayesgap.attacks.linear import LinearClosedForm
from bayesgap.attacks.named import named_attack
from bayesgap.attacks.nearest import NearestClosedForm
from bayesgap.classifiers.adapt import as_classifier
from bayesgap.classifiers.linear import AffineStep
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.nearest import NearestNeighbour
from bayesgap.classifiers.svm import RBFSVM, LinearSVM
from bayesgap.errors import BayesgapError
from toys import SEEDS, normal, property_settings, two_blobs


def constraints(s, own, x):
    """The rows s − t and h_t of the program of one cell."""
    return s - own, (((x - s) ** 2).sum() - ((x - own) ** 2).sum(axis=1)) / 2


def by_least_squares(s, own, x, matrix=None):
    """min ‖v‖ with A v ≥ h as Lawson and Hanson's least-distance problem, over all own images."""
    A, h = constraints(s, own, x)
    A = A if matrix is None else A @ matrix
    E, target = np.vstack([A.T, h]), np.append(np.zeros(A.shape[1]), 1)
    u, _ = nnls(E, target, maxiter=10_000)
    rest = E @ u - target
    return np.linalg.norm(rest[:-1] / rest[-1])


def by_slsqp(s, own, x):
    """The same by sequential quadratic programming."""
    A, h = constraints(s, own, x)
    solved = minimize(
        lambda v: v @ v,
        s - x,
        jac=lambda v: 2 * v,
        constraints={"type": "ineq", "fun": lambda v: A @ v - h, "jac": lambda v: A},
        options={"ftol": 1e-10},
    )
    assert (A @ solved.x >= h - 1e-8).all()
    return np.linalg.norm(solved.x)


def expected_distances(images, labels, x, y, solve):
    """The least over the programs of all images of other classes, none left out."""
    images, labels = images.flatten(1).numpy(), labels.numpy()
    return np.array(
        [
            min(solve(s, images[labels == label], point) for s in images[labels != label])
            for point, label in zip(x.flatten(1).numpy(), y.numpy(), strict=True)
        ]
    )


def attacked(images, labels, x):
    machine = NearestNeighbour(images, labels)
    y = decisions(machine, x)
    found = NearestClosedForm()(machine, x, y)
    assert found.success.all()
    # Whatever the size of the batch.
    for i in range(len(x)):
        assert verified(machine, x[i : i + 1], y[i : i + 1], found.images[i : i + 1]).success
    return found, y


@given(st.integers(**SEEDS), st.integers(1, 12), st.integers(2, 50), st.integers(2, 4))
@property_settings(60)
def test_the_distance_is_the_least_over_all_programs_without_bounds(seed, d, n, classes):
    n += classes
    images, labels = two_blobs(seed, n, (1, 1, d), classes)
    x = torch.cat([normal(seed + 1, 3, 1, 1, d), images[:2]])  # training images too
    found, y = attacked(images, labels, x)
    expected = expected_distances(images, labels, x, y, by_least_squares)
    np.testing.assert_allclose(found.sizes.numpy(), expected, rtol=1e-9, atol=1e-9)
    assert (found.sizes.numpy() >= expected * (1 - 1e-9)).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_another_solver_agrees(classes):
    images, labels = two_blobs(3, 24, (1, 1, 5), classes)
    x = normal(4, 6, 1, 1, 5)
    found, y = attacked(images, labels, x)
    expected = expected_distances(images, labels, x, y, by_slsqp)
    np.testing.assert_allclose(found.sizes.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_in_the_plane_it_is_the_distance_to_the_nearest_other_decision_of_a_fine_grid(classes):
    images, labels = two_blobs(0, 40, (1, 1, 2), classes, separation=0.7)
    x = normal(1, 20, 1, 1, 2)
    found, y = attacked(images, labels, x)
    axis, step = torch.linspace(-4, 4, 401).double(), 0.02
    grid = torch.cartesian_prod(axis, axis)
    decided = decisions(NearestNeighbour(images, labels), grid.reshape(-1, 1, 1, 2))
    away = torch.cdist(x.flatten(1), grid).masked_fill(decided[None] == y[:, None], torch.inf)
    closest = away.amin(dim=1)
    assert (found.sizes <= closest).all()
    # Cells have corners, which a grid may miss by more than a step.
    assert (found.sizes >= closest - 3 * step).all()


@given(st.integers(**SEEDS), st.integers(1, 30))
@property_settings(30)
def test_of_one_image_a_class_it_is_the_distance_to_the_bisector(seed, d):
    s, t = normal(seed, 1, d), normal(seed + 1, 1, d)
    x = normal(seed + 2, 9, 1, 1, d)
    found, _ = attacked(torch.cat([s, t]), torch.tensor([0, 1]), x)
    expected = ((x.flatten(1) - (s + t) / 2) @ ((s - t) / (s - t).norm()).T).abs().flatten()
    torch.testing.assert_close(found.sizes, expected, rtol=1e-9, atol=1e-10)


def test_many_pixels_and_many_active_constraints_are_exact_too():
    place, turn = normal(0, 400, 6), normal(1, 6, 144)
    images = (place @ turn + 0.2 * normal(2, 400, 144)).reshape(-1, 1, 12, 12)
    labels = (place[:, 0] > 0).long()
    x = images[-12:] + 0.2 * normal(3, 12, 1, 12, 12)
    images, labels = images[:-12], labels[:-12]
    found, y = attacked(images, labels, x)
    expected = expected_distances(images, labels, x, y, by_least_squares)
    np.testing.assert_allclose(found.sizes.numpy(), expected, rtol=1e-9)
    # What would do for cells of one constraint does not do here.
    bisectors = expected_distances(images, labels, x, y, nearest_bisector)
    assert (expected > 1.1 * bisectors).sum() > 6


def nearest_bisector(s, own, x):
    """The distance to the bisector with the own image nearest to x alone."""
    A, h = constraints(s, own, x)
    t = ((x - own) ** 2).sum(axis=1).argmin()
    return h[t] / np.linalg.norm(A[t])


def test_lattices_with_ties_everywhere_are_exact():
    axis = torch.arange(-2.0, 3).double()
    images = torch.cartesian_prod(axis, axis, axis)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, size=len(images)))
    x = torch.cat([images[::9], images[::7] + 0.5, images[::8] * 1.5]).reshape(-1, 1, 1, 3)
    found, y = attacked(images, labels, x)
    expected = expected_distances(images, labels, x, y, by_least_squares)
    assert (expected < 1e-9).sum() > 3  # on the boundary itself
    np.testing.assert_allclose(found.sizes.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_images_that_occur_twice_change_nothing():
    images, labels = two_blobs(7, 30, (1, 1, 4))
    x = normal(8, 10, 1, 1, 4)
    found, _ = attacked(images, labels, x)
    again, _ = attacked(images.repeat(2, 1, 1, 1), labels.repeat(2), x)
    torch.testing.assert_close(again.sizes, found.sizes, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("shared_by", "expected"),
    # The own class 1 wins its tie with class 2, which must go on to its image at 8; class 0 wins.
    [((1, 2), 5.0), ((0, 1), 1.0)],
)
def test_an_image_that_two_classes_share_is_won_by_the_lesser_label_alone(shared_by, expected):
    x = torch.zeros(1, 1, 1, 2)
    pixels = torch.tensor([[0.0, 0], [2, 0], [2, 0], [8, 0], [0, 40]])
    machine = NearestNeighbour(pixels, torch.tensor([1, *shared_by, 2, 0]))
    assert decisions(machine, x).tolist() == [1]
    found = NearestClosedForm()(machine, x, torch.tensor([1]))
    assert found.sizes.item() == pytest.approx(expected, rel=1e-9)


def test_without_an_image_that_can_win_the_attack_fails_honestly():
    pixels = torch.tensor([[0.0, 0], [2, 0], [0, 0], [2, 0]])
    machine = NearestNeighbour(pixels, torch.tensor([0, 0, 1, 1]))
    found = NearestClosedForm()(machine, torch.zeros(1, 1, 1, 2), torch.tensor([0]))
    assert found.sizes.tolist() == [np.inf]


@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-9, 1e-6, 1e-3])
def test_every_decision_flips_however_near_the_boundary_is(distance):
    images, labels = two_blobs(1, 60, (1, 8, 8))
    machine = NearestNeighbour(images, labels)
    x = normal(2, 30, 1, 8, 8)
    found = NearestClosedForm()(machine, x, decisions(machine, x))
    back = (x - found.images) / found.sizes[:, None, None, None]
    near = found.images + distance * back
    y = decisions(machine, near)
    again = NearestClosedForm()(machine, near, y)
    assert again.success.all()
    assert (again.sizes <= distance + 1e-12).all()


def test_float32_images_are_attacked_in_float64():
    images, labels = two_blobs(1, 60, (1, 4, 4))
    x = normal(2, 10, 1, 4, 4).float()
    single, _ = attacked(images.float(), labels, x)
    double, _ = attacked(images.float().double(), labels, x.double())
    assert single.images.dtype == torch.float64
    assert torch.equal(single.sizes, double.sizes)


def test_a_machine_in_float32_is_broken_a_little_further_on():
    images, labels = two_blobs(1, 60, (1, 4, 4))
    machine, x = NearestNeighbour(images, labels).float(), normal(2, 40, 1, 4, 4)
    found = NearestClosedForm()(machine, x, decisions(machine, x))
    expected, _ = attacked(images.float(), labels, x.float())
    assert found.images.dtype == torch.float32
    assert found.success.all()
    assert (found.sizes >= expected.sizes - 1e-6).all()
    torch.testing.assert_close(found.sizes, expected.sizes, rtol=1e-3, atol=1e-3)


def test_images_of_two_classes_may_nearly_coincide():
    pixels = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1e-6]]).double()
    x = torch.tensor([[[[0.9, -0.5]]], [[[0.1, -0.2]]]]).double()
    found, y = attacked(pixels, torch.tensor([0, 0, 1]), x)
    assert y.tolist() == [0, 0]
    # In the second case the corner of all three cells is nearest.
    expected = [0.5 + 5e-7, np.hypot(0.4, 0.2)]
    np.testing.assert_allclose(found.sizes.numpy(), expected, rtol=1e-6)


def test_an_image_between_two_of_another_class_that_rounding_cannot_tell_from_it_is_refused():
    pixels = torch.tensor([[1.0, 0.0], [1.0, 2e-8], [1.0, 1e-8]]).double()
    machine = NearestNeighbour(pixels, torch.tensor([0, 0, 1]))
    with pytest.raises(BayesgapError, match=r"different classes lie 1\.0e-08 apart"):
        NearestClosedForm()(machine, torch.zeros(1, 1, 1, 2) - 0.5, torch.tensor([0]))


def test_the_preset_serves_nearest_neighbours_and_linear_machines_to_the_last_bit():
    machine, x = LinearSVM(normal(0, 3, 4), normal(1, 3)), normal(2, 20, 1, 2, 2)
    neighbour = NearestNeighbour(normal(3, 30, 4), torch.arange(30) % 3)
    for classifier, form in ((machine, LinearClosedForm()), (neighbour, NearestClosedForm())):
        y = decisions(classifier, x)
        found, expected = named_attack("closed-form")(classifier, x, y), form(classifier, x, y)
        assert found.success.all()
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.sizes, expected.sizes)


OTHERS = (
    nn.Sequential(nn.Flatten(), nn.Linear(4, 2)),
    RBFSVM(torch.zeros(1, 4), torch.zeros(1, 1), torch.zeros(1), 1.0),
)


@pytest.mark.parametrize("other", OTHERS)
def test_another_classifier_is_refused_by_its_name(other):
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(BayesgapError, match="for bayesgap's NearestNeighbour alone"):
        NearestClosedForm()(other, x, decisions(other, x))


def test_what_has_no_closed_form_is_refused_by_its_name():
    x, machine = torch.zeros(1, 1, 2, 2), OTHERS[1]
    with pytest.raises(BayesgapError, match="one nearest neighbour alone; a RBFSVM has none"):
        ClosedForm()(machine, x, decisions(machine, x))


# Behind the steps of a pipeline.

STEPS = {
    "standard": [StandardScaler()],
    "min-max": [MinMaxScaler((-1, 3))],
    "pca": [PCA(3)],
    "whitened": [StandardScaler(), PCA(4, whiten=True), MaxAbsScaler()],
}


def behind(steps, x, y):
    """A pipeline of pixels of unequal spread, as a module; and it, its A and its training rows."""
    rows = x.flatten(1).numpy()
    pipeline = make_pipeline(*steps, KNeighborsClassifier(1)).fit(rows, y.numpy())
    module = as_classifier(pipeline, image_shape=x.shape[1:], classes=len(y.unique()))
    before = pipeline[:-1].transform
    d = rows.shape[1]
    matrix = (before(np.eye(d)) - before(np.zeros((1, d)))).T
    return module, pipeline, matrix, before


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_behind_affine_steps_it_is_the_least_over_all_programs_in_pixels(steps, classes):
    images, labels = two_blobs(5, 40, (1, 2, 3), classes)
    spread = torch.tensor([0.05, 0.2, 1, 1, 3, 20]).double().reshape(2, 3)
    images = 0.5 + spread * images
    module, pipeline, matrix, before = behind(steps, images, labels)
    x = torch.cat([0.5 + spread * normal(6, 12, 1, 2, 3), images[:4]])
    y = decisions(module, x)
    assert (y.numpy() == pipeline.predict(x.flatten(1).numpy())).all()
    found = ClosedForm()(module, x, y)
    assert found.success.all()
    ends = pipeline.predict(found.images.flatten(1).numpy())
    assert (ends == decisions(module, found.images).numpy()).all()
    training = torch.from_numpy(before(images.flatten(1).numpy()))
    expected = expected_distances(
        training,
        labels,
        torch.from_numpy(before(x.flatten(1).numpy())),
        y,
        partial(by_least_squares, matrix=matrix),
    )
    np.testing.assert_allclose(found.sizes.numpy(), expected, rtol=1e-8, atol=1e-9)
    assert not np.allclose(expected, expected_distances(images, labels, x, y, by_least_squares))


@given(st.integers(**SEEDS), st.integers(1, 9))
@property_settings(30)
def test_of_one_image_a_class_behind_a_step_it_is_the_distance_to_a_plane(seed, d):
    matrix, offset = normal(seed, d, d), normal(seed + 1, d)
    s, t = normal(seed + 2, d), normal(seed + 4, d)
    machine = NearestNeighbour(torch.stack([s, t]), torch.tensor([0, 1]))
    module = nn.Sequential(AffineStep(matrix, offset), machine)
    x = normal(seed + 3, 5, 1, 1, d)
    found = ClosedForm()(module, x, decisions(module, x))
    u = x.flatten(1) @ matrix.mT + offset
    gap = ((u - s).square().sum(dim=1) - (u - t).square().sum(dim=1)) / 2
    expected = gap.abs() / ((s - t) @ matrix).norm()
    np.testing.assert_allclose(found.sizes, expected, rtol=1e-7)
    assert found.success.all()


def test_steps_of_other_kinds_have_no_closed_form():
    images, labels = two_blobs(5, 20, (1, 2, 3))
    machine = NearestNeighbour(images, labels)
    step = AffineStep(torch.ones(6), torch.zeros(6))
    assert has_closed_form(nn.Sequential(step, machine))
    for other in (
        nn.Sequential(nn.Tanh(), machine),
        nn.Sequential(machine, step),
        nn.Sequential(),
        nn.Sequential(step),
    ):
        assert not has_closed_form(other)
    hooked = nn.Sequential(AffineStep(torch.ones(6), torch.zeros(6)), machine)
    hooked[0].register_forward_hook(lambda module, inputs, out: out.tanh())
    assert not has_closed_form(hooked)


def test_pixels_that_hardly_differ_are_scaled_up_without_losing_success():
    """A scale of 1e6 and an offset of 5e5: what is added for rounding must still be enough."""
    images, labels = two_blobs(8, 30, (1, 2, 3))
    images = 0.5 + 1e-6 * images
    module, *_ = behind([StandardScaler()], images, labels)
    x = 0.5 + 1e-6 * normal(9, 20, 1, 2, 3)
    found = ClosedForm()(module, x, decisions(module, x))
    assert found.success.all()
    assert found.sizes.max() < 1e-5
