"""Tasks of faces from generated JPEGs in CelebA's layout to the files that a run leaves."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from bayesgap.classifiers.allconv import Training
from bayesgap.errors import BayesgapError
from bayesgap.images.celeba import ATTRIBUTES, class_names, open_celeba, task_name
from bayesgap.paper import experiment, fit, reproduction, scales
from bayesgap.paper.real import PARTS, as_data, draw, read_real
from bayesgap.report.page import Wanted, write_report
from bayesgap.runs.run import Resources
from bayesgap.runs.store import Store
from bayesgap.tasks.catalog import known_tasks, load_task

NUMBERS = [*range(1, 81), *range(162_771, 162_791), *range(182_638, 182_658)]
TINY = dataclasses.replace(
    scales.FACES_TOO["quick"],
    images=40,
    seeds=2,
    cnn_seeds=2,
    per_class=2,
    curve_per_class=1,
    widths=(1,),
    gammas=(0.0003,),
    training=Training(epochs=1),
    robust=scales.trades(l2=0.5, linf=0.01, wide=0.02, steps=1, epochs=1),
)


def smiles(number):
    return number % 2


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of CelebA whose smiling faces are the brighter ones, and have all else as well."""
    folder = tmp_path_factory.mktemp("celeba")
    (folder / "img_align_celeba").mkdir()
    random = np.random.default_rng(0)
    for number in NUMBERS:
        coarse = random.integers(0, 160, (8, 8, 3)) + 60 * smiles(number)
        image = Image.fromarray(coarse.astype(np.uint8)).resize((178, 218), Image.BILINEAR)
        image.save(folder / "img_align_celeba" / f"{number:06}.jpg", quality=90)
    header = ",".join(["image_id", *ATTRIBUTES])
    signs = [",".join([str(2 * smiles(n) - 1)] * len(ATTRIBUTES)) for n in NUMBERS]
    lines = [f"{n:06}.jpg,{sign}" for n, sign in zip(NUMBERS, signs, strict=True)]
    (folder / "list_attr_celeba.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(reproduction, "TASKS", ())
    patch.setitem(scales.FACES_TOO, "quick", TINY)
    patch.setattr(fit, "FACE_LATENT", 2)
    for name in ("VALIDATION_IMAGES", "POOL_IMAGES", "MANY_IMAGES", "TEST_IMAGES"):
        patch.setattr(experiment, name, 40)
    yield
    patch.undo()


def ran_with(names, copy, folder, *, faces):
    plan = reproduction.plan(
        names, "quick", seed=0, celeba=copy, attributes=["Smiling"], tasks=folder / "tasks"
    )
    results = reproduction.compute(plan, Store(str(folder / "store")), Resources())
    out = folder / f"faces-{faces}"
    write_report(results, Wanted(plan.exhibits, plan.main, faces), out)
    return (
        results,
        json.loads((out / "results.json").read_text()),
        (out / "report.html").read_text(),
    )


@pytest.fixture(scope="module")
def ran(small, copy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    names = ["fig1", "fig4", "fig6", "fig12", "fig13", "table1", "table2"]
    return folder, *ran_with(names, copy, folder, faces=True)


def test_a_fitted_task_is_kept_by_name_in_the_users_folder(ran, copy):
    folder, _, document, _ = ran
    task = load_task("celeba-smiling/symmetric", folder=folder / "tasks")
    assert task.image_shape == (3, 64, 64)
    assert task.class_names == ("not smiling", "smiling")
    assert task.facts["faces"] == [40, 40]
    (known,) = known_tasks(folder / "tasks")["celeba-smiling"]
    assert {t["sha256"] for t in document["tasks"] if t["version"]} == {known.sha256}


def test_all_twelve_tasks_are_fitted_and_loaded_by_name(small, copy, tmp_path):
    made = fit.fit_faces(open_celeba(copy), list(ATTRIBUTES), tmp_path)
    assert [known.name for known in made] == [task_name(attribute) for attribute in ATTRIBUTES]
    assert len({known.name for known in made}) == 12
    for attribute, known in zip(ATTRIBUTES, made, strict=True):
        task = load_task(f"{known.name}/asymmetric", folder=tmp_path)
        assert task.class_names == class_names(attribute)
        assert task.sample(2, seed=0)[0].shape == (2, 3, 64, 64)


def test_each_linear_svm_says_whether_it_converged(ran):
    _, _, document, page = ran
    trainings = {
        (r["task"], r["variant"]): r["seeds"]
        for r in document["results"]
        if r["classifier"] == "linear-svm"
    }
    for task in document["tasks"]:
        said = task["linear_svm_converged"]
        assert len(said) == trainings.get((task["task"], task["variant"]), 0)
        assert all(isinstance(one, bool) for one in said)
    assert "linear SVMs converged" in page


def test_a_task_that_is_there_is_not_fitted_again(ran, copy, monkeypatch):
    folder, *_ = ran

    def never(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(fit, "fit_em", never)
    (known,) = fit.fit_faces(open_celeba(copy), ["Smiling"], folder / "tasks")
    assert (known.name, known.version) == ("celeba-smiling", 1)
    assert fit.faces_at_hand(open_celeba(copy), ["Smiling"], folder / "tasks") == [known]


def test_another_limit_is_another_version_and_other_faces_are_refused(small, copy, tmp_path):
    opened = open_celeba(copy)
    (first,) = fit.fit_faces(opened, ["Smiling"], tmp_path, limit=30)
    (second,) = fit.fit_faces(opened, ["Smiling"], tmp_path, limit=35)
    assert (first.version, second.version) == (1, 2)
    assert first.path.exists()
    assert second.entry["settings"]["faces"] == [35, 35]
    other = dataclasses.replace(opened, checksum="of another copy")
    with pytest.raises(BayesgapError, match="fitted to other faces"):
        fit.faces_at_hand(other, ["Smiling"], tmp_path)


def test_the_main_job_takes_faces_along(small, copy, ran, monkeypatch):
    folder, *_ = ran
    monkeypatch.setattr(reproduction, "TASKS", ("mnist-0-6",))
    monkeypatch.setitem(scales.DIGITS, "quick", dataclasses.replace(TINY, task_kind="digits"))
    _, document, page = ran_with([], copy, folder, faces=True)
    variants = {(r["task"], r["variant"]) for r in document["results"]}
    assert {("celeba-smiling", "symmetric"), ("celeba-smiling", "asymmetric")} <= variants
    assert "Table 1" in page


def test_a_handed_on_task_needs_no_faces(ran, small, tmp_path):
    folder, *_ = ran
    plan = reproduction.plan(
        ["table1"], "quick", seed=0, attributes=["Smiling"], tasks=folder / "tasks"
    )
    assert [job.name for job in plan.jobs] == ["celeba-smiling"]


@pytest.mark.parametrize(
    ("names", "attributes", "fitted"),
    [
        (["fig13"], None, ["Smiling"]),
        (["fig6", "fig13"], ["Male"], ["Male", "Smiling"]),
        (["fig6", "fig13"], None, list(ATTRIBUTES)),
        ([], ["Male"], ["Male"]),
    ],
)
def test_figures_about_one_task_bring_it_along(ran, copy, monkeypatch, names, attributes, fitted):
    folder, *_ = ran
    asked = []
    monkeypatch.setattr(
        reproduction, "faces_at_hand", lambda copy, chosen, folder: asked.extend(chosen) or []
    )
    plan = reproduction.plan(
        names, "quick", seed=0, celeba=copy, attributes=attributes, tasks=folder / "tasks"
    )
    assert sorted(asked) == sorted(fitted)
    assert ("celeba-smiling" in plan.setting.tasks) == ("fig13" in names)


def test_components_are_one_for_a_thousand_faces():
    assert [fit.components_for(n) for n in (1, 499, 1_499, 1_501, 20_000)] == [1, 1, 1, 2, 20]


def test_real_and_sampled_faces_have_their_sections(ran):
    *_, document, page = ran
    kinds = {(r["variant"], r["classifier"]) for r in document["results"]}
    assert ("real", "rbf-svm") in kinds
    assert ("symmetric", "bayes-optimal") in kinds
    assert ("real", "bayes-optimal") not in kinds
    assert all(r["gap"] is None for r in document["results"] if r["variant"] == "real")
    assert page.count("data:image/png") >= 5
    assert "A picture of faces is left out" not in page


def test_a_report_without_faces_holds_diagrams_only(ran, copy):
    folder, *_ = ran
    *_, page = ran_with(["fig1", "fig6", "fig13"], copy, folder, faces=False)
    assert page.count("A picture of faces is left out") == 2
    assert page.count("without the images. The histogram is of the changes") == 1
    assert "data:image/png" not in page
    assert "data:image/svg+xml" in page


def test_the_three_parts_of_real_faces_are_the_official_splits(small, copy):
    checksum = open_celeba(copy).checksum
    about = {"name": "celeba-smiling", "limit": 50, "seed": 0, "celeba": str(copy)}
    data = as_data(read_real(**about, checksum=checksum))
    assert [len(data.parts[part][1]) for part in PARTS] == [80, 20, 20]
    x, y = draw(data, "test", 10, seed=0)
    assert x.dtype == torch.float64
    assert y.bincount().tolist() == [5, 5]
    assert len(x.unique(dim=0)) == 10
    assert x.max() <= 1
    brightness = x.mean(dim=(1, 2, 3))
    assert brightness[y == 1].mean() > brightness[y == 0].mean() + 0.1
    with pytest.raises(BayesgapError, match="changed during the run"):
        read_real(**about, checksum="another")
