"""All results of a run, as numbers in memory and as the files that it leaves."""

import csv
import io
import sys
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bayesgap._version import __version__
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.measure import l2_table
from bayesgap.evaluation.statistics import ratio_with_interval
from bayesgap.paper.exhibit import Setting
from bayesgap.paper.jobs import (
    ASYMMETRIC,
    REAL,
    SYMMETRIC,
    Measured,
    TaskJob,
    lower_bounds,
    measure,
    subpopulations,
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
        setting: What the run was asked for.
        jobs: The stages of each task and variant.
        finished: All results.
        measured: The numbers of each task, variant and kind of classifier.
        points: The attacked points of each task and variant.
        optima: The optimum's accuracy of each task and variant that has one.
        theory: What `observations` found, where they were made.
    """

    setting: Setting
    jobs: list[TaskJob]
    finished: Finished
    measured: dict[tuple[str, str, str], Measured]
    points: dict[tuple[str, str], dict[str, Tensor]]
    optima: dict[tuple[str, str], dict[str, Any]]
    theory: Result | None

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks whose symmetric variant was studied."""
        return self.tasks_with(SYMMETRIC)

    def tasks_with(self, variant: str, kind: str | None = None) -> list[str]:
        """The names of the tasks of which a variant was studied, with that kind of classifier."""
        return [
            job.name
            for job in self.jobs
            if job.variant == variant and (kind is None or kind in job.classifiers)
        ]

    def job(self, task: str, variant: str) -> TaskJob:
        """The stages of one task and variant."""
        return next(job for job in self.jobs if (job.name, job.variant) == (task, variant))

    def headline(self, task: str, variant: str, kind: str) -> dict[str, Any]:
        """The record of the best attack."""
        return self.measured[task, variant, kind].headline

    def headline_or_none(self, task: str, variant: str, kind: str) -> dict[str, Any] | None:
        """The record of the best attack, where there was one."""
        measured = self.measured.get((task, variant, kind))
        return None if measured is None else measured.headline

    def chosen_gamma(self, task: str, variant: str) -> float:
        """The gamma of the RBF SVMs."""
        return self._gamma(task, variant).values["gamma"]

    def gamma_curve(
        self, task: str, variant: str
    ) -> tuple[list[dict[str, Any]], Float[Tensor, "rows points"]]:
        """The curve over gamma, and the L2 at each point for each of its rows."""
        result = self._gamma(task, variant)
        return result.values["curve"], result.tensors["l2"]

    def _gamma(self, task: str, variant: str) -> Result:
        stage = self.job(task, variant).gamma
        if stage is None:
            raise BayesgapError(f"No RBF SVM was trained on {task}/{variant}.")
        return self.finished[stage]

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


def collect(
    setting: Setting, jobs: list[TaskJob], finished: Finished, theory: Result | None = None
) -> Results:
    """Read the results of all jobs."""
    return Results(
        setting=setting,
        jobs=jobs,
        finished=finished,
        measured={
            (job.name, job.variant, kind): measure(job, kind, finished)
            for job in jobs
            for kind in job.classifiers
        },
        points={(job.name, job.variant): finished[job.points].tensors for job in jobs},
        optima={
            (job.name, job.variant): finished[job.optimum].values
            for job in jobs
            if job.optimum is not None
        },
        theory=theory,
    )


def as_document(results: Results) -> dict[str, Any]:
    """What `results.json` holds, except the claims, which are made from it."""
    headlines, attacks, parts = [], [], []
    for (task, variant, kind), measured in results.measured.items():
        headlines.append(measured.headline)
        attacks += measured.records
        job = results.job(task, variant)
        if variant == ASYMMETRIC:
            parts += subpopulations(job, kind, measured, results.finished)
    scales = {job.scale.task_kind: asdict(job.scale) for job in results.jobs}
    return {
        "format": "bayesgap.results/2",
        "version": __version__,
        "scale": results.setting.scale,
        "sizes": scales,
        "seed": results.setting.seed,
        "environment": {**environment(), "python": sys.version.split()[0]},
        "tasks": [_task_facts(job, results) for job in results.jobs],
        "results": headlines,
        "attacks": attacks,
        "subpopulations": parts,
        "theory": None if results.theory is None else results.theory.values,
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
    values = finished[job.data].values
    gamma = None if job.gamma is None else finished[job.gamma].values
    return {
        "task": job.name,
        "variant": job.variant,
        "version": job.data.settings.get("version"),
        "sha256": job.data.settings.get("sha256") or job.data.settings.get("checksum"),
        "facts": values.get("facts", {}),
        "optimum": results.optima.get((job.name, job.variant)),
        "cnn_width_sought_on": REAL if job.variant == REAL else SYMMETRIC,
        "cnn_width": finished[job.width].values,
        "linear_svm_converged": [
            finished[stage].values["converged"] for stage in job.classifiers.get("linear-svm", ())
        ],
        "gamma": gamma and gamma["gamma"],
        "gamma_reached": gamma and gamma["reached"],
        "gamma_curve": gamma and gamma["curve"],
    }


def _stage_facts(stage: Any, finished: Finished) -> dict[str, Any]:
    manifest = finished.manifest(stage)
    keys = ("stage", "label", "settings", "seed", "threads", "seconds")
    return {key: manifest[key] for key in keys}
