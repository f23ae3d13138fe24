import pytest
import torch
from bayesgap.paper.exhibit import Setting
from bayesgap.paper.jobs import REAL, classifier_stages, data_stage
from bayesgap.paper.real import PARTS, RealImages, as_data, draw, read_real

from bayesgap.images.mnist import load_mnist, mnist_checksum
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import known_tasks
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


@pytest.mark.parametrize(("asked", "each"), [(200, 100), (401, 200), (10_000, 200)])
def test_trainings_share_no_image(digits, asked, each):
    draws = [digits.sample(asked, seed=0, fold=(k, 3)) for k in range(3)]
    for x, y in draws:
        assert y.bincount().tolist() == [each, each]
        assert len(x) == digits.size(asked, folds=3)
    together = torch.cat([x for x, _ in draws])
    # MNIST itself holds a few digits twice.
    assert len(together.unique(dim=0)) >= len(together) - 2
    again, _ = digits.sample(asked, seed=1, fold=(0, 3))
    assert not torch.equal(again, draws[0][0])


@pytest.mark.parametrize(("scale", "task"), [("default", "mnist-4-5"), ("default", "celeba-male")])
def test_enough_real_images_are_read_for_all_trainings(scale, task):
    known = known_tasks()["mnist-4-5"][-1]
    setting = Setting(scale, 0, {task: known}, celeba=("folder", "checksum"))
    samples = [
        stage.settings
        for kind in ("cnn", "linear-svm", "rbf-svm")
        for stage in classifier_stages(setting, task, REAL, kind)
    ]
    assert {(one["sample_seed"], one["images"]) for one in samples} == {
        (samples[0]["sample_seed"], setting.scale_for(task).images)
    }
    folds = setting.scale_for(task).seeds
    assert [one["fold"] for one in samples] == [[k, folds] for _ in range(3) for k in range(folds)]
    limit = data_stage(setting, task, REAL).settings["limit"]
    assert limit >= folds * samples[0]["images"] // 2
    if task.startswith("mnist"):
        checksum = mnist_checksum()
        data = as_data(read_real(name=task, limit=limit, seed=0, checksum=checksum))
        assert data.size(samples[0]["images"], folds=folds) == samples[0]["images"]


def test_a_task_is_drawn_from_as_it_is_sampled():
    task = random_task(0)
    x, y = draw(task, "test", 5, seed=7)
    expected = task.sample(5, seed=7)
    assert torch.equal(x, expected[0])
    assert torch.equal(y, expected[1])
    assert as_data(Result(*task.to_tensors())).name == task.name
