import io

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bayesgap.drawing.evaluation import (
    UNIT,
    accuracies,
    point,
    radii_of,
    sizes_alone,
    sizes_beside,
    value_range,
)
from bayesgap.estimates import Estimate
from bayesgap.evaluation.explanation import Explanation, Nearest
from bayesgap.evaluation.record import Curve
from toys import normal, uniform

UNPRINTABLE = ["$x_{$", "_hidden", "a" * 60]


def drawn(figure):
    """The figure once it has been drawn, which fails where its texts are no text."""
    FigureCanvasAgg(figure)
    figure.savefig(io.BytesIO(), format="png")
    return figure


def curve(radii, certified=True):
    falling = [Estimate(1 / (1 + r), 0.9 / (1 + r), 1.0) for r in radii]
    return Curve(list(radii), falling, falling[::-1] if certified else None)


def nearest(image, size=1.0, decision="six"):
    change = 0.1 * normal(1, *image.shape)
    return Nearest(image + change, change, size, decision, [(0, 0, 0)] * 5, 0.5)


def explanation(image, **changes):
    found = nearest(image)
    usual = {"label": "zero", "decision": "zero", "classifier": found, "optimum": found}
    about = {"certified": 0.9, "moved": "from here to there"}
    return Explanation(**{"index": 7, "image": image, **usual, **about, **changes})


def test_the_lines_are_the_curves():
    given = curve([0.0, 0.5, 1.0, 2.0])
    (axis,) = drawn(accuracies(given, "L2")).axes
    lines = {line.get_label(): line.get_xydata() for line in axis.lines}
    for label, estimates in (("classifier", given.accuracy), ("optimum", given.certified)):
        (line,) = (data for name, data in lines.items() if label in name)
        np.testing.assert_array_equal(line[:, 0], given.radii)
        np.testing.assert_array_equal(line[:, 1], [each.value for each in estimates])
    assert axis.get_xscale() == "linear"
    assert axis.get_xlim() == (0, 2)


def test_without_certificates_there_is_one_line():
    (axis,) = drawn(accuracies(curve([0.0, 1.0], certified=False), "Linf")).axes
    assert len(axis.lines) == 1
    assert "Linf" in axis.get_xlabel()


def test_radii_far_apart_are_on_a_logarithmic_axis_whose_numbers_are_written_out():
    (axis,) = drawn(accuracies(curve([0.0, 0.01, 0.02, 1.0, 2.0, 3.0]), "L2")).axes
    assert axis.get_xscale() == "log"
    assert axis.get_xlim() == (0.01, 3.0)
    assert {"0.01", "0.1", "1"} <= {text.get_text() for text in axis.get_xticklabels()}


@pytest.mark.parametrize("radii", [[0.0], [0.0, 0.0]])
def test_a_curve_of_no_radii_can_be_drawn(radii):
    drawn(accuracies(curve(radii), "L2"))


def test_each_point_stands_at_its_two_distances_and_what_withstood_at_the_top():
    certified, sizes = 1 + uniform(0, 6), 1 + uniform(1, 6)
    sizes[2] = torch.inf
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    figure = drawn(sizes_beside(sizes, certified, y, ["zero", "six"], "L2"))
    (axis,) = figure.axes
    marks = {
        style: [line for line in axis.lines if line.get_marker() == style] for style in ("o", "^")
    }
    dots = np.concatenate([line.get_xydata() for line in marks["o"]])
    broken = sizes.isfinite()
    want = torch.stack([certified[broken], sizes[broken]], dim=1).numpy()
    np.testing.assert_array_equal(dots, want)
    out = np.concatenate([line.get_xydata() for line in marks["^"]])
    np.testing.assert_array_equal(out, [[certified[2], axis.get_ylim()[1]]])
    assert axis.get_xlim() == axis.get_ylim()
    (diagonal,) = (line for line in axis.lines if line.get_marker() == "None")
    assert (diagonal.get_xdata() == diagonal.get_ydata()).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["zero", "six"]


@pytest.mark.parametrize("classes", [2, 7, 10, 11])
def test_classes_that_can_be_told_apart_have_a_legend(classes):
    y = torch.arange(classes).repeat(2)
    sizes = 1 + uniform(0, len(y))
    names = [f"class {label}" for label in range(classes)]
    for figure in (
        sizes_beside(sizes, sizes, y, names, "L2"),
        sizes_alone(sizes, y, names, "L2"),
    ):
        drawn(figure)
        assert len(figure.legends) == (classes <= 10)
        if classes <= 10:
            colours = [mark.get_color() for mark in figure.legends[0].get_lines()]
            assert len(set(colours)) == classes


def test_the_histogram_holds_every_point():
    sizes, y = uniform(0, 40), torch.arange(40) % 3
    (axis,) = drawn(sizes_alone(sizes, y, ["a", "b", "c"], "Linf")).axes
    assert sum(bar.get_height() for bar in axis.patches) == 40
    assert "Linf" in axis.get_xlabel()


def test_names_from_strangers_are_text():
    y, sizes = torch.arange(3), 1 + uniform(0, 3)
    figure = drawn(sizes_beside(sizes, sizes, y, UNPRINTABLE, "$L_2"))
    first, second, third = (text.get_text() for text in figure.legends[0].get_texts())
    assert (first, second) == tuple(UNPRINTABLE[:2])
    assert len(third) < 30
    drawn(accuracies(curve([0.0, 1.0]), "$L_2"))
    image = uniform(0, 1, 3, 3)
    named = {"label": "$x_{$", "decision": "_{", "classifier": nearest(image, decision="$$^")}
    drawn(point(explanation(image, **named), "$L_2"))


@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (3, 8, 8), (1, 1, 3), (3, 1, 3), (1, 1, 1), (2, 4, 4), (1, 1, 90)]
)
def test_a_point_is_shown_with_what_is_near_it(shape):
    image = uniform(0, *shape)
    figure = drawn(point(explanation(image), "L2"))
    assert len(figure.axes) == 5
    for axis in figure.axes:
        (shown,) = axis.images
        assert shown.get_array().shape[:2] == shape[1:]
    first = np.asarray(figure.axes[0].images[0].get_array())
    if shape[0] in (1, 3):
        want = image.permute(1, 2, 0).numpy()
        np.testing.assert_allclose(first, want if shape[0] == 3 else want[:, :, 0])
    assert figure.axes[1].get_xlabel() == "L2 1"


def test_changes_are_magnified_by_the_factor_that_is_written():
    image = uniform(0, 1, 5, 5)
    change = torch.zeros(1, 5, 5, dtype=torch.float64)
    change[0, 2, 3] = -0.004
    found = Nearest(image + change, change, 0.004, "six", [(0, 2, 3)] * 5, 1.0)
    axis = drawn(point(explanation(image, classifier=found), "L2")).axes[2]
    assert "× 250" in axis.get_title()
    assert axis.images[0].get_clim() == (-0.004, 0.004)
    assert axis.images[0].get_array()[2, 3] == -0.004


def test_without_certificates_there_is_no_place_for_the_optimum():
    image = uniform(0, 1, 4, 4)
    figure = point(explanation(image, optimum=None, certified=None), "L2", certified=False)
    assert len(drawn(figure).axes) == 3


def test_what_was_not_found_is_said():
    image = uniform(0, 1, 4, 4)
    figure = drawn(point(explanation(image, classifier=None, optimum=None), "L2"))
    said = " ".join(text.get_text() for axis in figure.axes for text in axis.texts)
    assert "classifier:\nnone found" in said
    assert "optimum:\ndecides the\npoint wrongly" in said


def test_a_wrong_decision_stands_above_the_point():
    figure = point(explanation(uniform(0, 1, 4, 4), decision="six"), "L2")
    assert figure.axes[0].get_title() == "zero\n→ six"


def test_samples_of_images_in_the_unit_are_shown_as_such():
    assert value_range(uniform(0, 50, 1, 4, 4) * 1.2 - 0.1) == UNIT
    assert value_range(0.1 * uniform(0, 50, 1, 4, 4)) == UNIT
    low, high = value_range(255 * uniform(0, 50, 1, 4, 4))
    assert 0 <= low < 10
    assert 245 < high <= 255


@pytest.mark.parametrize("value", [0.0, -3.0, 300.0])
def test_images_of_one_value_can_be_shown(value):
    x = torch.full((3, 1, 2, 2), value, dtype=torch.float64)
    low, high = value_range(x)
    assert low < high
    drawn(point(explanation(x[0]), "L2", limits=(low, high)))


def test_radii_begin_at_0_and_end_with_the_largest_size():
    sizes = torch.tensor([0.5, 2.0, torch.inf, 0.0, 8.0], dtype=torch.float64)
    radii = radii_of(sizes, sizes[:2])
    assert radii[0] == 0
    assert radii[-1] == 8
    assert radii == sorted(set(radii))
    assert any(abs(radius - 0.5) < 1e-12 for radius in radii)
    assert radii_of(torch.full((2,), torch.inf)) == [0, 1]
