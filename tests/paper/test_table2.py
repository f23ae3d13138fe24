"""Table 2: its stages, its rows, and its claims about decisions that are made up."""

from typing import Any

import pytest
import torch

from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.experiment.kinds import CNN
from bayesgap.experiment.setting import REAL, SYMMETRIC, Setting
from bayesgap.images.source import PARTS
from bayesgap.paper.table2 import exhibit as table2
from bayesgap.paper.table2.exhibit import KINDS, Row, Trained
from bayesgap.paper.table2.study import count_on_real
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import known_tasks
from exhibits import found_of
from fabricated import NO, OPEN, YES

IMAGES = 1_000
DIGITS, FACES = ("mnist-0-6", "mnist-2-7"), tuple(table2.PAPER)


def decided(correct, learned_from=3_000):
    right = torch.arange(IMAGES) < correct
    values = {"images": IMAGES, "correct": correct, "learned_from": learned_from}
    return Result({"right": right}, values)


def on_real_images(real, symmetric, trainings=3, tasks=(*DIGITS, *FACES), kinds=KINDS):
    """Of each kind of CNN, how many real test images trainings on either side decide correctly."""
    return {
        Trained(task, kind, trained_on, replicate): decided(correct + replicate)
        for task in tasks
        for kind in kinds
        for trained_on, correct in ((REAL, real), (SYMMETRIC, symmetric))
        for replicate in range(trainings)
    }


def claims_of(results):
    return table2.claims(found_of(results))


def test_a_row_is_the_loss_of_each_training():
    rows = table2.rows(found_of(on_real_images(990, 950, tasks=DIGITS)))
    assert len(rows) == 2 * len(KINDS)
    assert rows[0].real.mean(dim=1).tolist() == pytest.approx([0.99, 0.991, 0.992])
    assert rows[0].loss.mean(dim=1).tolist() == pytest.approx([0.04] * 3)


@pytest.mark.parametrize(
    ("symmetric", "trainings", "verdict"),
    [
        (950, 3, YES),
        (800, 3, NO),
        (950, 1, OPEN),
        (800, 1, OPEN),
    ],
)
def test_the_claims_are_about_the_mean_loss(symmetric, trainings, verdict):
    for claim in claims_of(on_real_images(990, symmetric, trainings)):
        assert claim.verdict == verdict
        loss = claim.numbers[0].estimate.value
        assert loss == pytest.approx((990 - symmetric) / IMAGES)


# The intervals are those of 1,000 images of a task.
@pytest.mark.parametrize(("place", "tasks"), [(0, FACES[:1]), (1, DIGITS)])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("symmetric", "verdict"), [(915, YES), (890, OPEN), (865, NO)])
def test_each_kind_of_cnn_may_lose_ten_percent(place, tasks, kind, symmetric, verdict):
    others = on_real_images(990, 990, tasks=tasks)
    own = on_real_images(990, symmetric, tasks=tasks, kinds=[kind])
    claim = claims_of(others | own)[place]
    assert claim.verdict == verdict
    over = f"{len(tasks)} task{'s' * (len(tasks) > 1)}"
    labels = [number.label for number in claim.numbers]
    assert labels == [f"mean loss of {each} over {over}" for each in KINDS]


def test_digits_say_nothing_of_the_papers_faces():
    faces, digits = claims_of(on_real_images(990, 950, tasks=DIGITS))
    assert (faces.verdict, faces.numbers) == (OPEN, [])
    assert "celeba-bangs" in faces.remarks[-1]
    assert digits.verdict == YES


def test_other_faces_say_nothing_of_the_papers():
    for claim in claims_of(on_real_images(990, 950, tasks=["celeba-no-beard"])):
        assert (claim.verdict, claim.numbers) == (OPEN, [])


def test_faces_that_are_not_at_hand_are_named():
    faces, _ = claims_of(on_real_images(990, 950, tasks=FACES[:4], kinds=[CNN]))
    assert faces.remarks[-1] == f"Not at hand of the paper's tasks: {FACES[4]}."
    faces, _ = claims_of(on_real_images(990, 950, tasks=FACES, kinds=[CNN]))
    assert "Not at hand" not in " ".join(faces.remarks)


def test_trainings_on_fewer_real_images_are_named():
    cells = on_real_images(990, 950, tasks=DIGITS)
    for key in cells:
        if (key.task, key.kind, key.trained_on) == ("mnist-2-7", CNN, REAL):
            cells[key] = decided(990, learned_from=1_200)
    rows = table2.rows(found_of(cells))
    row = next(row for row in rows if (row.task, row.kind) == ("mnist-2-7", CNN))
    assert row.learned_from == (1_200, 3_000)
    _, digits = claims_of(cells)
    assert digits.remarks[-1].endswith("learned: mnist-2-7 1,200 and 3,000.")
    assert "learned" not in " ".join(claims_of(on_real_images(990, 950, tasks=DIGITS))[1].remarks)


def test_what_a_classifier_learned_from_is_what_there_was():
    x = torch.zeros(30, 1, 1, 2, dtype=torch.uint8)
    y = torch.arange(30) % 3 // 2  # 20 and 10
    real = Result(
        {f"{part}.{name}": tensor for part in PARTS for name, tensor in (("x", x), ("y", y))},
        {"kind": "real"},
    )
    settings: dict[str, Any] = {"images": 12, "sample_seed": 0, "seed": 0}
    settings["load"] = lambda result, data: torch.nn.Flatten()
    counted = {
        folds: count_on_real(real, Result(), folds=folds, **settings) for folds in (None, 1, 2, 5)
    }
    assert [one.values["learned_from"] for one in counted.values()] == [12, 12, 10, 4]
    assert counted[None].values["images"] == 20


def test_there_are_as_many_trainings_on_both_sides():
    known = known_tasks()["mnist-0-6"][-1]
    stages = table2.EXHIBIT.wants(Setting("default", 0, {"mnist-0-6": known})).stages
    sides = {(key.kind, key.trained_on) for key in stages if isinstance(key, Trained)}
    assert len(sides) == 2 * len(KINDS)
    assert len(stages) == 3 * len(sides)
    real, symmetric = (
        stages[Trained("mnist-0-6", CNN, on, 2)].settings for on in (REAL, SYMMETRIC)
    )
    assert (real["images"], real["folds"]) == (3_000, 3)
    assert symmetric["images"] == 3_000
    assert "folds" not in symmetric


def test_every_task_counts_alike_whatever_its_images_and_trainings():
    def row(task, losses, images):
        right = torch.zeros(len(losses), images, dtype=torch.float64)
        for training, loss in enumerate(losses):
            right[training, : round(loss * images)] = 1
        return Row(task, CNN, right, torch.zeros_like(right), (1, 1))

    table = table2.mean_loss([row("a", [0.1] * 5, 100), row("b", [0.3] * 3, 1_000)])
    assert len(table) == 3
    assert table.mean().item() == pytest.approx(0.2)
    assert mean_with_interval(table).value == pytest.approx(0.2)


def test_the_paper_loses_five_percent_on_average():
    losses = [real - symmetric for real, symmetric in table2.PAPER.values()]
    assert sum(losses) / len(losses) == pytest.approx(5.04)
