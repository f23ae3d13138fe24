import dataclasses

import pytest

from bayesgap.estimates import UNKNOWN, Estimate
from bayesgap.paper.engine.claim import (
    NOT_DECIDED,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    Number,
)

ABOVE_1 = Number("n", Estimate(2.0, 1.5, 2.5), at_least=1.0)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.0, 1.2, REPRODUCED),
        (1.1, 1.9, REPRODUCED),
        (1.8, 2.0, REPRODUCED),
        (0.8, 0.9, NOT_REPRODUCED),
        (2.1, 2.2, NOT_REPRODUCED),
        (0.9, 1.0, NOT_DECIDED),
        (0.9, 1.1, NOT_DECIDED),
        (1.9, 2.1, NOT_DECIDED),
        (2.0, 2.1, NOT_DECIDED),
        (0.5, 2.5, NOT_DECIDED),
    ],
)
def test_a_number_is_judged_by_its_whole_interval(low, high, verdict):
    number = Number("n", Estimate((low + high) / 2, low, high), at_least=1.0, at_most=2.0)
    assert number.verdict == verdict


def test_a_number_that_could_not_be_measured_decides_nothing():
    assert Number("n", UNKNOWN, at_least=1.0).verdict == NOT_DECIDED


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, NOT_DECIDED], NOT_DECIDED),
        ([REPRODUCED, NOT_DECIDED, NOT_REPRODUCED], NOT_REPRODUCED),
        ([], NOT_DECIDED),
    ],
)
def test_a_claim_needs_all_its_numbers_and_fails_with_one(verdicts, whole):
    made = {
        REPRODUCED: ABOVE_1,
        NOT_DECIDED: Number("n", Estimate(1.0, 0.5, 1.5), at_least=1.0),
        NOT_REPRODUCED: Number("n", Estimate(0.5, 0.2, 0.8), at_least=1.0),
    }
    claim = Claim("c", "statement", "paper", "rule", [made[verdict] for verdict in verdicts])
    assert claim.verdict == whole


@pytest.mark.parametrize("trainings", [None, 2])
def test_one_training_says_nothing_of_others(trainings):
    number = dataclasses.replace(ABOVE_1, trainings=trainings)
    assert number.verdict == REPRODUCED
    assert dataclasses.replace(number, trainings=1).verdict == NOT_DECIDED


def test_a_record_holds_the_verdict_and_every_number_that_led_to_it():
    claim = Claim("c", "statement", "paper", "rule", [ABOVE_1], ["a remark"])
    number = {"label": "n", "value": 2.0, "low": 1.5, "high": 2.5, "trainings": None}
    assert claim.record() == {
        "name": "c",
        "statement": "statement",
        "paper": "paper",
        "rule": "rule",
        "verdict": REPRODUCED,
        "remarks": ["a remark"],
        "numbers": [{**number, "verdict": REPRODUCED}],
    }
