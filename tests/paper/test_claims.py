import pytest

from bayesgap.evaluation.statistics import binomial_interval
from bayesgap.paper import table1
from bayesgap.paper.claims import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED, Claim, Number


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


def test_table_1_holds_the_papers_mnist_rows():
    rbf = {task: row["rbf-svm"] for task, row in table1.PAPER.items()}
    assert rbf == {"mnist-0-6": (100, 4), "mnist-2-7": (100, 7), "mnist-4-5": (100, 8)}
    others = [row[kind] for row in table1.PAPER.values() for kind in row if kind != "rbf-svm"]
    assert set(others) == {(100, 0)}


def test_table_1_puts_the_papers_attack_beside_the_best():
    about = {"task": "mnist-0-6", "variant": "symmetric", "classifier": "rbf-svm"}
    best, same = {**about, "attack": "best of …"}, {**about, "attack": "ld-grad"}
    other = {**about, "attack": "ddn"}
    (cell,) = table1.rows({"results": [best], "attacks": [other, same]})
    assert cell["same_attack"] is same
    assert cell["best"] is best
    assert cell["paper_adversarial"] == (0.04, *binomial_interval(4, 100))
