"""The page of one evaluation, of many kinds of tasks and classifiers."""

import dataclasses
import html
import json
import re
import warnings

import pytest
import torch

from bayesgap.attacks.base import Attack
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.evaluation.doubts import Doubt, DoubtWarning
from bayesgap.evaluation.evaluate import evaluate
from bayesgap.evaluation.loading import load_evaluation
from bayesgap.evaluation.record import Evaluation
from bayesgap.report import evaluation as report
from bayesgap.report.evaluation import (
    FILES,
    attacks_table,
    chosen,
    classes_table,
    headline,
    render,
    tiles,
    write_evaluation,
)
from bayesgap.tasks.task import Task
from linf import LINF
from toys import Laplace, Returns, from_gap, normal, present, spherical_task

APART = [[0.2, 0.2, 0.3], [0.8, 0.8, 0.3]]


def task(**changes) -> Task:
    """Two spheres in 3 pixels, which no sample leaves."""
    return reshaped(spherical_task(APART, 0.005, priors=changes.pop("priors", None)), **changes)


def reshaped(known: Task, **changes) -> Task:
    usual = {"image_shape": known.image_shape, "priors": known.priors.tolist()}
    return Task(known.densities, **{**usual, **changes})


def several(classes: int, shape: tuple[int, ...]) -> Task:
    """Spheres around orthogonal means."""
    pixels = int(torch.tensor(shape).prod())
    axes = torch.linalg.qr(normal(0, pixels, pixels)).Q[:classes]
    return reshaped(spherical_task(0.5 + 0.4 * axes, 0.002), image_shape=shape)


def quietly(known: Task, classifier=None, **settings) -> Evaluation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DoubtWarning)
        settings = {"per_class": 12, "attacks": "ld-grad-tight", "doubts": "quick", **settings}
        return evaluate(classifier or known.bayes_classifier(), known, **settings)


def slanted() -> Task:
    """The optimum goes by the first pixel, in which classes differ by little, and surely."""
    densities = [
        MixtureOfFactorAnalyzers(
            torch.ones(1),
            torch.tensor([mean], dtype=torch.float64),
            torch.zeros(1, 2, 0, dtype=torch.float64),
            torch.tensor([[1e-5, 1e-2]], dtype=torch.float64),
        )
        for mean in ([0.0, 0.0], [0.02, 1.0])
    ]
    return Task(densities, image_shape=(1, 1, 2))


def half_wrong(x):
    """Decides by the first pixel alone, at a place that is off for many."""
    return 0.26 - x[:, 0, 0, 0]


def nearer(first: float) -> Attack:
    """Moves every point to where the first pixel has a value."""

    def moved(x):
        x = x.clone()
        x[:, 0, 0, 0] = first
        return x

    return Returns(moved)


SITUATIONS = {
    "plain": lambda: quietly(task()),
    "colour": lambda: quietly(several(2, (3, 2, 2))),
    "one pixel": lambda: quietly(spherical_task([[0.0], [1.0]], 0.01)),
    "two channels": lambda: quietly(several(3, (2, 3, 3))),
    "ten classes": lambda: quietly(several(10, (1, 4, 4)), per_class=3),
    "twelve classes": lambda: quietly(several(12, (1, 4, 4)), per_class=2),
    "priors": lambda: quietly(task(priors=[0.9, 0.1])),
    "no certificates": lambda: quietly(task(), certificates=False),
    "other densities": lambda: quietly(
        Task([Laplace(mean, 0.05) for mean in APART], image_shape=(1, 1, 3)), attacks="ddn"
    ),
    "another norm": lambda: quietly(task(), norm=LINF),
    "a box": lambda: quietly(task(), box=(0.0, 1.0)),
    "given points": lambda: quietly(known := task(), points=known.sample(24, seed=5)),
    "certified points": lambda: quietly(
        known := task(), points=known.sample(24, seed=5), certificates=True
    ),
    "nothing broken": lambda: quietly(task(), attacks=Returns(lambda x: x)),
    "nothing broken, nothing certified": lambda: quietly(
        task(), attacks=Returns(lambda x: x), certificates=False
    ),
    "few broken": lambda: quietly(task(), from_gap(half_wrong), attacks=nearer(0.2)),
    "half wrong": lambda: quietly(task(), from_gap(half_wrong), attacks="boundary-walk"),
    "all wrong": lambda: quietly(task(), from_gap(lambda x: x.flatten(1).sum(dim=1) - 1.3)),
    "two attacks": lambda: quietly(task(), attacks=["ld-grad", "ld-grad-tight"]),
    "another unit": lambda: quietly(spherical_task([[20.0, 30.0], [200.0, 220.0]], 25.0)),
    "far apart": lambda: quietly(
        slanted(), from_gap(lambda x: 0.5 - x[:, 0, 0, 1]), attacks="boundary-walk"
    ),
}


@pytest.fixture(scope="module")
def made():
    """Each evaluation, made when it is first asked for."""
    kept: dict[str, Evaluation] = {}

    def of(name: str) -> Evaluation:
        if name not in kept:
            kept[name] = SITUATIONS[name]()
        return kept[name]

    return of


@pytest.fixture(scope="module")
def page(made):
    """The page of each evaluation, with one point in each part of its gallery."""
    kept: dict[str, str] = {}

    def of(name: str) -> str:
        if name not in kept:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(report, "SHOWN", 1)  # drawing takes long
                kept[name] = render(made(name))
        return kept[name]

    return of


def text_of(page: str) -> str:
    """What a reader sees, on one line."""
    bare = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(bare).split())


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_evaluation_has_a_page_in_one_self_contained_file(made, page, name, monkeypatch):
    monkeypatch.setattr(report, "SHOWN", 1)
    found, page = made(name), page(name)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not re.findall(r"https?://", re.sub(r"base64,[^\"]*", "", page))
    names = re.findall(r' id="([^"]*)"', page)
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(names)
    text = text_of(page)
    assert not re.findall(r"\b(?:None|nan|inf)\b", text)
    assert found.facts.points_sha256 in text
    assert found.facts.settings_sha256 in text
    assert all(doubt.finding in text and doubt.remedy in text for doubt in found.doubts)
    shown = [row for rows in chosen(found).values() for row in rows]
    assert all(" ".join(str(found.explain(row)).split()) in text for row in shown)
    assert len(re.findall("<img", page)) >= 1 + len(shown)


def test_the_files_hold_the_evaluation(made, page, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "SHOWN", 1)
    found = made("plain")
    paths = write_evaluation(found, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    numbers, everything, shown = paths
    assert json.loads(numbers.read_text()) == found.to_dict()
    assert load_evaluation(everything) == found
    assert shown.read_text(encoding="utf-8") == page("plain")


def numbers_in(text: str) -> list[float]:
    return [float(word.replace("−", "-")) for word in re.findall(r"−?\d+\.\d+", text)]


def test_the_sentences_say_the_headline_numbers(made):
    found = made("half wrong")
    assert found.no_gap is None
    first, second, third, *rest = headline(found)
    assert f"{found.best.clean_accuracy:.1%}".replace("%", "") in first
    for sentence, estimates in (
        (first, [present(found.best.mean)]),
        (second, [present(found.optimum)]),
        (third, [present(found.to_optimum.ratio), present(found.to_optimum.estimate)]),
    ):
        want = [number for estimate in estimates for number in estimate]
        assert numbers_in(sentence)[-len(want) :] == pytest.approx(want, abs=0.006)
    assert bool(rest) == (found.gap_high < 0)


def test_a_gap_of_nothing_has_no_sign(made):
    found = made("plain")
    assert abs(found.gap) < 1e-6
    assert {tile.label: tile.value for tile in tiles(found)}["gap"] == "0.00"
    assert "−" not in " ".join(headline(found))


def test_a_gap_below_0_is_explained(made):
    found = made("far apart")
    assert found.gap < -1
    assert "A gap below 0 is no mistake" in [*headline(found)][-1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no certificates", "There is no gap to the optimum: the optimum was not certified at"),
        ("other densities", "certificates exist for mixtures of factor analyzers alone"),
        ("another norm", "certificates are of L2, the sizes of Linf"),
        ("nothing broken", "No attack broke any of the 24"),
        ("few broken", "Sizes found against the classifier mean nothing here"),
        ("few broken", "that withstood every attack"),
        ("all wrong", "So there is nothing that an attack could break."),
        ("given points", "24 given points of the task"),
    ],
)
def test_why_there_is_no_more_is_said(made, name, said):
    assert said in " ".join(headline(made(name)))


def test_a_mean_over_too_few_is_marked_everywhere(made, page):
    found = made("few broken")
    assert 0 < present(found.best.success_rate) < 0.99
    (row,) = attacks_table(found).rows
    assert row[2].endswith(" †")
    assert "†" in attacks_table(found).note
    assert any(tile.value.endswith(" †") for tile in tiles(found))
    assert "†" in page("few broken")
    assert "†" not in page("plain") + page("nothing broken")


def test_doubts_stand_before_the_numbers_with_what_they_void(made, page):
    found, doubted, plain = made("few broken"), page("few broken"), page("plain")
    doubt = next(doubt for doubt in found.doubts if doubt.voids)
    assert doubted.index(html.escape(doubt.finding)) < doubted.index('class="tiles"')
    assert "sizes mean nothing" in doubted
    assert "mean nothing" not in plain
    assert "Nothing doubtful was found" in plain


def test_each_attack_has_its_line_with_what_it_took(made):
    found = made("two attacks")
    table = attacks_table(found)
    assert [row[0] for row in table.rows] == ["ld-grad", "ld-grad-tight", "nearest of all"]
    for row, (name, taken) in zip(table.rows, found.passes.items(), strict=False):
        assert numbers_in(row[2]) == pytest.approx([found.attacks[name].mean.value], abs=0.001)
        assert row[-3:-1] == [f"{taken.forwards:.0f}", f"{taken.backwards:.0f}"]


def test_each_class_has_its_numbers(made):
    found = made("half wrong")
    for label, row in enumerate(classes_table(found).rows):
        own = found.y == label
        right = own & (found.nearest.before == found.y)
        assert row[:3] == [f"class {label}", "50\u202f%", str(int(own.sum()))]
        assert float(row[3].rstrip("\u202f%")) == pytest.approx(
            100 * float(right.sum() / own.sum()), abs=0.06
        )
        assert float(row[5]) == pytest.approx(found.nearest.sizes[right].mean().item(), abs=0.006)
        certified = found.bracket.lower[own & found.bracket.correct].mean().item()
        assert float(row[7]) == pytest.approx(certified, abs=0.006)


def test_classes_of_one_name_have_numbers_of_their_own(made):
    found = made("half wrong")
    named = dataclasses.replace(found.facts, class_names=["one", "one"])
    again = dataclasses.replace(found, facts=named)
    assert [row[1:] for row in classes_table(again).rows] == [
        row[1:] for row in classes_table(found).rows
    ]


def test_the_gallery_has_the_nearest_the_median_and_the_farthest_of_each_class(made):
    found = made("plain")
    groups = chosen(found)
    sizes, y = found.nearest.sizes, found.y
    for label in (0, 1):
        order = sizes.masked_fill(y != label, torch.inf).argsort()[: int((y == label).sum())]
        assert set(order[:2].tolist()) <= set(groups["Nearest to another decision"])
        assert set(order[-2:].tolist()) <= set(groups["Farthest"])
    nearest, middle, farthest = (
        sizes[groups[title]]
        for title in ("Nearest to another decision", "In the middle", "Farthest")
    )
    assert nearest.max() < middle.min()
    assert middle.max() < farthest.min()
    rows = [row for group in groups.values() for row in group]
    assert len(rows) == len(set(rows)) == 12


def test_the_gallery_is_spread_over_as_many_classes_as_it_has_places_for(made):
    groups = chosen(made("ten classes"))
    y = made("ten classes").y
    assert all(len(set(y[rows].tolist())) == 4 for rows in groups.values())


def test_the_gallery_of_few_points_shows_each_once(made):
    found = quietly(task(), per_class=1)
    assert sorted(row for rows in chosen(found).values() for row in rows) == [0, 1]


def test_what_withstood_and_what_is_wrong_is_shown(made):
    found = made("few broken")
    groups = chosen(found)
    nearest = found.nearest
    assert (nearest.before[groups["Decided wrongly"]] != found.y[groups["Decided wrongly"]]).all()
    assert nearest.sizes[groups["Withstood every attack"]].isinf().all()
    assert set(chosen(made("nothing broken"))) == {"Withstood every attack"}
    assert set(chosen(made("all wrong"))) == {"Decided wrongly"}


def test_names_from_strangers_are_text(monkeypatch):
    monkeypatch.setattr(report, "SHOWN", 1)
    known = reshaped(
        spherical_task(APART, 0.005), class_names=["<script>0", "$x_{"], name="<img src=x>"
    )
    found = quietly(known)
    found.__dict__["doubts"] = (Doubt("<b>n</b>", "<i>f</i>", "<u>r</u>", voids=True),)
    page = render(found)
    for name in ("<script>0", "<img src=x>", "<b>n</b>", "<i>f</i>", "<u>r</u>"):
        assert name not in page
        assert name in html.unescape(page)
    assert "$x_{" in page
