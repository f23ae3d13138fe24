import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

from bayesgap.classifiers import nearest
from bayesgap.classifiers.module import decisions, logits, margin
from bayesgap.classifiers.nearest import NearestNeighbour
from bayesgap.classifiers.svm import squared_distances
from bayesgap.errors import BayesgapError
from toys import SEEDS, normal, property_settings, two_blobs


def flat(x):
    return x.flatten(1).numpy()


@given(st.integers(**SEEDS), st.integers(1, 20), st.integers(2, 4))
@property_settings(40)
def test_logits_are_minus_the_squared_distances_of_scipy_and_decisions_scikit_learns(
    seed, d, classes
):
    x, y = two_blobs(seed, 30, (1, 1, d), classes)
    x, y = x[torch.randperm(30, generator=torch.Generator().manual_seed(seed))], y
    machine = NearestNeighbour(x, y)
    test = torch.cat([normal(seed, 20, 1, 1, d), x[:5]])
    squares = cdist(flat(test), flat(x), "sqeuclidean")
    expected = -np.stack([squares[:, y == k].min(axis=1) for k in range(classes)], axis=1)
    np.testing.assert_allclose(machine(test).numpy(), expected, rtol=1e-12, atol=1e-13)
    neighbour = KNeighborsClassifier(1).fit(flat(x), y.numpy())
    assert (decisions(machine, test).numpy() == neighbour.predict(flat(test))).all()


def test_a_training_image_is_decided_as_it_is_labelled_with_a_logit_of_0():
    x, y = 1e3 + normal(0, 40, 3, 4, 4), torch.arange(40) % 3  # of which products cancel digits
    out = NearestNeighbour(x, y)(x)
    assert (out.argmax(dim=1) == y).all()
    assert (out.amax(dim=1) == 0).all()


def test_an_image_that_several_classes_share_is_the_least_ones_in_all_its_cell():
    shared, own = torch.tensor([[0.3, -0.7, 0.9]]), torch.tensor([[5.0, 5, 5], [5, -5, 5]])
    machine = NearestNeighbour(
        torch.cat([own, shared, shared, shared]), torch.tensor([0, 2, 2, 1, 2])
    )
    x = (shared + 0.5 * normal(0, 200, 3)).reshape(-1, 1, 1, 3)
    out = logits(machine, x)
    assert torch.equal(out[:, 1], out[:, 2])
    assert (decisions(machine, x) == 1).all()


def test_the_margins_gradient_is_the_normal_of_the_bisector_even_at_a_training_image():
    s, t = normal(0, 1, 6), normal(1, 1, 6)
    machine = NearestNeighbour(torch.cat([s, t]), torch.tensor([0, 1]))
    x = torch.stack([normal(2, 6), s[0], t[0]]).reshape(3, 1, 2, 3).requires_grad_()
    margin(machine(x), torch.zeros(3, dtype=torch.long)).sum().backward()
    torch.testing.assert_close(x.grad, (2 * (s - t)).expand(3, 6).reshape(3, 1, 2, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_of_either_dtype_are_held_in_float64_and_not_shared(dtype):
    x, y = normal(0, 6, 1, 2, 2).to(dtype), torch.tensor([1, 0, 1, 0, 0, 1], dtype=torch.int32)
    machine = NearestNeighbour(x, y)
    assert machine.images.dtype == torch.float64
    assert machine.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(machine.images, x.flatten(1).double()[[1, 3, 4, 0, 2, 5]])
    x.zero_()
    assert (machine.images != 0).all()


@pytest.mark.parametrize("budget", [1, 8 * 25 * 3])
def test_a_chunked_nearest_neighbour_equals_an_unchunked_one(monkeypatch, budget):
    machine = NearestNeighbour(normal(0, 25, 4), torch.arange(25) % 3)
    x = normal(3, 10, 1, 2, 2)
    whole, chunks = machine(x), []

    def counted(rows, images):
        chunks.append(len(rows))
        return squared_distances(rows, images)

    monkeypatch.setattr(nearest, "CHUNK_BYTES", budget)
    monkeypatch.setattr(nearest, "squared_distances", counted)
    assert torch.equal(machine(x), whole)
    assert max(chunks) == max(1, budget // (8 * 25))
    assert sum(chunks) == 3 * 10


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.zeros(3, 4), [0, 0, 0], "none of class 1"),
        (torch.zeros(3, 4), [0, 2, 2], "none of class 1"),
        (torch.zeros(3, 4), [0, 1, -1], "got -1"),
        (torch.zeros(3, 4), [0, 1], r"3 training images need as many labels; got shape \(2,\)"),
        (torch.zeros(0, 4), [], "needs images"),
        (torch.tensor([[0.0], [torch.nan]]), [0, 1], "must be finite"),
    ],
)
def test_what_is_no_training_set_is_refused(images, labels, said):
    with pytest.raises(BayesgapError, match=said):
        NearestNeighbour(images, torch.tensor(labels, dtype=torch.long))
