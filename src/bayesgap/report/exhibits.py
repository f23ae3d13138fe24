"""The section of the report for each figure and table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bayesgap.paper import fig9, fig12, table1, table2
from bayesgap.paper.claims import ACCURATE
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.fig10 import PAIRED_IMAGES
from bayesgap.paper.fig12 import LEARNED
from bayesgap.paper.jobs import (
    ASYMMETRIC,
    KINDS,
    NOISE_MULTIPLE,
    NOISY,
    REAL,
    ROBUST,
    SYMMETRIC,
    lower_bounds,
)
from bayesgap.paper.results import Results
from bayesgap.paper.scales import FACES
from bayesgap.report import galleries, plane_plots, plots
from bayesgap.report.plots import NAMES, bracket
from bayesgap.report.section import Picture, Section, Table
from bayesgap.report.words import interval, l2, percent, span
from bayesgap.runs.store import Result

Found = Mapping[str, Result]
Drawing = Callable[[Results, Sequence[str], Found], Section]  # of an exhibit's tasks
MISCLASSIFIED = (
    "Misclassified points are attacked too, away from the wrong decision, so that clean and "
    "adversarial accuracy add up to 100 % where every attack succeeds."
)
HISTOGRAM = (
    "The histogram is of the changes of all pixels, with the band of ±5/255; its outermost bins "
    "hold all beyond."
)
CHANGES = (
    "The change is magnified until its largest value is full scale; its L2 stands below. "
    + HISTOGRAM
)


def fig1(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """One image of each class."""
    (task,) = tasks
    sentence = (
        f"An image of each class of {task}, and the nearest images that the classifiers decide "
        "otherwise. Is the change one that you would see?"
    )
    picture = Picture(
        galleries.first_figure(results, task),
        f"Images of {task} and what alters each classifier's decision",
        "Below each image its change, magnified until its largest value is full scale, and its L2.",
        "png",
        faces=task.startswith(FACES),
    )
    return Section([sentence], [picture])


def fig4(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Samples, and both optima: of the task that the paper shows, where it is at hand."""
    shown = _shown(tasks)
    return Section(
        [_both_optima(results, tasks)],
        [
            _samples(results, shown),
            _gallery(results, shown, galleries.OPTIMA, f"Attacks on both optima of {shown}"),
        ],
        [_optima_table(results, tasks)],
    )


def fig6(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Mean L2 of every classifier."""
    shares = {
        kind: span(
            [
                None if gap is None else 1 - gap
                for gap in (results.headline(task, SYMMETRIC, kind)["gap"] for task in tasks)
            ]
        )
        for kind in KINDS[1:]
    }
    sentence = "Of the optimum's certified mean L2, " + ", ".join(
        f"{NAMES[kind]}s reach {share}" for kind, share in shares.items()
    )
    bars = {"symmetric tasks": [(SYMMETRIC, kind) for kind in KINDS]}
    return Section([sentence + "."], [_bars(results, bars, "each classifier on symmetric tasks")])


def fig7(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Both optima of more tasks."""
    return Section(
        [_both_optima(results, tasks)],
        [_gallery(results, task, galleries.OPTIMA, f"Both optima of {task}") for task in tasks],
    )


def gallery(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Figures 13 to 18: every classifier of one task."""
    (task,) = tasks
    records = [results.headline(task, SYMMETRIC, kind) for kind in KINDS]
    text = f"Mean L2 on {task}/symmetric, with clean accuracy and success: " + ", ".join(
        f"{NAMES[kind]} {l2(record['mean_l2'])} ({percent(record['clean_accuracy'])}, "
        f"{percent(record['success_rate'])})"
        for kind, record in zip(KINDS, records, strict=True)
    )
    about = f"Attacks on every classifier of {task}"
    return Section([text + "."], [_gallery(results, task, galleries.EVERY, about)])


def fig9_(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Curves over the samples seen."""
    curves = fig9.curves(found)
    accurate = [curve.means()[-1][0] for curve in curves if curve.accurate(-1)]
    sentence = (
        f"After {max(c.samples[-1] for c in curves):,} samples, {len(accurate)} of {len(curves)} "
        f"networks have an accuracy of {percent(ACCURATE)} or more in every training; their mean "
        f"L2 is {span(accurate)}. The optimum's certified lower bound is "
        f"{span([c.lower.nanmean().item() for c in curves])}."
    )
    table = Table(
        ["task", "network", "samples", "trainings", "accuracy", "success", "mean L2", "95 %"],
        [
            [
                curve.task,
                curve.name,
                f"{samples:,}",
                str(len(correct)),
                percent(sum(correct) / len(correct) / curve.images),
                percent(success),
                l2(mean[0]),
                interval(*mean[1:]),
            ]
            for curve in curves
            for samples, correct, success, mean in zip(
                curve.samples, curve.correct, curve.success, curve.means(), strict=True
            )
        ],
        "Accuracy on fresh samples; success is that of the training where it is lowest.",
        words=2,
    )
    picture = Picture(
        plots.training_curves(curves),
        "Mean L2 against samples seen in training, for CNNs of several widths and depths",
        "Lines are means over trainings, small dots the trainings; hollow where one of them is "
        f"less than {percent(ACCURATE)} accurate. What lies beyond {plots.HIGHEST:g} times the "
        f"optimum is cut off. Samples are drawn afresh for each mini-batch of {fig9.BATCH}.",
    )
    return Section([sentence], [picture], [table])


def fig10(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Fifty times the noise."""
    alike = [
        result.values[name] / PAIRED_IMAGES
        for result in found.values()
        for name in ("plain", "noisy")
    ]
    sentence = (
        f"The optima with and without {NOISE_MULTIPLE} times the noise decide "
        f"{percent(min(alike), 2)} of {PAIRED_IMAGES:,} samples alike, on the task where it is "
        "least."
    )
    bars = {
        f"{NOISE_MULTIPLE} times the noise": [
            (variant, kind) for kind in (BAYES, "cnn") for variant in (SYMMETRIC, NOISY)
        ]
    }
    return Section(
        [sentence],
        [
            _samples(results, _shown(tasks), (SYMMETRIC, NOISY)),
            _bars(results, bars, "the optimum and CNNs with and without noise"),
        ],
        [_table(results, tasks, (SYMMETRIC, NOISY), (BAYES, "cnn"))],
    )


def fig11(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Adversarial training."""
    balls = [
        f"{NAMES[kind]} radius {settings['ball']['radius']:g} on {scale.task_kind}"
        for scale in {job.scale.task_kind: job.scale for job in results.jobs}.values()
        for kind, settings in scale.robust.items()
    ]
    kinds = (BAYES, "cnn", *ROBUST)
    bars = {"symmetric tasks": [(SYMMETRIC, kind) for kind in kinds]}
    return Section(
        ["The radii are ours: " + ", ".join(balls) + ". Beta is the paper's 10."],
        [_bars(results, bars, "CNNs with and without adversarial training")],
        [_table(results, tasks, (SYMMETRIC,), kinds)],
    )


def fig12_(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Real images."""
    rows = []
    for task in tasks:
        for kind in LEARNED:
            record = results.headline(task, REAL, kind)
            paper = fig12.PAPER.get(task, {}).get(kind)
            ours = _numbers(record)
            if paper is None:
                rows.append([task, NAMES[kind], *ours, "–", "–", "–"])
            else:
                clean, adversarial = (
                    table1.with_interval(p, fig12.PAPER_POINTS) for p in paper[:2]
                )
                rows.append(
                    [
                        task,
                        NAMES[kind],
                        *ours,
                        *(
                            f"{percent(p[0])} ({percent(p[1])} to {percent(p[2])})"
                            for p in (clean, adversarial)
                        ),
                        l2(paper[2]),
                    ]
                )
    table = Table(
        [
            *("task", "classifier", "clean", "adversarial", "success", "mean L2", "95 %"),
            *("the paper: clean", "adversarial", "mean L2"),
        ],
        rows,
        f"The paper's percentages with the binomial 95 % intervals of {fig12.PAPER_POINTS} points, "
        "from which they seem to come. There is no optimum: the density of real images is not "
        "known.",
        words=2,
    )
    bars = {"real images": [(REAL, kind) for kind in LEARNED]}
    galleries_ = [
        _gallery(
            results,
            task,
            [(REAL, kind) for kind in LEARNED],
            f"Attacks on classifiers trained on the real images of {task}",
        )
        for task in (_shown(tasks),)
    ]
    return Section([], [_bars(results, bars, "classifiers of real images"), *galleries_], [table])


def table1_(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Clean and adversarial accuracies."""
    records = [
        record
        for measured in results.measured.values()
        for record in (measured.headline, *measured.records)
    ]
    headlines = [measured.headline for measured in results.measured.values()]
    attacks = [r for r in records if not any(r is h for h in headlines)]
    rows = []
    for cell in table1.rows({"results": headlines, "attacks": attacks}):
        same, best = cell["same_attack"], cell["best"]
        clean, adversarial = cell["paper_clean"], cell["paper_adversarial"]
        outside = same and not adversarial[1] <= same["adversarial_accuracy"] <= adversarial[2]
        rows.append(
            [
                cell["task"],
                NAMES[cell["classifier"]],
                f"{percent(clean[0])} ({percent(adversarial[0])})",
                f"{percent(clean[1])} to {percent(clean[2])} "
                f"({percent(adversarial[1])} to {percent(adversarial[2])})",
                cell["paper_attack"],
                _both(same) + (" †" if outside else "") if same else "not run at this scale",
                _both(best),
            ]
        )
    table = Table(
        [
            *("task", "classifier", "the paper", "its 95 % intervals", "its attack"),
            *("ours by that attack", "ours by the best attack"),
        ],
        rows,
        "Clean accuracy, adversarial accuracy in brackets. The paper's percentages come from about "
        "100 digits or 50 faces. † marks adversarial accuracies outside the paper's interval.",
        words=2,
    )
    return Section([], tables=[table])


def table2_(results: Results, tasks: Sequence[str], found: Found) -> Section:
    """Real test images."""
    rows = []
    for row in table2.rows(found):
        paper = table2.PAPER.get(row.task) if row.kind in ROBUST else None
        rows.append(
            [
                row.task,
                NAMES[row.kind],
                *(percent(right.mean().item()) for right in (row.real, row.symmetric)),
                percent(table2.mean_loss([row]).mean().item()),
                " / ".join(f"{images:,}" for images in row.learned_from),
                f"{row.loss.shape[1]:,}",
                *(("–", "–", "–") if paper is None else (*(f"{p:g} %" for p in paper), "")),
            ]
        )
        if paper is not None:
            rows[-1][-1] = f"{paper[0] - paper[1]:.1f} %"
    table = Table(
        [
            *("task", "CNN", "trained on real", "on symmetric", "loss"),
            *("learned from real / samples", "real test images"),
            *("the paper: real", "symmetric", "loss"),
        ],
        rows,
        "Accuracy on real test images, mean over trainings. The paper does not say which ball its "
        "adversarial training used; its numbers stand beside both.",
        words=2,
    )
    return Section([], tables=[table])


def _shown(tasks: Sequence[str]) -> str:
    """The task that the paper shows, or the first where it is not at hand."""
    return "celeba-male" if "celeba-male" in tasks else tasks[0]


def _both_optima(results: Results, tasks: Sequence[str]) -> str:
    symmetric = span([results.headline(t, SYMMETRIC, BAYES)["certified_lower"] for t in tasks])
    asymmetric = span([results.headline(t, ASYMMETRIC, BAYES)["mean_l2"] for t in tasks])
    return (
        f"On the symmetric tasks the optimum's decisions withstand changes of a mean L2 of "
        f"{symmetric}, which is proven; on the asymmetric ones {asymmetric} alters them."
    )


def _optima_table(results: Results, tasks: Sequence[str]) -> Table:
    rows = []
    for task in tasks:
        for variant in (SYMMETRIC, ASYMMETRIC):
            record = results.headline(task, variant, BAYES)
            study = results.optima[task, variant]
            lower = lower_bounds(results.job(task, variant), results.finished)
            y = results.points[task, variant]["y"]
            by_class = (l2(lower[y == label].nanmean().item()) for label in y.unique())
            rows.append(
                [
                    f"{task}/{variant}",
                    percent(study["correct"] / study["images"], 2),
                    bracket(record),
                    ", ".join(by_class),
                    percent(record["share_within_5"]),
                ]
            )
    heading = ["task", "accuracy", "certified mean L2", "lower bound by class"]
    heading.append("pixels within 5/255")
    note = "Certified: from the proven lower bound to the L2 of the images that show the upper one."
    return Table(heading, rows, note)


def _table(
    results: Results, tasks: Sequence[str], variants: Sequence[str], kinds: Sequence[str]
) -> Table:
    """The numbers of the best attack on some kinds of classifiers."""
    rows = [
        [f"{task}/{variant}", NAMES[kind], *_numbers(record), _gap(record)]
        for task in tasks
        for variant in variants
        for kind in kinds
        for record in (results.headline(task, variant, kind),)
    ]
    return Table(
        ["task", "classifier", "clean", "adversarial", "success", "mean L2", "95 %", "gap"],
        rows,
        f"By the best attack; the optimum's mean L2 is that of its certificates. {MISCLASSIFIED}",
        words=2,
    )


def _numbers(record: Mapping[str, Any]) -> list[str]:
    return [
        percent(record["clean_accuracy"]),
        percent(record["adversarial_accuracy"]),
        percent(record["success_rate"]),
        l2(record["mean_l2"]),
        interval(record["mean_l2_low"], record["mean_l2_high"]),
    ]


def _gap(record: Mapping[str, Any]) -> str:
    gap = record.get("gap")
    return "" if gap is None else f"{gap:.2f}".replace("-", "−")


def _both(record: Mapping[str, Any]) -> str:
    return f"{percent(record['clean_accuracy'])} ({percent(record['adversarial_accuracy'])})"


def _bars(results: Results, bars: Mapping[str, Sequence[tuple[str, str]]], about: str) -> Picture:
    return Picture(
        plots.perturbation_sizes(results, bars),
        f"Bar chart of the mean L2 of {about}",
        f"Mean L2 of the best attack on {about}, with 95 % intervals over trainings and points.",
    )


def _samples(
    results: Results, task: str, variants: Sequence[str] = (SYMMETRIC, ASYMMETRIC)
) -> Picture:
    return Picture(
        galleries.samples(results, task, variants),
        f"Real images and samples of {task}",
        f"Real images and what the densities of {task} generate, clipped to [0, 1].",
        "png",
        faces=task.startswith(FACES),
    )


def _gallery(results: Results, task: str, blocks: Sequence[tuple[str, str]], about: str) -> Picture:
    return Picture(
        galleries.gallery(results, task, blocks),
        about,
        f"{about}: originals, the nearest adversarial images found, and their changes. {CHANGES}",
        "png",
        faces=task.startswith(FACES),
        instead=Picture(
            galleries.histograms(results, task, blocks),
            f"{about}: histograms of the changes of pixels",
            f"{about}, without the images. {HISTOGRAM}",
        ),
    )


def _plane(draw: Callable[[Found], Section]) -> Drawing:
    return lambda results, tasks, found: draw(found)


SECTIONS: dict[str, Drawing] = {
    "fig1": fig1,
    "fig2": _plane(plane_plots.fig2),
    "fig3": _plane(plane_plots.fig3),
    "fig4": fig4,
    "fig5": _plane(plane_plots.fig5),
    "fig6": fig6,
    "fig7": fig7,
    "fig8": _plane(plane_plots.fig8),
    "fig9": fig9_,
    "fig10": fig10,
    "fig11": fig11,
    "fig12": fig12_,
    **dict.fromkeys(("fig13", "fig14", "fig15", "fig16", "fig17", "fig18"), gallery),
    "table1": table1_,
    "table2": table2_,
}
