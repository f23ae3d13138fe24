"""Figure 3: the mole, against dense Gaussians and the closed form of one predictive feature."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import norm

from bayesgap import files
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.experiment.setting import Setting
from bayesgap.experiment.stages.data import as_task
from bayesgap.paper.engine.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.paper.fig3 import exhibit as fig3
from bayesgap.paper.fig3 import study
from bayesgap.runs.store import Result
from bayesgap.tasks.catalog import known_tasks
from bayesgap.tasks.task import Task
from exhibits import SETTING, drawn, found_of, sure
from toys import dense_log_joints

SHAPE = (1, 6, 24)  # the least that holds the mole


def small_task(shape=SHAPE):
    """Two components a class that differ in the first pixels only."""
    generator = torch.Generator().manual_seed(0)
    d = int(np.prod(shape))
    densities = []
    for label in (0, 1):
        means = torch.zeros(2, d, dtype=torch.float64)
        means[:, :4] = 2 * label
        means[:, 4:8] = torch.randn(2, 4, generator=generator, dtype=torch.float64)
        factors = 0.3 * torch.randn(2, d, 1, generator=generator, dtype=torch.float64)
        noise = torch.full((2, d), 0.05**2, dtype=torch.float64)
        densities.append(MixtureOfFactorAnalyzers(torch.tensor([0.4, 0.6]), means, factors, noise))
    return Task(densities, image_shape=shape, priors=[0.3, 0.7])


@pytest.fixture(scope="module")
def result():
    task = Result(*small_task().to_tensors())
    return study.study_mole(task, per_class=12, images=400, sample_seed=0, seed=1)


def test_the_mole_is_an_independent_factor_of_each_density():
    task = small_task()
    marked, pixels = study.with_mole(task), study.mole_pixels(task)
    others = [k for k in range(task.densities[0].dimension) if k not in pixels]
    x, _ = marked.sample(9, seed=0)
    rest = Task(
        [
            MixtureOfFactorAnalyzers(
                d.weights, *(t[:, others] for t in (d.means, d.factors, d.noise))
            )
            for d in task.densities
        ],
        image_shape=(1, 1, len(others)),
        priors=task.priors.tolist(),
    )
    spot = x.flatten(1)[:, pixels].numpy()
    own = [norm(1.0, 1e-3).logpdf(spot).sum(axis=1), norm(0.0, 0.3).logpdf(spot).sum(axis=1)]
    expected = dense_log_joints(rest, x.flatten(1)[:, others]) + np.stack(own, axis=1)
    found = marked.bayes_classifier(temperature=1.0).log_joint(x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_original_is_left_as_it_was():
    task, untouched = small_task(), small_task()
    study.with_mole(task)
    for density, same in zip(task.densities, untouched.densities, strict=True):
        assert torch.equal(density.means, same.means)
        assert torch.equal(density.factors, same.factors)


@pytest.mark.parametrize("shape", [(1, 5, 24), (1, 6, 23), (3, 6, 24)])
def test_images_without_a_place_for_it_are_refused(shape):
    with pytest.raises(BayesgapError, match="The mole is at"):
        study.mole_pixels(small_task(shape))


def test_the_radius_is_that_of_the_mole_alone_where_nothing_else_is_as_predictive(result):
    """Without other changes the odds M fall to 0 once √Σ(change + offset)² = σ√(2M + Σoffset²)."""
    task = study.with_mole(small_task())
    pixels = study.mole_pixels(task)
    x = result.tensors["mole/images"]
    posterior = task.log_posterior(x)
    odds = (posterior[:, 0] - posterior[:, 1]).numpy()
    offset = x.flatten(1)[:, pixels].numpy() - 1
    reach = np.sqrt(2e-6 * odds + (offset**2).sum(axis=1)) - np.linalg.norm(offset, axis=1)
    found = fig3.of_class(result, "mole/upper")[0][: len(x)].numpy()
    np.testing.assert_allclose(found, reach, rtol=0.02)


def test_odds_fall_by_the_squares_of_what_is_erased(result):
    fades = np.array([*study.FADES, 1.0])
    task = study.with_mole(small_task())
    x, _ = task.sample_given(torch.zeros(1, dtype=torch.int64), seed=0)
    lost = result.tensors["density"][:, 0] - result.tensors["density"][:, -1]
    torch.testing.assert_close(lost, torch.full_like(lost, 4 * 0.5e6), rtol=1e-2, atol=0)
    odds, density = study._erased(task, x, study.mole_pixels(task))
    spot = x.flatten(1)[0, study.mole_pixels(task)].numpy()
    faded = spot * (1 - fades[:, None])
    own = norm(1.0, 1e-3).logpdf(faded).sum(axis=1)
    other = norm(0.0, 0.3).logpdf(faded).sum(axis=1)
    np.testing.assert_allclose((density - density[:, :1])[0], own - own[0], rtol=1e-6, atol=1e-6)
    change = (own - other) - (own - other)[0]
    np.testing.assert_allclose((odds - odds[:, :1])[0], change, rtol=1e-6, atol=1e-6)


def test_changed_images_are_decided_otherwise_and_as_far_as_the_upper_bound(result):
    tasks = {"plain": small_task(), "mole": study.with_mole(small_task())}
    for name, task in tasks.items():
        before, after = (result.tensors[f"{name}/{key}"] for key in ("images", "changed"))
        assert (task.log_posterior(before).argmax(dim=1) == 0).all()
        assert (task.log_posterior(after).argmax(dim=1) == 1).all()
        length = (after - before).flatten(1).norm(dim=1)
        upper = fig3.of_class(result, f"{name}/upper")[0][: len(length)]
        torch.testing.assert_close(length, upper, rtol=1e-12, atol=0)


def test_the_claim_holds_and_can_fail(result):
    (claim,) = fig3.claims(found_of({"mole": result}))
    assert [number.verdict for number in claim.numbers[:2]] == [REPRODUCED] * 2
    assert sure(claim.numbers[2].estimate)[0] > 0.99
    swapped = {
        {"mole": "plain", "plain": "mole"}.get(name.split("/")[0], name.split("/")[0])
        + name[len(name.split("/")[0]) :]: tensor
        for name, tensor in result.tensors.items()
    }
    found = found_of({"mole": dataclasses.replace(result, tensors=swapped)})
    (claim,) = fig3.claims(found)
    assert [number.verdict for number in claim.numbers[:2]] == [NOT_REPRODUCED] * 2


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, REPRODUCED),
        ({"radii": (0.15, 0.2)}, NOT_REPRODUCED),
        ({"radii": (0.05, 0.15)}, NOT_DECIDED),
        ({"shares": (0.5, 0.85)}, NOT_REPRODUCED),
        ({"shares": (0.8, 1.0)}, NOT_DECIDED),
        ({"correct": 970}, NOT_REPRODUCED),
        ({"correct": 990}, NOT_DECIDED),
    ],
)
def test_radius_share_and_accuracy_are_judged_by_the_class_with_the_mole(changed, verdict):
    numbers = {"radii": (0.04, 0.06), "shares": (0.95, 1.0), "correct": 1_000, **changed}
    other = torch.tensor([50.0, 0.0]).repeat(20).double()  # class 2's, which must not count
    own = {name: torch.tensor(numbers[name]).repeat(20).double() for name in ("radii", "shares")}
    tensors = {
        "y": torch.arange(2).repeat_interleave(40),
        "mole/upper": torch.cat([own["radii"], other]),
        "mole/in mole": torch.cat([own["shares"], other]),
        "plain/lower": torch.cat([torch.ones(40).double(), other]),
    }
    values = {"mole": {"images": 1_000, "correct": numbers["correct"]}}
    (claim,) = fig3.claims(found_of({"mole": Result(tensors, values)}))
    assert claim.verdict == verdict


def test_the_picture_shows_the_change_and_the_odds(result):
    section = fig3.section(found_of({"mole": result}))
    axes = drawn(section)[0].axes
    tensors = result.tensors
    change = (tensors["mole/changed"] - tensors["mole/images"])[0, 0]
    np.testing.assert_array_equal(axes[1].get_images()[0].get_array(), change)
    (curve, zero) = axes[6].get_lines()
    np.testing.assert_allclose(curve.get_ydata(), tensors["odds"][:, :-1].mean(dim=0) / 1e3)
    assert set(zero.get_ydata()) == {0}
    assert len(axes[7].get_lines()) == 4
    radius = fig3.of_class(result, "mole/upper").nanmean().item()
    assert f"{radius:.4g}" in section.text[0]


def test_the_result_can_be_stored_and_follows_from_the_seed(result):
    files.dump(result.values)
    task = Result(*small_task().to_tensors())
    settings = {"per_class": 12, "images": 400}
    again = study.study_mole(task, **settings, sample_seed=0, seed=1)
    other = study.study_mole(task, **settings, sample_seed=1, seed=1)
    assert torch.equal(again.tensors["mole/lower"], result.tensors["mole/lower"])
    assert not torch.equal(other.tensors["mole/lower"], result.tensors["mole/lower"])


def test_the_stage_takes_the_released_task_at_the_noise_of_appendix_d2():
    setting = Setting("quick", 0, {name: known[-1] for name, known in known_tasks().items()})
    (stage,) = fig3.EXHIBIT.wants(setting).stages.values()
    task = as_task(stage.inputs["task"].function(**stage.inputs["task"].settings, seed=0))
    assert task.name.startswith("mnist-0-6/")
    assert all((density.noise == 0.05**2).all() for density in task.mixtures)
    assert study.mole_pixels(task) == [4 * 28 + 22, 4 * 28 + 23, 5 * 28 + 22, 5 * 28 + 23]
    assert stage.settings["per_class"] == 20
    (other,) = fig3.exhibit({"quick": fig3.Size(3, 7)}).wants(setting).stages.values()
    assert (other.settings["per_class"], other.settings["images"]) == (3, 7)


def test_without_the_released_task_nothing_is_wanted():
    assert not fig3.EXHIBIT.wants(SETTING)
