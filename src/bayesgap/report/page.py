"""The report: one self-contained HTML file, made from a run's results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayesgap import files
from bayesgap.drawing import Section
from bayesgap.errors import BayesgapError
from bayesgap.paper.engine import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED, Claim, Exhibit
from bayesgap.paper.engine.document import as_csv, as_document
from bayesgap.paper.engine.run import Reproduction
from bayesgap.progress import progress
from bayesgap.report.html import rendered, write_text
from bayesgap.report.markdown import claims_page
from bayesgap.report.tables import attacks_table, results_table, tasks_table
from bayesgap.runs.stage import Stage

FILES = ("report.html", "results.json", "results.csv", "claims.md")


@dataclass(frozen=True)
class Shown:
    """One figure or table on the page.

    Attributes:
        exhibit: The figure or table.
        section: What it shows; None where nothing that it needs was at hand.
        claims: Its claims, judged.
    """

    exhibit: Exhibit
    section: Section | None
    claims: Sequence[Claim]


def write_report(made: Reproduction, folder: Path, *, private: bool = True) -> dict[str, Any]:
    """Write the files of a report, each whole or not at all.

    Args:
        made: What came of the run.
        folder: Where the files go; made where it is missing.
        private: Whether to show what may not be published, as pictures of faces.

    Returns:
        What `results.json` holds.

    Raises:
        BayesgapError: the folder cannot be written to.
    """
    make_folder(folder)
    claims = made.claims()
    document = as_document(made, claims)
    texts = (
        render(made, document, claims, private=private),
        files.dump(document, indent=1) + "\n",
        as_csv(made),
        claims_page(claims, document),
    )
    for name, text in zip(FILES, texts, strict=True):
        write_text(folder / name, text)
    return document


def make_folder(folder: Path) -> None:
    """Make the folder of a report, so that a run fails before it computes and not after.

    Raises:
        BayesgapError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise BayesgapError(f"Cannot write to {folder}: it is a file, not a folder.") from error
    except OSError as error:
        raise BayesgapError(f"Cannot write to {folder}: {error.strerror or error}.") from error
    probe = folder / ".probe"
    files.write_whole(probe, lambda temporary: temporary.touch())
    probe.unlink()


def render(
    made: Reproduction,
    document: dict[str, Any],
    claims: Mapping[str, Sequence[Claim]],
    *,
    private: bool,
) -> str:
    """The page.

    Args:
        made: What came of the run.
        document: What `results.json` holds.
        claims: The claims of each exhibit, by its name.
        private: Whether to show what may not be published.
    """
    shown = _shown(made, claims)
    every = [claim for one in shown for claim in one.claims]
    cases = list(made.cases.values())
    return rendered(
        "report.html",
        document=document,
        private=private,
        shown=shown,
        claims=[(one.exhibit.name, claim) for one in shown for claim in one.claims],
        summary=[text for one in shown if one.section for text in one.section.summary],
        counts={
            verdict: sum(claim.verdict == verdict for claim in every)
            for verdict in (REPRODUCED, NOT_REPRODUCED, NOT_DECIDED)
        },
        untested=sum(not claim.numbers for claim in every),
        results=results_table(cases),
        attacks=attacks_table(cases),
        tasks=tasks_table(cases),
        time=_time_by_kind(made),
    )


def _shown(made: Reproduction, claims: Mapping[str, Sequence[Claim]]) -> list[Shown]:
    shown = []
    exhibits = made.plan.exhibits
    with progress("drawing figures and tables", len(exhibits)) as advance:
        for exhibit in exhibits:
            found = made.findings(exhibit)
            section = None if found is None else exhibit.section(found)
            shown.append(Shown(exhibit, section, claims.get(exhibit.name, ())))
            advance(note=exhibit.name)
    return shown


def _time_by_kind(made: Reproduction) -> list[tuple[str, int, float]]:
    kinds: dict[str, list[float]] = {}
    for stage in made.finished.stages:
        kinds.setdefault(_kind(stage), []).append(made.finished.manifest(stage)["seconds"])
    return [(name, len(seconds), sum(seconds)) for name, seconds in kinds.items()]


def _kind(stage: Stage) -> str:
    return f"attack: {stage.settings['attack']}" if stage.name == "attack" else stage.name
