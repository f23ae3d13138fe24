import json
from functools import partial
from typing import Any

import pytest

from bayesgap.classifiers.module import decisions
from bayesgap.errors import BayesgapError
from bayesgap.experiment.release import fit_by_name, taught
from bayesgap.images.digits import Digits
from bayesgap.images.faces import Faces
from bayesgap.tasks.catalog import CATALOGUE, VARIANTS, read_catalogue
from bayesgap.tasks.fit import fit_task
from blobs import Blobs, PrivateBlobs

NAME = "blobs-2"
SMALL: dict[str, Any] = {"training_images": 200, "unseen_images": 100, "width": 1}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return fit_task(Blobs(), NAME, tmp_path_factory.mktemp("tasks")).load()


@pytest.fixture(scope="module")
def facts(fitted):
    return taught(fitted, Blobs(), NAME, **SMALL)


def test_each_kind_of_classifier_has_its_accuracies_on_both_variants(facts):
    assert list(facts) == ["symmetric", "asymmetric"]
    for accuracies in facts.values():
        assert list(accuracies) == ["accuracy_on_samples", "accuracy_on_real_blobs"]
        for shares in accuracies.values():
            assert list(shares) == ["bayes-optimal", "cnn", "linear-svm", "rbf-svm"]
            assert all(0 <= share <= 1 for share in shares.values())
    json.dumps(facts, allow_nan=False)


def test_accuracies_on_samples_are_of_unseen_ones_and_on_real_images_of_the_test_part(
    fitted, facts
):
    x, y = Blobs().parts(NAME)["test"]
    for variant, accuracies in facts.items():
        task = VARIANTS[variant](fitted)
        unseen, truth = task.sample(SMALL["unseen_images"], seed=1)
        optimum = task.bayes_classifier()
        for images, labels, key in (
            (unseen, truth, "accuracy_on_samples"),
            (x.float() / 255, y, "accuracy_on_real_blobs"),
        ):
            right = (decisions(optimum, images) == labels).double().mean().item()
            assert accuracies[key]["bayes-optimal"] == right


def test_what_is_easily_learned_from_samples_holds_of_real_images(facts):
    for shares in facts["symmetric"].values():
        assert shares["bayes-optimal"] > 0.95
        assert shares["linear-svm"] > 0.95


def test_the_same_task_is_taught_the_same(fitted, facts):
    assert taught(fitted, Blobs(), NAME, **SMALL) == facts
    more = taught(fitted, Blobs(), NAME, training_images=200, unseen_images=150, width=1)
    on_real = "accuracy_on_real_blobs"
    assert more["symmetric"][on_real] == facts["symmetric"][on_real]


def test_a_fit_with_these_facts_has_them_in_its_catalogue(tmp_path, facts):
    known = fit_task(Blobs(), NAME, tmp_path, further_facts=partial(taught, **SMALL))
    assert {key: known.entry["facts"][key] for key in facts} == facts


# By name.

SOURCES = (Digits(), Faces(), PrivateBlobs())


def test_what_may_not_be_published_is_fitted_where_the_folder_lacks_it(tmp_path):
    first = fit_by_name([NAME], tmp_path, sources=SOURCES, limit=30)
    assert [known.name for known in first] == [NAME]
    assert first[0].entry["settings"]["limit"] == 30
    assert "symmetric" not in first[0].entry["facts"]
    assert fit_by_name([NAME], tmp_path, sources=SOURCES, limit=30) == first
    (other,) = fit_by_name([NAME], tmp_path, sources=SOURCES, limit=None)
    assert other.version == 2


def test_a_name_of_many_stands_for_all_of_them(tmp_path):
    made = fit_by_name(["blobs", "blobs-4"], tmp_path, sources=SOURCES)
    assert [known.name for known in made] == ["blobs-2", "blobs-3", "blobs-4"]
    assert list(json.loads((tmp_path / CATALOGUE).read_text())) == ["blobs-2", "blobs-3", "blobs-4"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar-cat", "no images for a task 'cifar-cat'"),
        ("blobs-many", "named blobs-NUMBER; got 'blobs-many'"),
        ("mnist-0-17", r"\[0, 17\]"),
        ("mnist-3-3", r"\[3, 3\]"),
        ("celeba-nose", "no task 'celeba-nose'"),
        ("celeba-male", "celeba-male is fitted to faces: give your copy of CelebA with --celeba"),
    ],
)
def test_no_fit_is_made_before_all_names_are_known(tmp_path, name, said):
    with pytest.raises(BayesgapError, match=said):
        fit_by_name([NAME, name], tmp_path, sources=SOURCES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(read_catalogue()))
def test_a_released_name_is_refused_since_the_fit_would_not_be_found_by_it(tmp_path, name):
    with pytest.raises(BayesgapError, match=f"{name} is released"):
        fit_by_name([name], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_may_be_published_is_fitted_anew_and_taught(tmp_path):
    made = [fit_by_name([NAME], tmp_path, sources=(Blobs(),))[0] for _ in range(2)]
    assert [known.version for known in made] == [1, 2]
    assert made[0].sha256 == made[1].sha256
    assert made[0].entry["facts"] == made[1].entry["facts"]
    assert made[0].entry["settings"]["limit"] is None
    assert set(made[0].entry["facts"]) >= {"symmetric", "asymmetric"}
