"""Whole runs from a released task to the files they leave, at the smallest scale."""

import csv
import json
import re

import pytest
import torch

from bayesgap.experiment.kinds import KINDS, LEARNED, OPTIMUM, PAPER_KINDS, WIDE_RBF_SVM
from bayesgap.experiment.setting import VARIANTS, Case
from bayesgap.paper.engine.run import plan
from bayesgap.paper.registry import EXHIBITS, choose
from bayesgap.report.page import FILES
from tiny import SCALE, TASK, digits, ran_with


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One task of the main job, run twice into the same store."""
    folder = tmp_path_factory.mktemp("job")
    (made, first), (_, second) = (
        ran_with(digits(), [], folder, out) for out in ("first", "second")
    )
    return folder, made, (first, second)


def test_the_job_leaves_its_files_and_nothing_else(ran):
    folder, _, _ = ran
    assert sorted(path.name for path in (folder / "first").iterdir()) == sorted(FILES)


def test_there_is_one_headline_for_each_task_variant_and_classifier(ran):
    folder, _, _ = ran
    records = json.loads((folder / "first" / "results.json").read_text())["results"]
    found = [(r["task"], r["variant"], r["classifier"]) for r in records]
    kinds = {"symmetric": (*PAPER_KINDS, WIDE_RBF_SVM), "asymmetric": PAPER_KINDS}
    assert found == [(TASK, variant, kind.name) for variant in VARIANTS for kind in kinds[variant]]
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
    _, made, _ = ran
    for case in made.cases.values():
        for kind, measured in case.measured.items():
            for name in kind.attacks:
                for best, part in zip(measured.best, measured.outcomes[name], strict=True):
                    assert (best.sizes <= part.sizes).all()


def test_a_second_run_computes_nothing_and_leaves_the_same_files(ran):
    folder, _, (first, second) = ran
    assert first == second  # the seconds of stages too
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


def test_every_link_of_the_page_leads_somewhere(ran):
    folder, _, _ = ran
    page = (folder / "first" / "report.html").read_text()
    names = re.findall(r' id="([^"]*)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(names)


def test_the_page_begins_with_what_came_of_the_run(ran):
    folder, made, _ = ran
    page = (folder / "first" / "report.html").read_text()
    top = page[: page.index("The paper's claims</h2>")]
    certified = made.cases[Case(TASK, "symmetric")].measured[OPTIMUM].certified.value
    assert f"provably withstands changes of a mean L2 of {certified:#.3g}" in top
    assert "Trained on the symmetric tasks' samples, CNNs reach" in top.replace("&#39;", "'")


def test_all_classifiers_of_a_replicate_learn_from_the_same_images(ran):
    _, made, _ = ran
    for case in made.cases.values():
        for replicate in range(SCALE.seeds):
            seeds = {
                case.graph.classifiers[kind][replicate].settings["sample_seed"] for kind in LEARNED
            }
            assert len(seeds) == 1


def test_points_are_balanced_and_marked(ran):
    _, made, _ = ran
    for case in made.cases.values():
        assert case.y.bincount().tolist() == [SCALE.per_class] * 2
        assert case.points["outlier"].dtype == case.points["own_side"].dtype == torch.bool


def test_another_seed_means_other_points(ran):
    _, made, _ = ran
    other = plan(digits(seed=1), choose(["fig4"])).graphs[0]
    before = made.plan.graphs[0]
    assert other.case == before.case
    assert other.points.seed != before.points.seed
    assert other.data.identity == before.data.identity


# Figures and tables.


@pytest.fixture(scope="module")
def everything(ran):
    folder, _, _ = ran
    return folder, *ran_with(digits(), ["all"], folder, "all")


def test_every_figure_and_table_has_its_section(everything):
    folder, _, document = everything
    page = (folder / "all" / "report.html").read_text()
    for exhibit in EXHIBITS:
        assert f'<h2 id="{exhibit.name}">' in page
        assert exhibit.title in page.replace("&#39;", "'")
    assert page.count("Not made: it needs celeba-") == 4
    assert len(document["claims"]) >= 14
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_all_holds_the_main_jobs_numbers(everything, ran):
    _, _, document = everything
    _, _, (main, _) = ran
    shared = [r for r in document["results"] if r in main["results"]]
    assert shared == main["results"]


def test_results_stand_by_task_with_the_papers_variants_first(everything):
    _, made, document = everything
    order = [kind.name for kind in KINDS]
    variants = list(dict.fromkeys(case.variant for case in made.cases))
    assert variants == ["symmetric", "asymmetric", "noisy", "real"]
    for variant in variants:
        kinds = [r["classifier"] for r in document["results"] if r["variant"] == variant]
        assert kinds == sorted(kinds, key=order.index)


def test_claims_that_rest_on_one_training_are_not_decided(everything):
    _, _, document = everything
    numbers = [n for claim in document["claims"] for n in claim["numbers"]]
    assert {n["verdict"] for n in numbers if n["trainings"] == 1} <= {"not decided"}


def test_one_figure_computes_its_own_stages_alone(tmp_path):
    made, document = ran_with(digits(), ["fig10"], tmp_path)
    assert {case.variant for case in made.cases} == {"symmetric", "noisy"}
    assert {r["classifier"] for r in document["results"]} == {"bayes-optimal", "cnn"}
    assert {stage.name for stage in made.finished.stages}.isdisjoint({"rbf-svm", "theory"})
    assert {claim["exhibit"] for claim in document["claims"]} == {"fig10"}
    # The noisy points are the plain ones but for the size of their noise.
    plain, noisy = (made.cases[Case(TASK, v)].points["x"] for v in ("symmetric", "noisy"))
    assert (noisy - plain).std().item() == pytest.approx(49 * 1e-3, rel=0.05)


def test_a_figure_of_the_optimum_alone_trains_nothing(tmp_path):
    made, document = ran_with(digits(), ["fig4"], tmp_path)
    assert {stage.name for stage in made.finished.stages} == {
        *("task", "points", "optimum", "certify", "attack")
    }
    assert {facts["cnn_width"] for facts in document["tasks"]} == {None}
