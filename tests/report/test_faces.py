"""Tasks of faces from generated JPEGs in CelebA's layout to the files that a run leaves."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bayesgap.densities.fitting import QUANTISATION_VARIANCE
from bayesgap.errors import BayesgapError
from bayesgap.experiment.stages.data import as_data, draw, read_real
from bayesgap.images.celeba import ATTRIBUTES, class_names, open_celeba, task_name
from bayesgap.images.faces import Faces, components_for
from bayesgap.images.source import PARTS, RealImages
from bayesgap.paper import reproduction
from bayesgap.paper.reproduction import plan_by_name, setting_for
from bayesgap.tasks import fit
from bayesgap.tasks.catalog import known_tasks, load_task
from bayesgap.tasks.fit import at_hand, fit_missing
from tiny import DRAWS, SCALES, ran_with

NUMBERS = [*range(1, 81), *range(162_771, 162_791), *range(182_638, 182_658)]
SMILING = "celeba-smiling"


@dataclass(frozen=True)
class FewFactors(Faces):
    """Faces, fitted with as many factors as so few allow."""

    recipe = dataclasses.replace(Faces.recipe, latent=2, floors=(QUANTISATION_VARIANCE,))


def smiles(number):
    return number % 2


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of CelebA whose smiling faces are the brighter ones, and have all else as well."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    folder = tmp_path_factory.mktemp("celeba")
    (folder / "img_align_celeba").mkdir()
    random = np.random.default_rng(0)
    for number in NUMBERS:
        coarse = random.integers(0, 160, (8, 8, 3)) + 60 * smiles(number)
        image = Image.fromarray(coarse.astype(np.uint8))
        image = image.resize((178, 218), Image.Resampling.BILINEAR)
        image.save(folder / "img_align_celeba" / f"{number:06}.jpg", quality=90)
    header = ",".join(["image_id", *ATTRIBUTES])
    signs = [",".join([str(2 * smiles(n) - 1)] * len(ATTRIBUTES)) for n in NUMBERS]
    lines = [f"{n:06}.jpg,{sign}" for n, sign in zip(NUMBERS, signs, strict=True)]
    (folder / "list_attr_celeba.csv").write_text("\n".join([header, *lines]) + "\n")
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def faces(copy):
    return FewFactors(str(copy))


def ran_on_faces(names, copy, folder, *, private=True, digits=()):
    """A run on the one task, and on those of some digits."""
    setting = setting_for(
        names, "quick", seed=0, celeba=copy, attributes=["Smiling"], tasks=folder / "tasks"
    )
    tasks = {name: setting.tasks[name] for name in (*digits, SMILING)}
    small = dataclasses.replace(setting, tasks=tasks, scales=SCALES, draws=DRAWS)
    out = f"private-{private}-{len(names)}"
    made, _ = ran_with(small, names, folder, out, private=private)
    document = json.loads((folder / out / "results.json").read_text())
    return made, document, (folder / out / "report.html").read_text()


@pytest.fixture(scope="module")
def ran(copy, faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fit_missing(faces, [SMILING], folder / "tasks")
    names = ["fig1", "fig4", "fig6", "fig12", "fig13", "table1", "table2"]
    return folder, *ran_on_faces(names, copy, folder)


def test_a_fitted_task_is_kept_by_name_in_the_users_folder(ran):
    folder, _, document, _ = ran
    task = load_task("celeba-smiling/symmetric", folder=folder / "tasks")
    assert task.image_shape == (3, 64, 64)
    assert task.class_names == ("not smiling", "smiling")
    assert task.facts["images"] == [40, 40]
    (known,) = known_tasks(folder / "tasks")[SMILING]
    assert {t["sha256"] for t in document["tasks"] if t["version"]} == {known.sha256}


def test_all_twelve_tasks_are_fitted_and_loaded_by_name(faces, tmp_path):
    names = faces.names("celeba")
    made = fit_missing(faces, names, tmp_path)
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


def test_a_task_that_is_there_is_not_fitted_again(ran, faces, monkeypatch):
    folder, *_ = ran

    def never(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(fit, "fit_em", never)
    (known,) = fit_missing(faces, [SMILING], folder / "tasks")
    assert (known.name, known.version) == (SMILING, 1)
    assert at_hand(faces, [SMILING], folder / "tasks") == [known]


def test_another_limit_is_another_version_and_other_faces_are_refused(faces, copy, tmp_path):
    (first,) = fit_missing(faces, [SMILING], tmp_path, limit=30)
    (second,) = fit_missing(faces, [SMILING], tmp_path, limit=35)
    assert (first.version, second.version) == (1, 2)
    assert first.path.exists()
    assert second.entry["settings"]["images"] == [35, 35]

    class Others(FewFactors):
        checksum = "of another copy"

    with pytest.raises(BayesgapError, match="fitted to other faces"):
        at_hand(Others(str(copy)), [SMILING], tmp_path)


def test_the_main_job_takes_faces_along(copy, ran):
    folder, *_ = ran
    _, document, page = ran_on_faces([], copy, folder, digits=["mnist-0-6"])
    variants = {(r["task"], r["variant"]) for r in document["results"]}
    assert {(SMILING, "symmetric"), (SMILING, "asymmetric")} <= variants
    assert "Table 1" in page


def test_a_handed_on_task_needs_no_faces(ran):
    folder, *_ = ran
    asked = {"seed": 0, "attributes": ["Smiling"], "tasks": folder / "tasks"}
    made = plan_by_name(["table1"], "quick", **asked)
    assert SMILING in {graph.case.task for graph in made.graphs}
    assert not made.setting.source(SMILING).at_hand


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
    asked: list[str] = []

    def noted(source, chosen, folder):
        asked.extend(chosen)
        return []

    monkeypatch.setattr(reproduction, "at_hand", noted)
    made = plan_by_name(
        names, "quick", seed=0, celeba=copy, attributes=attributes, tasks=folder / "tasks"
    )
    assert sorted(asked) == sorted(map(task_name, fitted))
    assert (SMILING in made.setting.tasks) == ("fig13" in names)


def test_components_are_one_for_a_thousand_faces():
    assert [components_for(n) for n in (1, 499, 1_499, 1_501, 20_000)] == [1, 1, 1, 2, 20]


def test_real_and_sampled_faces_have_their_sections(ran):
    *_, document, page = ran
    kinds = {(r["variant"], r["classifier"]) for r in document["results"]}
    assert ("real", "rbf-svm") in kinds
    assert ("symmetric", "bayes-optimal") in kinds
    assert ("real", "bayes-optimal") not in kinds
    assert all(r["gap"] is None for r in document["results"] if r["variant"] == "real")
    assert page.count("data:image/png") >= 5
    assert "A picture that may not be published is left out" not in page


def test_a_report_to_be_published_holds_diagrams_only(ran, copy):
    folder, *_ = ran
    *_, page = ran_on_faces(["fig1", "fig6", "fig13"], copy, folder, private=False)
    assert page.count("A picture that may not be published is left out") == 2
    assert page.count("without the images. The histogram is of the changes") == 1
    assert "data:image/png" not in page
    assert "data:image/svg+xml" in page


def test_the_three_parts_of_real_faces_are_the_official_splits(copy, faces):
    about = {"name": SMILING, "limit": 50, "seed": 0, "source": faces}
    data = as_data(read_real(**about, checksum=open_celeba(copy).checksum))
    assert isinstance(data, RealImages)
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


def test_a_folder_of_faces_that_is_not_there_is_named(tmp_path):
    missing = Path(tmp_path / "nowhere")
    with pytest.raises(BayesgapError, match="nowhere"):
        setting_for([], "quick", seed=0, celeba=missing, attributes=["Male"])
