"""The command line.

Commands import what they need when they run, so that `--help` answers at once.
"""

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bayesgap._version import __version__
from bayesgap.errors import BayesgapError
from bayesgap.options import (
    AttacksOption,
    AttributeOption,
    BoxOption,
    CertificatesOption,
    ClassifierArgument,
    DoubtsOption,
    ExhibitsArgument,
    OneTaskOption,
    OutputsOption,
    PerClassOption,
    PointsOption,
    PointsSeedOption,
    ScaleOption,
    SomeTasksOption,
    StoreOption,
    TakeOption,
    TaskOption,
    TasksOption,
    WorkersOption,
)
from bayesgap.report.terminal import (
    bracket_table,
    catalogue_table,
    evaluation_table,
    remarks,
    results_table,
)

USAGE_ERROR = 2
INTERRUPTED = 130
STORING = {"reproduce", "exam"}  # commands that keep finished stages
SHOWN = 20  # points that a message names
WIDTH = 120  # of tables where there is no terminal

app = typer.Typer(
    name="bayesgap",
    help="Is your classifier brittle because of the data, or because of the training?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def default_store() -> str:
    """The folder for results of runs, under the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(cache) / "bayesgap" / "store")


def main() -> None:
    """Run the command line; what the user can mend is one sentence and exit code 2."""
    try:
        app()
    except BayesgapError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except SystemExit as ended:  # which Typer makes of an interruption, in silence
        if ended.code == INTERRUPTED:
            kept = " Finished stages are kept; the same command goes on from there."
            print(f"Interrupted.{kept if STORING & set(sys.argv) else ''}", file=sys.stderr)
        raise


def _console(width: int = WIDTH) -> Console:
    """For tables; names from strangers' files are no markup."""
    return Console(width=None if sys.stdout.isatty() else width, markup=False)


def _show_version(wanted: bool | None) -> None:
    if wanted:
        print(f"bayesgap {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = None,
) -> None:
    """Is your classifier brittle because of the data, or because of the training?"""


@app.command()
def reproduce(
    what: ExhibitsArgument = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Say what each figure and table needs, and stop.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the report and its numbers.")] = Path("out"),
    scale: ScaleOption = "default",
    celeba: Annotated[
        Path | None,
        typer.Option(help="Your copy of CelebA, for the tasks of faces.", show_default=False),
    ] = None,
    attribute: AttributeOption = None,
    task: TaskOption = None,
    tasks: TasksOption = None,
    faces: Annotated[
        bool, typer.Option(help="Show faces in the report; without them it may be published.")
    ] = True,
    seed: Annotated[int, typer.Option(help="What all random numbers follow from.")] = 0,
    store: StoreOption = "",
    workers: WorkersOption = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each stage.")] = 1,
    cluster: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler to run on instead.")
    ] = None,
) -> None:
    """Run the paper's experiments and write report.html, claims.md, results.json and results.csv.

    Finished stages are kept in the store: an interrupted run goes on where it stopped, and the
    same run again computes nothing.
    """
    import time

    from bayesgap.paper.engine.run import compute
    from bayesgap.paper.reproduction import plan_by_name
    from bayesgap.report.page import make_folder, write_report
    from bayesgap.runs.run import Resources
    from bayesgap.runs.store import Store

    if list_:
        _list_exhibits(what)
        return
    started = time.monotonic()
    asked = {"celeba": celeba, "attributes": attribute, "tasks": tasks, "further": task or ()}
    plan = plan_by_name(what or [], scale, seed=seed, **asked)  # type: ignore[arg-type]
    make_folder(out)
    resources = Resources(workers or os.cpu_count() or 1, threads, cluster)
    made = compute(plan, Store(store or default_store()), resources)
    _show_judged(write_report(made, out, private=faces))
    report = (out / "report.html").resolve()
    print(f"\n{time.monotonic() - started:.0f} seconds. The report: {report}")


def _list_exhibits(what: list[str] | None) -> None:
    from bayesgap.paper.registry import ALL, choose

    exhibits = choose(what or [ALL])
    width = max(len(exhibit.name) for exhibit in exhibits)
    for exhibit in exhibits:
        print(f"{exhibit.name:{width}} {exhibit.title}. Needs {exhibit.needs}.")


def _show_judged(document: dict[str, Any]) -> None:
    """The results and the verdicts of a report."""
    console = _console()
    if document["results"]:
        console.print(results_table(document["results"]))
    judged = Table(box=None, pad_edge=False, show_header=False)
    for claim in document["claims"]:
        judged.add_row(claim["verdict"], claim["exhibit"], claim["statement"])
    console.print(judged)


@app.command()
def evaluate(
    classifier: ClassifierArgument,
    task: OneTaskOption,
    tasks: TasksOption = None,
    per_class: PerClassOption = 100,
    seed: PointsSeedOption = 0,
    attack: AttacksOption = None,
    points: PointsOption = None,
    box: BoxOption = None,
    certificates: CertificatesOption = None,
    doubts: DoubtsOption = "full",
    outputs: OutputsOption = None,
    take: TakeOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and its numbers.")] = Path("out"),
) -> None:
    """Attack your classifier on a task's samples, and compare it with the task's optimum.

    Writes evaluation.html, evaluation.json and evaluation.safetensors. The classifier's code is
    imported and run; doubts of it do not change the exit code.
    """
    from bayesgap.evaluation.doubts import DoubtWarning
    from bayesgap.evaluation.evaluate import evaluate as evaluation_of
    from bayesgap.given import given_classifier, points_in
    from bayesgap.report.evaluation import write_evaluation
    from bayesgap.report.page import make_folder
    from bayesgap.tasks.catalog import load_task

    known = load_task(task, folder=tasks)
    attacked = None if points is None else points_in(points)
    given = given_classifier(classifier, known, outputs=outputs, take=take)
    make_folder(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DoubtWarning)  # they stand under the table
        found = evaluation_of(
            given,
            known,
            attacks=attack,
            points=attacked,
            per_class=per_class,
            seed=seed,
            box=box,
            certificates=certificates,
            doubts=doubts,
        )
    found = replace(found, facts=replace(found.facts, classifier=classifier))
    console = _console()
    console.print(evaluation_table(found))
    console.print(remarks(found))
    for path in write_evaluation(found, out):
        print(path.resolve())


@app.command()
def certify(
    task: Annotated[str, typer.Argument(help="A task's name, or the path of a task file.")],
    out: Annotated[Path, typer.Option(help="File for the certificate.")] = Path(
        "certificate.safetensors"
    ),
    per_class: PerClassOption = 100,
    seed: PointsSeedOption = 0,
    rule: Annotated[
        str, typer.Option(help="How classes collect components: log-sum-exp or max-component.")
    ] = "log-sum-exp",
    box: BoxOption = None,
    tasks: TasksOption = None,
) -> None:
    """Prove how far the optimum's nearest other decision is from samples of a task.

    A box confines the adversarial images, which show the upper bounds, to its pixel values.
    """
    import torch

    from bayesgap.radius.certify import certify as bracket_of
    from bayesgap.report.page import make_folder
    from bayesgap.tasks.catalog import load_task

    make_folder(out.parent)
    known = load_task(task, folder=tasks)
    y = torch.arange(known.classes).repeat(per_class)
    # An unknown rule is refused where rules are known.
    bracket = bracket_of(
        known,
        known.sample_given(y, seed=seed)[0],
        y,
        rule=rule,  # type: ignore[arg-type]
        box=box,
    )
    bracket.save(out)
    within = "" if box is None else f"; upper bounds within the box {box[0]:g} to {box[1]:g}"
    title = f"{known.name}, {rule}: L2 in pixel units{within}"
    _console().print(bracket_table(title, known.class_names, bracket, y))
    print(f"\nThe certificate: {out.resolve()}  (check it with: bayesgap verify {out})")


@app.command()
def verify(file: Annotated[Path, typer.Argument(help="What `bayesgap certify` wrote.")]) -> None:
    """Check a certificate's proofs again, without any of the code that found them.

    Exits with 1 where a statement does not hold.
    """
    from bayesgap.radius.certificate import verify as check

    found = check(file)
    known = "as released" if found.released else "not a released one: its densities are the file's"
    print(f"{found.task.name} ({known}), {found.rule}, {len(found.lower)} points.")
    bounded = found.upper.isfinite()
    for what, held, bounds in (
        ("Lower bounds proven", found.proven, found.lower),
        ("Adversarial points confirmed", found.shown & bounded, found.upper),
    ):
        mean = f"; their mean {bounds[held].mean().item():.6g}" if held.any() else ""
        print(f"{what}: {int(held.sum())}{mean}.")
    if not bounded.all():
        print(f"Without an adversarial point: {int((~bounded).sum())}.")
    for what, held in (("lower bound", found.proven), ("adversarial point", found.shown)):
        if not held.all():
            rows = [str(row) for row in (~held).nonzero().flatten().tolist()]
            more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            print(f"No valid {what} for point(s) {', '.join(rows[:SHOWN])}{more}.", file=sys.stderr)
    if not (found.proven & found.shown).all():
        raise typer.Exit(1)


@app.command()
def exam(
    attacks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of attacks, LIBRARY:CLASS?setting=value (foolbox:DDNAttack?steps=50), or "
            "module:function of your own; by default all of the table, at all its temperatures.",
            show_default=False,
        ),
    ] = None,
    task: SomeTasksOption = None,
    tasks: TasksOption = None,
    per_class: PerClassOption = 25,
    seed: PointsSeedOption = 0,
    temperature: Annotated[
        list[float] | None,
        typer.Option(
            help="Multiples of the optimum's default temperature; the first is shown in full.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for exams.csv, exams.md and exams.svg.")
    ] = None,
    store: StoreOption = "",
    workers: WorkersOption = 0,
) -> None:
    """Grade attacks: their L2 over the distance that is certified to be the least."""
    from bayesgap.experiment.exam_table import ALL_TASKS, ATTACKS, TEMPERATURES, hold_exams
    from bayesgap.report.exam_table import table, write_exams
    from bayesgap.report.page import make_folder
    from bayesgap.runs.run import Resources
    from bayesgap.runs.store import Store

    if out is not None:
        make_folder(out)
    temperatures = temperature or (TEMPERATURES[:1] if attacks else TEMPERATURES)
    records = hold_exams(
        attacks or ATTACKS,
        task or ALL_TASKS,
        temperatures,
        per_class=per_class,
        seed=seed,
        store=Store(store or default_store()),
        resources=Resources(workers or os.cpu_count() or 1),
        folder=tasks,
    )
    _console(180).print(table(records))
    if out is not None:
        for path in write_exams(records, out):
            print(path.resolve())
    _check_bounds(records)


def _check_bounds(records: list[dict[str, Any]]) -> None:
    below = sum(record["below"] for record in records)
    if below:
        raise BayesgapError(
            f"{below} points were broken nearer than certified: that is a bug in this package."
        )


@app.command()
def tasks(
    folder: TasksOption = None,
) -> None:
    """List the tasks that can be loaded by name, and how far they can be trusted."""
    from bayesgap.tasks.catalog import known_tasks

    console = _console()
    console.print(catalogue_table(known_tasks(folder)))
    console.print(
        "\nHeld-out nats: mean log-likelihood of real test images under the fitted densities, "
        "before their noise is\nreplaced. Accuracies on real test digits, where measured: "
        "of the task's optimum, and of classifiers\ntrained on its samples. Real digits do not lie "
        "on an asymmetric task's narrow components: its optimum leaves\nthem to the two broad "
        "outliers. A name means the newest version. Load a task by name,\n"
        'bayesgap.load_task("mnist-0-6/symmetric"); "…/fitted" gives the densities as fitted.',
        highlight=False,
    )


@app.command()
def fit(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Of tasks: mnist-3-8 for any digits, celeba-smiling and so on for faces, or "
            "celeba for the paper's twelve."
        ),
    ],
    celeba: Annotated[
        Path | None, typer.Option(help="Your copy of CelebA.", show_default=False)
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Training faces of each class at most; 0 takes all.")
    ] = 20_000,
    tasks: TasksOption = None,
) -> None:
    """Fit densities to real images, and keep the task in your folder, where it is found by name.

    A pair of digits takes three to five minutes; an attribute of faces ten or more on 2 cores.
    What the folder holds of the same faces and limit is not fitted again.
    """
    from bayesgap.experiment.release import fit_by_name
    from bayesgap.images.sources import with_faces
    from bayesgap.report.page import make_folder
    from bayesgap.tasks.catalog import own_folder

    folder = tasks or own_folder()
    make_folder(folder)
    sources = with_faces(None if celeba is None else str(celeba))
    for known in fit_by_name(names, folder, sources=sources, limit=limit or None):
        print(f"{known.path}  version {known.version}  sha256 {known.sha256}")
