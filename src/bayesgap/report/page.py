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
from matplotlib.figure import Figure

from bayesgap import files
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.measure import HEADLINE_SUCCESS
from bayesgap.paper.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED, Claim
from bayesgap.paper.exhibit import Exhibit
from bayesgap.paper.exhibits import EXHIBITS, MAIN, judge
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.jobs import ASYMMETRIC, KINDS, SYMMETRIC
from bayesgap.paper.observations import SCENES
from bayesgap.paper.results import Results, as_csv, as_document
from bayesgap.paper.scales import FACES
from bayesgap.progress import progress
from bayesgap.report import galleries, plots, theory_plots, words
from bayesgap.report.exhibits import SECTIONS
from bayesgap.report.markdown import claims_page
from bayesgap.report.section import Picture, Section
from bayesgap.runs.stage import Stage
from bayesgap.runs.store import Result

FILES = ("report.html", "results.json", "results.csv", "claims.md")
COLUMNS = 4  # tasks beside each other


@dataclass(frozen=True)
class Shown:
    """One figure or table on the page; without a section where nothing that it needs is there."""

    exhibit: Exhibit
    section: Section | None
    claims: Sequence[Claim]


@dataclass(frozen=True)
class Wanted:
    """What a report is to hold.

    Attributes:
        exhibits: Figures and tables with a section each.
        main: Whether to show the main job: results, theory and all of its numbers.
        faces: Whether to show faces. Without them a report may be published.
    """

    exhibits: Sequence[Exhibit]
    main: bool
    faces: bool = True


def write_report(results: Results, wanted: Wanted, folder: Path) -> dict[str, Any]:
    """Write the files of a report, each whole or not at all.

    Returns:
        What `results.json` holds.

    Raises:
        BayesgapError: the folder cannot be written to.
    """
    make_folder(folder)
    document = as_document(results)
    judged = list(wanted.exhibits)
    judged += [EXHIBITS[name] for name in MAIN if wanted.main and EXHIBITS[name] not in judged]
    by_exhibit = judge(judged, results.setting, results.finished, results)
    document["claims"] = [
        {"exhibit": name, **claim.record()}
        for name, several in by_exhibit.items()
        for claim in several
    ]
    found = {e.name: e.found(results.setting, results.finished) for e in wanted.exhibits}
    document["exhibits"] = {
        name: {stage: result.values for stage, result in own.items()}
        for name, own in found.items()
        if own
    }
    html = render(results, wanted, document, by_exhibit, found)
    texts = (
        html,
        files.dump(document, indent=1) + "\n",
        as_csv(document),
        claims_page(by_exhibit, document),
    )
    contents = dict(zip(FILES, texts, strict=True))
    for name, text in contents.items():
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
    results: Results,
    wanted: Wanted,
    document: dict[str, Any],
    claims: Mapping[str, Sequence[Claim]],
    found: Mapping[str, Mapping[str, Result]],
) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("bayesgap.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=words.percent,
        l2=words.l2,
        interval=words.interval,
        number=words.number,
        signed=words.signed,
        slug=words.slug,
        exhibit_name=words.exhibit_name,
        setting=words.setting,
        bracket=plots.bracket,
    )
    environment.filters["embedded"] = _embedded
    every = [claim for several in claims.values() for claim in several]
    main_tasks = results.tasks_with(ASYMMETRIC, KINDS[-1])
    return environment.get_template("report.html").render(
        document=document,
        main=wanted.main,
        faces=wanted.faces,
        claims=[(name, claim) for name, several in claims.items() for claim in several],
        summary=_summary(results, main_tasks) if wanted.main else [],
        counts={
            verdict: sum(claim.verdict == verdict for claim in every)
            for verdict in (REPRODUCED, NOT_REPRODUCED, NOT_DECIDED)
        },
        untested=sum(not claim.numbers for claim in every),
        names=plots.NAMES,
        headline_success=HEADLINE_SUCCESS,
        shown=_sections(results, wanted, claims, found),
        exhibits=[e.name for e in wanted.exhibits],
        pictures=_pictures(results, wanted, main_tasks) if wanted.main else {},
        gallery_tasks=_undrawn(wanted, main_tasks),
        time=_time_by_kind(results),
        theory_scenes=_theory_scenes(document["theory"]) if wanted.main else [],
    )


def _sections(
    results: Results,
    wanted: Wanted,
    claims: Mapping[str, Sequence[Claim]],
    found: Mapping[str, Mapping[str, Result]],
) -> list[Shown]:
    shown = []
    with progress("drawing figures and tables", len(wanted.exhibits)) as advance:
        for exhibit in wanted.exhibits:
            section = None
            if exhibit.available(results.setting):
                tasks = exhibit.tasks(results.setting)
                section = SECTIONS[exhibit.name](results, tasks, found[exhibit.name])
            shown.append(Shown(exhibit, section, claims.get(exhibit.name, ())))
            advance(note=exhibit.name)
    return shown


def _undrawn(wanted: Wanted, tasks: Sequence[str]) -> list[str]:
    """The tasks of the main job whose images no figure shows."""
    names = {exhibit.name for exhibit in wanted.exhibits}
    drawn = {"mnist-0-6": "fig17", "mnist-4-5": "fig18"}
    return [task for task in tasks if drawn.get(task) not in names] if wanted.main else []


def _summary(results: Results, tasks: Sequence[str]) -> list[str]:
    """The main job in a few sentences, all of whose numbers are computed."""

    def sizes(variant: str, key: str) -> str:
        return words.span([results.headline(task, variant, BAYES)[key] for task in tasks])

    def relative(kind: str) -> str:
        gaps = [results.headline(task, SYMMETRIC, kind)["gap"] for task in tasks]
        return words.span([None if gap is None else 1 - gap for gap in gaps])

    return [
        f"On the symmetric tasks the Bayes-optimal classifier provably withstands changes of a "
        f"mean L2 of {sizes(SYMMETRIC, 'certified_lower')}; on the asymmetric ones it gives way "
        f"at {sizes(ASYMMETRIC, 'mean_l2')}, which no training can be blamed for.",
        f"Trained on the symmetric tasks' samples, CNNs reach {relative('cnn')} of the optimum's "
        f"certified mean L2 and linear SVMs {relative('linear-svm')}, RBF SVMs "
        f"{relative('rbf-svm')}, of the same data.",
    ]


def _pictures(results: Results, wanted: Wanted, tasks: Sequence[str]) -> dict[str, list[Picture]]:
    """The pictures of the main job, by the place where they stand."""
    both = {f"{v} tasks": [(v, kind) for kind in KINDS] for v in (SYMMETRIC, ASYMMETRIC)}
    theory = results.theory or Result()
    curves = [task for task in results.tasks if results.job(task, SYMMETRIC).gamma is not None]
    groups = [
        group[start : start + COLUMNS]
        for group in (
            [task for task in curves if not task.startswith(FACES)],
            [task for task in curves if task.startswith(FACES)],
        )
        for start in range(0, len(group), COLUMNS)
    ]
    undrawn = _undrawn(wanted, tasks)
    with progress("drawing the main job", 4 + len(groups) + 2 * len(undrawn)) as advance:
        pictures: dict[str, list[Picture]] = {}

        def add(place: str, figure: Figure, alt: str, caption: str, kind: Any = "svg") -> None:
            pictures.setdefault(place, []).append(Picture(figure, alt, caption, kind))
            advance(note=place)

        add(
            "sizes",
            plots.perturbation_sizes(results, both),
            "Bar charts of each classifier's mean L2 on the symmetric and asymmetric tasks",
            "The paper's figure 6: mean L2 of the best attack, with 95 % intervals. The asymmetric "
            "tasks are added.",
        )
        add(
            "sizes",
            plots.broken_shares(results),
            "Share of points decided wrongly against the size of the perturbation",
            "Share of all points, misclassified ones included, that are decided wrongly once "
            "perturbations up to a size are allowed.",
        )
        add(
            "theory",
            theory_plots.narrow_directions(theory),
            "Certified radius, distance along d and predicted rate against sigma 1",
            "Observations 1 and 2: medians, with the range of 9 in 10 points. Below, the radius "
            "over the distance along d alone, over the predicted distance from the point, and over "
            "the rate σ₁√L. With a broad outlier in both classes (dots) only those points give way "
            "whose own outlier is the less likely one: the proof of observation 2 does not cover "
            "this case, and the asymmetric tasks are of it.",
        )
        add(
            "theory",
            theory_plots.quantised_features(theory),
            "Tables of discrete features: decisions, samples and radii",
            "Observations 3 and 4: two features of 100 levels. Where class 1 alone keeps to single "
            "levels of the first, nearly all of it is decided otherwise within one step.",
        )
        for group in groups:
            add(
                "gamma",
                plots.gamma_curves(results, group),
                "Mean L2 and accuracy of RBF SVMs against gamma",
                "Mean L2 of the best attack (first seed, "
                f"{results.setting.scale_for(group[0]).curve_per_class} points a class) and "
                "validation accuracy over gamma.",
            )
        for task in undrawn:
            add(
                f"gallery {task}",
                galleries.samples(results, task),
                f"Real digits and samples of {task}",
                "Real digits and what the densities generate.",
                "png",
            )
            add(
                f"gallery {task}",
                galleries.gallery(results, task),
                f"Adversarial examples of {task}",
                "Attacks on the optimum of both variants and on the classifiers trained on the "
                "symmetric one.",
                "png",
            )
    return pictures


def _embedded(picture: Picture) -> Markup:
    """A picture as a data URL."""
    data = io.BytesIO()
    kind = picture.kind
    # Without a date, and with a fixed salt, the same results give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "bayesgap", "svg.fonttype": "path"}):
        picture.figure.savefig(
            data, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else {}
        )
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


def _time_by_kind(results: Results) -> list[tuple[str, int, float]]:
    kinds: dict[str, list[float]] = {}
    for stage in results.finished.stages:
        seconds = results.finished.manifest(stage)["seconds"]
        kinds.setdefault(_kind(stage), []).append(seconds)
    return [(name, len(seconds), sum(seconds)) for name, seconds in kinds.items()]


def _kind(stage: Stage) -> str:
    return f"attack: {stage.settings['attack']}" if stage.name == "attack" else stage.name


def _write(path: Path, text: str) -> None:
    files.write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
