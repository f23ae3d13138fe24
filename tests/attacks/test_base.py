import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bayesgap.attacks import base
from bayesgap.attacks.base import Adversarials, Attack, BestOf, best_of
from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.library import ddn
from bayesgap.attacks.linear import LinearClosedForm
from bayesgap.attacks.named import named_attack
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError
from bayesgap.norms import L2, Norm
from linf import LINF
from strategies import without_shape_checks
from toys import (
    SEEDS,
    Function,
    Returns,
    from_gap,
    normal,
    property_settings,
    spherical_task,
)

D = 3


def classifier():
    """Decided 1 where the first pixel is greater than 1."""
    return LinearSVM(torch.tensor([[1.0, 0, 0]]), torch.tensor([-1.0]))


def points(n=6):
    x = normal(0, n, 1, 1, D)
    x[:, 0, 0, 0] = -x[:, 0, 0, 0].abs()
    return x, torch.zeros(n, dtype=torch.int64)


def moved(x, by):
    z = x.clone()
    z[:, 0, 0, 0] += by
    return z


def test_a_failure_is_the_image_itself_at_infinite_distance():
    x, y = points()
    found = Returns(lambda x: moved(x, 0.5))(classifier(), x, y)
    assert torch.equal(found.images, x)
    assert not found.success.any()
    assert torch.isposinf(found.sizes).all()


def test_a_success_carries_its_own_size():
    x, y = points()
    step = normal(1, *x.shape)
    step[:, 0, 0, 0] = 9.0
    found = Returns(lambda x: x + step)(classifier(), x, y)
    assert found.success.all()
    assert torch.equal(found.images, x + step)
    expected = np.linalg.norm(step.flatten(1).numpy(), axis=1)
    np.testing.assert_allclose(found.sizes.numpy(), expected, rtol=1e-14)


LIES = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0, -1e6, 1e6])
)


@given(st.lists(LIES, min_size=6 * D, max_size=6 * D), st.booleans())
@property_settings(80)
def test_whatever_an_attack_returns_it_never_reports_a_success_that_is_none(values, half):
    x, y = points()
    lie = torch.tensor(values, dtype=torch.float64).reshape(x.shape)
    if half:
        lie[::2] = x[::2]
    found = Returns(lambda x: lie)(classifier(), x, y)
    flipped = (lie.isfinite().flatten(1).all(dim=1) & (lie[:, 0, 0, 0] > 1)).numpy()
    assert (found.success.numpy() == flipped).all()
    assert torch.equal(found.sizes.isfinite(), found.success)
    assert torch.equal(found.images, torch.where(found.success[:, None, None, None], lie, x))
    distances = np.linalg.norm((found.images - x).flatten(1).numpy(), axis=1)
    np.testing.assert_allclose(found.sizes[found.success].numpy(), distances[flipped], rtol=1e-13)


@pytest.mark.parametrize("size", [1e160, 1e300])
def test_a_success_has_a_finite_distance_however_far_it_lies(size):
    x, y = points()
    found = Returns(lambda x: torch.full_like(x, size))(classifier(), x, y)
    assert torch.equal(found.sizes.isfinite(), found.success)


def test_one_image_blown_up_beyond_what_can_be_scored_fails_alone():
    task = spherical_task([[0.0] * D, [2.0] * D], 0.1)
    optimal = task.bayes_classifier(temperature=1.0)
    x, y = torch.zeros(3, 1, 1, D).double(), torch.zeros(3, dtype=torch.int64)

    def wild(x):
        z = torch.full_like(x, 2.0)
        z[1] = 1e200  # the squares in its log-density overflow
        return z

    found = Returns(wild)(optimal, x, y)
    assert found.success.tolist() == [True, False, True]


def test_an_attack_that_writes_into_its_images_still_reports_the_true_distance():
    x, y = points()
    before = x.clone()
    found = Returns(lambda x: x.add_(3.0))(classifier(), x, y)
    assert torch.equal(x, before)
    flipped = before[:, 0, 0, 0] + 3 > 1
    assert torch.equal(found.success, flipped)
    np.testing.assert_allclose(found.sizes[flipped].numpy(), 3 * np.sqrt(D), rtol=1e-14)


def test_what_is_already_decided_otherwise_is_a_success_at_distance_0_and_never_attacked():
    x, y = points()
    y = torch.tensor([0, 1, 0, 1, 1, 0])
    attack = Returns(lambda x: moved(x, 99.0))
    found = attack(classifier(), x, y)
    assert found.success.all()
    assert (found.sizes[y == 1] == 0).all()
    assert (found.sizes[y == 0] > 0).all()
    assert torch.equal(found.images[y == 1], x[y == 1])
    assert attack.seen == [3]


def test_an_attack_does_not_run_where_every_image_is_decided_otherwise():
    x, y = points()
    attack = Returns(lambda x: x)
    assert (attack(classifier(), x, y + 1).sizes == 0).all()
    assert attack.seen == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_come_back_in_the_classifiers_dtype_and_sizes_in_float64(dtype):
    x, y = points()
    machine = from_gap(lambda x: 1 - x[:, 0, 0, 0], dtype)
    attack = Returns(lambda x: moved(x, 20.0))
    for images in (x.double(), x.float()):
        found = attack(machine, images, y)
        assert found.images.dtype == dtype
        assert found.sizes.dtype == torch.float64
        assert found.success.dtype == torch.bool
        as_cast = (found.images.double() - images.to(dtype).double()).flatten(1).numpy()
        np.testing.assert_allclose(found.sizes.numpy(), np.linalg.norm(as_cast, axis=1), rtol=1e-14)


def test_an_attack_may_return_another_dtype_than_the_classifiers():
    x, y = points()
    machine = from_gap(lambda x: 1 - x[:, 0, 0, 0], torch.float32)
    found = Returns(lambda x: moved(x.double(), 20.0))(machine, x, y)
    assert found.success.all()
    assert found.images.dtype == torch.float32


def test_an_attack_in_chunks_gives_what_it_gives_in_one_batch(monkeypatch):
    x, y = normal(0, 10, 1, 1, D), torch.zeros(10, dtype=torch.int64)
    y[1] = 1
    machine = classifier()
    whole = LinearClosedForm()(machine, x, y)
    monkeypatch.setattr(base, "CHUNK", 4)
    attack = Returns(lambda x: moved(x, 3.0))
    attack(machine, x, decisions(machine, x))
    assert attack.seen == [4, 4, 2]
    chunked = LinearClosedForm()(machine, x, y)
    assert torch.equal(chunked.success, whole.success)
    torch.testing.assert_close(chunked.sizes, whole.sizes, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(chunked.images, whole.images, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_labels_may_be_integers_of_any_width(dtype):
    x, _ = points()
    y = torch.tensor([0, 1, 0, 0, 0, 1])
    attack = LinearClosedForm()
    found, expected = attack(classifier(), x, y.to(dtype)), attack(classifier(), x, y)
    assert torch.equal(found.sizes, expected.sizes)


@pytest.mark.parametrize(("norm", "order"), [(L2, 2), (LINF, np.inf)])
def test_sizes_are_of_the_norm_that_was_asked_for(norm, order):
    x, y = points()
    step = normal(1, *x.shape)
    step[:, 0, 0, 0] = torch.tensor([9.0, 9.0, 0.0, 9.0, 9.0, 0.0])
    found = Returns(lambda x: x + step)(classifier(), x, y, norm=norm)
    assert found.norm == norm
    assert found.success.tolist() == [True, True, False, True, True, False]
    expected = np.linalg.norm(step.flatten(1).numpy(), order, axis=1)
    np.testing.assert_allclose(found.sizes[found.success], expected[found.success], rtol=1e-14)
    assert torch.isposinf(found.sizes[~found.success]).all()


def test_without_a_norm_sizes_are_of_l2():
    x, y = points()
    attack = Returns(lambda x: moved(x, 20.0))
    found, expected = attack(classifier(), x, y), attack(classifier(), x, y, norm=L2)
    assert found.norm == expected.norm == L2
    assert torch.equal(found.sizes, expected.sizes)


def test_a_norm_that_overflows_is_a_failure_of_that_image_alone():
    wild = Norm("wild", lambda rows: torch.where(rows[:, 0] > 15, torch.inf, rows.norm(dim=1)))
    x, y = points()
    steps = torch.tensor([10.0, 20.0, 10.0, 20.0, 10.0, 10.0])[:, None, None, None].double()
    found = Returns(lambda x: x + steps)(classifier(), x, y, norm=wild)
    assert found.success.tolist() == [True, False, True, False, True, True]


def test_an_attack_is_called_by_its_class_where_it_has_no_name():
    class Unnamed(Attack):
        def run(self, classifier, x, y):
            return x

    assert Unnamed().name == "Unnamed"
    assert Returns(None).name == "returns"


@given(st.integers(**SEEDS), st.integers(1, 4))
@property_settings(40)
def test_best_of_takes_the_nearest_success_of_each_image(seed, attacks):
    random = np.random.default_rng(seed)
    sizes = np.where(random.random((attacks, 5)) < 0.4, np.inf, random.random((attacks, 5)))
    images = random.normal(size=(attacks, 5, 1, 1, 2))
    tables = [torch.from_numpy(table) for table in (images, np.isfinite(sizes), sizes)]
    best = best_of([Adversarials(*parts) for parts in zip(*tables, strict=True)])
    for i in range(5):
        k = min(range(attacks), key=lambda k: sizes[k, i])
        assert best.sizes[i].item() == sizes[k, i]
        assert best.success[i].item() == bool(np.isfinite(sizes[k, i]))
        assert (best.images[i].numpy() == images[k, i]).all()


def test_the_best_of_several_attacks_is_each_images_nearest_success():
    x, y = torch.zeros(3, 1, 1, D).double(), torch.zeros(3, dtype=torch.int64)
    steps = torch.tensor([[1.5, 3.0, 0.5], [2.5, 2.0, 0.9]])[:, :, None, None, None].double()

    def along(step):
        return Returns(lambda x: x + step * torch.tensor([1.0, 0, 0]).double())

    attack = BestOf([along(steps[0]), along(steps[1])])
    found = attack(classifier(), x, y)
    assert attack.name == "best of returns, returns"
    assert found.sizes.tolist() == [1.5, 2.0, np.inf]
    assert found.success.tolist() == [True, True, False]
    assert found.images[:, 0, 0, 0].tolist() == [1.5, 2.0, 0.0]
    assert attack(classifier(), x, y, norm=LINF).norm == LINF


def test_the_best_of_found_sizes_keeps_their_norm():
    x, y = points()
    found = Returns(lambda x: moved(x, 20.0))(classifier(), x, y, norm=LINF)
    assert best_of([found, found]).norm == LINF


def spoiled(value):
    x = torch.zeros(4, 1, 1, D)
    x[2, 0, 0, 1] = x[3, 0, 0, 0] = value
    return x


GOOD_X, GOOD_Y = torch.zeros(4, 1, 1, D), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (spoiled(torch.nan), GOOD_Y, "2 of 4 images hold NaN or infinity, first: 2"),
        (spoiled(torch.inf), GOOD_Y, "2 of 4 images hold NaN or infinity, first: 2"),
        (GOOD_X[:0], GOOD_Y[:0], r"\(0, 1, 1, 3\)"),
        (GOOD_X[:, 0], GOOD_Y, r"\(4, 1, 3\)"),
        (GOOD_X[None], GOOD_Y, r"\(1, 4, 1, 1, 3\)"),
        (GOOD_X, GOOD_Y[:3], r"4 images need 4 integer labels; got .* \(3,\)"),
        (GOOD_X, GOOD_Y[:, None], r"\(4, 1\)"),
        (GOOD_X, GOOD_Y.double(), "torch.float64"),
        (GOOD_X, GOOD_Y.bool(), "torch.bool"),
        (GOOD_X, GOOD_Y - 2, "-2"),
        (GOOD_X, GOOD_Y + 7, "7"),
        (GOOD_X.to("meta"), GOOD_Y, "Images must .* on the device meta"),
        (GOOD_X, GOOD_Y.to("meta"), "Labels must .* on the device meta"),
        (GOOD_X.to_sparse(), GOOD_Y, "Images must .* torch.sparse_coo tensor"),
    ],
    ids=[
        "NaN",
        "infinity",
        "no images",
        "three axes",
        "five axes",
        "too few labels",
        "a table of labels",
        "float labels",
        "bool labels",
        "negative label",
        "label beyond the classes",
        "images without numbers",
        "labels without numbers",
        "sparse images",
    ],
)
def test_input_that_no_attack_can_work_on_is_refused_in_a_sentence(x, y, word):
    attack = Returns(lambda x: x)
    with pytest.raises(BayesgapError, match=word) as refusal:
        attack(classifier(), x, y)
    assert str(refusal.value).endswith(".")
    assert attack.seen == []


def test_a_label_beyond_the_classes_is_refused_before_any_image_is_attacked(monkeypatch):
    monkeypatch.setattr(base, "CHUNK", 2)
    attack = Returns(lambda x: x)
    with pytest.raises(BayesgapError, match="7"):
        attack(classifier(), GOOD_X, torch.tensor([0, 0, 0, 7]))
    assert attack.seen == []


def test_logits_that_are_no_table_are_refused_by_an_attack_too():
    with pytest.raises(BayesgapError, match="turned"):
        Returns(lambda x: x)(Function(lambda x: x.flatten(1).sum(dim=1)), GOOD_X, GOOD_Y)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda x: x[:1], r"returned \(1, 1, 1, 3\)"),
        (lambda x: x.numpy(), "returned a ndarray"),
    ],
)
def test_an_attack_that_returns_no_images_is_refused(returned, said):
    x, y = points()
    with without_shape_checks(), pytest.raises(BayesgapError, match=said):
        Returns(returned)(classifier(), x, y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_classifier_in_half_precision_is_refused(dtype):
    x, y = points()
    with pytest.raises(BayesgapError, match=r"attack classifier\.float\(\)"):
        Returns(lambda x: x)(classifier().to(dtype), x, y)


def test_arrays_are_refused_with_their_type():
    x, y = points()
    for images, labels in ((x.numpy(), y), (x, y.tolist())):
        with without_shape_checks(), pytest.raises(BayesgapError, match="must be a torch tensor"):
            Returns(lambda x: x)(classifier(), images, labels)


def test_an_attacked_network_is_left_in_its_mode():
    x, y = points()
    for mode in (True, False):
        attacked = classifier().train(mode)
        Returns(lambda x: x)(attacked, x, y)
        assert attacked.training == mode


def test_success_is_verified_in_evaluation_mode_whatever_the_attack_left():
    x, y = points()

    class Noisy(LinearSVM):
        def forward(self, x):
            logits = super().forward(x)
            return -logits if self.training else logits

    noisy = Noisy(torch.tensor([[1.0, 0, 0]]), torch.tensor([-1.0]))

    class Trains(Returns):
        def run(self, classifier, x, y):
            classifier.train()
            return x + 1e-6

    assert not Trains(None)(noisy, x, y).success.any()


def test_an_attack_leaves_no_gradients_on_parameters():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(D, 2)).double()
    x, _ = points()
    BoundaryWalk(moved(x, 9.0), attacks=[ddn(5)])(network, x, decisions(network, x))
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("within", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["ddn", "ld-grad", "pgd", "boundary-walk", "closed-form"])
def test_within_no_grad_and_inference_mode_an_attack_gives_what_it_gives_outside(name, within):
    def found():
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(D, 2)).double()
        for place, parameter in enumerate(network.parameters()):
            parameter.data = normal(place, *parameter.shape)
        x = normal(2, 4, 1, 1, D)
        attack = named_attack(name, pool=moved(5 * normal(3, 30, 1, 1, D), 1.0))
        return attack(network, x, decisions(network, x))

    expected = found()
    with within():
        got = found()
    assert torch.equal(got.images, expected.images)
    assert torch.equal(got.sizes, expected.sizes)


@pytest.mark.parametrize("leaf", [True, False])
def test_images_with_a_gradient_are_attacked_without_it(leaf):
    x, y = points()
    expected = ddn(5)(classifier(), x, y)
    z = x.clone().requires_grad_()
    found = ddn(5)(classifier(), z if leaf else 1 * z, y)
    assert torch.equal(found.images, expected.images)
    assert not found.images.requires_grad
    assert not found.sizes.requires_grad
    assert z.grad is None
    assert z.requires_grad


def test_an_attack_that_fails_leaves_the_network_as_it_was():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(D, 2), torch.nn.Dropout())
    network[1].bias.requires_grad_(False)
    network[2].eval()

    def fail(x):
        raise ZeroDivisionError

    x, _ = points()
    said = "The attack returns failed with ZeroDivisionError"
    with torch.no_grad(), pytest.raises(BayesgapError, match=said):
        Returns(fail)(network, x, decisions(network, x))
    assert [child.training for child in network.modules()] == [True, True, True, False]
    assert [parameter.requires_grad for parameter in network.parameters()] == [True, False]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (torch.Tensor.to_sparse, "a torch.sparse_coo tensor"),
        (lambda x: x.to("meta"), "a tensor on the device meta, which holds no numbers"),
        (lambda x: x + 0j, "a torch.complex64 tensor"),
    ],
)
def test_what_does_not_hold_a_real_number_for_each_pixel_is_no_image(change, said):
    x, y = points()
    x = x.float()
    with pytest.raises(BayesgapError, match=f"must return images of shape .*; it returned {said}"):
        Returns(change)(from_gap(lambda x: x[:, 0, 0, 0] - 9, torch.float32), x, y + 1)
    with pytest.raises(BayesgapError, match=f"Images must be a dense tensor .* got {said}"):
        Returns(lambda x: x)(classifier(), change(x), y)
    net = Function(lambda x: change(x[:, 0, 0, :2]), torch.float32)
    with pytest.raises(BayesgapError, match=f"into {said}: see bayesgap.as_classifier"):
        decisions(net, x)


def test_an_attack_that_takes_the_classifiers_numbers_away_is_a_sentence():
    class Away(Attack):
        def run(self, classifier, x, y):
            classifier.to("meta")
            return x

    x, _ = points()
    network = nn.Sequential(nn.Flatten(), nn.Linear(D, 2)).to(x.dtype)
    with pytest.raises(BayesgapError, match=r"turned .* into a tensor on the device meta"):
        Away()(network, x, decisions(network, x))
