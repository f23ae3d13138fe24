"""The report: one self-contained HTML file, made from a run's results."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from bayesgap import files
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.measure import HEADLINE_SUCCESS
from bayesgap.paper import table1
from bayesgap.paper.claims import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED, Claim, judge
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.observations import SCENES
from bayesgap.paper.results import Results, as_csv, as_document
from bayesgap.progress import progress
from bayesgap.report import plots, theory_plots

FILES = ("report.html", "results.json", "results.csv")


def write_report(results: Results, folder: Path) -> tuple[dict[str, Any], list[Claim]]:
    """Write `report.html`, `results.json` and `results.csv`, each whole or not at all.

    Returns:
        What `results.json` holds, and the claims.

    Raises:
        BayesgapError: the folder cannot be written to.
    """
    make_folder(folder)
    document = as_document(results)
    claims = judge(results)
    document["claims"] = [_claim_record(claim) for claim in claims]
    html = render(results, document, claims)
    contents = dict(
        zip(FILES, (html, files.dump(document, indent=1) + "\n", as_csv(document)), strict=True)
    )
    for name, text in contents.items():
        _write(folder / name, text)
    return document, claims


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


def render(results: Results, document: dict[str, Any], claims: Sequence[Claim]) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("bayesgap.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent,
        l2=_l2,
        interval=_interval,
        number=_number,
        signed=_signed,
        slug=_slug,
        bracket=plots.bracket,
    )
    return environment.get_template("report.html").render(
        document=document,
        claims=claims,
        summary=_summary(results),
        counts={
            verdict: sum(claim.verdict == verdict for claim in claims)
            for verdict in (REPRODUCED, NOT_REPRODUCED, NOT_DECIDED)
        },
        names=plots.NAMES,
        headline_success=HEADLINE_SUCCESS,
        table1=table1.rows(document),
        pictures=_pictures(results),
        tasks=results.tasks,
        time=_time_by_kind(document),
        theory_scenes=_theory_scenes(document["theory"]),
    )


def _summary(results: Results) -> list[str]:
    """The run in a few sentences, all of whose numbers are computed."""

    def span(values: list[float | None]) -> str:
        known = [value for value in values if value is not None]
        return f"{min(known):#.3g} to {max(known):#.3g}" if known else "an unknown share"

    def sizes(variant: str, key: str) -> str:
        return span([results.headline(task, variant, BAYES)[key] for task in results.tasks])

    def relative(kind: str) -> str:
        gaps = [results.headline(task, "symmetric", kind)["gap"] for task in results.tasks]
        return span([None if gap is None else 1 - gap for gap in gaps])

    return [
        f"On the symmetric tasks the Bayes-optimal classifier provably withstands changes of a "
        f"mean L2 of {sizes('symmetric', 'certified_lower')}; on the asymmetric ones it gives way "
        f"at {sizes('asymmetric', 'mean_l2')}: there the data are at fault.",
        f"Trained on the symmetric tasks' samples, CNNs reach {relative('cnn')} of the optimum's "
        f"certified mean L2 and linear SVMs {relative('linear-svm')}, RBF SVMs "
        f"{relative('rbf-svm')}: there the training makes the difference.",
    ]


def _pictures(results: Results) -> dict[str, Markup]:
    makers: dict[str, Any] = {
        "sizes": (plots.perturbation_sizes, "svg"),
        "shares": (plots.broken_shares, "svg"),
        "gamma": (plots.gamma_curves, "svg"),
        "narrow": (lambda found: theory_plots.narrow_directions(found.theory), "svg"),
        "quantised": (lambda found: theory_plots.quantised_features(found.theory), "svg"),
    }
    pictures = {}
    with progress("drawing the report", len(makers) + 2 * len(results.tasks)) as advance:
        for name, (maker, kind) in makers.items():
            pictures[name] = _embedded(maker(results), kind)
            advance(note=name)
        for task in results.tasks:
            for name, draw in (("samples", plots.samples), ("gallery", plots.gallery)):
                pictures[f"{name} {task}"] = _embedded(draw(results, task), "png")
                advance(note=f"{name} of {task}")
    return pictures


def _embedded(figure: Figure, kind: str) -> Markup:
    """A picture as a data URL."""
    data = io.BytesIO()
    # Without a date, and with a fixed salt, the same results give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "bayesgap", "svg.fonttype": "path"}):
        figure.savefig(data, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else {})
    media = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return Markup(f"data:{media};base64,{base64.b64encode(data.getvalue()).decode()}")


def _theory_scenes(theory: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of the table of observations 1 and 2."""
    return [
        {
            "name": name.replace("/", ", "),
            "radii": [record["upper"][1] for record in theory[name]["records"]],
            "slope": theory[name]["slopes"]["upper"],
            "within": theory[name]["records"][-1]["upper_within_along"],
            "near": theory[name]["records"][-1]["near"],
        }
        for name in SCENES
    ]


def _time_by_kind(document: dict[str, Any]) -> list[tuple[str, int, float]]:
    kinds: dict[str, list[float]] = {}
    for stage in document["stages"]:
        name = stage["stage"]
        if name == "attack":
            name = f"attack: {stage['settings']['attack']}"
        kinds.setdefault(name, []).append(stage["seconds"])
    return [(name, len(seconds), sum(seconds)) for name, seconds in kinds.items()]


def _claim_record(claim: Claim) -> dict[str, Any]:
    keys = ("label", "value", "low", "high", "verdict")
    return {
        **{key: getattr(claim, key) for key in ("name", "statement", "paper", "rule", "verdict")},
        "numbers": [{key: getattr(number, key) for key in keys} for number in claim.numbers],
    }


def _write(path: Path, text: str) -> None:
    files.write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _percent(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "–"
    text = f"{100 * value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "\u202f%"


def _l2(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_l2(low)} – {_l2(high)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _signed(value: float) -> str:
    """Two digits after the point, one of large numbers, and a true minus sign."""
    return f"{value:.{2 if abs(value) < 10 else 1}f}".replace("-", "−")


def _slug(text: str) -> str:
    return text.replace(" ", "-")
