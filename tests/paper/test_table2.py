import pytest
import torch

from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.paper import table2
from bayesgap.paper.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.paper.exhibit import Setting
from bayesgap.paper.real import PARTS
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import known_tasks

IMAGES = 1_000
DIGITS, FACES = ("mnist-0-6", "mnist-2-7"), tuple(table2.PAPER)


def decided(correct, learned_from=3_000):
    right = torch.arange(IMAGES) < correct
    values = {"images": IMAGES, "correct": correct, "learned_from": learned_from}
    return Result({"right": right}, values)


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


def test_trainings_on_fewer_real_images_are_named():
    cells = found(990, 950, tasks=DIGITS)
    for name in cells:
        if name.startswith("mnist-2-7|cnn|real"):
            cells[name] = decided(990, learned_from=1_200)
    row = next(row for row in table2.rows(cells) if (row.task, row.kind) == ("mnist-2-7", "cnn"))
    assert row.learned_from == (1_200, 3_000)
    _, digits = table2.claims(cells)
    assert digits.remarks[-1].endswith("learned: mnist-2-7 1,200 and 3,000.")
    assert "learned" not in " ".join(table2.claims(found(990, 950))[1].remarks)


def test_what_a_classifier_learned_from_is_what_there_was(monkeypatch):
    x = torch.zeros(30, 1, 1, 2, dtype=torch.uint8)
    y = torch.arange(30) % 3 // 2  # 20 and 10
    real = Result(
        {f"{part}.{name}": tensor for part in PARTS for name, tensor in (("x", x), ("y", y))},
        {"kind": "real"},
    )
    monkeypatch.setattr(table2, "as_classifier", lambda result, data: torch.nn.Flatten())
    counted = {
        folds: table2.count_on_real(real, Result(), images=12, sample_seed=0, seed=0, folds=folds)
        for folds in (None, 1, 2, 5)
    }
    assert [one.values["learned_from"] for one in counted.values()] == [12, 12, 10, 4]
    assert counted[None].values["images"] == 20


def test_there_are_as_many_trainings_on_both_sides():
    known = known_tasks()["mnist-0-6"][-1]
    stages = table2.stages(Setting("default", 0, {"mnist-0-6": known}))
    numbers = {name.rpartition("|")[0] for name in stages}
    assert len(numbers) == 2 * len(table2.KINDS)
    assert len(stages) == 3 * len(numbers)
    real, symmetric = (stages[f"mnist-0-6|cnn|{on}|2"].settings for on in ("real", "symmetric"))
    assert (real["images"], real["folds"]) == (3_000, 3)
    assert symmetric["images"] == 3_000
    assert "folds" not in symmetric


def test_every_task_counts_alike_whatever_its_images_and_trainings():
    def row(task, losses, images):
        right = torch.zeros(len(losses), images, dtype=torch.float64)
        for training, loss in enumerate(losses):
            right[training, : round(loss * images)] = 1
        return table2.Row(task, "cnn", right, torch.zeros_like(right), (1, 1))

    table = table2.mean_loss([row("a", [0.1] * 5, 100), row("b", [0.3] * 3, 1_000)])
    assert len(table) == 3
    assert table.mean().item() == pytest.approx(0.2)
    assert mean_with_interval(table)[0] == pytest.approx(0.2)


def test_the_paper_loses_five_percent_on_average():
    losses = [real - symmetric for real, symmetric in table2.PAPER.values()]
    assert sum(losses) / len(losses) == pytest.approx(5.04)
