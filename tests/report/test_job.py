"""Whole runs from the released tasks to the files they leave, at the smallest scale."""

import csv
import dataclasses
import json
import re

import pytest
import torch

from bayesgap.classifiers.allconv import Training
from bayesgap.paper import experiment, fig9, fig10, jobs, reproduction, scales
from bayesgap.paper.exhibits import EXHIBITS
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.jobs import HEADLINE_ATTACKS, KINDS, VARIANTS, WIDE
from bayesgap.report.page import FILES, Wanted, write_report
from bayesgap.runs.run import Resources
from bayesgap.runs.store import Store

TINY = dataclasses.replace(
    scales.DIGITS["quick"],
    images=120,
    seeds=2,
    cnn_seeds=2,
    per_class=4,
    curve_per_class=2,
    checks={BAYES: {"ddn": 2, "cw-l2": 1}},
    checked=VARIANTS,
    widths=(1,),
    gammas=(0.01, 0.1),
    training=Training(epochs=1),
    robust=scales.trades(l2=1.0, linf=0.1, wide=0.3, steps=2, epochs=1),
)
ALONE = Resources()


def ran_with(names, folder, out, scale="quick"):
    """Plan, compute and report, as the command line does."""
    plan = reproduction.plan(names, scale, seed=0, tasks=folder)
    results = reproduction.compute(plan, Store(str(folder / "store")), ALONE)
    wanted = Wanted(plan.exhibits, plan.main)
    return results, write_report(results, wanted, folder / out)


@pytest.fixture(scope="module")
def small():
    """One task, at sizes that compute in seconds."""
    patch = pytest.MonkeyPatch()
    patch.setattr(reproduction, "TASKS", ("mnist-0-6",))
    patch.setitem(scales.DIGITS, "quick", TINY)
    patch.setitem(fig9.DIGITS, "quick", fig9.Size((1_000, 2_000), ((1, 2), (2, 2)), 2, 2))
    patch.setattr(fig10, "PAIRED_IMAGES", 100)
    for name in ("VALIDATION_IMAGES", "POOL_IMAGES", "MANY_IMAGES", "TEST_IMAGES"):
        patch.setattr(experiment, name, 100)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def ran(small, tmp_path_factory):
    """One task of the main job, run twice into the same store."""
    folder = tmp_path_factory.mktemp("job")
    (results, first), (_, second) = (ran_with([], folder, out) for out in ("first", "second"))
    return folder, results, (first, second)


def test_the_job_leaves_its_three_files_and_nothing_else(ran):
    folder, _, _ = ran
    assert sorted(path.name for path in (folder / "first").iterdir()) == sorted(FILES)


def test_there_is_one_headline_for_each_task_variant_and_classifier(ran):
    folder, _, _ = ran
    records = json.loads((folder / "first" / "results.json").read_text())["results"]
    found = [(r["task"], r["variant"], r["classifier"]) for r in records]
    kinds = {"symmetric": (*KINDS, WIDE), "asymmetric": KINDS}
    assert found == [
        ("mnist-0-6", variant, kind) for variant in VARIANTS for kind in kinds[variant]
    ]
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
        for name in HEADLINE_ATTACKS[measured.headline["classifier"]]:
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
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
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
    setting = dataclasses.replace(results.setting, seed=1)
    (other, *_) = jobs.main_job(setting, results.tasks)
    assert other.points.seed != results.jobs[0].points.seed
    assert other.data.identity == results.jobs[0].data.identity


# Figures and tables.


@pytest.fixture(scope="module")
def everything(small, ran):
    folder, _, _ = ran
    return folder, *ran_with(["all"], folder, "all")


def test_every_figure_and_table_has_its_section(everything):
    folder, _, document = everything
    page = (folder / "all" / "report.html").read_text()
    for name, exhibit in EXHIBITS.items():
        assert f'<h2 id="{name}">' in page
        assert exhibit.title in page.replace("&#39;", "'")
    assert page.count("Not made: it needs celeba-") == 4
    assert len(document["claims"]) >= 14
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_all_holds_the_main_jobs_numbers(everything, ran):
    _, _, document = everything
    _, _, (main, _) = ran
    shared = [r for r in document["results"] if r in main["results"]]
    assert shared == main["results"]


def test_claims_that_rest_on_one_training_are_not_decided(everything):
    _, _, document = everything
    numbers = [n for claim in document["claims"] for n in claim["numbers"]]
    assert {n["verdict"] for n in numbers if n["trainings"] == 1} <= {"not decided"}


def test_one_figure_computes_its_own_stages_alone(small, tmp_path):
    results, document = ran_with(["fig10"], tmp_path, "out")
    assert {job.variant for job in results.jobs} == {"symmetric", "noisy"}
    assert {r["classifier"] for r in document["results"]} == {BAYES, "cnn"}
    assert {stage.name for stage in results.finished.stages}.isdisjoint({"rbf-svm", "theory"})
    claims = [claim["exhibit"] for claim in document["claims"]]
    assert set(claims) == {"fig10"}


def test_the_noisy_points_are_the_plain_ones_but_for_their_noise(small, tmp_path):
    results, _ = ran_with(["fig10"], tmp_path, "out")
    plain, noisy = (results.points["mnist-0-6", variant]["x"] for variant in ("symmetric", "noisy"))
    spread = (noisy - plain).std().item()
    assert spread == pytest.approx(49 * 1e-3, rel=0.05)
