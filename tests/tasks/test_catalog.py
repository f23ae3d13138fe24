import hashlib
import json
import shutil

import pytest
import torch

from bayesgap.errors import BayesgapError
from bayesgap.tasks import catalog
from bayesgap.tasks.catalog import (
    CATALOGUE,
    RELEASED,
    known_tasks,
    load_task,
    own_folder,
    read_catalogue,
    task_names,
)
from strategies import random_task

BASES = ("mnist-0-6", "mnist-2-7", "mnist-4-5")


@pytest.fixture(scope="module", params=BASES)
def variants(request):
    return {v: load_task(f"{request.param}/{v}") for v in ("fitted", "symmetric", "asymmetric")}


# What is released; numbers are those of the paper.


def test_the_papers_mnist_tasks_are_released_in_three_variants():
    assert set(task_names()) >= {
        f"{base}/{variant}" for base in BASES for variant in ("symmetric", "asymmetric", "fitted")
    }


@pytest.mark.parametrize("name", task_names())
def test_every_released_name_loads_under_its_name(name):
    task = load_task(name)
    assert task.name == name
    x, y = task.sample(20, seed=0)
    assert task.log_posterior(x).shape == (20, task.classes)
    assert len(y) == 20


def test_every_version_has_its_file_and_checksum():
    for base, releases in read_catalogue().items():
        assert [release["version"] for release in releases] == list(range(1, len(releases) + 1))
        for release in releases:
            content = (RELEASED / release["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == release["sha256"]
            assert load_task(f"{base}/fitted", version=release["version"]).classes >= 2


def test_released_densities_are_mixtures_of_25_components_with_6_factors(variants):
    task = variants["fitted"]
    assert task.image_shape == (1, 28, 28)
    assert task.priors.tolist() == [0.5, 0.5]
    assert task.class_names == tuple(
        f"digit {digit}" for digit in task.name.removeprefix("mnist-").partition("/")[0].split("-")
    )
    for density in task.densities:
        assert (density.components, density.latent, density.dimension) == (25, 6, 784)


def test_the_symmetric_variant_has_the_papers_noise(variants):
    for density in variants["symmetric"].densities:
        assert (density.noise == 0.001**2).all()


def test_the_asymmetric_variant_adds_one_broad_outlier_a_class(variants):
    task = variants["asymmetric"]
    assert task.outliers == (25, 25)
    for density in task.densities:
        assert (density.noise[25] == 0.5).all()
        assert (density.factors[25] == 0).all()
        assert (density.noise[:25] == 0.001**2).all()
    # On both sides of the mean of the data, along one direction.
    middle = (task.densities[0].means[25] + task.densities[1].means[25]) / 2
    torch.testing.assert_close(middle, task.spread.mean, rtol=0, atol=1e-14)


def test_all_variants_stand_on_the_same_fit(variants):
    for label, fitted in enumerate(variants["fitted"].densities):
        plain = variants["symmetric"].densities[label]
        broad = variants["asymmetric"].densities[label]
        for name in ("means", "factors"):
            assert torch.equal(getattr(plain, name), getattr(fitted, name))
            assert torch.equal(getattr(broad, name)[:25], getattr(fitted, name))
        share = 1 - broad.weights[25]
        torch.testing.assert_close(broad.weights[:25] / share, fitted.weights)


def test_loading_twice_gives_the_same_task():
    first, again = (load_task("mnist-0-6/symmetric").sample(5, seed=1) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


# Refusals.


@pytest.fixture
def copy(tmp_path, monkeypatch):
    folder = tmp_path / "released"
    shutil.copytree(RELEASED, folder)
    monkeypatch.setattr(catalog, "RELEASED", folder)
    return folder


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_file_with_one_changed_bit_is_refused(copy, place):
    path = copy / read_catalogue()["mnist-0-6"][-1]["file"]
    assert load_task("mnist-0-6/fitted").classes == 2
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        BayesgapError, match="not the file that was released as mnist-0-6"
    ) as caught:
        load_task("mnist-0-6/fitted")
    assert str(path) in str(caught.value)
    assert load_task("mnist-2-7/fitted").classes == 2


def test_a_missing_file_is_refused(copy):
    path = copy / read_catalogue()["mnist-4-5"][-1]["file"]
    path.unlink()
    with pytest.raises(BayesgapError, match="install bayesgap again") as caught:
        load_task("mnist-4-5/symmetric")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["mnist-0-7/symmetric", "mnist-0-6", "mnist-0-6/", "mnist-0-6/robust", "", "/", "x/y/z"]
)
def test_an_unknown_name_is_answered_with_all_that_exist(name):
    with pytest.raises(BayesgapError) as caught:
        load_task(name)
    message = str(caught.value)
    assert message.startswith(f"There is no task {name!r}.")
    assert all(known in message.partition(" Known are ")[2] for known in task_names())


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mnist-0-6/symetric", "mnist-0-6/symmetric"),
        ("mnist-2-7/assymetric", "mnist-2-7/asymmetric"),
        ("mnist-0-6", "mnist-0-6/symmetric"),
        ("mnist-4-5/", "mnist-4-5/symmetric"),
        ("mnist/0-6/symmetric", "mnist-0-6/symmetric"),
        ("imagenet", None),
        ("", None),
    ],
)
def test_a_name_that_is_nearly_a_task_s_is_asked_after(name, near):
    with pytest.raises(BayesgapError) as caught:
        load_task(name)
    assert near in task_names() or near is None
    question = "" if near is None else f" Did you mean {near}?"
    assert f"There is no task {name!r}.{question} Known are" in str(caught.value)


@pytest.mark.parametrize("version", [0, 999, -1])
def test_an_unknown_version_is_answered_with_all_that_exist(version):
    versions = [release["version"] for release in read_catalogue()["mnist-0-6"]]
    with pytest.raises(BayesgapError) as caught:
        load_task("mnist-0-6/symmetric", version=version)
    assert str(caught.value) == f"mnist-0-6 has no version {version}; there are {versions}."


# Versions and paths.


@pytest.fixture
def two_versions(tmp_path, monkeypatch):
    releases = []
    for version in (1, 2):
        path = tmp_path / f"toy.v{version}.safetensors"
        random_task(version, name="toy/fitted", facts={"version": version}).save(path)
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        releases.append({"version": version, "file": path.name, "sha256": checksum})
    (tmp_path / CATALOGUE).write_text(json.dumps({"toy": releases}))
    monkeypatch.setattr(catalog, "RELEASED", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("two_versions")
def test_the_newest_version_is_the_default_and_older_ones_stay():
    assert load_task("toy/fitted").facts["version"] == 2
    assert load_task("toy/fitted", version=2).facts["version"] == 2
    assert load_task("toy/symmetric", version=1).facts["version"] == 1
    with pytest.raises(BayesgapError, match=r"toy has no version 3; there are \[1, 2\]"):
        load_task("toy/fitted", version=3)
    assert catalog.task_names() == ["toy/symmetric", "toy/asymmetric", "toy/fitted"]


def test_a_folder_without_a_catalogue_has_no_releases(tmp_path):
    assert read_catalogue(tmp_path) == {}


# A user's own folder.


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "faces.v1.safetensors"
    random_task(4, name="faces/fitted").save(path)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = {"version": 1, "file": path.name, "sha256": checksum}
    (tmp_path / CATALOGUE).write_text(json.dumps({"faces": [entry], "mnist-0-6": [entry]}))
    return tmp_path


def test_a_users_own_tasks_are_loaded_by_name_from_a_folder(own, monkeypatch):
    assert load_task("faces/symmetric", folder=own).name == "faces/symmetric"
    with pytest.raises(BayesgapError, match=r"There is no folder .*none of tasks"):
        load_task("faces/symmetric", folder=own / "none")
    monkeypatch.setenv("BAYESGAP_TASKS", str(own))
    assert load_task("faces/fitted").name == "faces/fitted"
    assert "faces/asymmetric" in task_names()


def test_a_released_name_means_the_released_task(own):
    assert known_tasks(own)["mnist-0-6"][-1].released
    assert not known_tasks(own)["faces"][-1].released


def test_without_its_variable_the_folder_is_among_the_users_data(monkeypatch):
    monkeypatch.delenv("BAYESGAP_TASKS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert str(own_folder()) == "/data/bayesgap/tasks"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"a": [{}]}',
        '{"a": [{"version": 1, "file": "../b.safetensors", "sha256": "0"}]}',
        '{"a": [{"version": "1", "file": "b.safetensors", "sha256": "0"}]}',
    ],
)
def test_a_damaged_catalogue_is_refused_by_name(tmp_path, text):
    (tmp_path / CATALOGUE).write_text(text)
    with pytest.raises(BayesgapError, match="is no catalogue of tasks") as caught:
        load_task("mnist-0-6/symmetric", folder=tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_path_is_loaded_as_a_task(tmp_path):
    path = tmp_path / "mine.safetensors"
    random_task(3, name="mine").save(path)
    assert load_task(path).name == load_task(str(path)).name == "mine"
    with pytest.raises(BayesgapError, match="There is no file") as caught:
        load_task(tmp_path / "none.safetensors")
    assert "none.safetensors" in str(caught.value)
