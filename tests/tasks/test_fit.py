import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bayesgap.densities.em import fit_em
from bayesgap.errors import BayesgapError
from bayesgap.files import sha256
from bayesgap.tasks.catalog import CATALOGUE, load_task
from bayesgap.tasks.fit import HELD_OUT, LIMIT, SEED, at_hand, fit_missing, fit_task, newest
from blobs import Blobs, PrivateBlobs
from toys import present

NAME = "blobs-2"


def catalogue(folder):
    return json.loads((folder / CATALOGUE).read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fits") / "tasks"


@pytest.fixture(scope="module")
def fitted(folder):
    """A first fit, and the images that it is of."""
    return fit_task(Blobs(), NAME, folder)


def test_a_fit_is_found_by_its_name_with_its_classes(fitted, folder):
    task = load_task(f"{NAME}/symmetric", folder=folder)
    assert task.image_shape == (1, 8, 8)
    assert task.class_names == ("blob 0", "blob 1")
    assert [density.components for density in task.mixtures] == [2, 2]
    assert fitted.load().name == f"{NAME}/fitted"
    assert newest(NAME, folder) == fitted
    assert newest("blobs-3", folder) is None


def test_the_catalogue_says_how_the_fit_was_made(fitted, folder):
    entry = catalogue(folder)[NAME][0]
    assert entry == fitted.entry
    assert (entry["version"], entry["file"]) == (1, fitted.path.name)
    assert entry["sha256"] == fitted.sha256 == sha256(fitted.path)
    settings = entry["settings"]
    assert settings["blobs"] == 2  # what the source says of the choice of its images
    assert settings["images"] == [40, 40]
    assert settings["limit"] is None
    assert settings["components"] == [2, 2]
    assert settings["latent"] == 1
    assert settings["sha256_of_blobs"] == Blobs().checksum
    assert len(settings["iterations"]) == len(settings["converged"]) == 2
    assert fitted.load().facts == settings


def test_another_fit_is_another_version_and_replaces_nothing(tmp_path):
    first = fit_task(Blobs(), NAME, tmp_path)
    bytes_of_first = first.path.read_bytes()
    second = fit_task(Blobs(), NAME, tmp_path)
    assert (first.version, second.version) == (1, 2)
    assert first.path != second.path
    assert first.path.read_bytes() == bytes_of_first
    assert first.sha256 == second.sha256  # the same data and seed give the same fit
    assert second.path.read_bytes() == bytes_of_first
    assert [entry["version"] for entry in catalogue(tmp_path)[NAME]] == [1, 2]
    assert newest(NAME, tmp_path) == second
    other = fit_task(Blobs(seed=1), NAME, tmp_path)
    assert other.version == 3
    assert other.sha256 != first.sha256


def test_the_floor_is_the_one_under_which_every_tenth_image_is_likeliest(fitted):
    x, y = Blobs().for_fitting(NAME)
    x = x.float() / 255
    held_out = torch.arange(len(x)) % HELD_OUT == 0
    floors, likelihoods = Blobs.recipe.floors, []
    for floor in floors:
        total = 0.0
        for label in range(2):
            rest, others = x[(y == label) & ~held_out], x[(y == label) & held_out]
            density = fit_em(rest, 2, 1, seed=SEED, noise_floor=floor).density
            total += density.log_prob(others.flatten(1)).sum().item()
        likelihoods.append(total / int(held_out.sum()))
    settings = fitted.entry["settings"]
    assert settings["held_out_nats_by_floor"] == pytest.approx(likelihoods, rel=1e-12)
    assert settings["noise_floor"] == floors[int(np.argmax(likelihoods))] == 1e-2
    assert min(density.noise.min() for density in fitted.load().densities) >= 0.999e-2


def test_the_densities_are_those_of_all_training_images(fitted):
    x, y = Blobs().for_fitting(NAME)
    for label, density in enumerate(fitted.load().mixtures):
        expected = fit_em(x[y == label] / 255, 2, 1, seed=SEED, noise_floor=1e-2).density
        torch.testing.assert_close(density.means, expected.means.float().double())


def test_the_facts_are_of_test_images(fitted):
    x, y = Blobs().parts(NAME)["test"]
    facts = fitted.entry["facts"]
    assert facts["real_test_images"] == len(x) == 80
    task = fitted.load()
    for label, nats in enumerate(facts["held_out_nats"]):
        points = (x[y == label].float() / 255).flatten(1)
        assert nats == pytest.approx(task.densities[label].log_prob(points).mean().item())


def test_further_facts_are_those_of_the_task_as_it_was_stored(tmp_path):
    def seen(task, source, name):
        return {"means": task.densities[0].means.sum().item(), "asked": [source.what, name]}

    made = fit_task(PrivateBlobs(), NAME, tmp_path, further_facts=seen)
    facts = made.entry["facts"]
    assert facts["asked"] == ["blobs", NAME]
    assert facts["means"] == made.load().mixtures[0].means.sum().item()
    assert "held_out_nats" in facts


def test_where_there_is_one_floor_none_is_chosen_and_levels_are_fitted_as_they_are(tmp_path):
    source = PrivateBlobs()
    made = fit_task(source, NAME, tmp_path)
    settings = made.entry["settings"]
    assert settings["noise_floor"] == 1e-3
    assert settings["held_out_nats_by_floor"] == []
    assert made.entry["facts"]["real_test_images"] == 2 * 7  # as its recipe says
    x, y = source.for_fitting(NAME)
    for label, density in enumerate(made.load().mixtures):
        expected = fit_em(x[y == label], 2, 1, seed=SEED, noise_floor=1e-3).density
        torch.testing.assert_close(density.means, expected.means.float().double())
    spread = present(made.load().spread)
    torch.testing.assert_close(spread.mean, (x.double() / 255).mean(dim=0).flatten())


def test_a_class_has_as_many_components_as_the_recipe_says_of_its_images(tmp_path):
    class Unequal(PrivateBlobs):
        recipe = replace(PrivateBlobs.recipe, components=lambda images: images // 20)

    made = fit_task(Unequal(count=65), NAME, tmp_path, limit=60)
    assert made.entry["settings"]["components"] == [3, 3]
    assert made.entry["settings"]["images"] == [60, 60]
    assert made.entry["settings"]["limit"] == 60


def test_what_the_folder_holds_of_the_same_images_and_limit_is_not_fitted_again(tmp_path):
    source = PrivateBlobs()
    first = fit_missing(source, ["blobs-2", "blobs-3"], tmp_path, limit=30)
    assert [known.name for known in first] == ["blobs-2", "blobs-3"]
    assert fit_missing(source, ["blobs-3", "blobs-2"], tmp_path, limit=30) == first[::-1]
    assert {len(entries) for entries in catalogue(tmp_path).values()} == {1}
    for other in (
        {"source": source, "limit": 35},
        {"source": source, "limit": None},
        {"source": PrivateBlobs(seed=1), "limit": 30},
    ):
        (known,) = fit_missing(names=["blobs-2"], folder=tmp_path, **other)
        assert known.entry["settings"]["limit"] == other["limit"]
        assert known.sha256 not in {each.sha256 for each in first}
    assert [entry["version"] for entry in catalogue(tmp_path)["blobs-2"]] == [1, 2, 3, 4]


def test_at_hand_is_the_newest_fit_of_these_images_whatever_its_limit(tmp_path):
    source = PrivateBlobs()
    fit_missing(source, [NAME], tmp_path, limit=30)
    (second,) = fit_missing(source, [NAME], tmp_path, limit=35)
    assert at_hand(source, [NAME], tmp_path) == [second]


def test_what_is_not_at_hand_is_fitted_in_the_order_that_was_asked_for(tmp_path):
    source = PrivateBlobs()
    (kept,) = fit_missing(source, ["blobs-3"], tmp_path, limit=30)
    found = at_hand(source, ["blobs-4", "blobs-3", "blobs-2"], tmp_path)
    assert [known.name for known in found] == ["blobs-4", "blobs-3", "blobs-2"]
    assert found[1] == kept
    assert found[0].entry["settings"]["limit"] == LIMIT
    assert at_hand(source, ["blobs-2"], tmp_path) == [found[2]]


def test_a_fit_to_other_images_is_refused_since_it_may_have_seen_the_test_images(tmp_path):
    (known,) = fit_missing(PrivateBlobs(), [NAME], tmp_path)
    with pytest.raises(BayesgapError, match=r"fitted to other blobs .*bayesgap fit blobs-2") as no:
        at_hand(PrivateBlobs(seed=1), [NAME, "blobs-3"], tmp_path)
    assert str(known.path) in str(no.value)
    assert list(catalogue(tmp_path)) == [NAME]  # nothing was fitted before it was refused


@pytest.mark.parametrize(("latent", "limit"), [(1, 1), (30, 30)])
def test_images_that_are_too_few_for_the_factors_are_refused(tmp_path, latent, limit):
    class Demanding(PrivateBlobs):
        recipe = replace(PrivateBlobs.recipe, latent=latent)

    said = f"{limit} training images of class 'blob 0' are too few for {latent} factors"
    with pytest.raises(BayesgapError, match=said):
        fit_task(Demanding(), NAME, tmp_path, limit=limit)
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_not_at_hand_are_refused_with_what_they_need(tmp_path):
    with pytest.raises(BayesgapError, match="give some blobs"):
        fit_task(Blobs(count=0), NAME, tmp_path)


def test_a_file_that_is_not_catalogued_is_not_overwritten(tmp_path):
    mine = tmp_path / f"{NAME}.v1.safetensors"
    mine.write_bytes(b"mine")
    with pytest.raises(BayesgapError, match="not in the catalogue: move it away first"):
        fit_task(PrivateBlobs(), NAME, tmp_path)
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("place", ["file", "file/tasks"])
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(BayesgapError, match="Cannot write to"):
        fit_task(PrivateBlobs(), NAME, tmp_path / place)


def test_images_that_are_no_levels_are_refused(tmp_path):
    class Floats(PrivateBlobs):
        def for_fitting(self, task, limit=None):
            x, y = super().for_fitting(task, limit)
            return x / 255, y

    with pytest.raises(BayesgapError, match=r"8-bit levels, torch.uint8; got torch.float32"):
        fit_task(Floats(), NAME, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_source_has_no_images_for_is_refused(tmp_path):
    with pytest.raises(BayesgapError, match="named blobs-NUMBER"):
        fit_task(PrivateBlobs(), "blobs-x", tmp_path)
