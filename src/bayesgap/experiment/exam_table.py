"""The table of exams: attacks of all kinds on all MNIST tasks, at several temperatures.

Each exam is a stage, so that an interrupted table goes on where it stopped. An attack given as
"module:function" is code that no key can hold: its exams are held anew each time.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bayesgap.attacks.named import is_foreign, named_attack
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.counting import BUDGETS
from bayesgap.evaluation.exam import CertifiedPoints, certified_points, exam
from bayesgap.experiment.setting import DIGIT_TASKS, VARIANTS
from bayesgap.runs.run import Resources, run
from bayesgap.runs.stage import Stage
from bayesgap.runs.store import Result, Store
from bayesgap.tasks.catalog import load_task
from bayesgap.tasks.digest import task_digest

ALL_TASKS = tuple(f"{task}/{variant}" for variant in (*VARIANTS, "fitted") for task in DIGIT_TASKS)
ATTACKS = (
    "ld-grad",
    "ld-grad-tight",
    "deepfool",
    "superdeepfool",
    "fmn",
    "foolbox:L2FMNAttack",
    "ddn",
    "foolbox:DDNAttack?steps=1000",
    "pgd",
    "boundary-walk",
    "closest",
    "cw-l2",
    "cw-l2-strong",
)
COLUMNS = (
    *("attack", "task", "temperature", "points", "successes"),
    *("success_rate", "success_low", "success_high"),
    *("mean_ratio", "mean_ratio_low", "mean_ratio_high", "median_ratio", "high_ratio"),
    *("found", "below", "forwards", "backwards", "seconds"),
    *(f"{what}_{passes}" for passes in BUDGETS for what in ("success", "ratio")),
)
TEMPERATURES = (1.0, 0.01, 100.0)  # the first is the one whose numbers are shown in full


def hold_exams(
    attacks: Sequence[str],
    tasks: Sequence[str],
    temperatures: Sequence[float],
    *,
    per_class: int,
    seed: int,
    store: Store,
    resources: Resources,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Grade attacks on tasks; what the store holds is not computed again.

    Args:
        attacks: The names of attacks, as `named_attack` takes them; each counts once.
        tasks: The names or files of tasks, as `load_task` takes them; each counts once.
        temperatures: Multiples of the optimum's default temperature; each counts once.
        per_class: How many points of each class an attack faces.
        seed: Seed of the random generator that draws the points.
        store: Where finished exams are kept.
        resources: Where and how widely exams run.
        folder: The folder of the user's own tasks, as `load_task` takes it.

    Returns:
        `Exam.record` of each attack, task and temperature, in that order of nesting.

    Raises:
        BayesgapError: an attack, a task or a number that is none.
    """
    attacks, tasks = list(dict.fromkeys(attacks)), list(dict.fromkeys(tasks))
    temperatures = list(dict.fromkeys(temperatures))
    _check(attacks, temperatures)
    stages = _stages(attacks, tasks, temperatures, per_class, seed, folder)
    kept = [stage for stage in stages if not is_foreign(stage.settings["attack"])]
    finished = run([*(stage.inputs["points"] for stage in stages), *kept], store, resources)
    return [
        stage.function(
            finished[stage.inputs["points"]], **stage.settings, **stage.places, seed=stage.seed
        ).values
        if is_foreign(stage.settings["attack"])
        else finished[stage].values
        for stage in stages
    ]


def _check(attacks: Sequence[str], temperatures: Sequence[float]) -> None:
    """Refuse what is no attack or temperature before anything is computed."""
    for temperature in temperatures:
        if not (temperature > 0 and math.isfinite(temperature)):
            raise BayesgapError(f"A temperature is positive and finite; got {temperature}.")
    for attack in attacks:
        named_attack(attack, pool=torch.zeros(1, 1, 1, 1))


def _stages(
    attacks: Sequence[str],
    tasks: Sequence[str],
    temperatures: Sequence[float],
    per_class: int,
    seed: int,
    folder: Path | None,
) -> list[Stage]:
    """An exam of each attack on each task at each temperature."""
    sample = {"per_class": per_class, "seed_of_points": seed}
    places = {} if folder is None else {"folder": str(folder.resolve())}
    points = {
        task: Stage(
            "exam-points",
            certify_points,
            {"task": task, "sha256": task_digest(load_task(task, folder=folder)), **sample},
            label=f"certified points of {task}",
            places=places,
        )
        for task in tasks
    }
    return [
        Stage(
            "exam",
            hold_exam,
            {"attack": attack, "task": task, "temperature": temperature, **sample},
            {"points": points[task]},
            f"{attack} on {task} at temperature {temperature:g}",
            places,
        )
        for attack in attacks
        for task in tasks
        for temperature in temperatures
    ]


def certify_points(
    *,
    task: str,
    sha256: str,
    per_class: int,
    seed_of_points: int,
    seed: int,
    folder: str | None = None,
) -> Result:
    """The points of a task's exams, with their certified lower bounds."""
    known = load_task(task, folder=folder)
    points = certified_points(known, per_class=per_class, seed=seed_of_points)
    return Result(points._asdict())


def hold_exam(
    points: Result,
    *,
    attack: str,
    task: str,
    temperature: float,
    per_class: int,
    seed_of_points: int,
    seed: int,
    folder: str | None = None,
) -> Result:
    """One exam."""
    held = exam(
        attack,
        load_task(task, folder=folder),
        seed=seed_of_points,
        temperature=temperature,
        points=CertifiedPoints(**points.tensors),
    )
    # By the name it was asked for: files of one's own may hold tasks of the same name.
    return Result({"ratios": held.ratios}, held.record() | {"task": task})


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """One line an exam."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
