"""Pictures and tables of classifiers that several figures show, with their captions."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from bayesgap.drawing import Picture, Table, bars, galleries, interval, percent, signed, size
from bayesgap.drawing.galleries import Block
from bayesgap.experiment import ASYMMETRIC, REAL, SYMMETRIC, Case, CaseResults, Kind, Measured
from bayesgap.images.source import LEVELS
from bayesgap.paper.engine import Findings

PAPERS_TASK = "celeba-male"  # which the paper's figures 1 and 4 show
OWN_TASKS = "the package's own tasks"
OWN_TASKS_AND_FACES = f"{OWN_TASKS}, and faces where they are fitted"
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


def shown_of(tasks: Sequence[str]) -> str:
    """The task that the paper shows, or the first where it is not at hand."""
    return PAPERS_TASK if PAPERS_TASK in tasks else tasks[0]


def publishable(findings: Findings, task: str) -> bool:
    """Whether pictures of a task's images may be published."""
    return findings.setting.source(task).publishable


def bar_chart(charts: Mapping[str, Sequence[Sequence[Measured]]], about: str) -> Picture:
    """Mean sizes as bars: for each chart by its title, the kinds of its bars on each task."""
    return Picture(
        bars.mean_sizes(
            {title: [bars.bar_of(each) for each in several] for title, several in charts.items()}
        ),
        f"Bar chart of the mean L2 of {about}",
        f"Mean L2 of the best attack on {about}, with 95 % intervals over trainings and points.",
    )


def on_tasks(findings: Findings, tasks: Sequence[str], variant: str, kind: Kind) -> list[Measured]:
    """What came of one kind on several tasks, as a bar of `bar_chart`."""
    return [findings.measured(task, variant, kind) for task in tasks]


def samples(
    findings: Findings, task: str, variants: Sequence[str] = (SYMMETRIC, ASYMMETRIC)
) -> Picture:
    """Real images, where they are at hand, and samples of a task's variants."""
    cases = [findings.case(task, variant) for variant in variants]
    return Picture(
        galleries.samples(_real(findings, task), cases),
        f"Real images and samples of {task}",
        f"Real images and what the densities of {task} generate, clipped to [0, 1].",
        "png",
        publishable=publishable(findings, task),
    )


def _real(findings: Findings, task: str) -> dict[str, tuple[Tensor, Tensor]]:
    """The real images of a task that may be shown or were studied, by what they are."""
    source = findings.setting.source(task)
    if source.publishable and source.at_hand:
        x, y = source.parts(task)["test"]
        return {f"real test {source.what}": (x.float().div_(LEVELS), y)}
    case = findings.cases.get(Case(task, REAL))
    if case is None:
        return {}
    return {f"real test {source.what}": (case.points["x"], case.y)}


def gallery(findings: Findings, blocks: Sequence[Block], about: str) -> Picture:
    """Adversarial images of some classifiers of one task, and what was changed in them."""
    (task,) = {case.case.task for case, _ in blocks}
    return Picture(
        galleries.gallery(blocks),
        about,
        f"{about}: originals, the nearest adversarial images found, and their changes. {CHANGES}",
        "png",
        publishable=publishable(findings, task),
        instead=Picture(
            galleries.histograms(blocks),
            f"{about}: histograms of the changes of pixels",
            f"{about}, without the images. {HISTOGRAM}",
        ),
    )


def numbers_table(cases: Sequence[CaseResults], kinds: Sequence[Kind]) -> Table:
    """The numbers of the best attack on some kinds of classifiers."""
    rows = [
        [str(case.case), kind.label, *numbers(case.measured[kind]), gap(case.measured[kind])]
        for case in cases
        for kind in kinds
    ]
    return Table(
        ["task", "classifier", "clean", "adversarial", "success", "mean L2", "95 %", "gap"],
        rows,
        f"By the best attack; the optimum's mean L2 is that of its certificates. {MISCLASSIFIED}",
        words=2,
    )


def numbers(measured: Measured) -> list[str]:
    """Accuracies, success, mean size and its interval, as cells of a table."""
    summary = measured.summary
    return [
        percent(summary.clean_accuracy),
        percent(summary.adversarial_accuracy),
        percent(summary.success_rate),
        size(summary.mean.value),
        interval(summary.mean),
    ]


def gap(measured: Measured) -> str:
    """The gap to the optimum as the cell of a table; empty where there is none."""
    value = None if measured.gap is None else measured.gap.estimate.value
    return "" if value is None else signed(value)
