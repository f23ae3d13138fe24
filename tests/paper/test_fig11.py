"""The claims of figure 11, one a ball: numbers on either side of their rules, and on them."""

from dataclasses import replace

import pytest

from bayesgap.experiment.kinds import CNN, OPTIMUM, ROBUST
from bayesgap.experiment.setting import SYMMETRIC, Case
from bayesgap.paper import fig11
from fabricated import NO, ONE_TASK, OPEN, YES, Given, findings

TASK = "celeba-male"
USUAL = {OPTIMUM: Given(certified=3.0), CNN: Given(1.0), **dict.fromkeys(ROBUST, Given(1.5))}
each_ball = pytest.mark.parametrize("kind", ROBUST, ids=str)
FEW = pytest.mark.parametrize("few", [{"unbroken": 2}, {"wrong": 100}])


def cnns(changed):
    """Two tasks' CNNs as the paper has them, but for what changed of kinds on the second."""
    kinds = {kind: replace(given, **changed.get(kind, {})) for kind, given in USUAL.items()}
    tasks = {"mnist-0-6": USUAL, TASK: kinds}
    return findings({Case(task, SYMMETRIC): each for task, each in tasks.items()}, scale="default")


def test_it_wants_the_kinds_that_its_claims_are_about():
    assert fig11.EXHIBIT.wants(ONE_TASK).attacks == {Case("mnist-0-6", SYMMETRIC): tuple(USUAL)}


def judged(kind, changed):
    return fig11.robust_training_helps_little(cnns(changed), kind)


@each_ball
@pytest.mark.parametrize(("accuracy", "verdict"), [(0.981, YES), (0.98, OPEN), (0.979, NO)])
def test_robust_cnns_have_learned_their_task(kind, accuracy, verdict):
    assert judged(kind, {kind: {"accuracy": accuracy}}).verdict == verdict


@each_ball
@pytest.mark.parametrize(("size", "verdict"), [(2.37, YES), (2.4, OPEN), (2.43, NO)])
def test_robust_cnns_stay_below_the_optimums_3(kind, size, verdict):
    assert judged(kind, {kind: {"size": size}}).verdict == verdict


@each_ball
@pytest.mark.parametrize(("size", "verdict"), [(0.99, NO), (1.0, OPEN), (1.01, YES)])
def test_robust_cnns_are_no_less_robust_than_plain_ones(kind, size, verdict):
    claim = judged(kind, {kind: {"size": size}})
    assert claim.verdict == verdict
    assert [number.label for number in claim.numbers[-3:]] == [
        f"{TASK}, {kind}, accuracy",
        f"{TASK}, L2 / optimum's",
        f"{TASK}, L2 / plain CNN's",
    ]


@each_ball
@FEW
def test_sizes_take_success_against_robust_and_plain_cnns(kind, few):
    for size in (0.8, 2.9):
        assert judged(kind, {kind: {"size": size, **few}}).verdict == OPEN
        assert judged(kind, {kind: {"size": size}, CNN: few}).verdict == OPEN


@each_ball
@pytest.mark.parametrize("failing", [{"size": 0.8}, {"size": 2.9}, {"accuracy": 0.65}])
def test_one_training_says_nothing_of_others(kind, failing):
    assert judged(kind, {kind: {"trainings": 1, **failing}}).verdict == OPEN


def test_each_ball_is_judged_by_itself():
    changed = [{"size": 1.5}, {"size": 2.9}, {"accuracy": 0.65}]
    claims = fig11.claims(cnns(dict(zip(ROBUST, changed, strict=True))))
    assert [claim.verdict for claim in claims] == [YES, NO, NO]
    assert len({claim.name for claim in claims}) == len({c.statement for c in claims}) == 3
    assert f"The ball's radius is 1 on {TASK}." in claims[0].remarks
    assert "The ball's radius is 1.5 on mnist-0-6." in claims[0].remarks


@each_ball
def test_a_kind_that_was_not_trained_is_not_judged(kind):
    kinds = {other: given for other, given in USUAL.items() if other is not kind}
    nothing = fig11.robust_training_helps_little(findings({Case(TASK, SYMMETRIC): kinds}), kind)
    assert (nothing.verdict, nothing.numbers) == (OPEN, [])
