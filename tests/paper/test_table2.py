import pytest
import torch

from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.paper import table2
from bayesgap.paper.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.runs.store import Result

IMAGES = 1_000
DIGITS, FACES = ("mnist-0-6", "mnist-2-7"), tuple(table2.PAPER)


def decided(correct):
    right = torch.arange(IMAGES) < correct
    return Result({"right": right}, {"images": IMAGES, "correct": correct})


def found(real, symmetric, replicates=3, tasks=(*DIGITS, *FACES)):
    return {
        f"{task}|{kind}|{trained_on}|{replicate}": decided(correct + replicate)
        for task in tasks
        for kind in table2.KINDS
        for trained_on, correct in (("real", real), ("symmetric", symmetric))
        for replicate in range(replicates)
    }


def test_a_row_is_the_loss_of_each_training():
    rows = table2.rows(found(990, 950, tasks=DIGITS))
    assert len(rows) == 2 * len(table2.KINDS)
    assert rows[0].real.mean(dim=1).tolist() == pytest.approx([0.99, 0.991, 0.992])
    assert rows[0].loss.mean(dim=1).tolist() == pytest.approx([0.04] * 3)


@pytest.mark.parametrize(
    ("symmetric", "replicates", "verdict"),
    [(950, 3, REPRODUCED), (800, 3, NOT_REPRODUCED), (950, 1, NOT_DECIDED)],
)
def test_the_claims_are_about_the_mean_loss(symmetric, replicates, verdict):
    for claim in table2.claims(found(990, symmetric, replicates)):
        assert claim.verdict == verdict
        assert claim.numbers[0].value == pytest.approx((990 - symmetric) / IMAGES)


def test_digits_say_nothing_of_the_papers_faces():
    faces, digits = table2.claims(found(990, 950, tasks=DIGITS))
    assert (faces.verdict, faces.numbers) == (NOT_DECIDED, [])
    assert "celeba-bangs" in faces.remarks[-1]
    assert digits.verdict == REPRODUCED


def test_every_task_counts_alike_whatever_its_images_and_trainings():
    def row(task, losses, images):
        right = torch.zeros(len(losses), images, dtype=torch.float64)
        for training, loss in enumerate(losses):
            right[training, : round(loss * images)] = 1
        return table2.Row(task, "cnn", right, torch.zeros_like(right))

    table = table2.mean_loss([row("a", [0.1] * 5, 100), row("b", [0.3] * 3, 1_000)])
    assert len(table) == 3
    assert table.mean().item() == pytest.approx(0.2)
    assert mean_with_interval(table)[0] == pytest.approx(0.2)


def test_the_paper_loses_five_percent_on_average():
    losses = [real - symmetric for real, symmetric in table2.PAPER.values()]
    assert sum(losses) / len(losses) == pytest.approx(5.04)
