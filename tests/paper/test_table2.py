import pytest

from bayesgap.paper import table2
from bayesgap.paper.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.runs.store import Result


def found(real, symmetric, replicates=3):
    return {
        f"{task}|{kind}|{trained_on}|{replicate}": Result(
            values={"images": 1_000, "correct": correct + replicate}
        )
        for task in ("mnist-0-6", "mnist-2-7")
        for kind in table2.KINDS
        for trained_on, correct in (("real", real), ("symmetric", symmetric))
        for replicate in range(replicates)
    }


def test_a_row_is_the_loss_of_each_training():
    rows = table2.rows(found(990, 950))
    assert len(rows) == 2 * len(table2.KINDS)
    assert rows[0].real == pytest.approx([0.99, 0.991, 0.992])
    assert rows[0].losses == pytest.approx([0.04] * 3)


@pytest.mark.parametrize(
    ("symmetric", "replicates", "verdict"),
    [(950, 3, REPRODUCED), (800, 3, NOT_REPRODUCED), (950, 1, NOT_DECIDED)],
)
def test_the_claim_is_about_the_mean_loss(symmetric, replicates, verdict):
    (claim,) = table2.claims(found(990, symmetric, replicates))
    assert claim.verdict == verdict
    assert claim.numbers[0].value == pytest.approx((990 - symmetric) / 1_000)


def test_tasks_may_have_different_numbers_of_trainings():
    uneven = found(990, 950)
    del uneven["mnist-2-7|cnn|real|2"], uneven["mnist-2-7|cnn|symmetric|2"]
    claim = next(iter(table2.claims(uneven)))
    assert [number.trainings for number in claim.numbers] == [3, 3, 3]
    assert claim.numbers[-1].value == pytest.approx(0.04)


def test_the_paper_loses_five_percent_on_average():
    losses = [real - symmetric for real, symmetric in table2.PAPER.values()]
    assert sum(losses) / len(losses) == pytest.approx(5.04)
