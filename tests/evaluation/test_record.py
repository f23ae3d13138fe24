"""What an evaluation holds: numbers of the task's priors, curves, explanations, files."""

import hashlib
import json
import re
import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm as gaussian

import bayesgap
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.contents import metadata_of, tensors_of
from bayesgap.evaluation.doubts import DoubtWarning
from bayesgap.evaluation.evaluate import evaluate
from bayesgap.evaluation.loading import load_evaluation
from bayesgap.evaluation.record import Evaluation
from bayesgap.files import save_tensors
from bayesgap.tasks.digest import task_digest
from linf import LINF
from strategies import without_shape_checks
from toys import Function, Returns, normal, present, spherical_task

MEANS = torch.tensor([[0.0, 0.0], [1.5, 1.5]], dtype=torch.float64)


def quietly(*args, **settings) -> Evaluation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DoubtWarning)
        return evaluate(*args, **settings)


def report(**settings) -> Evaluation:
    known = spherical_task(MEANS, 0.04)
    return quietly(known.bayes_classifier(), known, **{"per_class": 20, **settings})


@cache
def plain() -> Evaluation:
    return report()


def test_accuracies_are_those_of_the_priors():
    """Two unit Gaussians with priors 0.95 and 0.05: the optimum is right on 96.2 %, not 68 %."""
    priors = [0.95, 0.05]
    known = spherical_task(MEANS, 1.0, priors=priors)
    found = quietly(known.bayes_classifier(), known, attacks="ld-grad", per_class=2_000)
    distance = float(MEANS[1].norm())
    threshold = distance / 2 + np.log(priors[0] / priors[1]) / distance
    by_class = gaussian.cdf(threshold), gaussian.sf(threshold - distance)
    exact = priors[0] * by_class[0] + priors[1] * by_class[1]
    assert exact == pytest.approx(0.9618, abs=1e-4)
    assert present(found.best.clean_accuracy) == pytest.approx(exact, abs=0.005)
    for summary, share in zip(found.by_class.values(), by_class, strict=True):
        assert summary.clean_accuracy == pytest.approx(share, abs=0.03)
    # Mean sizes weigh as accuracies do: per class, then by prior and by how many count.
    counts = [
        prior * present(s.clean_accuracy)
        for prior, s in zip(priors, found.by_class.values(), strict=True)
    ]
    means = [present(summary.mean).value for summary in found.by_class.values()]
    assert present(found.best.mean).value == pytest.approx(np.average(means, weights=counts))


def test_robust_accuracy_counts_what_is_right_and_farther():
    found = report()
    sizes, correct = found.nearest.sizes, found.nearest.before == found.y
    for radius in (0.0, 0.5, 1.0, 5.0):
        share = (correct & (sizes > radius)).double().mean().item()
        value, low, high = present(found.robust_accuracy(radius))
        assert value == pytest.approx(share)
        assert low <= value <= high
    assert found.robust_accuracy(0.0).value == found.best.clean_accuracy


def test_within_an_infinite_radius_stands_what_withstood_every_attack():
    found = report(attacks=Returns(lambda x: torch.where(x[:, :, :, :1] > 0.8, x, 10 - x)))
    withstood = (found.nearest.before == found.y) & ~found.nearest.sizes.isfinite()
    share = withstood.double().mean().item()
    assert 0 < share < present(found.best.clean_accuracy)
    assert found.robust_accuracy(torch.inf).value == share == found.best.robust_accuracy
    assert found.certified_accuracy(torch.inf).value == 0
    assert found.accuracy == found.robust_accuracy(0.0)


@pytest.mark.parametrize("radius", [-1e-9, -1, float("nan"), -torch.inf, "1", None, [1.0], 1j])
def test_a_radius_that_is_none_is_refused(radius):
    found = report(per_class=3)
    for ask in (found.robust_accuracy, found.certified_accuracy, lambda r: found.curve([0.0, r])):
        with without_shape_checks(), pytest.raises(BayesgapError) as refusal:
            ask(radius)
        said = f"A radius is a number of pixel units, 0 or more; got {radius!r}."
        assert str(refusal.value) == said


def test_radii_may_come_out_of_an_array():
    found = report(per_class=3)
    plain = found.curve([0.0, 1.0])
    with without_shape_checks():
        radii: Any
        for radii in (np.array([0, 1]), torch.tensor([0.0, 1.0]), (0, np.float32(1))):
            assert found.curve(radii) == plain
        one: Any = np.int64(1)
        assert found.explain(one).index == 1


def test_the_curve_falls_and_that_of_an_optimum_meets_its_certificates():
    found = report()
    curve = found.curve()
    mine = [present(each).value for each in curve.accuracy]
    optimum = [present(each).value for each in present(curve.certified)]
    assert mine == sorted(mine, reverse=True)
    assert curve.radii[0] == 0 < curve.radii[-1]
    # The optimum's attacks end next to its certified distances.
    np.testing.assert_allclose(mine[:-1], optimum[:-1], atol=0.05)
    assert found.curve([1.0]).accuracy == [found.robust_accuracy(1.0)]


def test_ratio_and_gap_say_the_same():
    known = spherical_task(MEANS, 0.04)
    found = quietly(known.bayes_classifier(), known, per_class=20)
    assert found.ratio == pytest.approx(1 - present(found.gap))
    value, low, high = present(found.to_optimum.ratio)
    assert low <= value <= high
    assert report(norm=LINF).ratio is None


@pytest.mark.parametrize("settings", [{}, {"certificates": False}, {"norm": LINF}])
def test_what_was_saved_is_read_again(tmp_path, settings):
    found = report(**settings)
    path = tmp_path / "report.safetensors"
    found.save(path)
    again = load_evaluation(path)
    assert again == found
    assert again.to_dict() == found.to_dict()
    assert again.explain(0).label == found.explain(0).label
    assert str(again.explain(1)) == str(found.explain(1))
    json.dumps(found.to_dict(), allow_nan=False)


def test_equal_is_what_has_equal_content():
    one, again, other = report(), report(), report(seed=1)
    assert one == again
    assert one != other
    assert one != "report"


CLOSED = "closest"


def edited(name, change):
    return lambda tensors, metadata: tensors.update({name: change(tensors[name])})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, metadata: metadata.pop("doubts"), "lacks 'doubts'"),
        (lambda tensors, metadata: tensors.pop("y"), "lacks 'y'"),
        (lambda tensors, metadata: metadata.update(attacks="ddn"), "instead of a list"),
        (lambda tensors, metadata: metadata.update(facts={}), "damaged"),
        (lambda tensors, metadata: metadata.update(passes=[1]), "damaged"),
        (lambda tensors, metadata: tensors.update(y=torch.zeros(3)), "damaged"),
        (lambda tensors, metadata: metadata.update(passes={}), "its passes are of"),
        (lambda tensors, metadata: metadata.update(passes={CLOSED: [1.0, -1.0, 1.0]}), "passes of"),
        (lambda tensors, metadata: metadata.update(doubts=[{"name": 1}]), "holds 1 instead"),
        (lambda tensors, metadata: metadata.update(no_gap=3), "holds 3 instead of a str"),
        (lambda tensors, metadata: metadata["facts"].update(classifier=3), "holds 3 instead"),
        (lambda tensors, metadata: metadata["facts"].update(class_names=["a"]), "one of 1 classes"),
        (lambda tensors, metadata: metadata["facts"].update(settings=None), "holds None instead"),
        (
            lambda tensors, metadata: tensors.update(
                {name: tensor[:0] for name, tensor in tensors.items()}
            ),
            "its x are no images",
        ),
        (edited("x", lambda x: x * torch.nan), "its x are no images"),
        (edited("y", lambda y: y + 1), "its y are not one of 2 classes"),
        (edited("y", lambda y: y.double()), "its y are not one of 2 classes"),
        (edited("weights", lambda weights: 0 * weights), "its weights are not positive"),
        (edited("weights", lambda weights: torch.nan * weights), "its weights are not positive"),
        (edited("attack.0.after", lambda after: after - 1), "decisions after closest"),
        (edited("attack.0.sizes", lambda sizes: 3 * sizes), "sizes .* are not the distances"),
        (edited("attack.0.sizes", lambda sizes: 1.001 * sizes), "are not the distances"),
        (edited("attack.0.sizes", lambda sizes: -sizes), "are not 0 or more"),
        (edited("attack.0.sizes", lambda sizes: sizes[:3]), "are not 0 or more, one a point"),
        (edited("attack.0.images", lambda images: images[:, :, :, :1]), "images beside sizes"),
        (edited("optimum.lower", lambda lower: 2 * lower), "lower bounds do not lie between"),
        (edited("optimum.lower", lambda lower: lower * torch.nan), "lower bounds do not lie"),
        (edited("optimum.upper", lambda upper: 2 * upper), "upper bounds are not the distances"),
        (edited("optimum.correct", lambda correct: correct.long()), "whether the optimum decides"),
        (edited("optimum.target_class", lambda target: target + 2), "its target classes"),
        (edited("optimum.source", lambda source: source - 5), "no numbers of components"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, said):
    found = plain()
    tensors, metadata = tensors_of(found), metadata_of(found)
    change(tensors, metadata)
    path = tmp_path / "report.safetensors"
    save_tensors(path, tensors, kind="evaluation", metadata=metadata)
    with without_shape_checks(), pytest.raises(BayesgapError, match=said):
        load_evaluation(path)


def test_a_point_is_explained():
    found = report()
    explained = found.explain(1)
    assert (explained.index, explained.label, explained.decision) == (1, "class 1", "class 1")
    mine, optimum = present(explained.classifier), present(explained.optimum)
    assert mine.decision == optimum.decision == "class 0"
    assert mine.size == pytest.approx(optimum.size, rel=1e-6)
    assert mine.change.norm().item() == pytest.approx(mine.size, rel=1e-6)
    assert present(explained.certified) <= optimum.size
    assert explained.moved == "from component 0 of class 1 to component 0 of class 0"
    assert "proven not to be nearer" in str(explained)
    assert found.explain(-1).index == len(found.y) - 1
    with pytest.raises(BayesgapError, match="points 0 to 39; got 40"):
        found.explain(40)


@pytest.mark.parametrize("index", ["0", None, 1.0, [0]])
def test_a_point_is_named_by_an_integer_of_any_kind(index):
    found = plain()
    with without_shape_checks():
        assert str(found.explain(np.int64(1))) == str(found.explain(1))  # type: ignore[arg-type]
        with pytest.raises(BayesgapError, match=f"points 0 to 39; got {re.escape(repr(index))}"):
            found.explain(index)


def test_adversarial_images_stay_in_a_box():
    """A plane whose normal has one long axis: within the box another way must be gone."""
    known = spherical_task(0.5 + 0.3 * normal(0, 2, 8).sign(), 1e-4)
    free = quietly(known.bayes_classifier(), known, per_class=20)
    held = quietly(known.bayes_classifier(), known, per_class=20, box=(0.15, 0.85))
    images = held.nearest.images[held.nearest.sizes.isfinite()]
    assert 0.15 <= images.min() <= images.max() <= 0.85
    assert held.best.success_rate == 1
    assert present(held.best.mean).value > present(free.best.mean).value * (1 - 1e-9)
    sizes = (held.nearest.images - held.x).flatten(1).norm(dim=1)
    np.testing.assert_allclose(held.nearest.sizes, sizes)


def test_points_of_ones_own_are_attacked_without_certificates_unless_asked():
    known = spherical_task(MEANS, 0.04)
    points = known.sample(40, seed=9)
    found = quietly(known.bayes_classifier(), known, points=points)
    assert torch.equal(found.x, points[0])
    assert found.bracket is None
    assert present(found.no_gap).startswith("the optimum was not certified")
    asked = quietly(known.bayes_classifier(), known, points=points, certificates=True)
    assert abs(present(asked.gap)) < 1e-6
    with pytest.raises(BayesgapError, match="There are no certificates"):
        found.certified_accuracy(1.0)


def test_facts_tell_what_was_evaluated():
    known = spherical_task(MEANS, 0.04)
    facts = report().facts
    assert facts.task_sha256 == task_digest(known)
    assert facts.classifier == "BayesClassifier"
    assert facts.components == [1, 1]
    assert facts.versions["bayesgap"] == bayesgap.__version__
    assert facts.points_sha256 == report(attacks="ddn").facts.points_sha256
    assert facts.points_sha256 != report(seed=1).facts.points_sha256


def test_settings_have_a_hash_that_follows_from_them():
    found = report()
    written = json.dumps(found.facts.settings, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(written.encode()).hexdigest()
    assert found.facts.settings_sha256 == digest == found.to_dict()["settings_sha256"]
    backwards = dict(reversed(found.facts.settings.items()))
    assert replace(found.facts, settings=backwards).settings_sha256 == digest
    for other in ({"seed": 1}, {"attacks": "ddn"}, {"norm": LINF}, {"box": (-9.0, 9.0)}):
        assert report(**other).facts.settings_sha256 != digest


def test_passes_are_counted():
    known = spherical_task(MEANS, 0.04)
    net = Function(lambda x: torch.stack([x[:, 0, 0, 0], 1.5 - x[:, 0, 0, 1]], dim=1))
    found = quietly(net, known, attacks="ddn", per_class=20)
    # foolbox's DDN with 100 steps: a gradient a step; checks of success come on top.
    assert found.passes["ddn"].backwards == pytest.approx(100, abs=2)
    assert 100 <= found.passes["ddn"].forwards < 110


def test_the_text_has_a_line_for_each_of_several_attacks():
    fails = Returns(lambda x: x)
    found = report(attacks=["ld-grad", "ddn", fails], per_class=30)
    _, *lines = repr(found).splitlines()
    for name, line in zip(found.attacks, lines, strict=False):
        summary = found.attacks[name]
        assert line == f"  {name}: broke {summary.success_rate:.1%}, mean L2 {summary.mean}"
    assert lines[2] == "  returns: broke 0.0%, mean L2 unknown"
    assert all(line.startswith("  doubt: ") for line in lines[3:])
    assert "ld-grad" not in repr(report(attacks="ld-grad", per_class=30))


def test_the_text_is_short_and_says_what_is_doubted():
    found = report(per_class=5)
    assert "tensor" not in repr(found)
    assert "doubt: too few points" in repr(found)


RADII = [0.5, 1.0]


@pytest.mark.parametrize("radii", [iter(RADII), np.array(RADII), torch.tensor(RADII), (0.5, 1.0)])
def test_radii_may_come_one_by_one(radii):
    found = plain()
    with without_shape_checks():
        assert found.curve(radii) == found.curve(RADII)


@pytest.mark.parametrize("radii", ["12", 5, ["0.5"], [None], [[1.0, 2.0]]])
def test_radii_that_are_no_numbers_are_refused(radii):
    with without_shape_checks(), pytest.raises(BayesgapError, match=r"^(Radii are|A radius is) "):
        plain().curve(radii)
