"""Figure 9: its chain of stages, its curves, and its claims about numbers that are made up."""

import math
from typing import Any

import pytest
import torch

from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.experiment.setting import Setting
from bayesgap.experiment.stages.data import draw_points
from bayesgap.paper.fig9 import exhibit as fig9
from bayesgap.paper.fig9.claims import claims
from bayesgap.paper.fig9.curves import CERTIFIED, POINTS, Checkpoint, Shared, curves
from bayesgap.paper.fig9.study import attack_checkpoint
from bayesgap.paper.fig9.training import train_leg
from bayesgap.runs.stage import in_order
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import known_tasks
from bayesgap.tasks.task import Task
from exhibits import found_of, sure
from fabricated import NO, OPEN, YES, scattered
from strategies import random_mixture


@pytest.fixture(scope="module")
def task():
    densities = [random_mixture(label, 2, 64, 1) for label in (0, 1)]
    return Result(*Task(densities, image_shape=(1, 8, 8), name="toy").to_tensors())


LEG: dict[str, Any] = {"width": 1, "scales": 1, "batch": 50, "training_seed": 5, "seed": 0}


def test_legs_end_where_one_training_ends(task):
    first = train_leg(task, first=0, end=1_000, **LEG)
    second = train_leg(task, first, first=1_000, end=2_000, **LEG)
    whole = train_leg(task, first=0, end=2_000, **LEG)
    assert second.values["samples"] == whole.values["samples"] == 2_000
    for name, tensor in whole.tensors.items():
        assert torch.equal(second.tensors[name], tensor), name


def test_a_checkpoint_is_attacked_at_the_first_points(task):
    points = draw_points(task, per_class=5, sample_seed=0, seed=1)
    leg = train_leg(task, first=0, end=1_000, **LEG)
    draws = {"pool_images": 50, "test_images": 60}
    found = attack_checkpoint(task, points, leg, per_class=3, seed=2, **draws)
    assert found.tensors["l2"].shape == (6,)
    assert found.values["points"] == 6
    assert 0 <= found.values["correct"] <= found.values["images"] == 60


@pytest.mark.parametrize("size", [fig9.DIGITS["default"], fig9.Size((10, 20), ((1, 1),), 2, 3)])
def test_checkpoints_are_a_chain_of_stages(size):
    known = known_tasks()["mnist-0-6"][-1]
    exhibit = fig9.exhibit({"digits": {"default": size}})
    stages = exhibit.wants(Setting("default", 0, {"mnist-0-6": known})).stages
    assert len(stages) == 2 + len(size.checkpoints) * len(size.networks) * size.seeds
    legs = [stage for stage in in_order(stages.values()) if stage.name == "online"]
    assert len(legs) == len(stages) - 2
    starts = {stage.settings["first"] for stage in legs}
    assert starts == {0, *size.checkpoints[:-1]}
    # Networks of one replicate see the same images; replicates see others.
    assert len({stage.settings["training_seed"] for stage in legs}) == size.seeds
    attacks = [stages[key] for key in stages if isinstance(key, Checkpoint)]
    assert {stage.settings["per_class"] for stage in attacks} == {size.per_class}


def results(l2, correct=1_000, success=1.0, seeds=3):
    """Networks of one task by width and scales, whose mean L2 after each checkpoint is given."""
    y = torch.zeros(10, dtype=torch.int64)
    lower = torch.full((10,), 3.0, dtype=torch.float64)
    found: dict[Any, Result] = {
        Shared("toy", POINTS): Result({"y": y}),
        Shared("toy", CERTIFIED): Result({"lower": lower, "before": y.clone()}),
    }
    for (width, scales), means in l2.items():
        for replicate in range(seeds):
            for samples, mean in means.items():
                key = Checkpoint("toy", width, scales, replicate, samples)
                values = {"correct": correct, "images": 1_000, "success_rate": success}
                found[key] = Result({"l2": scattered(mean, key, points=8)[0]}, values)
    return found_of(found)


def flat(low, high):
    return {1_000: low, 5_000: high}


def verdicts_of(found):
    return [claim.verdict for claim in claims(found)]


FLAT = {(4, 2): flat(1.5, 1.6), (8, 2): flat(1.5, 1.7), (4, 3): flat(1.5, 1.5)}
GROWS = {**FLAT, (4, 2): flat(1.0, 1.6)}
WIDE, DEEP = {**FLAT, (8, 2): flat(2.3, 2.3)}, {**FLAT, (4, 3): flat(2.3, 2.3)}
ROBUST = {**FLAT, (4, 3): flat(2.9, 2.9)}
REFUTED = {(4, 2): flat(1.0, 1.6), (8, 2): flat(1.6, 2.9), (4, 3): flat(1.6, 2.9)}


def test_curves_hold_each_network_with_its_trainings():
    first, second, _ = curves(results(FLAT))
    assert (first.width, second.width) == (4, 8)
    assert first.samples == [1_000, 5_000]
    assert [l2.shape for l2 in first.l2] == [(3, 8), (3, 8)]
    assert first.name == "width 4, 5 convolutions"
    assert first.means()[1] == mean_with_interval(first.l2[1])
    assert math.isclose(sure(first.means()[1])[0], 1.6)


@pytest.mark.parametrize(
    ("l2", "settings", "verdicts"),
    [
        (FLAT, {}, [YES, YES, YES, YES]),
        (GROWS, {}, [YES, NO, YES, YES]),
        (WIDE, {}, [YES, YES, NO, YES]),
        (DEEP, {}, [YES, YES, YES, NO]),
        (ROBUST, {}, [NO, YES, YES, NO]),
        (REFUTED, {}, [NO, NO, NO, NO]),
        ({(8, 2): flat(2.3, 2.3), (4, 2): flat(1.5, 1.5)}, {}, [YES, YES, NO, OPEN]),
        ({(4, 2): flat(1.5, 1.5)}, {}, [YES, YES, OPEN, OPEN]),
        *(
            (l2, settings, [OPEN] * 4)
            for l2 in (FLAT, REFUTED)
            for settings in ({"seeds": 1}, {"success": 0.98}, {"correct": 979})
        ),
        (REFUTED, {"success": 0.99, "correct": 980}, [NO] * 4),
    ],
)
def test_the_claims_follow_their_rules(l2, settings, verdicts):
    assert verdicts_of(results(l2, **settings)) == verdicts


@pytest.mark.parametrize(("mean", "verdict"), [(2.37, YES), (2.4, OPEN), (2.43, NO)])
def test_what_is_brittle_stays_below_four_fifths_of_the_optimums_3(mean, verdict):
    still, *_ = claims(results({(4, 2): flat(2.4, mean)}))
    assert still.verdict == verdict
    assert [number.label for number in still.numbers] == [
        "toy, width 4, 5 convolutions, 5,000 samples"
    ]


@pytest.mark.parametrize(("mean", "verdict"), [(1.24, YES), (1.25, OPEN), (1.26, NO)])
@pytest.mark.parametrize(
    ("l2", "place"),
    [
        (lambda mean: {(4, 2): flat(1.0, mean)}, 1),
        (lambda mean: {(8, 2): flat(mean, mean), (4, 2): flat(1.0, 1.0)}, 2),
        (lambda mean: {(4, 3): flat(mean, mean), (4, 2): flat(1.0, 1.0)}, 3),
    ],
    ids=["data", "width", "depth"],
)
def test_more_may_help_by_a_quarter(l2, place, mean, verdict):
    claim = claims(results(l2(mean)))[place]
    assert (claim.verdict, claim.numbers[-1].verdict) == (verdict, verdict)


@pytest.mark.parametrize(
    ("other", "compared"),
    [((8, 3), [False, False]), ((8, 2), [True, False]), ((4, 3), [False, True])],
)
def test_networks_are_compared_that_are_alike_in_the_other_size(other, compared):
    _, _, *sizes = claims(results({(4, 2): flat(1.0, 1.0), other: flat(2.0, 2.0)}))
    assert [claim.verdict == NO for claim in sizes] == compared


def changed(found, *names, **values):
    """The same, but for some values of checkpoints whose names begin so."""
    for key, result in found.results.items():
        if str(key).startswith(names):
            result.values.update(values)
    return found


@pytest.mark.parametrize("name", ["toy|4|2|1|1000", "toy|4|2|1|5000"])
def test_growth_takes_success_at_both_ends_and_in_every_training(name):
    found = results({(4, 2): flat(1.0, 1.6)})
    assert verdicts_of(found)[1] == NO
    assert verdicts_of(changed(found, name, success_rate=0.98))[1] == OPEN


@pytest.mark.parametrize("name", ["toy|4|2|1|5000", "toy|8|2|1|5000"])
def test_comparing_networks_takes_success_against_both(name):
    found = results({(4, 2): flat(1.0, 1.0), (8, 2): flat(1.6, 1.6)})
    assert verdicts_of(found)[2] == NO
    assert verdicts_of(changed(found, name, success_rate=None))[2] == OPEN


def unlearned(found, *names):
    """The same, but that some trainings have not learned their task."""
    return changed(found, *names, correct=930)


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
    assert verdicts_of(found) == [YES, OPEN, OPEN, OPEN]


def test_points_that_the_optimum_gets_wrong_do_not_count():
    found = results(FLAT)
    found[Shared("toy", POINTS)].tensors["y"][0] = 1
    curve, *_ = curves(found)
    assert curve.lower.isnan().tolist() == [True] + [False] * 7
