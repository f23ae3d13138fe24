import pytest
import torch

from bayesgap.errors import BayesgapError
from bayesgap.images.mnist import IMAGE_SHAPE, load_mnist
from strategies import without_shape_checks

# Counts of the digits 0 to 9, as published with the data.
COUNTS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}
FIRST_LABELS = {"train": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], "test": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]}


@pytest.fixture(scope="module", params=["train", "test"])
def split(request):
    return request.param, *load_mnist(split=request.param)


def test_every_digit_comes_as_often_as_published(split):
    name, x, y = split
    assert sum(COUNTS[name]) == {"train": 60_000, "test": 10_000}[name]
    assert y.bincount(minlength=10).tolist() == COUNTS[name]
    assert x.shape == (len(y), *IMAGE_SHAPE)


def test_images_are_float32_multiples_of_a_255th_from_0_to_1(split):
    _, x, y = split
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert (x.min().item(), x.max().item()) == (0.0, 1.0)
    levels = x[:500] * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


def test_the_order_is_that_of_the_original_files(split):
    name, _, y = split
    assert y[:10].tolist() == FIRST_LABELS[name]


def test_the_training_pixels_have_the_mean_and_deviation_that_everyone_normalises_by():
    x = load_mnist()[0].numpy()
    assert x.mean(dtype="float64") == pytest.approx(0.1307, abs=5e-5)
    assert x.std(dtype="float64") == pytest.approx(0.3081, abs=5e-5)


def test_the_order_of_digits_gives_the_labels():
    everything, labels = load_mnist(split="test")
    for digits in ([4, 5], [5, 4], [7], [9, 0, 3]):
        x, y = load_mnist(digits, split="test")
        chosen = torch.isin(labels, torch.tensor(digits))
        assert torch.equal(x, everything[chosen])
        assert torch.equal(torch.tensor(digits)[y], labels[chosen])


def test_changing_loaded_images_does_not_change_the_next_ones():
    first, _ = load_mnist([3], split="test")
    before = first.clone()
    first.zero_()
    assert torch.equal(load_mnist([3], split="test")[0], before)


@pytest.mark.parametrize("digits", [[], [10], [-1, 2], [3, 3], [0, 1, 12]])
def test_what_is_no_list_of_different_digits_is_refused(digits):
    with pytest.raises(BayesgapError) as caught:
        load_mnist(digits)
    assert str(digits) in str(caught.value)


def test_another_split_is_refused():
    with without_shape_checks(), pytest.raises(BayesgapError, match="not 'validation'"):
        load_mnist([0], split="validation")  # type: ignore[arg-type]
