"""What commands of the command line can be asked for."""

from pathlib import Path
from typing import Annotated

import typer

# Options that several commands have, alike in all of them.
TasksOption = Annotated[
    Path | None,
    typer.Option(
        "--tasks",
        help="Folder of your own fitted tasks.",
        show_default="$BAYESGAP_TASKS, or bayesgap/tasks among your data",
    ),
]
StoreOption = Annotated[
    str,
    typer.Option(
        help="Where finished stages are kept, a folder or any fsspec path.",
        show_default="bayesgap/store in your cache folder",
    ),
]
WorkersOption = Annotated[
    int, typer.Option(min=0, help="Processes to use; 0 means one for each core.")
]
PerClassOption = Annotated[int, typer.Option(min=1, help="Points of each class.")]
PointsSeedOption = Annotated[int, typer.Option(help="Of the points.")]

SomeTasksOption = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help="Names or files of tasks, one an option; by default all nine on MNIST.",
        show_default=False,
    ),
]
BoxOption = Annotated[
    tuple[float, float] | None,
    typer.Option(help="Smallest and largest pixel value.", metavar="LOW HIGH", show_default=False),
]

# What `evaluate` is asked for.
ClassifierArgument = Annotated[
    str,
    typer.Argument(
        help="module:name of yours: a torch module, a fitted scikit-learn estimator, a function "
        "of images, or a class or function without arguments that makes one."
    ),
]
OneTaskOption = Annotated[
    str, typer.Option("--task", help="A task's name, or the path of a task file.")
]
AttacksOption = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        help="Name of an attack, foolbox:CLASS?setting=value (or art:, torchattacks:, "
        "adv_lib.attacks:function), or module:function of your own, one an option; by default "
        "what suits the classifier.",
        show_default=False,
    ),
]
PointsOption = Annotated[
    Path | None,
    typer.Option(
        help="A .npz file of points to attack instead of samples: images x, labels y.",
        show_default=False,
    ),
]
CertificatesOption = Annotated[
    bool | None,
    typer.Option(
        help="Whether to certify the optimum at the points; by default at samples.",
        show_default=False,
    ),
]
DoubtsOption = Annotated[
    str, typer.Option(help="How far to look for doubts: full, or quick, which takes less time.")
]
OutputsOption = Annotated[
    str | None,
    typer.Option(
        help="What the classifier puts out where it is no logits: probabilities, one-logit, "
        "one-probability or labels.",
        show_default=False,
    ),
]
TakeOption = Annotated[
    str | None,
    typer.Option(
        help="Which of several things that the classifier puts out: an index, a key or an "
        "attribute.",
        metavar="INDEX OR KEY",
        show_default=False,
    ),
]

# What `reproduce` is asked for.
ExhibitsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Figures and tables (fig1 to fig18, table1, table2; --list names all), or all; by "
        "default the main job: every classifier on the MNIST tasks.",
        show_default=False,
    ),
]
ScaleOption = Annotated[
    str,
    typer.Option(
        help="How much to compute: quick, default or paper. On 2 cores the main job takes 1 to "
        "2 minutes, 5 to 10, or hours; all takes under 5, about an hour, or days."
    ),
]
TaskOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Further fitted tasks to study, such as mnist-3-8, one an option.", show_default=False
    ),
]
AttributeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="With --celeba: the attributes whose tasks to study, one an option; by default "
        "the paper's twelve. Tasks that are not fitted yet are fitted first.",
        show_default=False,
    ),
]
