"""Figure 2: its stages, claims and picture, against counting and closed forms."""

import dataclasses

import numpy as np
import pytest
import torch

from bayesgap import files
from bayesgap.experiment.setting import Setting
from bayesgap.paper.engine.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from bayesgap.paper.engine.exhibit import Named
from bayesgap.paper.fig2 import exhibit as fig2
from bayesgap.paper.fig2.panels import SIBLINGS, looseness, radii, relative_radii
from bayesgap.paper.fig2.study import EXCHANGED
from bayesgap.runs.store import Result
from bayesgap.tasks.plane import plane_tasks
from exhibits import SETTING, computed, drawn, found_of, lines_of, replaced, sure

PER_CLASS, GRID = 50, 40
SMALL = fig2.exhibit({"quick": fig2.Size(PER_CLASS, GRID)})


@pytest.fixture(scope="module")
def found():
    return computed(SMALL)


@pytest.fixture(scope="module")
def panels(found):
    return {key.name: result for key, result in found.results.items()}


@pytest.fixture(scope="module")
def section(found):
    return fig2.section(found)


@pytest.fixture(scope="module")
def figure(section):
    (figure,) = drawn(section)
    return figure


def test_every_panel_is_a_stage_of_its_own_that_depends_on_scale_and_seed():
    stages = fig2.EXHIBIT.wants(SETTING).stages
    assert {str(key) for key in stages} == {*"abcdefgh", EXCHANGED}
    for setting in (Setting("quick", 1, {}), Setting("paper", 0, {})):
        for panel, stage in fig2.EXHIBIT.wants(setting).stages.items():
            assert stage.identity != stages[panel].identity
    assert len({stage.identity for stage in stages.values()}) == len(stages)


def test_radii_of_equal_spheres_are_distances_to_the_line_between(panels):
    tensors = panels["a"].tensors
    torch.testing.assert_close(tensors["lower"], tensors["x"][:, 0].abs(), rtol=1e-6, atol=0)


def test_radii_of_tables_are_those_of_all_cells(panels):
    for panel in "cg":
        result = panels[panel]
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


def test_regions_hold_the_second_feature_along_rows(panels):
    for panel, task in plane_tasks().items():
        regions, (left, right, bottom, top) = (
            panels[panel].tensors["regions"],
            panels[panel].values["window"],
        )
        row, column = 31, 5
        x = left + (right - left) * (column + 0.5) / GRID
        y = bottom + (top - bottom) * (row + 0.5) / GRID
        posterior = task.log_posterior(torch.tensor([[[[x, y]]]], dtype=torch.float64))
        assert regions[row, column] == posterior.argmax()


def test_distances_are_between_the_nearest_components_of_different_classes(panels):
    expected = {"a": 1.0, "b": 1.0, "c": np.hypot(30, 10), "d": 0.5**0.5, "h": 0.5**0.5}
    for panel, distance in expected.items():
        assert panels[panel].values["distance"] == pytest.approx(distance, rel=1e-3)


def test_points_that_count_are_correct_and_of_no_outlier(panels):
    result = panels["h"]
    tensors = dict(result.tensors)
    tensors["outlier"], tensors["correct"] = tensors["outlier"].clone(), tensors["correct"].clone()
    tensors["outlier"][:3], tensors["correct"][3:5] = True, False
    changed = dataclasses.replace(result, tensors=tensors)
    kept = (tensors["correct"] & ~tensors["outlier"])[tensors["y"] == 0].sum()
    assert len(radii(changed, "lower", 0)) == kept <= PER_CLASS - 5
    assert len(radii(changed, "lower")) > kept


def test_the_boundary_is_far_above_and_close_below(found):
    top, bottom = fig2.claims(found)
    assert (top.verdict, bottom.verdict) == (REPRODUCED, REPRODUCED)
    assert [number.label for number in top.numbers] == ["2a", "2b", "2c", "2d"]
    assert len(bottom.numbers) == 5
    assert all(sure(number.estimate)[0] < 0.07 for number in bottom.numbers)


def test_the_claims_can_fail(found, panels):
    exchanged = replaced(found, {"h": panels[EXCHANGED]})
    assert fig2.boundary_close(exchanged).verdict == NOT_REPRODUCED
    turned = replaced(found, {"b": panels["f"], "f": panels["b"]})
    assert fig2.boundary_close(turned).verdict == NOT_REPRODUCED
    close = replaced(found, {"a": panels["e"], "b": panels["f"], "d": panels["h"]})
    assert fig2.boundary_far(close).verdict == NOT_REPRODUCED


def made_up(changed):
    """Panels whose medians are 1 in the top row and 0.01 below, class 2's of e to g excepted.

    Args:
        changed: Other radii, from the first to the second number, by panel and class.
    """
    results = {}
    for panel in fig2.PANELS:
        usual = {0: (0.01, 0.01), 1: (0.01, 0.01) if panel == "h" else (1, 1)}
        if panel not in SIBLINGS:
            usual = {0: (1, 1), 1: (1, 1)}
        lengths = torch.stack(
            [
                torch.linspace(first, last, 25, dtype=torch.float64)
                for label in (0, 1)
                for first, last in [changed.get((panel, label), usual[label])]
            ]
        ).flatten()
        good = torch.ones(50, dtype=torch.bool)
        y = torch.arange(2).repeat_interleave(25)
        tensors = {"y": y, "correct": good, "outlier": ~good, "lower": lengths, "upper": lengths}
        results[panel] = Result(tensors, {"distance": 2.0})
    return found_of(results)


@pytest.mark.parametrize("panel", [*"abcd"])
@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.55, 0.95), REPRODUCED),
        ((0.05, 0.45), NOT_REPRODUCED),
        ((0.3, 0.7), NOT_DECIDED),
    ],
)
def test_every_panel_above_must_be_far_from_the_boundary(panel, ends, verdict):
    found = made_up({(panel, label): ends for label in (0, 1)})
    assert fig2.boundary_far(found).verdict == verdict


@pytest.mark.parametrize(("panel", "label"), [("e", 0), ("f", 0), ("g", 0), ("h", 0), ("h", 1)])
@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.03, 0.09), REPRODUCED),
        ((0.11, 0.19), NOT_REPRODUCED),
        ((0.05, 0.15), NOT_DECIDED),
    ],
)
def test_every_narrow_class_below_must_be_close_to_the_boundary(panel, label, ends, verdict):
    assert fig2.boundary_close(made_up({(panel, label): ends})).verdict == verdict


@pytest.mark.parametrize(("above", "verdict"), [(1, NOT_REPRODUCED), (4, REPRODUCED)])
def test_close_is_relative_to_the_panel_above(above, verdict):
    found = made_up({("e", 0): (0.2, 0.2), ("a", 0): (above, above)})
    assert fig2.boundary_close(found).verdict == verdict


def test_the_control_is_stated_as_a_share_of_what_it_is_without_outliers():
    found = made_up({(EXCHANGED, 0): (0.8, 0.8), ("d", 1): (2, 2)})
    (remark,) = fig2.boundary_close(found).remarks
    assert "is 80% and 50% of the one" in remark


def test_with_exchanged_outliers_the_boundary_stays_away(panels):
    away = radii(panels[EXCHANGED], "lower").median()
    assert away > 0.5 * radii(panels["d"], "lower").median()
    assert away > 10 * radii(panels["h"], "upper").median()


def test_results_can_be_stored_and_follow_from_the_seed(found):
    again, other = computed(SMALL), computed(SMALL, Setting("quick", 1, {}))
    for key, result in found.results.items():
        files.dump(result.values)
        assert all(tensor.is_contiguous() for tensor in result.tensors.values())
        assert torch.equal(result.tensors["x"], again[key].tensors["x"])
        assert torch.equal(result.tensors["lower"], again[key].tensors["lower"])
        assert not torch.equal(result.tensors["x"], other[key].tensors["x"])


def test_the_picture_shows_regions_samples_and_distributions(section, figure, panels):
    axes = np.array(figure.axes).reshape(4, 4)
    for column, (low, top) in enumerate(SIBLINGS.items()):
        shown = zip(axes[:3, column], (top, low, low), ("regions", "regions", "zoom"), strict=True)
        for axis, panel, name in shown:
            (image,) = axis.get_images()
            np.testing.assert_array_equal(image.get_array(), panels[panel].tensors[name])
            dots = np.concatenate([c.get_offsets() for c in axis.collections])
            samples = panels[panel].tensors["x"].numpy()
            assert all((samples == dot).all(axis=1).any() for dot in dots)
        curves = lines_of(axes[3, column])
        for text, result, label in (
            ("symmetric, both classes", panels[top], None),
            ("asymmetric, class 1", panels[low], 0),
            ("asymmetric, class 2", panels[low], 1),
        ):
            line = curves[text]
            lengths = relative_radii(result, "lower", label)
            at, share = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            middle = share[at <= lengths.median().item()].max()
            assert middle == pytest.approx((lengths <= lengths.median()).double().mean().item())
    assert len(section.tables[0].rows) == 9


def test_the_picture_shows_no_more_than_what_lies_in_the_window(figure, panels):
    left, right, bottom, top = panels["e"].values["zoom"]
    near = figure.axes[8]
    dots = np.concatenate([c.get_offsets() for c in near.collections])
    x = panels["e"].tensors["x"].numpy()
    inside = (x[:, 0] >= left) & (x[:, 0] <= right) & (x[:, 1] >= bottom) & (x[:, 1] <= top)
    assert len(dots) == inside.sum() > 10


def test_the_text_states_what_the_table_does(section):
    (control,) = [row for row in section.tables[0].rows if "exchanged" in row[1]]
    assert f"first class's is {float(control[4].split()[0]):.2f}." in section.text[2]


def test_loose_brackets_show_both_ends(found, panels, figure):
    assert len(figure.axes[12].get_lines()) == 3
    loose = dict(panels["e"].tensors)
    loose["upper"] = 2 * loose["lower"]
    changed = replaced(found, {"e": Result(loose, panels["e"].values)})
    assert looseness(changed[Named("e")]) == 2
    (loosened,) = drawn(fig2.section(changed))
    lines = loosened.axes[12].get_lines()
    assert [line.get_linestyle() for line in lines] == ["-", "-", ":", "--", ":"]
