"""The claims of figure 6: numbers on either side of their rules, and on them."""

from dataclasses import replace

import pytest

from bayesgap.experiment.kinds import CNN, LINEAR_SVM, OPTIMUM, RBF_SVM, WIDE_RBF_SVM
from bayesgap.experiment.setting import SYMMETRIC, Case
from bayesgap.paper import fig6
from fabricated import NO, ONE_TASK, OPEN, YES, Given, findings

DIGITS, FACES = "mnist-0-6", "celeba-male"
USUAL = {
    OPTIMUM: Given(1.0, certified=1.0),
    CNN: Given(0.5),
    LINEAR_SVM: Given(0.3),
    RBF_SVM: Given(0.9),
    WIDE_RBF_SVM: Given(0.3),
}
BRITTLE = pytest.mark.parametrize(
    ("claim", "kind"), [(fig6.cnn_is_brittle, CNN), (fig6.linear_svm_is_brittle, LINEAR_SVM)]
)
# What fails a claim by itself where it is decided.
FEW = pytest.mark.parametrize("few", [{"unbroken": 2}, {"trainings": 1}, {"wrong": 100}])


def classifiers(changed, task=DIGITS):
    """Two tasks' classifiers as the paper has them, but for what changed of kinds on the second."""
    usual = Case("mnist-2-7", SYMMETRIC), USUAL
    kinds = {kind: replace(given, **changed.get(kind, {})) for kind, given in USUAL.items()}
    return findings(dict([usual, (Case(task, SYMMETRIC), kinds)]))


def test_it_wants_the_kinds_that_its_claims_are_about():
    assert fig6.EXHIBIT.wants(ONE_TASK).attacks == {Case(DIGITS, SYMMETRIC): tuple(USUAL)}


@pytest.mark.parametrize("task", [DIGITS, FACES])
def test_all_five_claims_hold_of_classifiers_as_the_paper_has_them(task):
    claims = fig6.claims(classifiers({}, task))
    assert [claim.verdict for claim in claims] == [YES] * 5
    assert len({claim.name for claim in claims}) == 5


@BRITTLE
@pytest.mark.parametrize(("size", "verdict"), [(0.79, YES), (0.8, OPEN), (0.81, NO)])
def test_a_brittle_kind_stays_below_the_optimum(claim, kind, size, verdict):
    judged = claim(classifiers({kind: {"size": size}}))
    assert judged.verdict == verdict
    labels = [number.label for number in judged.numbers]
    assert labels[-2:] == [f"{DIGITS}, {kind}, accuracy", f"{DIGITS}, L2 / optimum's"]


@BRITTLE
@pytest.mark.parametrize("task", [DIGITS, FACES])
@pytest.mark.parametrize(("accuracy", "verdict"), [(0.981, YES), (0.98, OPEN), (0.979, NO)])
def test_a_brittle_kind_has_learned_its_task(claim, kind, task, accuracy, verdict):
    assert claim(classifiers({kind: {"accuracy": accuracy}}, task)).verdict == verdict


@BRITTLE
@FEW
def test_a_brittle_kinds_size_takes_success_and_several_trainings(claim, kind, few):
    assert claim(classifiers({kind: {"size": 0.9, **few}})).verdict == OPEN


@pytest.mark.parametrize(("size", "verdict"), [(0.79, NO), (0.8, OPEN), (0.81, YES), (1.3, YES)])
def test_the_rbf_svm_recovers_the_optimum(size, verdict):
    assert fig6.rbf_svm_recovers(classifiers({RBF_SVM: {"size": size}})).verdict == verdict


@pytest.mark.parametrize(
    ("task", "accuracy", "verdict"),
    [
        (DIGITS, 0.981, YES),
        (DIGITS, 0.98, OPEN),
        (DIGITS, 0.979, NO),
        (FACES, 0.861, YES),
        (FACES, 0.86, OPEN),
        (FACES, 0.859, NO),
    ],
)
def test_an_rbf_svm_may_be_less_accurate_on_faces_than_on_digits(task, accuracy, verdict):
    found = classifiers({RBF_SVM: {"accuracy": accuracy}}, task)
    assert fig6.rbf_svm_recovers(found).verdict == verdict


@FEW
def test_a_robust_kinds_size_takes_success_and_several_trainings(few):
    assert fig6.rbf_svm_recovers(classifiers({RBF_SVM: {"size": 0.5, **few}})).verdict == OPEN


@pytest.mark.parametrize(
    ("claim", "kind"),
    [
        (fig6.cnn_is_brittle, CNN),
        (fig6.linear_svm_is_brittle, LINEAR_SVM),
        (fig6.rbf_svm_recovers, RBF_SVM),
    ],
)
def test_the_accuracy_of_one_training_says_nothing_of_others(claim, kind):
    found = classifiers({kind: {"accuracy": 0.5, "trainings": 1}})
    assert claim(found).verdict == OPEN


# The interval is the binomial one of 100 points.
@pytest.mark.parametrize(("turned", "verdict"), [(0, YES), (10, OPEN), (20, NO)])
def test_changes_mean_little_where_the_optimum_still_decides_rightly(turned, verdict):
    claim = fig6.cnn_changes_are_meaningless(classifiers({CNN: {"turned": turned}}))
    assert claim.verdict == verdict
    assert claim.numbers[-1].estimate.value == pytest.approx(1 - turned / 100)
    assert "certified radius" in claim.remarks[0]


@FEW
def test_what_changes_mean_takes_success_and_several_trainings(few):
    found = classifiers({CNN: {"turned": 50, **few}})
    assert fig6.cnn_changes_are_meaningless(found).verdict == OPEN


def test_changes_of_points_that_were_decided_wrongly_anyway_do_not_count():
    found = classifiers({CNN: {"turned": 20, "wrong": 20}})
    assert fig6.cnn_changes_are_meaningless(found).verdict == YES


@pytest.mark.parametrize(
    ("size", "verdict"),
    [(0.79, NO), (0.8, OPEN), (0.81, YES), (1.24, YES), (1.25, OPEN), (1.26, NO)],
)
def test_a_wide_rbf_svm_needs_about_what_a_linear_one_does(size, verdict):
    found = classifiers({WIDE_RBF_SVM: {"size": size}, LINEAR_SVM: {"size": 1.0}})
    claim = fig6.wide_rbf_is_linear(found)
    assert claim.verdict == verdict
    assert claim.numbers[-1].label == f"{DIGITS}, gamma 0.001, C 500"


@FEW
@pytest.mark.parametrize("kind", [WIDE_RBF_SVM, LINEAR_SVM])
def test_a_comparison_takes_success_and_several_trainings_of_both(few, kind):
    changed = {WIDE_RBF_SVM: {"size": 0.9}, LINEAR_SVM: {"size": 0.3}}
    changed[kind] |= few
    assert fig6.wide_rbf_is_linear(classifiers(changed)).verdict == OPEN
