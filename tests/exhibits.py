"""What several tests of figures need: their own stages computed, and what they hand on."""

import dataclasses
import io
from typing import Any

from bayesgap.estimates import Estimate
from bayesgap.experiment.setting import Setting
from bayesgap.paper.engine.exhibit import Findings, Named, Wants
from bayesgap.runs.stage import in_order

SETTING = Setting("quick", 0, {})


def sure(estimate: Estimate) -> tuple[float, float, float]:
    """An estimate whose three numbers are known."""
    value, low, high = estimate
    assert value is not None
    assert low is not None
    assert high is not None
    return value, low, high


def found_of(results, setting=SETTING):
    """Findings of made-up results, by key or by name."""
    keyed = {Named(key) if isinstance(key, str) else key: each for key, each in results.items()}
    return Findings(setting, {}, Wants(), keyed)


def computed(exhibit, setting=SETTING):
    """Findings of all stages of an exhibit that attacks no classifiers."""
    wanted = exhibit.wants(setting)
    made: dict[str, Any] = {}
    for stage in in_order(wanted.stages.values()):
        inputs = {name: made[each.identity] for name, each in stage.inputs.items()}
        made[stage.identity] = stage.function(**inputs, **stage.settings, seed=stage.seed)
    results = {key: made[stage.identity] for key, stage in wanted.stages.items()}
    return Findings(setting, {}, wanted, results)


def replaced(found, results):
    """The same findings but for some results, by name."""
    return dataclasses.replace(found, results={**found.results, **found_of(results).results})


def drawn(section):
    """The figures of a section, drawn once, for constrained layouts may warn."""
    for picture in section.pictures:
        picture.figure.savefig(io.BytesIO(), format="png", dpi=40)
        assert picture.alt
        assert picture.caption
    assert all(isinstance(text, str) and "nan" not in text for text in section.text)
    for table in section.tables:
        assert all(len(row) == len(table.heading) for row in table.rows)
    return [picture.figure for picture in section.pictures]


def lines_of(axis):
    return {line.get_label(): line for line in axis.get_lines()}
