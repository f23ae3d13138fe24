"""Attacks by name, at the settings that results are reported with; and any others."""

import ast
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Adversarials, Attack
from bayesgap.attacks.boundary import BoundaryWalk
from bayesgap.attacks.ld_grad import LDGrad, TightLDGrad
from bayesgap.attacks.library import Foolbox, cw_l2, cw_l2_strong, ddn, deepfool, fmn
from bayesgap.attacks.linear import LinearClosedForm
from bayesgap.attacks.pgd import PGD
from bayesgap.errors import BayesgapError

WITHOUT_POOL: dict[str, Callable[[], Attack]] = {
    "ld-grad": LDGrad,
    "ld-grad-tight": TightLDGrad,
    "closed-form": LinearClosedForm,
    "ddn": ddn,
    "cw-l2": cw_l2,
    "cw-l2-strong": cw_l2_strong,
    "deepfool": deepfool,
    "fmn": fmn,
    "pgd": PGD,
}
BOUNDARY_WALK = "boundary-walk"
PRESETS = (*WITHOUT_POOL, BOUNDARY_WALK)
FOOLBOX = "foolbox:"


def named_attack(name: str, *, pool: Float[Tensor, "m C H W"] | None = None) -> Attack:
    """The attack of that name.

    Args:
        name: One of `PRESETS`; or "foolbox:", the class of any of foolbox's L2 minimisation
            attacks, and its settings, as in "foolbox:DDNAttack?steps=1000"; or "module:function",
            the name of a function of yours (see `FunctionAttack`), which is imported.
        pool: Samples from which "boundary-walk" starts; the others need none.

    Raises:
        BayesgapError: no such name, module or function, or a boundary walk without a pool.
    """
    if name in WITHOUT_POOL:
        return WITHOUT_POOL[name]()
    if name == BOUNDARY_WALK:
        if pool is None:
            raise BayesgapError(f"A {name} starts from samples: give some of the task's as pool.")
        return BoundaryWalk(pool, attacks=[ddn()])
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


AnyAttack = str | Attack | Callable[[nn.Module, Tensor, Tensor], Tensor | Adversarials]


def as_attack(attack: AnyAttack, *, pool: Float[Tensor, "m C H W"] | None = None) -> Attack:
    """What a user gives for an attack: its name, an attack itself, or a function.

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
            function: Called with images (n, C, H, W) that the classifier decides as the labels
                (n,); returns as many images. What is no success is found out.
            name: What results call it.
        """
        self.function = function
        self.name = name

    def run(
        self, classifier: nn.Module, x: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n C H W"]:
        """Call it."""
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
    module, _, function = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, ValueError, AttributeError) as error:
        raise BayesgapError(f"The attack {name!r} cannot be imported: {error}.") from error
    finally:
        sys.path.remove(here)
    if isinstance(found, type):
        raise BayesgapError(
            f"The attack {name!r} is a class: name a function, or an object of the class."
        )
    if not callable(found):
        raise BayesgapError(
            f"The attack {name!r} is a {type(found).__name__}, not a function or an Attack."
        )
    return found
