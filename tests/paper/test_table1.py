"""Table 1: the paper's numbers, their intervals, and the claim that every attack succeeds."""

from dataclasses import replace

import pytest

from bayesgap.drawing.words import percent
from bayesgap.evaluation.statistics import binomial_interval
from bayesgap.experiment.kinds import CNN, LINEAR_SVM, OPTIMUM, PAPER_KINDS, RBF_SVM
from bayesgap.experiment.setting import SYMMETRIC, Case
from bayesgap.paper import table1
from fabricated import NO, ONE_TASK, OPEN, YES, Given, findings

TASK = "mnist-0-6"
CLAIMED = (OPTIMUM, CNN, LINEAR_SVM)


def test_it_holds_the_papers_fifteen_rows():
    rbf = {task: row[RBF_SVM] for task, row in table1.PAPER.items()}
    assert len(rbf) == 15
    mnist = {task: row for task, row in rbf.items() if task.startswith("mnist")}
    assert mnist == {"mnist-0-6": (100, 4), "mnist-2-7": (100, 7), "mnist-4-5": (100, 8)}
    assert {table1.PAPER[f"celeba-{name}"][CNN] for name in ("brown-hair", "male")} == {
        (99, 1),
        (100, 0),
    }
    for kind in (OPTIMUM, LINEAR_SVM):
        assert {row[kind] for row in table1.PAPER.values()} == {(100, 0)}


def test_percents_of_the_table_carry_the_interval_of_their_points():
    assert table1.with_interval(4, 100) == (0.04, *binomial_interval(4, 100))
    assert table1.with_interval(22, 50) == (0.22, *binomial_interval(11, 50))
    assert table1.points_of("mnist-0-6", RBF_SVM) == 100
    # Every percent is that of a whole number of points.
    for task, row in table1.PAPER.items():
        for kind, percents in row.items():
            for printed in percents:
                assert printed * table1.points_of(task, kind) % 100 == 0


def test_it_wants_every_kind_of_the_paper():
    assert table1.EXHIBIT.wants(ONE_TASK).attacks == {Case(TASK, SYMMETRIC): PAPER_KINDS}


ALL_BROKEN = Given()


def classifiers(changed, usual=ALL_BROKEN):
    """Two tasks' classifiers, all of whose points are broken but for what changed."""
    kinds = {kind: replace(usual, **changed.get(kind, {})) for kind in PAPER_KINDS}
    tasks = {"mnist-2-7": dict.fromkeys(PAPER_KINDS, usual), TASK: kinds}
    return findings({Case(task, SYMMETRIC): each for task, each in tasks.items()})


def judged(changed):
    (claim,) = table1.claims(classifiers(changed))
    return claim


# An interval over 100 points begins at 96.4 % where all are broken, and ends at 97.5 % for 93.
@pytest.mark.parametrize("kind", CLAIMED)
@pytest.mark.parametrize(("unbroken", "verdict"), [(0, YES), (1, OPEN), (7, OPEN), (12, NO)])
def test_every_attack_succeeds_at_95_percent(kind, unbroken, verdict):
    claim = judged({kind: {"unbroken": unbroken}})
    assert claim.verdict == verdict
    assert [number.label for number in claim.numbers[-3:]] == [f"{TASK}, {k}" for k in CLAIMED]


@pytest.mark.parametrize("kind", [CNN, LINEAR_SVM])
def test_the_training_counts_whose_attacks_succeed_least(kind):
    claim = judged({kind: {"unbroken": (0, 12, 0)}})
    assert claim.verdict == NO
    assert claim.numbers[3 + CLAIMED.index(kind)].estimate == (0.88, *binomial_interval(88, 100))


def test_only_points_that_were_decided_rightly_count():
    claim = judged({CNN: {"unbroken": 6, "wrong": 50}})
    assert claim.numbers[4].estimate == (0.88, *binomial_interval(44, 50))


def test_the_paper_does_not_claim_it_of_rbf_svms():
    assert judged({RBF_SVM: {"unbroken": 50}}).verdict == YES


@pytest.mark.parametrize("kind", [CNN, LINEAR_SVM])
@pytest.mark.parametrize("few", [{"trainings": 1}, {"wrong": 100}])
def test_one_training_or_none_that_decides_rightly_decides_nothing(kind, few):
    assert judged({kind: {"unbroken": 12, **few}}).verdict == OPEN


def test_the_papers_own_attack_leaves_more_points():
    own = [
        {kind: {"attacks": {"ld-grad": Given(unbroken=left)}} for kind, left in counts.items()}
        for counts in ({OPTIMUM: 2, RBF_SVM: 11}, {OPTIMUM: 5})
    ]
    (remark,) = judged(own[0]).remarks
    assert "it leaves 2% to 2% of the points of the optimum" in remark
    assert "and 11% to 11% of those of RBF SVMs" in remark
    (remark,) = judged(own[1]).remarks
    assert "5% to 5% of the points of the optimum" in remark
    assert "and an unknown share of those of RBF SVMs" in remark


def test_the_left_points_range_over_tasks():
    usual = Given(attacks={"ld-grad": Given(unbroken=3)})
    found = classifiers({OPTIMUM: {"attacks": {"ld-grad": Given(unbroken=8)}}}, usual)
    (claim,) = table1.claims(found)
    assert "it leaves 3% to 8% of the points of the optimum" in claim.remarks[0]


def row_of(kind=RBF_SVM, **given):
    found = findings({Case(TASK, SYMMETRIC): {kind: Given(**given)}})
    return table1.row(found.measured(TASK, SYMMETRIC, kind))


@pytest.mark.parametrize(("left", "mark"), [(4, ""), (9, ""), (10, " †"), (0, " †")])
def test_a_row_puts_the_papers_attack_beside_the_best(left, mark):
    row = row_of(unbroken=1, attacks={"ddn": Given(unbroken=50), "ld-grad": Given(unbroken=left)})
    task, kind, printed, intervals, attack, same, best = row
    assert (task, kind, attack) == (TASK, RBF_SVM.label, "ld-grad")
    assert printed == f"{percent(1.0)} ({percent(0.04)})"
    clean, adversarial = (binomial_interval(count, 100) for count in (100, 4))
    assert intervals == "{} to {} ({} to {})".format(*map(percent, (*clean, *adversarial)))
    assert same == f"{percent(1.0)} ({percent(left / 100)}){mark}"
    assert best == f"{percent(1.0)} ({percent(0.01)})"


# Of 100 points none was left to the paper, which says at most 3.6 %.
@pytest.mark.parametrize(("left", "mark"), [(0, ""), (3, ""), (4, " †")])
def test_the_end_of_an_interval_is_inside(left, mark):
    *_, same, _ = row_of(OPTIMUM, attacks={"ld-grad": Given(unbroken=left)})
    assert same == f"{percent(1.0)} ({percent(left / 100)}){mark}"


def test_a_row_says_where_the_papers_attack_was_not_run():
    assert row_of(attacks={"ddn": Given()})[-2] == "not run at this scale"


def test_the_section_has_a_row_for_each_kind_of_each_of_the_papers_tasks():
    (table,) = table1.section(classifiers({})).tables
    assert [row[:2] for row in table.rows] == [
        [task, kind.label] for task in ("mnist-2-7", TASK) for kind in PAPER_KINDS
    ]
    assert all(len(row) == len(table.heading) for row in table.rows)
