import math

import pytest
import torch

from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.paper import experiment, fig9
from bayesgap.paper.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.paper.exhibit import Setting
from bayesgap.paper.fig9 import Point, attack_checkpoint, claims, curves, train_leg
from bayesgap.runs.stage import in_order
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import known_tasks
from bayesgap.tasks.task import Task
from strategies import random_mixture


@pytest.fixture(scope="module")
def task():
    densities = [random_mixture(label, 2, 64, 1) for label in (0, 1)]
    return Result(*Task(densities, image_shape=(1, 8, 8), name="toy").to_tensors())


LEG = {"width": 1, "scales": 1, "batch": 50, "training_seed": 5, "seed": 0}


def test_legs_end_where_one_training_ends(task):
    first = train_leg(task, first=0, end=1_000, **LEG)
    second = train_leg(task, first, first=1_000, end=2_000, **LEG)
    whole = train_leg(task, first=0, end=2_000, **LEG)
    assert second.values["samples"] == whole.values["samples"] == 2_000
    for name, tensor in whole.tensors.items():
        assert torch.equal(second.tensors[name], tensor), name


def test_a_checkpoint_is_attacked_at_the_first_points(task, monkeypatch):
    monkeypatch.setattr(experiment, "POOL_IMAGES", 50)
    monkeypatch.setattr(experiment, "TEST_IMAGES", 60)
    points = experiment.draw_points(task, per_class=5, sample_seed=0, seed=1)
    leg = train_leg(task, first=0, end=1_000, **LEG)
    found = attack_checkpoint(task, points, leg, per_class=3, seed=2)
    assert found.tensors["l2"].shape == (6,)
    assert found.values["points"] == 6
    assert 0 <= found.values["correct"] <= found.values["images"] == 60


def test_checkpoints_are_a_chain_of_stages():
    known = known_tasks()["mnist-0-6"][-1]
    stages = fig9.stages(Setting("default", 0, {"mnist-0-6": known}))
    size = fig9.DIGITS["default"]
    assert len(stages) == 2 + len(size.checkpoints) * len(size.networks) * size.seeds
    legs = [stage for stage in in_order(stages.values()) if stage.name == "online"]
    assert len(legs) == len(stages) - 2
    starts = {stage.settings["first"] for stage in legs}
    assert starts == {0, *size.checkpoints[:-1]}
    # Networks of one replicate see the same images; replicates see others.
    assert len({stage.settings["training_seed"] for stage in legs}) == size.seeds


def results(l2, correct=1_000, success=1.0, seeds=3):
    """Networks of one task by width and scales, whose mean L2 after each checkpoint is given."""
    y = torch.zeros(10, dtype=torch.int64)
    lower = torch.full((10,), 3.0, dtype=torch.float64)
    found = {
        "toy|points": Result({"y": y}),
        "toy|certified": Result({"lower": lower, "before": y.clone()}),
    }
    for (width, scales), means in l2.items():
        for replicate in range(seeds):
            for samples, mean in means.items():
                spread = 0.01 * (replicate - 1)
                table = torch.full((8,), mean + spread, dtype=torch.float64)
                values = {"correct": correct, "images": 1_000, "success_rate": success}
                found[str(Point("toy", width, scales, replicate, samples))] = Result(
                    {"l2": table}, values
                )
    return found


def flat(low, high):
    return {1_000: low, 5_000: high}


FLAT = {(4, 2): flat(1.5, 1.6), (8, 2): flat(1.5, 1.7), (4, 3): flat(1.5, 1.5)}
GROWS = {**FLAT, (4, 2): flat(1.0, 1.6)}
WIDE, DEEP = {**FLAT, (8, 2): flat(2.3, 2.3)}, {**FLAT, (4, 3): flat(2.3, 2.3)}
ROBUST = {**FLAT, (4, 3): flat(2.9, 2.9)}
YES, NO, OPEN = REPRODUCED, NOT_REPRODUCED, NOT_DECIDED


def test_curves_hold_each_network_with_its_trainings():
    first, second, _ = curves(results(FLAT))
    assert (first.width, second.width) == (4, 8)
    assert first.samples == [1_000, 5_000]
    assert [l2.shape for l2 in first.l2] == [(3, 8), (3, 8)]
    assert first.name == "width 4, 5 convolutions"
    assert first.means()[1] == mean_with_interval(first.l2[1])
    assert math.isclose(first.means()[1][0], 1.6)


@pytest.mark.parametrize(
    ("l2", "settings", "verdicts"),
    [
        (FLAT, {}, [YES, YES, YES, YES]),
        (GROWS, {}, [YES, NO, YES, YES]),
        (WIDE, {}, [YES, YES, NO, YES]),
        (DEEP, {}, [YES, YES, YES, NO]),
        (ROBUST, {}, [NO, YES, YES, NO]),
        ({(8, 2): flat(2.3, 2.3), (4, 2): flat(1.5, 1.5)}, {}, [YES, YES, NO, OPEN]),
        ({(4, 2): flat(1.5, 1.5)}, {}, [YES, YES, OPEN, OPEN]),
        (FLAT, {"seeds": 1}, [OPEN] * 4),
        (FLAT, {"success": 0.9}, [OPEN] * 4),
        (FLAT, {"correct": 900}, [OPEN] * 4),
    ],
)
def test_the_claims_follow_their_rules(l2, settings, verdicts):
    assert [claim.verdict for claim in claims(results(l2, **settings))] == verdicts


def unlearned(found, *names):
    """The same, but that some trainings have not learned their task."""
    for name, result in found.items():
        if name.startswith(names):
            result.values["correct"] = 930
    return found


def test_networks_that_have_not_learned_are_left_out_by_name():
    found = unlearned(results(WIDE), "toy|8|2|0")
    still, data, width, depth = claims(found)
    assert [claim.verdict for claim in (still, data, width, depth)] == [YES, YES, OPEN, YES]
    assert (len(still.numbers), len(data.numbers), len(depth.numbers)) == (2, 2, 1)
    assert "toy, width 8, 5 convolutions" in still.remarks[-1]
    assert "5,000 samples here, the paper's at 1,000,000" in still.remarks[1]


def test_a_claim_is_not_decided_by_what_is_left_where_nothing_could_be_compared():
    # The narrowest has not learned, and all others only at the last checkpoint.
    late = unlearned(results(FLAT), *(f"toy|{n}|{k}|1000" for n in ("4|3", "8|2") for k in "012"))
    found = unlearned(late, "toy|4|2|1")
    still, data, width, depth = claims(found)
    assert [claim.verdict for claim in (still, data, width, depth)] == [YES, OPEN, OPEN, OPEN]


def test_points_that_the_optimum_gets_wrong_do_not_count():
    found = results(FLAT)
    found["toy|points"].tensors["y"][0] = 1
    curve, *_ = curves(found)
    assert curve.lower.isnan().tolist() == [True] + [False] * 7
