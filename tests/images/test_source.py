"""What every source of real images promises, and how images are drawn from it."""

import hashlib
import inspect
import json
import pickle
from importlib import resources

import pytest
import torch

from bayesgap.densities.em import fit_em
from bayesgap.errors import BayesgapError
from bayesgap.experiment.scales import NAMES, SCALES
from bayesgap.images.celeba import LAST_OF_SPLITS, open_celeba
from bayesgap.images.digits import VALIDATION, Digits
from bayesgap.images.faces import Faces, components_for
from bayesgap.images.mnist import load_mnist
from bayesgap.images.source import PARTS, RealImages, Recipe, first_of_each
from bayesgap.images.sources import SOURCES, source_of
from celeba_copies import draw, make, name_of

# Faces that are noise: ten training images, ten validation images and ten test images.
NUMBERS = [n for last in (0, *LAST_OF_SPLITS) for n in range(last + 1, last + 11)]


@pytest.fixture(scope="module")
def two_copies(tmp_path_factory):
    """Two sources of faces with other images, and a cache of their own."""
    folder = tmp_path_factory.mktemp("faces")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield tuple(
            Faces(str(make(folder / str(shift), [n + shift for n in NUMBERS]))) for shift in (0, 10)
        )


def bytes_of(x):
    return [image.numpy().tobytes() for image in x]


class SourceContract:
    """A subclass gives a source whose images are at hand, and the name of one of its tasks.

    Where there can be others, it also gives a source of the same kind with other images, one
    whose images are not at hand, and names that are refused.
    """

    task: str
    refused: tuple[str, ...]

    @pytest.fixture
    def source(self):
        raise NotImplementedError

    @pytest.fixture
    def other(self):
        return None

    @pytest.fixture
    def absent(self):
        return None

    @pytest.fixture
    def classes(self, source):
        return len(source.class_names(self.task))

    # What it is.

    def test_it_is_one_of_the_packages_sources(self, source):
        assert [type(each) for each in SOURCES].count(type(source)) == 1

    def test_it_says_what_it_is(self, source):
        assert source.name
        assert "-" not in source.name
        assert source.what
        assert source.publishable in (True, False)

    def test_every_scale_has_sizes_for_it(self, source):
        assert tuple(SCALES[source.sizes]) == NAMES

    def test_its_recipe_can_be_followed(self, source):
        recipe = source.recipe
        assert isinstance(recipe, Recipe)
        assert all(recipe.components(images) >= 1 for images in (1, 10, 10_000, 200_000))
        assert list(recipe.floors) == sorted(set(recipe.floors))
        assert recipe.floors[0] > 0
        assert recipe.settings.keys() <= inspect.signature(fit_em).parameters.keys()
        assert not recipe.settings.keys() & {"seed", "noise_floor"}

    # Names.

    def test_it_owns_its_tasks_and_no_others(self, source):
        assert source.owns(self.task)
        assert type(source_of(self.task)) is type(source)
        assert not source.owns(f"another-{self.task}")
        assert not source.owns(f"{source.name}s-{self.task.partition('-')[2]}")

    def test_a_task_stands_for_itself(self, source):
        assert source.names(self.task) == [self.task]

    def test_names_that_it_has_no_images_for_are_refused_in_a_sentence(self, source):
        for name in self.refused:
            with pytest.raises(BayesgapError) as refusal:
                source.names(name)
            assert str(refusal.value).endswith(".")

    def test_every_class_has_a_name_of_its_own(self, source, classes):
        names = source.class_names(self.task)
        assert len(set(names)) == classes >= 2

    def test_what_a_fit_records_is_json(self, source):
        described = source.describe(self.task)
        assert json.loads(json.dumps(described)) == described

    # Images.

    def test_the_parts_are_images_of_8_bits_with_the_labels_of_the_classes(self, source, classes):
        parts = source.parts(self.task)
        assert tuple(parts) == PARTS
        assert len({x.shape[1:] for x, _ in parts.values()}) == 1
        for x, y in parts.values():
            assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
            assert x.ndim == 4
            assert y.unique().tolist() == list(range(classes))
            assert x.max() > 1  # levels, not values of 0 to 1

    def test_the_parts_share_no_image(self, source):
        images = [each for x, _ in source.parts(self.task).values() for each in bytes_of(x)]
        assert len(set(images)) == len(images)

    @pytest.mark.parametrize("limit", [1, 2])
    def test_of_each_class_there_are_the_first_up_to_the_limit(self, source, classes, limit):
        whole = source.parts(self.task)
        for name, (x, y) in source.parts(self.task, limit).items():
            assert y.bincount().tolist() == [limit] * classes
            expected = first_of_each(whole[name], limit)
            assert torch.equal(x, expected[0])
            assert torch.equal(y, expected[1])

    def test_a_limit_beyond_what_there_is_changes_nothing(self, source):
        for part, limited in zip(
            source.parts(self.task).values(), source.parts(self.task, 10**9).values(), strict=True
        ):
            assert all(map(torch.equal, part, limited))

    @pytest.mark.parametrize("limit", [None, 2])
    def test_densities_are_fitted_to_no_test_image(self, source, classes, limit):
        x, y = source.for_fitting(self.task, limit)
        assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
        assert limit is None or y.bincount().tolist() == [limit] * classes
        test, _ = source.parts(self.task)["test"]
        assert set(bytes_of(x)).isdisjoint(bytes_of(test))

    def test_they_can_be_drawn_from(self, source, classes):
        images = RealImages(source.parts(self.task))
        assert images.classes == classes
        for part in PARTS:
            x, y = images.sample(2 * classes, seed=0, part=part)
            assert y.bincount().tolist() == [2] * classes
            assert 0 <= x.min() < x.max() <= 1

    # Where they come from.

    def test_the_checksum_is_of_the_images(self, source, other):
        assert int(source.checksum, 16) >= 0
        assert len(source.checksum) == 64
        assert pickle.loads(pickle.dumps(source)).checksum == source.checksum
        if other is not None:
            assert other.checksum != source.checksum
            both = [set(bytes_of(each.parts(self.task)["test"][0])) for each in (source, other)]
            assert both[0] != both[1]

    def test_workers_can_be_sent_one_and_not_its_images(self, source):
        source.parts(self.task)
        sent = pickle.dumps(source)
        assert len(sent) < 1_000
        again = pickle.loads(sent)
        assert again == source
        assert again.at_hand
        for part, expected in zip(
            again.parts(self.task).values(), source.parts(self.task).values(), strict=True
        ):
            assert all(map(torch.equal, part, expected))

    def test_what_is_not_at_hand_says_what_it_needs(self, source, absent):
        assert source.at_hand
        if absent is None:
            assert source.needs == ""
            return
        assert not absent.at_hand
        assert absent.needs
        for ask in (
            lambda: absent.checksum,
            lambda: absent.parts(self.task),
            lambda: absent.for_fitting(self.task),
        ):
            with pytest.raises(BayesgapError, match=absent.needs):
                ask()

    def test_what_is_not_at_hand_is_described_all_the_same(self, source, absent):
        for each in (source, absent or source):
            assert each.names(self.task) == [self.task]
            assert each.class_names(self.task) == source.class_names(self.task)
            assert each.describe(self.task) == source.describe(self.task)
            assert each != object()


class TestDigits(SourceContract):
    task = "mnist-6-0"
    refused = (
        *("mnist", "mnist-", "mnist-3", "mnist-0-6-", "mnist--6", "mnist-zero-six", "cifar-0-6"),
        *("mnist-0-0", "mnist-0-17", "mnist-00-6", "mnist-٣-8"),
    )

    @pytest.fixture
    def source(self):
        return Digits()

    def test_the_order_of_digits_gives_the_labels(self, source):
        assert source.class_names(self.task) == ["digit 6", "digit 0"]
        assert source.describe(self.task) == {"digits": [6, 0]}
        x, y = source.parts(self.task)["test"]
        expected, labels = load_mnist((6, 0), split="test")
        assert torch.equal(x.float().div(255), expected)
        assert torch.equal(y, labels)

    def test_every_sixth_training_digit_is_for_validation(self, source):
        parts = source.parts(self.task)
        x, y = source.for_fitting(self.task)
        held_out = torch.arange(len(x)) % VALIDATION == 0
        assert torch.equal(parts["validation"][0], x[held_out])
        assert torch.equal(parts["training"][0], x[~held_out])
        assert torch.equal(parts["training"][1], y[~held_out])
        assert len(x) == len(load_mnist((6, 0))[0])

    def test_the_checksum_is_that_of_the_packages_file(self, source):
        file = resources.files("bayesgap.images") / "data" / "mnist.npz"
        assert source.checksum == hashlib.sha256(file.read_bytes()).hexdigest()

    def test_all_ten_digits_can_make_one_task(self, source):
        task = "mnist-" + "-".join(map(str, range(10)))
        assert source.names(task) == [task]
        _, y = source.parts(task, 3)["validation"]
        assert y.bincount().tolist() == [3] * 10


class TestFaces(SourceContract):
    task = "celeba-no-beard"
    refused = ("celeba-nose", "celeba-", "celeba-No_Beard", "celeba-young", "faces", "mnist-0-6")

    @pytest.fixture
    def source(self, two_copies):
        return two_copies[0]

    @pytest.fixture
    def other(self, two_copies):
        return two_copies[1]

    @pytest.fixture
    def absent(self):
        return Faces()

    def test_a_name_of_all_stands_for_the_papers_twelve(self, source):
        names = source.names("celeba")
        assert len(names) == len(set(names)) == 12
        assert all(source.names(name) == [name] for name in names)
        assert names == Faces().names("celeba")

    def test_the_parts_are_celebas_own(self, source):
        copy = open_celeba(source.folder)
        for split, part in enumerate(PARTS):
            rows = (copy.splits == split).nonzero().flatten()
            x, y = source.parts(self.task)[part]
            assert torch.equal(x, copy.images[rows])
            assert torch.equal(y == 1, copy.attributes["No_Beard"][rows])
        counts = [len(y) for _, y in source.parts(self.task).values()]
        assert counts == [10, 10, 10]

    def test_an_image_that_changed_changes_the_checksum(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        folder = make(tmp_path / "copy")
        before = Faces(str(folder)).checksum
        draw(folder / "img_align_celeba" / name_of(1), 99)
        assert Faces(str(folder)).checksum != before

    def test_an_attribute_that_changed_changes_the_checksum(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        folder = make(tmp_path / "copy")
        before = Faces(str(folder)).checksum
        attributes = folder / "list_attr_celeba.txt"
        attributes.write_text(attributes.read_text().replace("000001.jpg -1", "000001.jpg  1"))
        assert Faces(str(folder)).checksum != before

    def test_pictures_of_them_may_not_be_published(self, source):
        assert not source.publishable

    @pytest.mark.parametrize(
        ("faces", "components"), [(1, 1), (499, 1), (1_501, 2), (16_000, 16), (20_400, 20)]
    )
    def test_a_class_has_a_component_for_every_thousand_faces(self, faces, components):
        assert components_for(faces) == components == Faces.recipe.components(faces)


def test_every_source_of_the_package_keeps_the_contract():
    tested = {Digits, Faces}  # a further one needs a class above
    assert {type(source) for source in SOURCES} == tested
    assert len({source.name for source in SOURCES}) == len(SOURCES)


def test_a_task_of_no_source_is_refused_with_what_there_is():
    with pytest.raises(BayesgapError, match=r"'cifar-cat': names are mnist-…, celeba-…\."):
        source_of("cifar-cat")


# Real images, drawn from as a task is sampled.


@pytest.fixture(scope="module")
def digits():
    return RealImages(Digits().parts("mnist-0-6", 600))


def test_samples_are_balanced_and_each_image_comes_once(digits):
    x, y = digits.sample(401, seed=3)
    assert y.bincount().tolist() == [200, 200]
    assert len(x.unique(dim=0)) == 400
    again, labels = digits.sample(401, seed=3)
    other, _ = digits.sample(401, seed=4)
    assert torch.equal(x, again)
    assert torch.equal(y, labels)
    assert not torch.equal(x, other)


@pytest.mark.parametrize("part", PARTS)
def test_samples_are_images_of_their_part_in_0_to_1_with_their_labels(digits, part):
    x, y = digits.sample(50, seed=0, part=part)
    assert (x.dtype, y.dtype) == (torch.float64, torch.int64)
    levels, labels = digits.parts[part]
    known = dict(zip(bytes_of(levels), labels.tolist(), strict=True))
    drawn = bytes_of((x * 255).round().to(torch.uint8))
    assert [known[image] for image in drawn] == y.tolist()
    assert torch.equal((x * 255).round() / 255, x)


def test_where_a_class_has_few_images_both_are_as_few():
    x = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 2, 2)
    y = (torch.arange(10) >= 7).long()
    data = RealImages(dict.fromkeys(PARTS, (x, y)))
    images, labels = data.sample(100, seed=0, part="test")
    assert labels.bincount().tolist() == [3, 3]
    assert set((images[labels == 1] * 255).round()[:, 0, 0, 0].tolist()) == {7.0, 8.0, 9.0}
    assert data.size(100, part="test") == 6
    assert data.size(5, part="test") == 4


@pytest.mark.parametrize(("asked", "each"), [(200, 100), (401, 200), (10_000, 200)])
def test_trainings_share_no_image(digits, asked, each):
    draws = [digits.sample(asked, seed=0, fold=(k, 3)) for k in range(3)]
    for x, y in draws:
        assert y.bincount().tolist() == [each, each]
        assert len(x) == digits.size(asked, folds=3)
    together = torch.cat([x for x, _ in draws])
    assert len(together.unique(dim=0)) == len(together)
    again, _ = digits.sample(asked, seed=1, fold=(0, 3))
    assert not torch.equal(again, draws[0][0])


def test_the_first_of_each_class_come_in_their_order():
    x = torch.arange(6, dtype=torch.uint8)[:, None, None, None]
    y = torch.tensor([1, 0, 1, 0, 1, 2])
    for limit, rows in ((1, [0, 1, 5]), (2, [0, 1, 2, 3, 5]), (None, range(6)), (9, range(6))):
        images, labels = first_of_each((x, y), limit)
        assert images.flatten().tolist() == list(rows)
        assert labels.tolist() == [y[row] for row in rows]
