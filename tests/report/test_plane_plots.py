"""Pictures of figures 2, 3, 5 and 8 show the numbers that were computed."""

import io
import re

import numpy as np
import pytest
import torch

from bayesgap.paper import fig2, fig3, fig5, fig8
from bayesgap.paper.exhibit import Setting
from bayesgap.report import plane_plots
from bayesgap.runs.store import Result
from bayesgap.tasks.task import Task
from toys import mixture_task


def results(figure, **smaller):
    """Of all its stages, with smaller settings."""
    found = {}
    for name, stage in figure.stages(Setting("quick", 0, {})).items():
        settings = {key: smaller.get(key, value) for key, value in stage.settings.items()}
        inputs = {"data": found["symmetric"]} if stage.inputs else {}
        found[name] = stage.function(**inputs, **settings, seed=stage.seed)
    return found


@pytest.fixture(scope="module")
def plane():
    return results(fig2, per_class=12, grid=40)


@pytest.fixture(scope="module")
def mole():
    plain = Task(mixture_task(0, 6 * 24).densities, image_shape=(1, 6, 24))
    task = Result(*plain.to_tensors())
    return {"mole": fig3.study_mole(task, per_class=8, images=50, sample_seed=0, seed=0)}


@pytest.fixture(scope="module")
def line():
    return results(fig5, per_class=30)


@pytest.fixture(scope="module")
def helix():
    return results(fig8, images=200, held_out=100)


def drawn(section):
    """The figure of a section, drawn once, for constrained layouts may warn."""
    (picture,) = section.pictures
    picture.figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert picture.alt
    assert picture.caption
    assert all(isinstance(text, str) and "nan" not in text for text in section.text)
    for table in section.tables:
        assert all(len(row) == len(table.heading) for row in table.rows)
    return picture.figure


def lines_of(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_figure_2_shows_regions_samples_and_distributions(plane):
    section = plane_plots.fig2(plane)
    axes = np.array(drawn(section).axes).reshape(4, 4)
    for column, (low, top) in enumerate(fig2.SIBLINGS.items()):
        shown = zip(axes[:3, column], (top, low, low), ("regions", "regions", "zoom"), strict=True)
        for axis, panel, name in shown:
            (image,) = axis.get_images()
            np.testing.assert_array_equal(image.get_array(), plane[panel].tensors[name])
            dots = np.concatenate([c.get_offsets() for c in axis.collections])
            samples = plane[panel].tensors["x"].numpy()
            assert all((samples == dot).all(axis=1).any() for dot in dots)
        curves = lines_of(axes[3, column])
        for text, result, label in (
            ("symmetric, both classes", plane[top], None),
            ("asymmetric, class 1", plane[low], 0),
            ("asymmetric, class 2", plane[low], 1),
        ):
            line = curves[text]
            radii = fig2.radii(result, "lower", label) / (result.values["distance"] / 2)
            at, share = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            middle = share[at <= radii.median().item()].max()
            assert middle == pytest.approx((radii <= radii.median()).double().mean().item())
    assert len(section.tables[0].rows) == 9


def test_loose_brackets_show_both_ends(plane):
    figure = drawn(plane_plots.fig2(plane))
    assert len(figure.axes[12].get_lines()) == 3
    loose = dict(plane["e"].tensors)
    loose["upper"] = 2 * loose["lower"]
    changed = {**plane, "e": Result(loose, plane["e"].values)}
    lines = drawn(plane_plots.fig2(changed)).axes[12].get_lines()
    assert [line.get_linestyle() for line in lines] == ["-", "-", ":", "--", ":"]


def test_figure_3_shows_the_change_and_the_odds(mole):
    section = plane_plots.fig3(mole)
    axes = drawn(section).axes
    tensors = mole["mole"].tensors
    change = (tensors["mole/changed"] - tensors["mole/images"])[0, 0]
    np.testing.assert_array_equal(axes[1].get_images()[0].get_array(), change)
    (curve, zero) = axes[6].get_lines()
    np.testing.assert_allclose(curve.get_ydata(), tensors["odds"][:, :-1].mean(dim=0) / 1e3)
    assert set(zero.get_ydata()) == {0}
    assert len(axes[7].get_lines()) == 4
    radius = fig3.of_class(mole["mole"], "mole/upper").nanmean().item()
    assert f"{radius:.4g}" in section.text[0]


def test_figure_5_shows_every_boundary_where_it_is(line):
    figure = drawn(plane_plots.fig5(line))
    right = figure.axes[1]
    parameters = torch.cat([line[start].tensors["parameters"] for start in ("bad", "good")])
    assert len(right.get_lines()) == len(parameters)
    for drawn_line, (x, y, bias) in zip(right.get_lines(), parameters.tolist(), strict=True):
        xs, ys = drawn_line.get_data()
        np.testing.assert_allclose((x * xs + y * ys + bias) / np.hypot(x, y), 0, atol=1e-9)
        assert np.hypot(*np.diff([xs, ys], axis=1).ravel()) > 4
    regions = figure.axes[0].get_images()[0].get_array()
    middle, far = regions[180, 240], regions[100, 240]  # upon class 1, and beside it
    assert (middle, far) == (0, 1)
    assert len(figure.axes[2].get_lines()) == 5


def test_figure_5_states_what_its_table_does(line):
    section = plane_plots.fig5(line)
    (table,) = section.tables
    for row in table.rows:
        value = float(re.match(r"[\d.]+", row[-1]).group())
        assert value == pytest.approx(fig5.relative(line, row[0])[0], rel=1e-3)
        assert row[-1] in section.text[1]


def test_figure_8_shows_all_components_and_divergences(helix):
    section = plane_plots.fig8(helix)
    space, curve = drawn(section).axes
    discs = [c for c in space.collections if type(c).__name__ == "Poly3DCollection"]
    assert len(discs) == 1
    assert len(discs[0].get_paths()) == fig8.SHOWN
    expected = [fig8.divergence(fit)[0] for fit in fig8.fits(helix)]
    np.testing.assert_allclose(curve.get_lines()[0].get_ydata(), expected)
    assert [row[0] for row in section.tables[0].rows] == ["1", "4", str(fig8.SHOWN)]
