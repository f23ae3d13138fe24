"""Figures 13 to 18: every classifier of one task each, looked at."""

from functools import partial

from bayesgap.drawing import Section, percent, size
from bayesgap.experiment import ASYMMETRIC, LEARNED, OPTIMUM, PAPER_KINDS, SYMMETRIC, Setting
from bayesgap.images.sources import source_of
from bayesgap.paper import pictures
from bayesgap.paper.engine import Exhibit, Findings, Wants, attacks

TASKS = {
    "13": ("celeba-smiling", "Smiling"),
    "14": ("celeba-eyeglasses", "Eyeglasses"),
    "15": ("celeba-no-beard", "No beard"),
    "16": ("celeba-heavy-makeup", "Heavy makeup"),
    "17": ("mnist-0-6", "Digits 0 and 6"),
    "18": ("mnist-4-5", "Digits 4 and 5"),
}


def wants(setting: Setting, *, task: str) -> Wants:
    """Every classifier of the paper on the task, where it is at hand."""
    tasks = [task] if task in setting.tasks else []
    return Wants(attacks(tasks, {SYMMETRIC: PAPER_KINDS, ASYMMETRIC: (OPTIMUM,)}))


def section(findings: Findings) -> Section:
    """Samples, perturbations and histograms of all models on a task."""
    (task,) = findings.tasks(SYMMETRIC)
    symmetric, asymmetric = (findings.case(task, variant) for variant in (SYMMETRIC, ASYMMETRIC))
    summaries = {kind: symmetric.measured[kind].summary for kind in PAPER_KINDS}
    text = f"Mean L2 on {task}/symmetric, with clean accuracy and success: " + ", ".join(
        f"{kind.label} {size(summary.mean.value)} ({percent(summary.clean_accuracy)}, "
        f"{percent(summary.success_rate)})"
        for kind, summary in summaries.items()
    )
    blocks = [(symmetric, OPTIMUM), (asymmetric, OPTIMUM), *((symmetric, k) for k in LEARNED)]
    about = f"Attacks on every classifier of {task}"
    return Section([text + "."], [pictures.gallery(findings, blocks, about)])


def _exhibit(number: str, task: str, about: str) -> Exhibit:
    source = source_of(task)
    at_hand = pictures.OWN_TASKS
    return Exhibit(
        name=f"fig{number}",
        label=f"Figure {number}",
        title=f"{about}: adversarial images, perturbations and their histograms, every classifier",
        needs=at_hand
        if source.publishable
        else f"{task}, fitted to {source.what}: --{source.name}, or --tasks",
        wants=partial(wants, task=task),
        section=section,
        only=task,
    )


EXHIBITS = tuple(_exhibit(number, *of) for number, of in TASKS.items())
