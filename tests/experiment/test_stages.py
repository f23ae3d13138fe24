"""The stages of the experiment, on tasks and images so small that each takes a moment."""

import inspect
import json
import math
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from bayesgap.attacks.named import named_attack
from bayesgap.classifiers import svm
from bayesgap.classifiers.allconv import Training, train_allconv
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.trades import Ball
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.measure import attack_decisions
from bayesgap.experiment.scales import Draws
from bayesgap.experiment.stages import cnn
from bayesgap.experiment.stages import gamma as gammas
from bayesgap.experiment.stages.attack import attack_classifier
from bayesgap.experiment.stages.certificate import certify_optimum
from bayesgap.experiment.stages.cnn import find_width, train_cnn
from bayesgap.experiment.stages.data import (
    as_data,
    as_task,
    draw,
    draw_points,
    make_task,
    read_real,
)
from bayesgap.experiment.stages.gamma import study_gamma
from bayesgap.experiment.stages.optimum import as_optimum, study_optimum
from bayesgap.experiment.stages.svm import train_linear, train_rbf, train_rbf_at
from bayesgap.experiment.stages.trades import train_robust
from bayesgap.experiment.stages.trained import accuracy, as_stored
from bayesgap.images.source import PARTS, RealImages
from bayesgap.norms import L2
from bayesgap.runs.stage import seed_of
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import CATALOGUE, known_tasks, load_task
from bayesgap.tasks.fit import fit_task
from bayesgap.tasks.symmetry import NOISE_STD, asymmetric, principal_spread
from bayesgap.tasks.task import Task
from blobs import Blobs, PrivateBlobs
from linf import LINF
from strategies import random_task
from toys import Function, from_gap, mixture_task, normal, spherical_radius, spherical_task

NAME = "blobs-2"
IMAGES = Blobs(count=60)
TRAINING = asdict(Training(epochs=2, batch=10))


def stored(task):
    return Result(*task.to_tensors())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def fitted(folder):
    return fit_task(IMAGES, NAME, folder)


@pytest.fixture(scope="module")
def made(fitted, folder):
    """The stored variants of a task of one's own, by their names."""

    def make(variant, **settings):
        return make_task(
            name=f"{NAME}/{variant}",
            version=fitted.version,
            sha256=fitted.sha256,
            folder=str(folder),
            seed=0,
            **settings,
        )

    return {
        "symmetric": make("symmetric"),
        "asymmetric": make("asymmetric"),
        "fitted": make("fitted"),
        "noisy": make("symmetric", noise_multiple=50),
    }


@pytest.fixture(scope="module")
def real():
    return read_real(name=NAME, limit=50, checksum=IMAGES.checksum, source=IMAGES, seed=0)


# Tasks.


def test_a_task_is_made_in_the_variant_that_its_name_says(made, fitted):
    tasks = {variant: as_task(result) for variant, result in made.items()}
    noise = {
        variant: {round(n, 12) for d in task.mixtures for n in d.noise.unique().tolist()}
        for variant, task in tasks.items()
    }
    assert noise["symmetric"] == {round(NOISE_STD**2, 12)}
    assert noise["noisy"] == {round((50 * NOISE_STD) ** 2, 12)}
    assert noise["asymmetric"] == {round(NOISE_STD**2, 12), 0.5}
    assert tasks["symmetric"].outliers is tasks["noisy"].outliers is None
    assert tasks["asymmetric"].outliers is not None
    for own, other in zip(tasks["fitted"].mixtures, fitted.load().mixtures, strict=True):
        assert torch.equal(own.means, other.means)


def test_a_released_task_needs_no_folder():
    known = known_tasks()["mnist-0-6"][-1]
    name = "mnist-0-6/symmetric"
    made = as_task(make_task(name=name, version=known.version, sha256=known.sha256, seed=0))
    expected = load_task("mnist-0-6/symmetric")
    assert made.name == expected.name
    x, _ = expected.sample(3, seed=0)
    assert torch.equal(made.sample(3, seed=0)[0], x)


@pytest.mark.parametrize("changed", [{"sha256": "0" * 64}, {"version": 2}])
def test_a_task_that_is_no_longer_the_one_that_was_planned_is_refused(fitted, folder, changed):
    planned: dict[str, Any] = {"version": fitted.version, "sha256": fitted.sha256} | changed
    with pytest.raises(BayesgapError, match=r"blobs-2 version \d changed during the run"):
        make_task(name=f"{NAME}/symmetric", folder=str(folder), seed=0, **planned)


def test_a_catalogue_that_changed_during_the_run_is_refused(tmp_path):
    known = fit_task(PrivateBlobs(), NAME, tmp_path)
    planned: dict[str, Any] = {"version": known.version, "sha256": known.sha256}
    make = partial(make_task, name=f"{NAME}/symmetric", folder=str(tmp_path), seed=0, **planned)
    assert as_task(make()).name.startswith(NAME)
    catalogue = json.loads((tmp_path / CATALOGUE).read_text())
    catalogue[NAME][0]["sha256"] = "1" * 64
    for text in (json.dumps(catalogue), "{}"):
        (tmp_path / CATALOGUE).write_text(text)
        with pytest.raises(BayesgapError, match="changed during the run"):
            make()


def test_a_file_that_is_not_the_catalogues_is_refused(tmp_path):
    known = fit_task(PrivateBlobs(), NAME, tmp_path)
    known.path.write_bytes(known.path.read_bytes() + b"!")
    with pytest.raises(BayesgapError, match="not the file that was released"):
        make_task(
            name=f"{NAME}/symmetric",
            version=known.version,
            sha256=known.sha256,
            folder=str(tmp_path),
            seed=0,
        )


def test_a_stored_task_is_the_task():
    task = random_task(0)
    found = as_data(stored(task))
    assert isinstance(found, Task)
    assert found.name == task.name
    x, y = found.sample(5, seed=3)
    expected = task.sample(5, seed=3)
    assert torch.equal(x, expected[0])
    assert torch.equal(y, expected[1])


# Real images.


def real_images(result):
    data = as_data(result)
    assert isinstance(data, RealImages)
    return data


def test_real_images_are_those_of_the_source(real):
    data = real_images(real)
    assert (data.classes, data.image_shape) == (2, (1, 8, 8))
    for part, expected in IMAGES.parts(NAME, 50).items():
        assert all(map(torch.equal, data.parts[part], expected))
    assert real.values == {"kind": "real", "name": NAME}


@pytest.mark.parametrize("other", [Blobs(seed=1, count=60), Blobs(count=59)])
def test_real_images_that_changed_during_the_run_are_refused(other):
    with pytest.raises(BayesgapError, match=r"The blobs at hand changed during the run: start it"):
        read_real(name=NAME, limit=50, checksum=IMAGES.checksum, source=other, seed=0)


def test_a_task_is_drawn_from_as_it_is_sampled():
    task = random_task(0)
    for part in PARTS:
        x, y = draw(task, part, 5, seed=7, fold=(1, 3))
        expected = task.sample(5, seed=7)
        assert torch.equal(x, expected[0])
        assert torch.equal(y, expected[1])


def test_real_images_are_drawn_by_part_and_fold(real):
    data = real_images(real)
    for part in PARTS:
        x, y = draw(data, part, 20, seed=7, fold=(1, 3))
        expected = data.sample(20, seed=7, part=part, fold=(1, 3))
        assert torch.equal(x, expected[0])
        assert torch.equal(y, expected[1])


# The points that are attacked.


def points_of(task, per_class=30, **settings):
    return draw_points(task, **{"per_class": per_class, "sample_seed": 4, "seed": 8, **settings})


@pytest.mark.parametrize("classes", [2, 3])
def test_points_are_as_many_of_each_class_in_turn(classes):
    found = points_of(stored(mixture_task(0, 4, classes=classes)), per_class=7).tensors
    assert found["y"].tolist() == [*range(classes)] * 7
    assert found["x"].shape == (7 * classes, 1, 1, 4)
    assert found["outlier"].dtype == found["own_side"].dtype == torch.bool


def test_points_follow_the_runs_seed_and_the_stages(made):
    first, again = (points_of(made["symmetric"]).tensors["x"] for _ in range(2))
    assert torch.equal(first, again)
    for other in ({"sample_seed": 5}, {"seed": 9}):
        assert not torch.equal(points_of(made["symmetric"], **other).tensors["x"], first)
    known = as_task(made["symmetric"])
    y = torch.arange(2).repeat(30)
    assert torch.equal(first, known.sample_given(y, seed=seed_of(4, 8))[0])


def test_without_outliers_every_point_lies_on_its_own_side(made, real):
    for data in (made["symmetric"], made["noisy"], real):
        found = points_of(data).tensors
        assert not found["outlier"].any()
        assert found["own_side"].all()


def few_outliers(classes):
    """A task whose outliers, a third of each class, are seen at once."""
    task = mixture_task(1, 6, classes=classes)
    spread = principal_spread(normal(0, 200, 6), rank=2)
    known = Task(task.densities, image_shape=task.image_shape, spread=spread)
    return asymmetric(known, weight=1 / 3, move=2.0)


@pytest.mark.parametrize("classes", [2, 3])
def test_points_of_outliers_are_marked(classes):
    task = few_outliers(classes)
    found = points_of(stored(task), per_class=100).tensors
    share = found["outlier"].double().mean().item()
    assert share == pytest.approx(1 / 3, abs=3 * (2 / 9 / (100 * classes)) ** 0.5)
    # The narrow components' noise is 500 times smaller than the outliers': none is mistaken.
    for label, density in enumerate(task.mixtures):
        of_class = found["y"] == label
        scores = density.component_log_prob(found["x"][of_class].flatten(1))
        likeliest = scores.argmax(dim=1) == task.outliers[label]
        assert torch.equal(likeliest, found["outlier"][of_class])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_points_own_side_is_where_its_outliers_mean_is_nearest(classes):
    task = few_outliers(classes)
    found = points_of(stored(task), per_class=100).tensors
    means = torch.stack(
        [d.means[o] for d, o in zip(task.mixtures, task.outliers, strict=True)]
    )  # of spheres of one size
    away = torch.cdist(found["x"].flatten(1), means)
    assert torch.equal(found["own_side"], away.argmin(dim=1) == found["y"])
    assert 0 < found["own_side"].double().mean() < 1


def test_points_can_follow_those_of_another_stage(made):
    plain = points_of(made["symmetric"], seed=9)
    followed = points_of(made["symmetric"], drawn_as=9)
    assert all(torch.equal(plain.tensors[name], followed.tensors[name]) for name in plain.tensors)
    noisy = points_of(made["noisy"], drawn_as=9).tensors["x"]
    spread = (noisy - plain.tensors["x"]).std().item()
    assert spread == pytest.approx(49 * NOISE_STD, rel=0.05)


def test_points_of_real_images_are_test_images_that_come_once(real):
    found = points_of(real, per_class=20).tensors
    assert found["y"].tolist() == [0, 1] * 20
    levels = (found["x"] * 255).round().to(torch.uint8)
    x, y = real_images(real).parts["test"]
    rows = {image.numpy().tobytes(): label for image, label in zip(x, y.tolist(), strict=True)}
    drawn = [image.numpy().tobytes() for image in levels]
    assert len(set(drawn)) == 40
    assert [rows[image] for image in drawn] == found["y"].tolist()
    assert len(points_of(real, per_class=1_000).tensors["y"]) == 100  # all there are


# The optimum.


def parameters_of(mixture):
    return mixture.means, mixture.factors, mixture.noise


def test_the_study_of_an_optimum_counts_its_correct_decisions():
    task = spherical_task([[0.0, 0.0], [1.0, 0.0]], 0.25)
    found = study_optimum(stored(task), sample_seed=3, seed=5, images=400).values
    x, y = task.sample(400, seed=seed_of(3, 5))
    assert found["images"] == 400
    assert found["correct"] == int(((x[:, 0, 0, 0] > 0.5).long() == y).sum())
    assert found["rules_agree"] == 400  # of one component a class
    assert found["temperature"] == task.bayes_classifier().temperature


def test_the_two_rules_of_an_optimum_may_disagree():
    """Of two equal components each has half the density of both, which moves the boundary."""
    one, other = spherical_task([[0.0, 0.0], [1.0, 0.0]], 0.25).densities
    twice = MixtureOfFactorAnalyzers(
        torch.full((2,), 0.5), *(each.repeat_interleave(2, dim=0) for each in parameters_of(one))
    )
    task = Task([twice, other], image_shape=(1, 1, 2))
    found = study_optimum(stored(task), sample_seed=3, seed=5, images=2_000).values
    x, y = task.sample(2_000, seed=seed_of(3, 5))
    first = x[:, 0, 0, 0]
    decided, by_largest = ((first > 0.5 - shift).long() for shift in (0, 0.25 * math.log(2)))
    assert found["correct"] == int((decided == y).sum())
    assert found["rules_agree"] == int((decided == by_largest).sum()) < 2_000


def test_the_optimum_is_loaded_at_the_temperature_that_its_study_stored():
    task = mixture_task(0, 3)
    studied = study_optimum(stored(task), sample_seed=3, seed=5, images=20)
    x, _ = task.sample(20, seed=0)
    assert torch.equal(as_optimum(studied, task)(x), task.bayes_classifier()(x))


def test_every_decision_of_the_optimum_is_certified_correct_or_not():
    means, variance = [[0.0, 0.0], [1.0, 0.0]], 0.25
    task = stored(spherical_task(means, variance))
    points = points_of(task)
    found = certify_optimum(task, points, seed=0).tensors
    x, y = points.tensors["x"], points.tensors["y"]
    radius = np.abs(spherical_radius(x, y, means, variance, (0.5, 0.5)))
    assert torch.equal(found["before"], (x[:, 0, 0, 0] > 0.5).long())
    assert (found["before"] != y).any()
    assert torch.equal(found["after"], 1 - found["before"])
    np.testing.assert_allclose(found["lower"], radius, rtol=2e-8)
    np.testing.assert_allclose(found["sizes"], radius, rtol=1e-6)
    assert (found["sizes"] >= found["lower"]).all()
    moved = (found["images"] - x).flatten(1).norm(dim=1)
    torch.testing.assert_close(found["sizes"], moved)


# Classifiers.


@pytest.mark.parametrize(("limit", "converged"), [(1, False), (100_000, True)])
def test_a_linear_svm_that_did_not_converge_is_a_result(limit, converged, monkeypatch):
    monkeypatch.setattr(svm, "LinearSVC", partial(LinearSVC, max_iter=limit))
    task = stored(random_task(0))
    trained = train_linear(task, images=40, sample_seed=1, test_images=20, seed=2)
    assert trained.values["converged"] is converged
    assert trained.values["images"] == 20


TRAINERS = {
    "linear": partial(train_linear),
    "rbf": partial(train_rbf, gamma=Result(values={"gamma": 0.1}), cost=1.0),
    "rbf at": partial(train_rbf_at, gamma=0.1, cost=1.0),
    "cnn": partial(train_cnn, width=Result(values={"width": 2}), training=TRAINING),
    "trades": partial(
        train_robust,
        width=Result(values={"width": 1}),
        training=TRAINING,
        ball=asdict(Ball(norm="L2", radius=0.5, steps=2, step_share=0.5)),
        beta=1.0,
    ),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trained_classifier_is_stored_with_its_accuracy_on_other_samples(name, made):
    train, task = TRAINERS[name], made["symmetric"]
    trained = train(task, images=60, sample_seed=1, test_images=50, seed=2)
    data = as_task(task)
    x, y = data.sample(50, seed=seed_of("test", 2))
    classifier = as_stored(trained, data)
    assert trained.values["images"] == 50
    assert trained.values["correct"] == int((decisions(classifier, x) == y).sum())
    assert trained.values["correct"] == round(50 * accuracy(classifier, x, y))
    json.dumps(trained.values, allow_nan=False)
    again = train(task, images=60, sample_seed=1, test_images=50, seed=2)
    assert again.values == trained.values
    assert all(torch.equal(again.tensors[key], each) for key, each in trained.tensors.items())
    other = train(task, images=60, sample_seed=3, test_images=50, seed=2)
    assert any(
        other.tensors[key].shape != each.shape or not torch.equal(other.tensors[key], each)
        for key, each in trained.tensors.items()
    )


@pytest.mark.parametrize("name", TRAINERS)
def test_a_classifier_of_real_images_is_tested_on_the_test_part(name, real):
    trained = TRAINERS[name](real, images=20, sample_seed=1, fold=(1, 3), test_images=1_000, seed=2)
    data = real_images(real)
    x, y = data.parts["test"]
    right = decisions(as_stored(trained, data), x.double() / 255) == y
    assert trained.values["images"] == len(x) == 100
    assert trained.values["correct"] == int(right.sum())


def test_each_fold_of_real_images_trains_another_classifier(real):
    fits = [
        train_linear(real, images=20, sample_seed=1, fold=(k, 2), test_images=10, seed=2)
        for k in range(2)
    ]
    assert not torch.equal(fits[0].tensors["weight"], fits[1].tensors["weight"])


def test_the_chosen_gamma_and_width_are_those_that_are_trained_at(made):
    task = made["symmetric"]
    settings: dict[str, Any] = {"images": 60, "sample_seed": 1, "test_images": 20, "seed": 2}
    chosen = train_rbf(task, Result(values={"gamma": 0.03}), cost=2.0, **settings)
    given = train_rbf_at(task, gamma=0.03, cost=2.0, **settings)
    assert chosen.values == given.values
    assert chosen.values["gamma"] == 0.03
    wide = train_cnn(task, Result(values={"width": 3}), training=TRAINING, **settings)
    assert wide.values["width"] == 3
    assert len(wide.values["losses"]) == TRAINING["epochs"]


# The choice of a width.


def networks_of(accuracies, tried):
    """Trains networks that decide so many of 20 validation images correctly, by their widths."""

    def train(x, y, *, width, classes, seed, training):
        tried.append(width)
        return accuracies[width], []

    return train


@pytest.mark.parametrize(
    ("correct", "target", "width", "reached"),
    [
        ({2: 12, 4: 18, 8: 20}, 0.9, 4, True),  # the smallest that reaches
        ({2: 18, 4: 20, 8: 20}, 0.9, 2, True),
        ({2: 12, 4: 13, 8: 18}, 0.9, 8, True),
        ({2: 12, 4: 17, 8: 14}, 0.9, 4, False),  # the best where none does
        ({2: 15, 4: 17, 8: 17}, 0.9, 8, False),  # of equals the widest
        ({8: 19, 2: 20, 4: 20}, 0.9, 8, True),  # in the order that was given
    ],
)
def test_the_width_is_the_first_that_reaches_the_target(
    correct, target, width, reached, monkeypatch
):
    tried: list[int] = []
    monkeypatch.setattr(cnn, "train_allconv", networks_of(correct, tried))
    monkeypatch.setattr(cnn, "accuracy", lambda share, x, y: share / len(y))
    found = find_width(
        stored(random_task(0)),
        images=30,
        sample_seed=1,
        widths=list(correct),
        target=target,
        training=TRAINING,
        validation_images=20,
        seed=2,
    ).values
    assert (found["width"], found["reached"]) == (width, reached)
    expected = list(correct)[: list(correct).index(width) + 1] if reached else list(correct)
    assert tried == expected
    assert found["tried"] == [{"width": w, "validation_accuracy": correct[w] / 20} for w in tried]


def test_a_single_width_is_taken_as_it_is_given(monkeypatch):
    monkeypatch.setattr(cnn, "train_allconv", None)
    settings: dict[str, Any] = {"images": 30, "sample_seed": 1, "training": TRAINING, "seed": 2}
    found = find_width(stored(random_task(0)), widths=[16], target=1.0, **settings)
    assert found.values == {"width": 16, "reached": None, "tried": []}


@pytest.mark.parametrize("of", ["symmetric", "real"])
def test_a_width_is_tried_on_validation_images(of, made, real):
    task = {"real": real, **made}[of]
    settings: dict[str, Any] = {"images": 40, "sample_seed": 1, "training": TRAINING, "seed": 2}
    found = find_width(task, widths=[1, 2], target=2.0, validation_images=30, **settings).values
    data = as_data(task)
    x, y = draw(data, "training", 40, seed=1)
    unseen, truth = draw(data, "validation", 30, seed=seed_of("validation", 2))
    shares = []
    for width in (1, 2):
        network, _ = train_allconv(
            x, y, width=width, classes=2, seed=2, training=Training(**TRAINING)
        )
        shares.append((decisions(network, unseen) == truth).double().mean().item())
    assert [each["validation_accuracy"] for each in found["tried"]] == shares
    assert found["reached"] is False
    at_once = find_width(task, widths=[1, 2], target=0.0, validation_images=30, **settings).values
    assert (at_once["width"], at_once["reached"], len(at_once["tried"])) == (1, True, 1)


# The choice of a gamma.


def study(task, points, **changes):
    settings = {
        "images": 100,
        "sample_seed": 1,
        "gammas": [0.001, 0.01, 0.1],
        "costs": [1.0, 10.0],
        "target": 0.9,
        "per_class": 3,
        "validation_images": 40,
        "pool_images": 30,
        "seed": 2,
    }
    return study_gamma(task, points, **{**settings, **changes})


def test_the_curve_over_gamma_has_a_row_for_each_cost_and_gamma(made):
    task, points = made["symmetric"], points_of(made["symmetric"], per_class=5)
    found = study(task, points)
    curve = found.values["curve"]
    assert [(row["cost"], row["gamma"]) for row in curve] == [
        (cost, gamma) for cost in (1.0, 10.0) for gamma in (0.001, 0.01, 0.1)
    ]
    assert found.tensors["l2"].shape == (6, 6)
    for row, l2 in zip(curve, found.tensors["l2"], strict=True):
        assert row["points"] == 6
        assert row["mean_l2"] == pytest.approx(l2.nanmean().item())
        assert row["support_vectors"] > 0
    json.dumps(found.values, allow_nan=False)


@pytest.mark.parametrize("of", ["symmetric", "real"])
def test_the_curve_is_of_machines_of_the_training_images(of, made, real):
    task = {"real": real, **made}[of]
    data = as_data(task)
    (row, *_) = study(task, points_of(task, per_class=5)).values["curve"]
    x, y = draw(data, "training", 100, seed=1)
    (machine,) = svm.train_rbf_svms(x, y, gammas=[0.001], classes=2, cost=1.0)
    unseen, truth = draw(data, "validation", 40, seed=seed_of("validation", 2))
    assert row["validation_accuracy"] == accuracy(machine, unseen, truth)
    assert row["support_vectors"] == len(machine.support)


@pytest.mark.parametrize(
    ("shares", "gamma", "reached"),
    [
        ([1.0, 0.95, 0.5], 0.01, True),  # the largest that still classifies well
        ([1.0, 0.5, 0.9], 0.1, True),
        ([0.5, 0.7, 0.6], 0.01, False),  # the best where none does
        ([0.7, 0.7, 0.6], 0.001, False),  # of equals the smallest
    ],
)
def test_the_gamma_is_the_largest_that_reaches_the_target(
    shares, gamma, reached, made, monkeypatch
):
    """At the first cost, whatever the others would say."""
    given = iter([*shares, 1.0, 1.0, 1.0])
    monkeypatch.setattr(gammas, "accuracy", lambda machine, x, y: next(given))
    task = made["symmetric"]
    found = study(task, points_of(task, per_class=3)).values
    assert (found["gamma"], found["reached"]) == (gamma, reached)


# Attacks.


def two_pixels(threshold):
    """Decided 1 where the first two pixels together exceed a threshold."""
    return from_gap(lambda x: threshold - x.flatten(1)[:, :2].sum(dim=1))


def load_threshold(result, data):
    return two_pixels(result.values["threshold"])


THRESHOLD = Result(values={"threshold": 0.5})


@pytest.mark.parametrize("of", ["task", "real"])
@pytest.mark.parametrize(("norm", "share"), [(L2, 2**-0.5), (LINF, 0.5)])
def test_an_attack_is_stored_as_its_outcome_at_the_first_points_of_each_class(
    of, norm, share, real
):
    task = real if of == "real" else stored(random_task(0))
    points = points_of(task, per_class=6)
    found = attack_classifier(
        task,
        points,
        THRESHOLD,
        attack="boundary-walk",
        per_class=4,
        load=load_threshold,
        pool_images=30,
        norm=norm.name,
        measure=norm.measure,
        seed=3,
    )
    pool, _ = draw(as_data(task), "training", 30, seed=3)
    x = points.tensors["x"][:8]
    walk = named_attack("boundary-walk", pool=pool)
    expected = attack_decisions(two_pixels(0.5), walk, x, norm=norm)
    for name in ("before", "after", "sizes", "images"):
        assert torch.equal(found.tensors[name], getattr(expected, name))
    # The nearest other decision is where both pixels have moved half the way.
    way = (x.flatten(1)[:, :2].sum(dim=1) - 0.5).abs()
    torch.testing.assert_close(found.tensors["sizes"], share * way, rtol=1e-6, atol=1e-9)
    assert found.values.keys() == {"attack_seconds"}
    assert found.values["attack_seconds"] > 0


def test_a_classifier_is_loaded_with_its_data():
    task = random_task(0)
    seen = []

    def load(result, data):
        seen.append((result, data.name))
        return Function(lambda x: torch.stack([x.flatten(1)[:, 0], x.flatten(1)[:, 1]], dim=1))

    points = points_of(stored(task))
    attack_classifier(
        stored(task), points, THRESHOLD, attack="deepfool", per_class=2, load=load, seed=3
    )
    assert seen == [(THRESHOLD, task.name)]


def test_unless_told_otherwise_stages_draw_as_many_images_as_draws_says():
    """Or a stage's settings, which leave out what is usual, would not say what it computes."""
    usual = asdict(Draws())
    for function in (find_width, study_gamma, study_optimum, attack_classifier, train_linear):
        parameters = inspect.signature(function).parameters
        given = {name: parameters[name].default for name in usual if name in parameters}
        required = {name for name, default in given.items() if default is inspect.Parameter.empty}
        assert {name: usual[name] for name in given.keys() - required} == {
            name: given[name] for name in given.keys() - required
        }
    assert Draws().settings(*usual) == {}
    assert replace(Draws(), pool_images=7).settings(*usual) == {"pool_images": 7}
