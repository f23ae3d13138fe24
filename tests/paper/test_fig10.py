"""The claims of figure 10: numbers on either side of their rules, and on them."""

from dataclasses import replace
from typing import Any

import pytest

from bayesgap.experiment.kinds import CNN, OPTIMUM
from bayesgap.experiment.setting import NOISY, SYMMETRIC, Case
from bayesgap.paper.engine.exhibit import Named
from bayesgap.paper.fig10 import exhibit as fig10
from bayesgap.paper.fig10.study import compare_optima
from bayesgap.runs.store import Result
from fabricated import NO, ONE_TASK, OPEN, YES, Given, findings
from toys import spherical_task

TASK = "mnist-0-6"
IMAGES = 100_000
FEW = pytest.mark.parametrize("few", [{"unbroken": 2}, {"wrong": 100}])


def noise(noisy=None, plain=None, optimum=3.0, alike=None):
    """Two tasks where noise changes nothing, but for what is given of the second."""
    tasks = {"celeba-male": (Given(1.0), Given(1.0), 3.0)}
    tasks[TASK] = (
        replace(Given(1.0), **(noisy or {})),
        replace(Given(1.0), **(plain or {})),
        optimum,
    )
    cases = {}
    for task, (with_noise, without, certified) in tasks.items():
        cases[Case(task, SYMMETRIC)] = {OPTIMUM: Given(certified=3.0), CNN: without}
        cases[Case(task, NOISY)] = {OPTIMUM: Given(certified=certified), CNN: with_noise}
    counted = {"images": IMAGES, "plain": IMAGES, "noisy": IMAGES}
    results = {
        Named("celeba-male"): Result(values=counted),
        Named(TASK): Result(values=counted | (alike or {})),
    }
    return findings(cases, results)


def test_it_wants_cnns_and_the_optima_of_both_noises():
    wanted = fig10.EXHIBIT.wants(ONE_TASK)
    assert wanted.attacks == {Case(TASK, v): (OPTIMUM, CNN) for v in (SYMMETRIC, NOISY)}
    (key, stage), *others = wanted.stages.items()
    assert (key, others) == (Named(TASK), [])
    assert list(stage.settings) == ["sample_seed"]
    plain, noisy = (stage.inputs[side].settings for side in fig10.SIDES)
    assert plain["name"] == noisy["name"] == f"{TASK}/symmetric"
    assert ("noise_multiple" in plain, noisy["noise_multiple"]) == (False, 50)
    (fewer,) = fig10.exhibit(images=7).wants(ONE_TASK).stages.values()
    assert fewer.settings["images"] == 7


def test_optima_are_compared_on_samples_of_either():
    # A class that is much likelier is decided more often the more noise there is.
    stored = [
        Result(*spherical_task([[0.0], [1.0]], variance, priors=[0.1, 0.9]).to_tensors())
        for variance in (0.01, 1.0)
    ]
    settings: dict[str, Any] = {"sample_seed": 0, "seed": 0, "images": 300}
    same = compare_optima(stored[0], stored[0], **settings).values
    assert same == {"images": 300, "plain": 300, "noisy": 300}
    values = compare_optima(stored[0], stored[1], **settings).values
    # Where the noise is little, the two disagree on all samples of the rarer class.
    assert values["plain"] == pytest.approx(270, abs=25)
    assert values["noisy"] < values["plain"]


def test_all_three_claims_hold_where_noise_changes_nothing():
    claims = fig10.claims(noise())
    assert [claim.verdict for claim in claims] == [YES] * 3
    assert len({claim.name for claim in claims}) == 3


@pytest.mark.parametrize(
    ("certified", "verdict"), [(2.37, NO), (2.4, OPEN), (2.43, YES), (4.0, YES)]
)
def test_the_optimum_keeps_four_fifths_of_its_certified_3(certified, verdict):
    claim = fig10.optimum_stays_robust(noise(optimum=certified))
    assert claim.verdict == verdict
    assert [number.label for number in claim.numbers] == ["celeba-male", TASK]


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.981, YES), (0.98, OPEN), (0.979, NO)])
def test_cnns_have_learned_the_noisy_task(accuracy, verdict):
    assert fig10.cnn_stays_brittle(noise({"accuracy": accuracy})).verdict == verdict
    assert fig10.cnn_stays_brittle(noise(plain={"accuracy": accuracy})).verdict == YES


@pytest.mark.parametrize(("size", "verdict"), [(2.37, YES), (2.4, OPEN), (2.43, NO)])
def test_cnns_stay_below_the_optimum_of_the_noisy_task(size, verdict):
    both = {"size": size}, {"size": size}
    assert fig10.cnn_stays_brittle(noise(*both)).verdict == verdict
    assert fig10.cnn_stays_brittle(noise(*both, optimum=2.0)).verdict == NO


@pytest.mark.parametrize(
    ("size", "verdict"),
    [(0.79, NO), (0.8, OPEN), (0.81, YES), (1.24, YES), (1.25, OPEN), (1.26, NO)],
)
def test_cnns_are_about_as_brittle_as_without_noise(size, verdict):
    claim = fig10.cnn_stays_brittle(noise({"size": size}))
    assert claim.verdict == verdict
    assert [number.label for number in claim.numbers[-3:]] == [
        f"{TASK}, cnn, accuracy",
        f"{TASK}, L2 / optimum's",
        f"{TASK}, L2 with over without noise",
    ]


@FEW
def test_sizes_take_success_with_and_without_noise(few):
    for size in (0.5, 2.9):
        assert fig10.cnn_stays_brittle(noise({"size": size, **few})).verdict == OPEN
        assert fig10.cnn_stays_brittle(noise({"size": size}, few)).verdict == OPEN


@pytest.mark.parametrize("failing", [{"size": 0.5}, {"size": 2.9}, {"accuracy": 0.65}])
def test_one_training_says_nothing_of_others(failing):
    assert fig10.cnn_stays_brittle(noise({"trainings": 1, **failing})).verdict == OPEN


@pytest.mark.parametrize("side", fig10.SIDES)
@pytest.mark.parametrize(("alike", "verdict"), [(99_100, YES), (99_000, OPEN), (98_900, NO)])
def test_both_optima_decide_99_percent_of_either_samples_alike(side, alike, verdict):
    claim = fig10.decisions_stay(noise(alike={side: alike}))
    assert claim.verdict == verdict
    labels = [number.label for number in claim.numbers]
    assert labels[-2:] == [f"{TASK}, plain samples", f"{TASK}, noisy samples"]
