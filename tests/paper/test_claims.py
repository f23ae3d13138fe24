import dataclasses

import pytest

from bayesgap.evaluation.statistics import binomial_interval
from bayesgap.paper import fig12, table1
from bayesgap.paper.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED, Claim, Number


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.0, 1.2, REPRODUCED),
        (1.1, 1.9, REPRODUCED),
        (0.8, 0.9, NOT_REPRODUCED),
        (2.1, 2.2, NOT_REPRODUCED),
        (0.9, 1.1, NOT_DECIDED),
        (1.9, 2.1, NOT_DECIDED),
        (0.5, 2.5, NOT_DECIDED),
    ],
)
def test_a_number_is_judged_by_its_whole_interval(low, high, verdict):
    number = Number("n", (low + high) / 2, low, high, at_least=1.0, at_most=2.0)
    assert number.verdict == verdict


def test_a_number_that_could_not_be_measured_decides_nothing():
    assert Number("n", None, None, None, at_least=1.0).verdict == NOT_DECIDED


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, NOT_DECIDED], NOT_DECIDED),
        ([REPRODUCED, NOT_DECIDED, NOT_REPRODUCED], NOT_REPRODUCED),
    ],
)
def test_a_claim_needs_all_its_numbers_and_fails_with_one(verdicts, whole):
    made = {
        REPRODUCED: Number("n", 2.0, 1.5, 2.5, at_least=1.0),
        NOT_DECIDED: Number("n", 1.0, 0.5, 1.5, at_least=1.0),
        NOT_REPRODUCED: Number("n", 0.5, 0.2, 0.8, at_least=1.0),
    }
    claim = Claim("c", "statement", "paper", "rule", [made[verdict] for verdict in verdicts])
    assert claim.verdict == whole


@pytest.mark.parametrize(("trainings", "verdict"), [(None, REPRODUCED), (2, REPRODUCED)])
def test_one_training_says_nothing_of_others(trainings, verdict):
    number = Number("n", 2.0, 1.5, 2.5, at_least=1.0, trainings=trainings)
    assert number.verdict == verdict
    assert dataclasses.replace(number, trainings=1).verdict == NOT_DECIDED


def test_table_1_holds_the_papers_fifteen_rows():
    rbf = {task: row["rbf-svm"] for task, row in table1.PAPER.items()}
    assert len(rbf) == 15
    mnist = {task: row for task, row in rbf.items() if task.startswith("mnist")}
    assert mnist == {"mnist-0-6": (100, 4), "mnist-2-7": (100, 7), "mnist-4-5": (100, 8)}
    assert {table1.PAPER[f"celeba-{name}"]["cnn"] for name in ("brown-hair", "male")} == {
        (99, 1),
        (100, 0),
    }
    for kind in ("bayes-optimal", "linear-svm"):
        assert {row[kind] for row in table1.PAPER.values()} == {(100, 0)}


def test_percents_of_the_table_carry_the_interval_of_their_points():
    assert table1.with_interval(4, 100) == (0.04, *binomial_interval(4, 100))
    assert table1.with_interval(22, 50) == (0.22, *binomial_interval(11, 50))
    assert table1.points_of("mnist-0-6", "rbf-svm") == 100
    # Every percent is that of a whole number of points.
    for task, row in table1.PAPER.items():
        for kind, percents in row.items():
            for percent in percents:
                assert percent * table1.points_of(task, kind) % 100 == 0


def test_figure_12s_percents_come_from_its_number_of_points():
    for clean, adversarial, _ in fig12.PAPER["celeba-male"].values():
        for printed in (clean, adversarial):
            count = round(printed / 100 * fig12.PAPER_POINTS)
            assert round(100 * count / fig12.PAPER_POINTS, 1) == printed


def test_table_1_puts_the_papers_attack_beside_the_best():
    about = {"task": "mnist-0-6", "variant": "symmetric", "classifier": "rbf-svm"}
    best, same = {**about, "attack": "best of …"}, {**about, "attack": "ld-grad"}
    other = {**about, "attack": "ddn"}
    (cell,) = table1.rows({"results": [best], "attacks": [other, same]})
    assert cell["same_attack"] is same
    assert cell["best"] is best
    assert cell["paper_adversarial"] == (0.04, *binomial_interval(4, 100))
