"""Attacks by name, at the settings that results are reported with; and any others."""

import ast
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Adversarials, Attack
from bayesgap.attacks.boundary import BoundaryWalk
from bayesgap.attacks.decision_walk import DecisionWalk
from bayesgap.attacks.fmn import FMN
from bayesgap.attacks.ld_grad import LDGrad, TightLDGrad
from bayesgap.attacks.library import Foolbox, cw_l2, cw_l2_strong, ddn, deepfool
from bayesgap.attacks.linear import LinearClosedForm
from bayesgap.attacks.pgd import PGD
from bayesgap.attacks.score_walk import ScoreWalk
from bayesgap.attacks.superdeepfool import SuperDeepFool
from bayesgap.errors import BayesgapError
from bayesgap.foreign import named_object

WITHOUT_POOL: dict[str, Callable[[], Attack]] = {
    "ld-grad": LDGrad,
    "ld-grad-tight": TightLDGrad,
    "closed-form": LinearClosedForm,
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
    "score-walk": ScoreWalk,
    "decision-walk": DecisionWalk,
}
PRESETS = (*WITHOUT_POOL, *WITH_POOL)
FOOLBOX = "foolbox:"


def named_attack(name: str, *, pool: Float[Tensor, "m C H W"] | None = None) -> Attack:
    """The attack of that name.

    Args:
        name: One of `PRESETS`; or "foolbox:", the class of any of foolbox's L2 minimisation
            attacks, and its settings, as in "foolbox:DDNAttack?steps=1000"; or "module:function",
            the name of a function of yours (see `FunctionAttack`), which is imported.
        pool: Images from which the walks of `WITH_POOL` start, such as samples of the task; the
            others need none.

    Raises:
        BayesgapError: no such name, module or function, or a walk without a pool.

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
    if name.startswith(FOOLBOX):
        kind, _, query = name.removeprefix(FOOLBOX).partition("?")
        settings: dict[str, Any] = {
            key: _value(text) for key, text in parse_qsl(query, keep_blank_values=True)
        }
        reserved = {"name", "attack"} & settings.keys()
        if reserved:
            raise BayesgapError(f"{min(reserved)!r} is no setting of foolbox's {kind}.")
        return Foolbox(kind, name=name, **settings)
    if ":" in name:
        return FunctionAttack(_imported(name), name=name)
    raise BayesgapError(
        f"There is no attack {name!r}. Known are {', '.join(PRESETS)}, foolbox:CLASS?setting=value "
        "and module:function."
    )


def is_foreign(name: str) -> bool:
    """Whether an attack's name is that of a user's own function, "module:function"."""
    return ":" in name and not name.startswith(FOOLBOX)


AnyAttack = str | Attack | Callable[[nn.Module, Tensor, Tensor], Tensor | Adversarials]


def as_attack(attack: AnyAttack, *, pool: Float[Tensor, "m C H W"] | None = None) -> Attack:
    """The attack that a user gives: by its name, itself, or as a function.

    Args:
        attack: A name as of `named_attack`, an `Attack`, or a function as of `FunctionAttack`.
        pool: Images from which the walks of `WITH_POOL` start, such as samples of the task; the
            others need none.

    Raises:
        BayesgapError: it is nothing of the kind.
    """
    if isinstance(attack, str):
        return named_attack(attack, pool=pool)
    if isinstance(attack, Attack):
        return attack
    if callable(attack) and not isinstance(attack, type):
        return FunctionAttack(attack, name=getattr(attack, "__name__", type(attack).__name__))
    hint = (
        f"; the class itself is none, {attack.__name__}(…) is" if isinstance(attack, type) else ""
    )
    raise BayesgapError(f"An attack is a name, an Attack or a function; got {attack!r}{hint}.")


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
        """
        found = self.function(classifier, x, y)
        return found.images if isinstance(found, Adversarials) else found


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
