"""The claims of figure 12: numbers on either side of their rules, and on them."""

from dataclasses import replace

import pytest

from bayesgap.experiment.kinds import CNN, LEARNED, LINEAR_SVM, RBF_SVM
from bayesgap.experiment.setting import REAL, SYMMETRIC, Case
from bayesgap.paper import fig12
from fabricated import NO, ONE_TASK, OPEN, YES, Given, findings

FACES, DIGITS = "celeba-male", "mnist-0-6"
USUAL = {
    CNN: Given(0.6, accuracy=0.96),
    LINEAR_SVM: Given(0.2, accuracy=0.9),
    RBF_SVM: Given(2.9, accuracy=0.9),
}
OF_FACES, OF_DIGITS = (fig12.trend_on_faces, FACES), (fig12.trend_on_digits, DIGITS)
TRENDS = pytest.mark.parametrize(("claim", "task"), [OF_FACES, OF_DIGITS], ids=[FACES, DIGITS])
each_brittle_kind = pytest.mark.parametrize("kind", [CNN, LINEAR_SVM], ids=str)
each_kind = pytest.mark.parametrize("kind", LEARNED, ids=str)
FEW = pytest.mark.parametrize("few", [{"unbroken": 2}, {"trainings": 1}, {"wrong": 100}])


def real(task, changed):
    """Classifiers of real images as the paper has them, but for what changed of kinds."""
    kinds = {kind: replace(given, **changed.get(kind, {})) for kind, given in USUAL.items()}
    return findings({Case(task, REAL): kinds})


def test_it_wants_the_kinds_that_its_claims_are_about():
    assert fig12.EXHIBIT.wants(ONE_TASK).attacks == {Case(DIGITS, REAL): tuple(USUAL)}


@TRENDS
def test_the_trend_holds_of_classifiers_as_the_paper_has_them(claim, task):
    judged = claim(real(task, {}))
    assert judged.verdict == YES
    assert [number.label for number in judged.numbers[:5]] == [
        *(f"{task}, {kind}, accuracy" for kind in LEARNED),
        f"{task}, cnn's L2 / RBF SVM's",
        f"{task}, linear-svm's L2 / RBF SVM's",
    ]
    assert [claim.name for claim in fig12.claims(real(task, {}))] == [
        "the same trend on real faces",
        "the same trend on real digits",
    ]


@TRENDS
@each_kind
@pytest.mark.parametrize(("accuracy", "verdict"), [(0.861, YES), (0.86, OPEN), (0.859, NO)])
def test_each_kind_has_learned_real_images(claim, task, kind, accuracy, verdict):
    assert claim(real(task, {kind: {"accuracy": accuracy}})).verdict == verdict
    alone = {kind: {"accuracy": accuracy, "trainings": 1}}
    assert claim(real(task, alone)).verdict == OPEN


@TRENDS
@each_brittle_kind
@pytest.mark.parametrize(("share", "verdict"), [(0.79, YES), (0.8, OPEN), (0.81, NO)])
def test_brittle_kinds_stay_below_rbf_svms(claim, task, kind, share, verdict):
    changed = {kind: {"size": 1.6 * share}, RBF_SVM: {"size": 1.6}}
    assert claim(real(task, changed)).verdict == verdict


@TRENDS
@each_brittle_kind
@FEW
def test_a_comparison_takes_success_and_several_trainings_of_both(claim, task, kind, few):
    changed = {kind: {"size": 1.4}, RBF_SVM: {"size": 1.6}}
    assert claim(real(task, changed)).verdict == NO
    for lacking in (kind, RBF_SVM):
        assert claim(real(task, {**changed, lacking: changed[lacking] | few})).verdict == OPEN


@each_brittle_kind
@pytest.mark.parametrize(("size", "faces"), [(1.49, YES), (1.5, OPEN), (1.51, NO)])
def test_on_faces_changes_of_brittle_kinds_are_imperceptible(kind, size, faces):
    changed = {kind: {"size": size}}
    assert fig12.trend_on_faces(real(FACES, changed)).verdict == faces
    assert fig12.trend_on_digits(real(DIGITS, changed)).verdict == YES


@pytest.mark.parametrize(("size", "faces"), [(1.49, NO), (1.5, OPEN), (1.51, YES)])
def test_on_faces_changes_of_rbf_svms_are_perceptible(size, faces):
    changed = {RBF_SVM: {"size": size}}
    assert fig12.trend_on_faces(real(FACES, changed)).verdict == faces
    assert fig12.trend_on_digits(real(DIGITS, changed)).verdict == YES


@FEW
@pytest.mark.parametrize(("kind", "size"), [(CNN, 1.6), (LINEAR_SVM, 1.6), (RBF_SVM, 1.4)])
def test_sizes_on_faces_take_success_and_several_trainings(kind, size, few):
    assert fig12.trend_on_faces(real(FACES, {kind: {"size": size}})).verdict == NO
    assert fig12.trend_on_faces(real(FACES, {kind: {"size": size, **few}})).verdict == OPEN


@pytest.mark.parametrize(
    ("cnn", "linear", "rbf", "verdict"),
    [
        ((0.6, 0.96), (0.2, 0.9), (2.9, 0.9), YES),
        ((0.6, 0.96), (0.2, 0.9), (1.5, 0.9), OPEN),  # neither robust nor brittle
        ((0.6, 0.96), (0.2, 0.9), (1.2, 0.9), NO),  # clearly larger, and brittle too
        ((2.0, 0.96), (0.2, 0.9), (2.9, 0.9), NO),
        ((0.6, 0.96), (0.2, 0.9), (2.9, 0.55), NO),  # has not learned
        ((0.6, 0.55), (0.2, 0.9), (2.9, 0.9), NO),
    ],
)
def test_real_faces_are_judged_by_size_and_accuracy(cnn, linear, rbf, verdict):
    given = zip(LEARNED, (cnn, linear, rbf), strict=True)
    kinds = {kind: Given(size, accuracy=accuracy) for kind, (size, accuracy) in given}
    assert fig12.trend_on_faces(findings({Case(FACES, REAL): kinds})).verdict == verdict


@pytest.mark.parametrize(
    ("judge", "task", "remark"),
    [
        (fig12.trend_on_faces, DIGITS, "Real faces of CelebA Male are not at hand."),
        (fig12.trend_on_faces, "celeba-bangs", "Real faces of CelebA Male are not at hand."),
        (fig12.trend_on_digits, FACES, fig12.NOT_THE_PAPERS),
    ],
)
def test_what_is_not_at_hand_is_not_decided_by_other_images(judge, task, remark):
    claim = judge(real(task, {}))
    assert (claim.verdict, claim.numbers, claim.remarks) == (OPEN, [], [remark])


def test_samples_say_nothing_of_real_images():
    found = findings({Case(DIGITS, SYMMETRIC): USUAL})
    assert [claim.numbers for claim in fig12.claims(found)] == [[], []]


def test_the_papers_percents_come_from_its_number_of_points():
    for clean, adversarial, _ in fig12.PAPER["celeba-male"].values():
        for printed in (clean, adversarial):
            count = round(printed / 100 * fig12.PAPER_POINTS)
            assert round(100 * count / fig12.PAPER_POINTS, 1) == printed
