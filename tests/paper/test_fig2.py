"""Figure 2: its stages, intervals and claims, against counting and closed forms."""

import dataclasses

import numpy as np
import pytest
import torch

from bayesgap import files
from bayesgap.paper import fig2
from bayesgap.paper.claim import NOT_REPRODUCED, REPRODUCED, UNKNOWN
from bayesgap.paper.exhibit import Setting
from bayesgap.tasks.plane import plane_tasks

SETTING = Setting("quick", 0, {})


def computed(panels=fig2.PANELS, seed=0):
    found, stages = {}, fig2.stages(dataclasses.replace(SETTING, seed=seed))
    for panel in panels:
        stage = stages[panel]
        settings = {**stage.settings, "per_class": min(30, stage.settings["per_class"])}
        if "grid" in settings:
            settings["grid"] = 40
        found[panel] = stage.function(**settings, seed=stage.seed)
    return found


@pytest.fixture(scope="module")
def found():
    return computed()


def test_every_panel_is_a_stage_of_its_own_that_depends_on_scale_and_seed():
    stages = fig2.stages(SETTING)
    assert set(stages) == {*"abcdefgh", fig2.EXCHANGED}
    others = [dataclasses.replace(SETTING, seed=1), dataclasses.replace(SETTING, scale="paper")]
    for setting in others:
        for panel, stage in fig2.stages(setting).items():
            assert stage.identity != stages[panel].identity
    assert len({stage.identity for stage in stages.values()}) == len(stages)


def test_radii_of_equal_spheres_are_distances_to_the_line_between(found):
    tensors = found["a"].tensors
    torch.testing.assert_close(tensors["lower"], tensors["x"][:, 0].abs(), rtol=1e-6, atol=0)


def test_radii_of_tables_are_those_of_all_cells(found):
    for panel in "cg":
        result = found[panel]
        regions, x = result.tensors["regions"].numpy(), result.tensors["x"].numpy()
        for label in (0, 1):
            rows = (result.tensors["y"] == label) & result.tensors["correct"]
            other = np.argwhere(1 - label == regions.T)
            expected = [np.linalg.norm(other - point, axis=1).min() for point in x[rows]]
            np.testing.assert_allclose(result.tensors["upper"][rows], expected, rtol=1e-12)
            assert torch.equal(result.tensors["lower"][rows], result.tensors["upper"][rows])
        left, _, bottom, _ = result.values["zoom"]
        rows, columns = round(bottom + 0.5), round(left + 0.5)
        cut = regions[rows : rows + 13, columns : columns + 13]
        np.testing.assert_array_equal(result.tensors["zoom"], cut)


def test_regions_hold_the_second_feature_along_rows(found):
    for panel, task in plane_tasks().items():
        regions, (left, right, bottom, top) = (
            found[panel].tensors["regions"],
            found[panel].values["window"],
        )
        row, column = 31, 5
        x = left + (right - left) * (column + 0.5) / 40
        y = bottom + (top - bottom) * (row + 0.5) / 40
        posterior = task.log_posterior(torch.tensor([[[[x, y]]]], dtype=torch.float64))
        assert regions[row, column] == posterior.argmax()


def test_distances_are_between_the_nearest_components_of_different_classes(found):
    expected = {"a": 1.0, "b": 1.0, "c": np.hypot(30, 10), "d": 0.5**0.5, "h": 0.5**0.5}
    for panel, distance in expected.items():
        assert found[panel].values["distance"] == pytest.approx(distance, rel=1e-3)


def test_medians_have_the_interval_of_order_statistics():
    values = torch.arange(1.0, 101.0, dtype=torch.float64).flip(0)
    assert fig2.median_with_interval(values) == (50.5, 40.0, 61.0)  # as in tables
    assert fig2.median_with_interval(values[:5]) == UNKNOWN
    assert fig2.median_with_interval(values[:0]) == UNKNOWN


def test_intervals_of_medians_cover():
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(1_000, 30, generator=generator, dtype=torch.float64)
    covered = [low <= 0.5 <= high for _, low, high in map(fig2.median_with_interval, draws)]
    assert np.mean(covered) > 0.94


def test_quotients_take_the_far_ends():
    assert fig2.quotient((1.0, 0.5, 2.0), (4.0, 2.0, 8.0)) == (0.25, 0.0625, 1.0)
    assert fig2.quotient((1.0, 0.5, 2.0), (4.0, 0.0, 8.0)) == UNKNOWN
    assert fig2.quotient(UNKNOWN, (4.0, 2.0, 8.0)) == UNKNOWN


def test_points_that_count_are_correct_and_of_no_outlier(found):
    result = found["h"]
    tensors = dict(result.tensors)
    tensors["outlier"], tensors["correct"] = tensors["outlier"].clone(), tensors["correct"].clone()
    tensors["outlier"][:3], tensors["correct"][3:5] = True, False
    changed = dataclasses.replace(result, tensors=tensors)
    kept = (tensors["correct"] & ~tensors["outlier"])[tensors["y"] == 0].sum()
    assert len(fig2.radii(changed, "lower", 0)) == kept <= 25
    assert len(fig2.radii(changed, "lower")) > kept


def test_the_boundary_is_far_above_and_close_below(found):
    top, bottom = fig2.claims(found)
    assert (top.verdict, bottom.verdict) == (REPRODUCED, REPRODUCED)
    assert [number.label for number in top.numbers] == ["2a", "2b", "2c", "2d"]
    assert len(bottom.numbers) == 5
    assert all(number.value < 0.07 for number in bottom.numbers)


def test_the_claims_can_fail(found):
    exchanged = {**found, "h": found[fig2.EXCHANGED]}
    assert fig2.claims(exchanged)[1].verdict == NOT_REPRODUCED
    assert fig2.claims({**found, "b": found["f"], "f": found["b"]})[1].verdict == NOT_REPRODUCED
    close = {**found, "a": found["e"], "b": found["f"], "d": found["h"]}
    assert fig2.claims(close)[0].verdict == NOT_REPRODUCED


def test_with_exchanged_outliers_the_boundary_stays_away(found):
    away = fig2.radii(found[fig2.EXCHANGED], "lower").median()
    assert away > 0.5 * fig2.radii(found["d"], "lower").median()
    assert away > 10 * fig2.radii(found["h"], "upper").median()


def test_results_can_be_stored_and_follow_from_the_seed(found):
    for result in found.values():
        files.dump(result.values)
        assert all(tensor.is_contiguous() for tensor in result.tensors.values())
    again, other = computed("acd"), computed("acd", seed=1)
    for panel in "acd":
        result = found[panel]
        assert torch.equal(result.tensors["x"], again[panel].tensors["x"])
        assert torch.equal(result.tensors["lower"], again[panel].tensors["lower"])
        assert not torch.equal(result.tensors["x"], other[panel].tensors["x"])
