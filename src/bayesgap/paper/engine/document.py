"""The numbers of a run as files: the one place where they become dictionaries."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bayesgap._version import __version__
from bayesgap.experiment import ASYMMETRIC
from bayesgap.paper.engine.claim import Claim
from bayesgap.paper.engine.run import Reproduction
from bayesgap.runs.run import Finished
from bayesgap.runs.source import package_digest
from bayesgap.runs.stage import Stage
from bayesgap.versions import versions

THEORY = "observations"  # the exhibit whose values stand at the top level, as "theory"


def csv_columns(norm: str) -> tuple[str, ...]:
    """The columns of `results.csv`.

    Args:
        norm: The key of the norm that perturbations were measured by, such as "l2".
    """
    mean = f"mean_{norm}"
    return (
        *("task", "variant", "classifier", "attack", "norm", "seeds", "points"),
        *("clean_accuracy", "robust_accuracy", "adversarial_accuracy", "success_rate", "unbroken"),
        *(f"{name}{end}" for name in (mean, "certified_lower", "gap") for end in ENDS),
        "share_within_5",
    )


ENDS = ("", "_low", "_high")


def as_document(made: Reproduction, claims: Mapping[str, Sequence[Claim]]) -> dict[str, Any]:
    """What `results.json` holds.

    Args:
        made: What came of the run.
        claims: The claims of each exhibit, by its name.
    """
    setting, cases = made.plan.setting, made.cases.values()
    measured = [one for case in cases for one in case.measured.values()]
    exhibits = {
        exhibit.name: {str(key): made.finished[stage].values for key, stage in stages.items()}
        for exhibit in made.plan.exhibits
        if (stages := made.plan.wanted[exhibit.name].stages)
    }
    return {
        "format": "bayesgap.results/2",
        "version": __version__,
        "scale": setting.scale,
        "sizes": {setting.source(case.case.task).what: asdict(case.graph.scale) for case in cases},
        "seed": setting.seed,
        "environment": {
            "source": package_digest(),
            **versions(),
            "python": sys.version.split()[0],
        },
        "tasks": [case.facts_record() for case in cases],
        "results": [one.record() for one in measured],
        "attacks": [record for one in measured for record in one.attack_records()],
        "subpopulations": [
            part.record()
            for case in cases
            if case.case.variant == ASYMMETRIC
            for part in case.parts()
        ],
        "theory": next(iter(exhibits.pop(THEORY, {}).values()), None),
        "exhibits": exhibits,
        "claims": [
            {"exhibit": name, **claim.record()}
            for name, several in claims.items()
            for claim in several
        ],
        "stages": [stage_record(stage, made.finished) for stage in made.finished.stages],
    }


def stage_record(stage: Stage, finished: Finished) -> dict[str, Any]:
    """What a stage was and how long it took."""
    manifest = finished.manifest(stage)
    keys = ("stage", "label", "settings", "seed", "threads", "seconds")
    return {key: manifest[key] for key in keys}


def as_csv(made: Reproduction) -> str:
    """The headline records, and nothing that differs between two runs of the same settings."""
    text = io.StringIO()
    columns = csv_columns(made.plan.setting.norm.key)
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for case in made.cases.values():
        writer.writerows(one.record() for one in case.measured.values())
    return text.getvalue()
