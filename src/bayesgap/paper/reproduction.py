"""What `bayesgap reproduce` was asked for: its figures and tables, and the tasks at hand."""

from collections.abc import Sequence
from pathlib import Path

from bayesgap.errors import BayesgapError
from bayesgap.experiment import DIGIT_TASKS, Setting
from bayesgap.experiment.scales import NAMES
from bayesgap.images.celeba import task_name
from bayesgap.images.faces import Faces
from bayesgap.images.source import Source
from bayesgap.images.sources import source_of, with_faces
from bayesgap.paper.engine import Exhibit
from bayesgap.paper.engine.run import Plan, plan
from bayesgap.paper.registry import ALL, choose
from bayesgap.tasks.catalog import Known, known_tasks, own_folder
from bayesgap.tasks.fit import at_hand


def plan_by_name(
    names: Sequence[str],
    scale: str,
    *,
    seed: int,
    celeba: Path | None = None,
    attributes: Sequence[str] | None = None,
    tasks: Path | None = None,
    further: Sequence[str] = (),
) -> Plan:
    """What to compute for some figures and tables, as `setting_for` finds it.

    Raises:
        BayesgapError: what `setting_for` refuses, or a figure whose task is not at hand.
    """
    exhibits = choose(names)
    setting = setting_for(
        names,
        scale,
        seed=seed,
        celeba=celeba,
        attributes=attributes,
        tasks=tasks,
        further=further,
    )
    made = plan(setting, exhibits)
    for exhibit in _named(names):
        if not made.wanted[exhibit.name]:
            raise BayesgapError(f"{exhibit.name} needs {exhibit.needs}.")
    return made


def setting_for(
    names: Sequence[str],
    scale: str,
    *,
    seed: int,
    celeba: Path | None = None,
    attributes: Sequence[str] | None = None,
    tasks: Path | None = None,
    further: Sequence[str] = (),
) -> Setting:
    """The setting of a run, with the tasks and images that are at hand for it.

    Tasks of faces that are wanted and not in the user's folder are fitted here, into it.

    Args:
        names: Names of figures and tables, or "all"; none is the main job.
        scale: How much to compute: "quick", "default" or "paper".
        seed: The one number that all random numbers follow from.
        celeba: The folder of a copy of CelebA.
        attributes: The attributes whose tasks of faces to study; with a copy, the paper's twelve
            by default, or those of the figures that are about one task each.
        tasks: The user's folder of tasks.
        further: The names of further fitted tasks to study, of any source.

    Raises:
        BayesgapError: an unknown name, scale or attribute, or a copy that cannot be read.
    """
    if scale not in NAMES:
        raise BayesgapError(f"There is no scale {scale!r}. Known are {', '.join(NAMES)}.")
    sources = with_faces(None if celeba is None else str(celeba.resolve()))
    (faces,) = (source for source in sources if isinstance(source, Faces))
    found = _tasks_at_hand(_named(names), faces, attributes, tasks)
    found |= {name: _known(name, tasks, sources) for name in further}
    return Setting(scale, seed, found, sources)


def _known(name: str, folder: Path | None, sources: Sequence[Source]) -> Known:
    """A fitted task by name, of any source."""
    known = known_tasks(folder)
    if name not in known:
        raise BayesgapError(
            f"There is no task {name!r} in {folder or own_folder()}: fit it with bayesgap fit."
        )
    source_of(name, sources)
    return known[name][-1]


def _named(names: Sequence[str]) -> list[Exhibit]:
    """The figures and tables that were asked for one by one."""
    return choose(names) if names and ALL not in names else []


def _tasks_at_hand(
    named: Sequence[Exhibit],
    faces: Faces,
    attributes: Sequence[str] | None,
    folder: Path | None,
) -> dict[str, Known]:
    """The package's own tasks, and those of faces that are wanted, fitted where they are not.

    A figure about one task brings it along where it is fitted already.
    """
    about = [exhibit.only for exhibit in named if exhibit.only]
    wanted = [task_name(attribute) for attribute in attributes or ()]
    alone = bool(named) and len(about) == len(named)
    if alone:
        _check_asked_for(about, dict(zip(wanted, attributes or (), strict=True)))
    if faces.at_hand:
        # Figures that are all about one task each need no others to be fitted.
        some = [name for name in about if source_of(name).name == faces.name]
        every = [] if attributes or len(some) == len(named) > 0 else faces.names(faces.name)
        names = list(dict.fromkeys([*wanted, *every, *some]))
        wanted = [known.name for known in at_hand(faces, names, folder or own_folder())]
    known = known_tasks(folder)
    for name in wanted:
        if name not in known:
            raise BayesgapError(
                f"The task {name} is not in {folder or own_folder()}: give {faces.needs}, so that "
                "it can be fitted."
            )
    brought = [name for name in about if name in known]
    return {name: known[name][-1] for name in dict.fromkeys([*DIGIT_TASKS, *wanted, *brought])}


def _check_asked_for(about: Sequence[str], attribute_of: dict[str, str]) -> None:
    """Refuse an attribute that none of the figures shows, all of which are about one task."""
    for name, attribute in attribute_of.items():
        if name not in about:
            raise BayesgapError(
                f"What was asked for shows {' and '.join(dict.fromkeys(about))} alone: leave "
                f"--attribute {attribute} out."
            )
