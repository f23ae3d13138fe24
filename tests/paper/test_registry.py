import re

import pytest

from bayesgap.errors import BayesgapError
from bayesgap.images import sources
from bayesgap.paper.registry import EXHIBITS, MAIN, choose
from bayesgap.paper.reproduction import plan_by_name
from bayesgap.tasks.fit import fit_task
from blobs import PrivateBlobs

WORDS = {"fig": "Figure ", "table": "Table "}
OTHERS = {"observations", "gamma", "variants"}  # of the report alone
PAPERS = [*(f"fig{k}" for k in range(1, 19)), "table1", "table2"]


def test_exhibits_are_called_as_in_the_paper():
    labels = {exhibit.name: exhibit.label for exhibit in EXHIBITS}
    assert [labels[name] for name in ("fig12", "table2")] == ["Figure 12", "Table 2"]
    for name in PAPERS:
        assert labels[name] == re.sub("fig|table", lambda word: WORDS[word[0]], name)
    assert len(set(labels.values())) == len(EXHIBITS)


def test_every_figure_and_table_is_there_once():
    assert sorted(exhibit.name for exhibit in EXHIBITS) == sorted([*PAPERS, *OTHERS])


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_an_exhibit_says_what_it_shows_and_needs(exhibit):
    for text in (exhibit.title, exhibit.needs):
        assert text == text.strip()
        assert not text.endswith(".")  # the list adds it
        assert "\n" not in text


def test_names_are_chosen_in_the_order_that_was_asked_for():
    assert [each.name for each in choose(["table1", "fig2"])] == ["table1", "fig2"]
    assert [each.name for each in choose([])] == list(MAIN)
    assert choose(["all"]) == choose(["fig2", "all"]) == list(EXHIBITS)


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(BayesgapError, match=r"'fig19'\. Did you mean fig9\? Known are all, fig1, "):
        choose(["fig2", "fig19"])


def test_others_exhibits_can_be_chosen_from():
    few = EXHIBITS[:2]
    assert choose(["all"], few) == list(few)
    with pytest.raises(BayesgapError, match=r"Known are all, fig1, fig2\."):
        choose(["table1"], few)


def test_a_further_task_of_any_source_is_studied_where_it_is_asked_for(tmp_path, monkeypatch):
    source = PrivateBlobs()
    fit_task(source, "blobs-2", tmp_path)
    with pytest.raises(BayesgapError, match="There are no images for a task 'blobs-2'"):
        plan_by_name(["table1"], "quick", seed=0, tasks=tmp_path, further=["blobs-2"])
    monkeypatch.setattr(sources, "SOURCES", (*sources.SOURCES, source))  # its one line
    made = plan_by_name(["table1"], "quick", seed=0, tasks=tmp_path, further=["blobs-2"])
    assert made.graphs[-1].case.task == "blobs-2"
    with pytest.raises(BayesgapError, match=r"There is no task 'blobs-3' .* bayesgap fit"):
        plan_by_name(["table1"], "quick", seed=0, tasks=tmp_path, further=["blobs-3"])
