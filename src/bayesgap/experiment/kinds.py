"""The kinds of classifiers that are compared: each is one declaration.

A further kind, of this package or of anyone's, takes a stage function that trains it, a `load`
where `stored` does not know it, and a `Kind`. Nothing else has to know its name.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

from bayesgap.errors import BayesgapError
from bayesgap.experiment.scales import COST, Draws, Scale
from bayesgap.experiment.stages.cnn import train_cnn
from bayesgap.experiment.stages.data import Load
from bayesgap.experiment.stages.optimum import BAYES, as_optimum, study_optimum
from bayesgap.experiment.stages.svm import train_linear, train_rbf, train_rbf_at
from bayesgap.experiment.stages.trades import train_robust
from bayesgap.experiment.stages.trained import as_stored
from bayesgap.runs.store import Result

NAME = re.compile(r"[A-Za-z0-9-]+")
WIDTH, GAMMA = "width", "gamma"  # what is chosen once for all trainings of a case


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of classifier.

    Attributes:
        name: What results call it, for example "linear-svm"; also the name of its stages.
        label: What tables and legends call it, for example "Linear SVM".
        one: What progress calls one of them, for example "linear SVM".
        colour: Its colour in plots, as "#RRGGBB".
        attacks: The names of the attacks that all its trainings face; the nearest success counts.
        train: The stage function that trains one, from the input "task", one for each of
            `choices`, and the settings "images" and "sample_seed" (of real images "fold" too).
        settings: The further settings of `train` at a scale.
        choices: What `train` needs that is chosen once for all trainings: `WIDTH`, `GAMMA`.
        draws: The fields of `Draws` that `train` takes.
        seeds: How many are trained on samples at a scale.
        load: Makes a classifier of what `train` stored.
    """

    name: str
    label: str
    one: str
    colour: str
    attacks: tuple[str, ...]
    train: Callable[..., Result]
    settings: Callable[[Scale], dict[str, Any]] = lambda scale: {}
    choices: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()
    seeds: Callable[[Scale], int] = lambda scale: scale.seeds
    load: Load = as_stored

    def __post_init__(self) -> None:
        """Refuse what a run would trip over.

        Raises:
            BayesgapError: attacks that are no tuple of names, or choices or draws that are unknown.
        """
        if isinstance(self.attacks, str):
            raise BayesgapError(
                f"The attacks of {self} are a tuple of names; got {self.attacks!r}."
            )
        if not self.attacks or not NAME.fullmatch(self.name):
            raise BayesgapError(
                f"A kind has attacks, and a name of letters, digits and hyphens; got {self.name!r} "
                f"with {self.attacks}."
            )
        draws = [each.name for each in fields(Draws)]
        for what, given, known in (
            ("choices", self.choices, (WIDTH, GAMMA)),
            ("draws", self.draws, draws),
        ):
            if not set(given) <= set(known):
                raise BayesgapError(f"The {what} of {self} are of {', '.join(known)}; got {given}.")

    def __str__(self) -> str:
        return self.name


# The colours are Okabe and Ito's: told apart by readers with any colour vision.
OPTIMUM = Kind(
    name=BAYES,
    label="Bayes-optimal",
    one="optimum",
    colour="#000000",
    attacks=("ld-grad", "boundary-walk"),
    train=study_optimum,
    load=as_optimum,
)
CNN = Kind(
    name="cnn",
    label="CNN",
    one="CNN",
    colour="#D55E00",
    attacks=("boundary-walk",),
    train=train_cnn,
    settings=lambda scale: {"training": asdict(scale.training)},
    choices=(WIDTH,),
    draws=("test_images",),
    seeds=lambda scale: scale.cnn_seeds,
)
LINEAR_SVM = Kind(
    name="linear-svm",
    label="Linear SVM",
    one="linear SVM",
    colour="#56B4E9",
    attacks=("closed-form",),
    train=train_linear,
    draws=("test_images",),
)
RBF_SVM = Kind(
    name="rbf-svm",
    label="RBF SVM",
    one="RBF SVM",
    colour="#009E73",
    attacks=("ld-grad", "boundary-walk"),
    train=train_rbf,
    settings=lambda scale: {"cost": COST},
    choices=(GAMMA,),
    draws=("test_images",),
)
# At the smallest gamma, and the C that makes it resemble the linear SVM.
WIDE_RBF_SVM = Kind(
    name="rbf-svm-wide",
    label="RBF SVM, wide",
    one="wide RBF SVM",
    colour="#999999",
    attacks=("boundary-walk",),
    train=train_rbf_at,
    settings=lambda scale: {"gamma": scale.gammas[0], "cost": scale.wide_cost},
    draws=("test_images",),
)


def _robust(name: str, label: str, colour: str) -> Kind:
    return Kind(
        name=name,
        label=label,
        one=f"{name} CNN",
        colour=colour,
        attacks=("boundary-walk",),
        train=train_robust,
        settings=partial(_ball, name=name),
        choices=(WIDTH,),
        draws=("test_images",),
    )


def _ball(scale: Scale, *, name: str) -> dict[str, Any]:
    return dict(scale.robust[name])


ROBUST = (
    _robust("trades-l2", "CNN, TRADES (L2)", "#CC79A7"),
    _robust("trades-linf", "CNN, TRADES (L∞)", "#0072B2"),
    _robust("trades-linf-wide", "CNN, TRADES (wide L∞)", "#E69F00"),
)
LEARNED = (CNN, LINEAR_SVM, RBF_SVM)
PAPER_KINDS = (OPTIMUM, *LEARNED)  # of figure 6 and table 1
KINDS = (*PAPER_KINDS, WIDE_RBF_SVM, *ROBUST)
