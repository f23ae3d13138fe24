"""The main job from the released tasks to the files it leaves, at the smallest scale."""

import csv
import dataclasses
import json
import re

import pytest
import torch

from bayesgap.classifiers.allconv import Training
from bayesgap.paper import experiment, main_job
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.main_job import KINDS, SCALES, VARIANTS, build, theory
from bayesgap.paper.results import collect
from bayesgap.report.page import FILES, write_report
from bayesgap.runs.run import Resources, run
from bayesgap.runs.store import Store

TINY = dataclasses.replace(
    SCALES["quick"],
    name="tiny",
    images=120,
    seeds=2,
    per_class=4,
    curve_per_class=2,
    checks={BAYES: {"ddn": 2, "cw-l2": 1}},
    checked=VARIANTS,
    widths=(1,),
    gammas=(0.01, 0.1),
    training=Training(epochs=1),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One task of the job, run twice into the same store."""
    folder = tmp_path_factory.mktemp("job")
    patch = pytest.MonkeyPatch()
    patch.setattr(main_job, "TASKS", ("mnist-0-6",))
    for name in ("VALIDATION_IMAGES", "POOL_IMAGES", "MANY_IMAGES", "TEST_IMAGES"):
        patch.setattr(experiment, name, 100)
    try:
        documents = []
        for out in ("first", "second"):
            jobs = build(TINY, seed=0)
            stages = [theory(seed=0), *(stage for job in jobs for stage in job.stages())]
            finished = run(stages, Store(str(folder / "store")), Resources())
            results = collect(jobs, finished, TINY, seed=0)
            documents.append(write_report(results, folder / out)[0])
        yield folder, results, documents
    finally:
        patch.undo()


def test_the_job_leaves_its_three_files_and_nothing_else(ran):
    folder, _, _ = ran
    assert sorted(path.name for path in (folder / "first").iterdir()) == sorted(FILES)


def test_there_is_one_headline_for_each_task_variant_and_classifier(ran):
    folder, _, _ = ran
    records = json.loads((folder / "first" / "results.json").read_text())["results"]
    found = [(r["task"], r["variant"], r["classifier"]) for r in records]
    assert found == [("mnist-0-6", variant, kind) for variant in VARIANTS for kind in KINDS]
    named = {
        "attack",
        "norm",
        "points",
        "clean_accuracy",
        "robust_accuracy",
        "adversarial_accuracy",
        "success_rate",
        "mean_l2",
        "mean_l2_low",
        "mean_l2_high",
    }
    assert all(named <= record.keys() for record in records)


def test_the_best_attack_is_no_worse_than_any_of_its_parts(ran):
    _, results, _ = ran
    for measured in results.measured.values():
        for name in main_job.HEADLINE_ATTACKS[measured.headline["classifier"]]:
            for best, part in zip(measured.best, measured.outcomes[name], strict=True):
                assert (best.l2 <= part.l2).all()


def test_a_second_run_leaves_the_same_files(ran):
    folder, _, (first, second) = ran
    assert first == second
    for name in FILES:
        assert (folder / "first" / name).read_bytes() == (folder / "second" / name).read_bytes()


def test_the_table_holds_the_headline_numbers_and_no_times_or_paths(ran):
    folder, _, (document, _) = ran
    with (folder / "first" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["classifier"] for row in rows] == [r["classifier"] for r in document["results"]]
    assert [float(row["mean_l2"]) for row in rows] == [r["mean_l2"] for r in document["results"]]
    text = (folder / "first" / "results.csv").read_text()
    assert "second" not in text
    assert str(folder) not in text


def test_the_page_is_one_self_contained_file_with_every_claim(ran):
    folder, _, (document, _) = ran
    page = (folder / "first" / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert not re.findall(r"https?://", re.sub(r"base64,[^\"]*", "", page))
    assert page.count('class="claim ') == len(document["claims"])
    assert {claim["verdict"] for claim in document["claims"]} <= {
        "reproduced",
        "not reproduced",
        "not decided",
    }


def test_all_classifiers_of_a_replicate_learn_from_the_same_images(ran):
    _, results, _ = ran
    for job in results.jobs:
        for replicate in range(TINY.seeds):
            seeds = {job.classifiers[kind][replicate].settings["sample_seed"] for kind in KINDS[1:]}
            assert len(seeds) == 1


def test_points_are_balanced_and_marked(ran):
    _, results, _ = ran
    for points in results.points.values():
        assert points["y"].bincount().tolist() == [TINY.per_class] * 2
        assert points["outlier"].dtype == points["own_side"].dtype == torch.bool


def test_another_seed_means_other_points(ran):
    _, results, _ = ran
    other = build(TINY, seed=1)
    assert other[0].points.seed != results.jobs[0].points.seed
    assert other[0].task.identity == build(TINY, seed=2)[0].task.identity
