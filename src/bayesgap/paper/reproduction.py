"""A run of `bayesgap reproduce`: from what was asked for to all results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bayesgap.errors import BayesgapError
from bayesgap.images.celeba import ATTRIBUTES, CelebA, attribute_of, open_celeba, task_name
from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.paper.exhibits import EXHIBITS, choose, jobs_of
from bayesgap.paper.fit import faces_at_hand
from bayesgap.paper.jobs import TASKS, TaskJob, theory
from bayesgap.paper.results import Results, collect
from bayesgap.paper.scales import DIGITS, FACES
from bayesgap.runs.run import Resources, run
from bayesgap.runs.store import Store
from bayesgap.tasks.catalog import Known, known_tasks, own_folder

MAIN_SECTIONS = ("table1",)  # of the main job's report, which shows the rest in its own way


@dataclass(frozen=True)
class Plan:
    """What a run will compute.

    Attributes:
        setting: What it was asked for.
        exhibits: The figures and tables with a section each.
        main: Whether the main job is part of it.
        jobs: The attacks on tasks' classifiers.
    """

    setting: Setting
    exhibits: list[Exhibit]
    main: bool
    jobs: list[TaskJob]


def plan(
    names: Sequence[str],
    scale: str,
    *,
    seed: int,
    celeba: Path | None = None,
    attributes: Sequence[str] | None = None,
    tasks: Path | None = None,
) -> Plan:
    """What to compute for some figures and tables.

    Tasks of faces that are wanted and not in the user's folder are fitted here, into it.

    Args:
        names: Of figures and tables, or "all"; none is the main job.
        scale: "quick", "default" or "paper".
        seed: The one number that all random numbers follow from.
        celeba: A copy of CelebA.
        attributes: Whose tasks of faces to study; with a copy, the paper's twelve by default, or
            those of the figures that are about one task each.
        tasks: The user's folder of tasks.

    Raises:
        BayesgapError: an unknown name, scale or attribute, a copy that cannot be read, or a figure
            whose task is not at hand.
    """
    if scale not in DIGITS:
        raise BayesgapError(f"There is no scale {scale!r}. Known are {', '.join(DIGITS)}.")
    main = not names or "all" in names
    exhibits = choose(names) if names else [EXHIBITS[name] for name in MAIN_SECTIONS]
    asked = [] if main else exhibits
    opened = None if celeba is None else open_celeba(celeba)
    setting = Setting(
        scale,
        seed,
        _at_hand(asked, opened, attributes, tasks),
        None if celeba is None or opened is None else (str(celeba.resolve()), opened.checksum),
    )
    for exhibit in asked:
        if not exhibit.available(setting):
            raise BayesgapError(f"{exhibit.name} needs {exhibit.needs}.")
    return Plan(setting, exhibits, main, jobs_of(setting, exhibits, main=main))


def _at_hand(
    asked: Sequence[Exhibit],
    copy: CelebA | None,
    attributes: Sequence[str] | None,
    folder: Path | None,
) -> dict[str, Known]:
    """The package's own tasks, and those of faces that are wanted, fitted where they are not.

    A figure about one task brings it along where it is fitted already.
    """
    about = [exhibit.only for exhibit in asked if exhibit.only]
    faces = [task_name(attribute) for attribute in attributes or ()]
    if asked and len(about) == len(asked):
        for name, attribute in zip(faces, attributes or (), strict=True):
            if name not in about:
                raise BayesgapError(
                    f"What was asked for shows {' and '.join(dict.fromkeys(about))} alone: leave "
                    f"--attribute {attribute} out."
                )
    if copy is not None:
        # Figures that are all about one task each need no others to be fitted.
        some = [attribute_of(name) for name in about if name.startswith(FACES)]
        every = len(some) < len(asked) or not asked
        chosen = attributes or (ATTRIBUTES if every else ())
        chosen = list(dict.fromkeys([*chosen, *some]))
        faces = [known.name for known in faces_at_hand(copy, chosen, folder or own_folder())]
    known = known_tasks(folder)
    for name in faces:
        if name not in known:
            raise BayesgapError(
                f"The task {name} is not in {folder or own_folder()}: give your copy of CelebA "
                "with --celeba, so that it can be fitted."
            )
    brought = [name for name in about if name in known]
    return {name: known[name][-1] for name in dict.fromkeys([*TASKS, *faces, *brought])}


def compute(plan: Plan, store: Store, resources: Resources) -> Results:
    """Compute what the store lacks, and read all results."""
    setting = plan.setting
    observed = [theory(seed=setting.seed)] if plan.main else []
    own = [
        stage
        for exhibit in plan.exhibits
        if exhibit.available(setting)
        for stage in exhibit.stages(setting).values()
    ]
    finished = run(
        [*observed, *(stage for job in plan.jobs for stage in job.stages()), *own],
        store,
        resources,
    )
    return collect(setting, plan.jobs, finished, finished[observed[0]] if observed else None)
