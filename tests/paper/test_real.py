import pytest
import torch

from bayesgap.images.mnist import load_mnist, mnist_checksum
from bayesgap.paper.real import PARTS, RealImages, as_data, draw, read_real
from bayesgap.runs.store import Result
from strategies import random_task


@pytest.fixture(scope="module")
def digits():
    return as_data(read_real(name="mnist-0-6", limit=600, seed=0, checksum=mnist_checksum()))


def test_the_parts_of_mnist_share_no_image(digits):
    rows = [digits.parts[part][0].flatten(1) for part in PARTS]
    together = torch.cat(rows)
    assert [len(r) for r in rows] == [1_200] * 3
    # MNIST itself holds a few digits twice.
    assert len(together.unique(dim=0)) >= len(together) - 2
    test, _ = load_mnist((0, 6), split="test")
    levels = {image.numpy().tobytes() for image in (test * 255).round().to(torch.uint8)}
    assert all(image.numpy().tobytes() in levels for image in digits.parts["test"][0])


def test_samples_are_balanced_and_each_image_comes_once(digits):
    x, y = digits.sample(401, seed=3)
    assert y.bincount().tolist() == [200, 200]
    assert len(x.unique(dim=0)) == 400
    again, _ = digits.sample(401, seed=3)
    other, _ = digits.sample(401, seed=4)
    assert torch.equal(x, again)
    assert not torch.equal(x, other)


def test_where_a_class_has_few_images_both_are_as_few():
    x = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 2, 2)
    y = (torch.arange(10) >= 7).long()
    data = RealImages(dict.fromkeys(PARTS, (x, y)))
    images, labels = data.sample(100, seed=0, part="test")
    assert labels.bincount().tolist() == [3, 3]
    assert set((images[labels == 1] * 255).round()[:, 0, 0, 0].tolist()) == {7.0, 8.0, 9.0}


def test_training_takes_at_most_half_of_a_class(digits):
    first, labels = digits.sample(10_000, seed=0)
    second, _ = digits.sample(10_000, seed=1)
    assert labels.bincount().tolist() == [300, 300]
    shared = len(first) + len(second) - len(torch.cat([first, second]).unique(dim=0))
    assert 200 < shared < 400


def test_a_task_is_drawn_from_as_it_is_sampled():
    task = random_task(0)
    x, y = draw(task, "test", 5, seed=7)
    expected = task.sample(5, seed=7)
    assert torch.equal(x, expected[0])
    assert torch.equal(y, expected[1])
    assert as_data(Result(*task.to_tensors())).name == task.name
