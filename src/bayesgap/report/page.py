"""The report: one self-contained HTML file, made from a run's results."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bayesgap import files
from bayesgap.drawing import SVG, Picture, Section, words
from bayesgap.errors import BayesgapError
from bayesgap.paper.engine import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED, Claim, Exhibit
from bayesgap.paper.engine.document import as_csv, as_document
from bayesgap.paper.engine.run import Reproduction
from bayesgap.progress import progress
from bayesgap.report.markdown import claims_page
from bayesgap.report.tables import attacks_table, results_table, tasks_table
from bayesgap.runs.stage import Stage

FILES = ("report.html", "results.json", "results.csv", "claims.md")
DPI = 130  # of pictures that are no lines


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
        _write(folder / name, text)
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
    environment = Environment(
        loader=PackageLoader("bayesgap.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "number", "slug", "setting"):
        environment.filters[name] = getattr(words, name)
    environment.filters["embedded"] = _embedded
    shown = _shown(made, claims)
    every = [claim for one in shown for claim in one.claims]
    cases = list(made.cases.values())
    return environment.get_template("report.html").render(
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


def _embedded(picture: Picture) -> Markup:
    """A picture as a data URL."""
    data = io.BytesIO()
    metadata = {"Date": None} if picture.kind == "svg" else {}
    with matplotlib.rc_context(SVG):
        picture.figure.savefig(data, format=picture.kind, dpi=DPI, metadata=metadata)
    media = {"svg": "image/svg+xml", "png": "image/png"}[picture.kind]
    return Markup(f"data:{media};base64,{base64.b64encode(data.getvalue()).decode()}")


def _time_by_kind(made: Reproduction) -> list[tuple[str, int, float]]:
    kinds: dict[str, list[float]] = {}
    for stage in made.finished.stages:
        kinds.setdefault(_kind(stage), []).append(made.finished.manifest(stage)["seconds"])
    return [(name, len(seconds), sum(seconds)) for name, seconds in kinds.items()]


def _kind(stage: Stage) -> str:
    return f"attack: {stage.settings['attack']}" if stage.name == "attack" else stage.name


def _write(path: Path, text: str) -> None:
    files.write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
