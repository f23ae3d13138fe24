"""The tables of every report that studied cases: results, attacks, tasks and classifiers."""

from collections.abc import Sequence

from bayesgap.drawing.section import Table
from bayesgap.drawing.words import bracket, interval, mean_size, percent, signed, size, success
from bayesgap.experiment.measured import CaseResults, Measured

HASH = 16  # digits of a checksum that are shown


def results_table(cases: Sequence[CaseResults]) -> Table:
    """The best attack on each kind of classifier of each case."""
    heading = ("task", "classifier", "clean", "adversarial", "success", _mean_of(cases))
    rows = [
        [
            str(case.case),
            measured.kind.label,
            percent(measured.summary.clean_accuracy),
            percent(measured.summary.adversarial_accuracy),
            success(measured.summary),
            mean_size(measured.summary),
            interval(measured.summary.mean),
            _certified(measured),
            _gap(measured),
            percent(measured.pixels.share_within_5.value),
        ]
        for case in cases
        for measured in case.measured.values()
    ]
    further = ("95 % interval", "certified bracket", "gap", "pixels within 5/255")
    return Table([*heading, *further], rows, words=2, grouped=True)


def attacks_table(cases: Sequence[CaseResults]) -> Table:
    """Each attack on each kind of classifier of each case."""
    heading = ("task", "classifier", "attack", "points × seeds", "clean", "robust", "success")
    rows = [
        [
            str(case.case),
            measured.kind.label,
            name,
            f"{summary.points} × {summary.seeds}",
            percent(summary.clean_accuracy),
            percent(summary.robust_accuracy),
            percent(summary.success_rate),
            size(summary.mean.value),
            interval(summary.mean),
            size(measured.certified_by_attack[name].value)
            if name in measured.certified_by_attack
            else "",
        ]
        for case in cases
        for measured in case.measured.values()
        for name, summary in measured.attacks.items()
    ]
    return Table(
        [*heading, _mean_of(cases), "95 % interval", "certified lower"],
        rows,
        words=3,
        folded=f"{len(rows)} records",
    )


def tasks_table(cases: Sequence[CaseResults]) -> Table:
    """Where each case came from, its optimum, and what was chosen for its classifiers."""
    heading = ("task", "file or images, SHA-256", "variant's settings", "optimum's accuracy")
    return Table(
        [*heading, "rules agree", "CNN width", "linear SVMs converged", "RBF gamma"],
        [_task(case) for case in cases],
        words=3,
    )


def _mean_of(cases: Sequence[CaseResults]) -> str:
    """The heading of mean sizes: "mean L2" where that is what they were measured by."""
    norms = (one.summary.norm.name for case in cases for one in case.measured.values())
    return f"mean {next(norms, 'size')}"


def _task(case: CaseResults) -> list[str]:
    facts, study = case.facts_record(), case.optimum
    version = "" if facts["version"] is None else f"v{facts['version']} "
    converged = facts["linear_svm_converged"]
    width, gamma = facts["cnn_width"], facts["gamma"]
    shares = ("correct", "rules_agree")
    variant = case.facts.get("variant", {})
    return [
        str(case.case),
        f"{version}{facts['sha256'][:HASH]}",
        ", ".join(f"{key} = {value}" for key, value in variant.items()),
        *("" if study is None else percent(study[key] / study["images"], 2) for key in shares),
        "" if width is None else f"{width['width']}{_reached(width['reached'])}",
        f"{sum(converged)} of {len(converged)}" if converged else "",
        "" if gamma is None else f"{gamma}{_reached(facts['gamma_reached'])}",
    ]


def _reached(reached: bool | None) -> str:
    """What to say of a choice that was given, or that does not reach its target."""
    return " (given)" if reached is None else "" if reached else " (target not reached)"


def _certified(measured: Measured) -> str:
    if measured.certified is None:
        return ""
    return bracket(measured.certified.value, measured.summary.mean.value)


def _gap(measured: Measured) -> str:
    if measured.gap is None:
        return ""
    value, low, high = measured.gap.estimate
    if value is None:
        return f"none: {measured.gap.reason}"
    return f"{signed(value)} ({signed(low)} to {signed(high)})"
