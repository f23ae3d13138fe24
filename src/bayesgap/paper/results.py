"""All results of a run of the main job, as numbers in memory and as the files that it leaves."""

import csv
import io
import sys
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bayesgap._version import __version__
from bayesgap.evaluation.measure import l2_table
from bayesgap.evaluation.statistics import ratio_with_interval
from bayesgap.paper.main_job import (
    KINDS,
    VARIANTS,
    Measured,
    Scale,
    TaskJob,
    lower_bounds,
    measure,
    subpopulations,
    theory,
)
from bayesgap.runs.run import Finished
from bayesgap.runs.stage import environment
from bayesgap.runs.store import Result

CSV_COLUMNS = (
    "task",
    "variant",
    "classifier",
    "attack",
    "norm",
    "seeds",
    "points",
    "clean_accuracy",
    "robust_accuracy",
    "adversarial_accuracy",
    "success_rate",
    "unbroken",
    "mean_l2",
    "mean_l2_low",
    "mean_l2_high",
    "certified_lower",
    "certified_lower_low",
    "certified_lower_high",
    "gap",
    "gap_low",
    "gap_high",
    "share_within_5",
)


@dataclass(frozen=True)
class Results:
    """What the claims, the tables and the pictures are made from.

    Attributes:
        scale: At which the job ran.
        seed: From which it ran.
        jobs: Its stages.
        finished: Their results.
        measured: The numbers of each task, variant and kind of classifier.
        points: The attacked points of each task and variant.
        optima: The optimum's accuracy of each task and variant.
        theory: What `observations` found.
    """

    scale: Scale
    seed: int
    jobs: list[TaskJob]
    finished: Finished
    measured: dict[tuple[str, str, str], Measured]
    points: dict[tuple[str, str], dict[str, Tensor]]
    optima: dict[tuple[str, str], dict[str, Any]]
    theory: Result

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks, without variants."""
        return list(dict.fromkeys(job.name for job in self.jobs))

    def job(self, task: str, variant: str) -> TaskJob:
        """The stages of one task and variant."""
        return next(job for job in self.jobs if (job.name, job.variant) == (task, variant))

    def headline(self, task: str, variant: str, kind: str) -> dict[str, Any]:
        """The record of the best attack."""
        return self.measured[task, variant, kind].headline

    def gamma_curve(
        self, task: str, variant: str
    ) -> tuple[list[dict[str, Any]], Float[Tensor, "rows points"]]:
        """The curve over gamma, and the L2 at each point for each of its rows."""
        result = self.finished[self.job(task, variant).gamma]
        return result.values["curve"], result.tensors["l2"]

    def relative_l2(
        self, task: str, variant: str, kind: str
    ) -> tuple[float | None, float | None, float | None]:
        """Mean L2 over the optimum's certified lower bound, with interval.

        Both means are over the points that both decide correctly.
        """
        y = self.points[task, variant]["y"]
        own = l2_table(self.measured[task, variant, kind].best, y)
        lower = lower_bounds(self.job(task, variant), self.finished)
        return ratio_with_interval(own, lower[None])


def collect(jobs: list[TaskJob], finished: Finished, scale: Scale, seed: int) -> Results:
    """Read the results of all stages."""
    return Results(
        scale=scale,
        seed=seed,
        jobs=jobs,
        finished=finished,
        measured={
            (job.name, job.variant, kind): measure(job, kind, finished)
            for job in jobs
            for kind in KINDS
        },
        points={(job.name, job.variant): finished[job.points].tensors for job in jobs},
        optima={(job.name, job.variant): finished[job.optimum].values for job in jobs},
        theory=finished[theory(seed=seed)],
    )


def as_document(results: Results) -> dict[str, Any]:
    """What `results.json` holds, except the claims, which are made from it."""
    headlines, attacks, parts = [], [], []
    for (task, variant, kind), measured in results.measured.items():
        headlines.append(measured.headline)
        attacks += measured.records
        job = results.job(task, variant)
        if variant == VARIANTS[1]:
            parts += subpopulations(job, kind, measured, results.finished)
    return {
        "format": "bayesgap.results/1",
        "version": __version__,
        "scale": asdict(results.scale),
        "seed": results.seed,
        "environment": {**environment(), "python": sys.version.split()[0]},
        "tasks": [_task_facts(job, results) for job in results.jobs],
        "results": headlines,
        "attacks": attacks,
        "subpopulations": parts,
        "theory": results.theory.values,
        "stages": [_stage_facts(stage, results.finished) for stage in results.finished.stages],
    }


def as_csv(document: dict[str, Any]) -> str:
    """The headline records, and nothing that differs between two runs of the same settings."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(document["results"])
    return text.getvalue()


def _task_facts(job: TaskJob, results: Results) -> dict[str, Any]:
    finished = results.finished
    task = finished[job.task].values
    gamma = finished[job.gamma].values
    return {
        "task": job.name,
        "variant": job.variant,
        **{key: job.task.settings[key] for key in ("version", "sha256")},
        "facts": task["facts"],
        "optimum": results.optima[job.name, job.variant],
        "cnn_width_sought_on": VARIANTS[0],
        "cnn_width": finished[job.width].values,
        "gamma": gamma["gamma"],
        "gamma_reached": gamma["reached"],
        "gamma_curve": gamma["curve"],
    }


def _stage_facts(stage: Any, finished: Finished) -> dict[str, Any]:
    manifest = finished.manifest(stage)
    keys = ("stage", "label", "settings", "seed", "threads", "seconds")
    return {key: manifest[key] for key in keys}
