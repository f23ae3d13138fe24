"""Attacks by name, at the settings that results are reported with; and any others."""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qsl

import foolbox
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.adapters import not_installed
from bayesgap.attacks.adv_lib import AdvLib
from bayesgap.attacks.art import ART
from bayesgap.attacks.base import Adversarials, Attack, blaming
from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.closed_form import ClosedForm
from bayesgap.attacks.closest import RESTARTED, RESTARTS, Closest
from bayesgap.attacks.decision_walk import DecisionWalk
from bayesgap.attacks.fmn import FMN
from bayesgap.attacks.ld_grad import LDGrad, TightLDGrad
from bayesgap.attacks.library import Foolbox, cw_l2, cw_l2_strong, ddn, deepfool
from bayesgap.attacks.pgd import PGD
from bayesgap.attacks.score_walk import ScoreWalk
from bayesgap.attacks.superdeepfool import SuperDeepFool
from bayesgap.attacks.torchattacks import TorchAttacks
from bayesgap.errors import BayesgapError, did_you_mean
from bayesgap.foreign import named_object

WITHOUT_POOL: dict[str, Callable[[], Attack]] = {
    "ld-grad": LDGrad,
    "ld-grad-tight": TightLDGrad,
    "closed-form": ClosedForm,
    "ddn": ddn,
    "cw-l2": cw_l2,
    "cw-l2-strong": cw_l2_strong,
    "deepfool": deepfool,
    "superdeepfool": SuperDeepFool,
    "fmn": FMN,
    "pgd": PGD,
}
BOUNDARY_WALK = "boundary-walk"
WITH_POOL: dict[str, Callable[[Tensor], Attack]] = {
    BOUNDARY_WALK: lambda pool: BoundaryWalk(pool, attacks=[ddn()]),
    "closest": Closest,
    RESTARTED: lambda pool: Closest(pool, restarts=RESTARTS),
    "score-walk": ScoreWalk,
    "decision-walk": DecisionWalk,
}
PRESETS = (*WITHOUT_POOL, *WITH_POOL)
FOOLBOX = "foolbox:"
CLASSES: dict[str, Callable[..., Attack]] = {
    FOOLBOX: Foolbox,
    "art:": ART,
    "torchattacks:": TorchAttacks,
}
ADV_LIB = "adv_lib."  # of which the names are those of modules and functions
PACKAGES = {  # what installs the libraries that do not come with this package
    "art:": "adversarial-robustness-toolbox",
    "torchattacks:": "torchattacks",
    ADV_LIB: "adv-lib",
}


def named_attack(name: str, *, pool: Float[Tensor, "m C H W"] | None = None) -> Attack:
    """The attack of that name.

    Args:
        name: One of `PRESETS`; or an attack of another library with its settings: the class of
            any of foolbox's L2 attacks, as in "foolbox:DDNAttack?steps=1000"; of any of ART's
            evasion attacks, as in "art:CarliniL2Method?max_iter=10"; of any of torchattacks', as
            in "torchattacks:CW?steps=100"; a function of adv-lib, as in
            "adv_lib.attacks:fmn?steps=100"; or "module:function", the name of a function of yours
            (see `FunctionAttack`), which is imported. Of these libraries foolbox alone is
            installed with this package.
        pool: Images from which the walks of `WITH_POOL` start, such as samples of the task; the
            others need none.

    Raises:
        BayesgapError: no such name, library, module or function, settings that do not fit, or a
            walk without a pool.

    Example:
        >>> task = bayesgap.load_task("mnist-0-6/symmetric")
        >>> attack = bayesgap.named_attack("foolbox:DDNAttack?steps=50")
        >>> attack(task.bayes_classifier(), *task.sample(2, seed=0)).success.tolist()
        [True, True]
    """
    if name in WITHOUT_POOL:
        return WITHOUT_POOL[name]()
    if name in WITH_POOL:
        if pool is None:
            raise BayesgapError(f"A {name} starts from samples: give some of the task's as pool.")
        return WITH_POOL[name](pool)
    for prefix, library in CLASSES.items():
        if name.startswith(prefix):
            kind, settings = _settings(name.removeprefix(prefix))
            return library(kind, name=name, **settings)
    if name.startswith(ADV_LIB):
        function, settings = _settings(name)
        return AdvLib(function, name=name, **settings)
    if ":" in name:
        return FunctionAttack(_imported(name), name=name)
    hint = did_you_mean(name, PRESETS)
    raise BayesgapError(
        f"There is no attack {name!r}.{hint} Known are {', '.join(PRESETS)}, "
        "foolbox:CLASS?setting=value and the like of art, torchattacks and adv_lib.attacks, and "
        "module:function."
    )


def is_foreign(name: str) -> bool:
    """Whether an attack's name is that of code which comes with nothing of this package."""
    return ":" in name and not name.startswith(FOOLBOX)


@dataclass(frozen=True)
class Installed:
    """An attack of a library that does not come with this package, as stages are given it.

    Attributes:
        name: As `named_attack` takes it.
        version: Of the library, on which stored results depend.
    """

    name: str
    version: str


def code_of(name: str) -> Any:
    """What an attack of that name runs that is not of this package: part of a stage's key.

    Args:
        name: As `named_attack` takes it.

    Returns:
        The user's own function or `Attack`; an `Installed`; or None.

    Raises:
        BayesgapError: there is no such code, or its library is not installed.
    """
    if not is_foreign(name):
        return None
    for prefix, package in PACKAGES.items():
        if name.startswith(prefix):
            named_attack(name)
            try:
                return Installed(name, version(package))
            except PackageNotFoundError as error:
                raise not_installed(package, package, error) from error
    return named_object(name, "attack")


@runtime_checkable
class Generates(Protocol):
    """What an attack of ART is, for type checkers."""

    def generate(self, x: Any, y: Any = ...) -> Any:
        """Adversarial images of images x with labels y."""


AnyAttack = str | Attack | Callable[..., Any] | Generates | Installed


def as_attack(attack: object, *, pool: Float[Tensor, "m C H W"] | None = None) -> Attack:
    """The attack that a user gives: by its name, itself, or as a function.

    Args:
        attack: A name as of `named_attack`; an `Attack`; an instance of an attack of foolbox, ART
            or torchattacks; a function of adv-lib or a partial of one; or a function as of
            `FunctionAttack`. An instance of ART or torchattacks is copied, not changed.
        pool: Images from which the walks of `WITH_POOL` start, such as samples of the task; the
            others need none.

    Raises:
        BayesgapError: it is nothing of the kind, or its own name is no text.
    """
    made = _made(attack, pool)
    if not (isinstance(made.name, str) and made.name):
        raise BayesgapError(
            f"An attack's name is a text, by which results call it; that of this "
            f"{type(made).__name__} is {made.name!r}."
        )
    return made


def _made(attack: object, pool: Float[Tensor, "m C H W"] | None) -> Attack:
    if isinstance(attack, str | Installed):
        name = attack.name if isinstance(attack, Installed) else attack
        return named_attack(name, pool=pool)
    if isinstance(attack, Attack):
        return attack
    if isinstance(attack, foolbox.attacks.base.Attack):
        return Foolbox(attack)
    if adapter := _adapter(attack):
        return adapter(attack)
    if callable(attack) and not isinstance(attack, type):
        return FunctionAttack(attack, name=getattr(attack, "__name__", type(attack).__name__))
    hint = (
        f"; the class itself is none, {attack.__name__}(…) is" if isinstance(attack, type) else ""
    )
    raise BayesgapError(
        "An attack is a name, an Attack, a function, or an attack of foolbox, ART, torchattacks or "
        f"adv-lib; got {attack!r}{hint}."
    )


class FunctionAttack(Attack):
    """Any function of a classifier, images and labels that returns the images it made of them."""

    def __init__(
        self, function: Callable[[nn.Module, Tensor, Tensor], Tensor | Adversarials], *, name: str
    ):
        """Hold the function.

        Args:
            function: The attack, called with the classifier, images (n, C, H, W) and the labels
                (n,) as which it decides them; returns as many images. What is no success is found
                out.
            name: What results call the attack.
        """
        self.function = function
        self.name = name

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Call the function.

        Args:
            classifier: The classifier to attack.
            x: The images.
            y: The decision on each image.

        Raises:
            BayesgapError: the function raised an exception.
        """
        with blaming(self.name):
            found = self.function(classifier, x, y)
        return found.images if isinstance(found, Adversarials) else found


def _adapter(attack: object) -> Callable[..., Attack] | None:
    """What adapts to an object's library, found out without importing any of them."""
    function = attack.func if isinstance(attack, partial) else attack
    if inspect.isfunction(function):
        return AdvLib if f"{function.__module__}.".startswith(ADV_LIB) else None
    for base in type(attack).__mro__:
        if base.__module__.startswith("art.attacks."):
            return ART
        if base.__module__.startswith("torchattacks."):
            return TorchAttacks
    return None


def _settings(text: str) -> tuple[str, dict[str, Any]]:
    """What stands before the question mark, and the settings after it."""
    kind, _, query = text.partition("?")
    settings: dict[str, Any] = {
        key: _value(value) for key, value in parse_qsl(query, keep_blank_values=True)
    }
    reserved = {"name", "attack"} & settings.keys()
    if reserved:
        raise BayesgapError(f"{min(reserved)!r} is no setting of {kind}.")
    for key in {"bounds_margin", "bayes_logit_scale"} & settings.keys():
        if not isinstance(settings[key], int | float):
            raise BayesgapError(f"{key} must be a number above 0; got {settings[key]!r}.")
        settings[key] = float(settings[key])
    return kind, settings


def _value(text: str) -> object:
    """A number, True, False or None where the text is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _imported(name: str) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """The function "module:function", of the working directory's modules too."""
    found = named_object(name, "attack")
    if isinstance(found, type):
        raise BayesgapError(
            f"The attack {name!r} is a class: name a function, or an object of the class."
        )
    if not callable(found):
        raise BayesgapError(
            f"The attack {name!r} is a {type(found).__name__}, not a function or an Attack."
        )
    return found
