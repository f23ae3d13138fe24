import re
import warnings
from html.parser import HTMLParser

import pytest

from bayesgap.attacks.base import Attack
from bayesgap.evaluation.doubts import DoubtWarning
from bayesgap.evaluation.evaluate import evaluate
from bayesgap.evaluation.html import as_html
from bayesgap.tasks.task import Task
from toys import Returns, spherical_task


class Cells(HTMLParser):
    """The texts of a table's cells, and the names of all tags."""

    def __init__(self, page: str):
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.texts.append("")

    def handle_data(self, data):
        self.texts[-1] += data


def evaluated(*, attacks: str | Attack = "ld-grad-tight", **names):
    plain = spherical_task([[0.0, 0, 0], [1, 1, 0]], 0.01)
    known = Task(plain.densities, image_shape=(1, 1, 3), **names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DoubtWarning)
        return evaluate(known.bayes_classifier(), known, attacks=attacks, per_class=12)


def rows(found) -> dict[str, str]:
    texts = [text for text in Cells(as_html(found)).texts if text]
    return dict(zip(texts[1::2], texts[2::2], strict=True))


def test_the_table_holds_the_headline_numbers():
    found = evaluated()
    shown = rows(found)
    assert shown["accuracy"] == "100.0% of 24 points"
    for name, estimate in (
        ("mean L2 found against the classifier", found.best.mean),
        ("optimum's mean certified L2", found.optimum),
        ("ratio", found.to_optimum.ratio),
        ("gap", found.to_optimum.estimate),
    ):
        numbers = [float(each) for each in re.findall(r"-?[\d.]+(?:e-\d+)?", shown[name])]
        assert numbers == pytest.approx(list(estimate), rel=1e-3)
    assert "no gap" not in shown


def test_doubts_and_why_there_is_no_gap_are_in_it():
    found = evaluated(attacks=Returns(lambda x: x))
    shown = rows(found)
    assert found.doubts
    for doubt in found.doubts:
        assert shown[f"doubt: {doubt.name}"] == f"{doubt.finding}. {doubt.remedy}"
    assert shown["no gap"] == found.no_gap
    assert shown["mean L2 found against the classifier"] == "unknown"
    assert "gap" not in shown


def test_names_from_strangers_are_text():
    found = evaluated(name="</table><script>alert(1)</script>&amp;")
    made = Cells(as_html(found))
    assert made.tags == {"table", "caption", "tr", "th", "td"}
    assert any("</table><script>alert(1)</script>&amp;" in text for text in made.texts)
