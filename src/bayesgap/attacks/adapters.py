"""What the adapters to other libraries share: names, settings, units, copies, budgets.

None of these libraries is needed by this package, and none is imported before one of its attacks
is asked for. A user's own object is never changed: what runs is a copy of it, in which the
classifier under attack stands where the user's model stood. All compute in float32, in which these
libraries are written; what they return is verified by the classifier in its own precision.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import UnionType
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.attacks.box import Box, Within, nearest_within
from bayesgap.errors import BayesgapError, near_names

BOUNDS_MARGIN = 1.0  # steps that libraries measure in the box must not grow with it


def class_named(name: str, found: Mapping[str, type], library: str) -> type:
    """The class of that name.

    Args:
        name: What a user asked for.
        found: The classes of the library's attacks by their names.
        library: What the library is called.

    Raises:
        BayesgapError: there is none; the sentence says which names are near.
    """
    if name not in found:
        near = near_names(name, found) or sorted(found)
        raise BayesgapError(f"{library} has no attack called {name!r}; it has {', '.join(near)}.")
    return found[name]


def check_settings(
    function: Callable[..., Any], settings: Mapping[str, Any], what: str, *, whole: bool = False
) -> None:
    """Refuse a setting that is no number where the default is one.

    Args:
        function: The function or class that takes the settings.
        settings: What a user gave.
        what: What messages call the function.
        whole: Whether a default such as 10 says that the number must be whole.

    Raises:
        BayesgapError: a setting that does not fit.
    """
    for name, parameter in inspect.signature(function).parameters.items():
        default = parameter.default
        given = settings.get(name, default)
        if given is None or isinstance(default, bool) or not isinstance(default, int | float):
            continue
        only_whole = whole and isinstance(default, int)
        if isinstance(given, bool) or not isinstance(given, int if only_whole else int | float):
            kind = "a whole number" if only_whole else "a number"
            raise BayesgapError(f"The setting {name!r} of {what} is {kind}; got {given!r}.")


def not_installed(library: str, package: str, error: Exception) -> BayesgapError:
    """What to say where a library cannot be imported.

    Args:
        library: What it is called.
        package: What it is called where it is installed from.
        error: What went wrong.
    """
    return BayesgapError(
        f"{library} cannot be imported ({type(error).__name__}: {error}): it is no part of "
        f"bayesgap; install it by `pip install {package}`."
    )


def classes_of(module: Any, base: type | UnionType) -> dict[str, type]:
    """The classes of a module's attacks, by their names.

    Args:
        module: The module.
        base: The class of all attacks, or a union of classes.
    """
    return {
        name: kind
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, base) and not inspect.isabstract(kind)
    }


def builder(
    attack: Any, settings: Mapping[str, Any], classes: Mapping[str, type], library: str, whose: str
) -> Callable[[Any], Any]:
    """What gives the attack for a model; of an instance, itself, whose model is its own.

    Args:
        attack: The name of a class, or an instance.
        settings: What a user gave beside it.
        classes: The classes of the library's attacks by their names.
        library: What the library is called.
        whose: What stands before the name of one of its attacks, such as "ART's".

    Raises:
        BayesgapError: there is no such class, its settings do not fit, or an instance is given
            some; when it is called, it takes no such settings.
    """
    if not isinstance(attack, str):
        refuse_settings(attack, settings)
        return lambda model: attack
    kind = class_named(attack, classes, library)
    check_settings(kind, settings, f"{whose} {attack}")
    if "verbose" in inspect.signature(kind).parameters:
        settings = {"verbose": False, **settings}
    return partial(_set_up, f"{whose} {attack}", kind, settings)


def _set_up(what: str, kind: type, settings: Mapping[str, Any], model: Any) -> Any:
    try:
        return kind(model, **settings)
    except Exception as error:  # each library refuses settings in its own way
        raise BayesgapError(f"{what} cannot be set up: {error}.") from error


def refuse_settings(attack: Any, settings: Mapping[str, Any]) -> None:
    """Say that an instance has its settings.

    Args:
        attack: The instance.
        settings: What was given beside it.

    Raises:
        BayesgapError: something was.
    """
    if settings:
        raise BayesgapError(
            f"This {type(attack).__name__} has its settings: build it with {', '.join(settings)}."
        )


def check_untargeted(targeted: bool, what: str) -> None:
    """Refuse an attack that needs to be told what to aim at.

    Args:
        targeted: Whether it does.
        what: What messages call it.

    Raises:
        BayesgapError: it does.
    """
    if targeted:
        raise BayesgapError(
            f"{what} is aimed at given classes, which no attack gets here: build it untargeted."
        )


def check_norm(norm: object, what: str) -> None:
    """Refuse an attack that looks for what is small in another norm than L2.

    Args:
        norm: The norm, as the library says it.
        what: What messages call the attack.

    Raises:
        BayesgapError: it is not L2.
    """
    if norm not in (2, "2", "L2", "l2"):
        raise BayesgapError(
            f"{what} measures by the norm {norm}, not L2: build it with another norm where it "
            "takes one."
        )


def copied(attack: Any, old: Any, new: Any, base: type) -> tuple[Any, list[Any]]:
    """A copy of an attack with another object wherever an old one stood; and its parts.

    Args:
        attack: The attack, which may hold others.
        old: What is not copied, such as its model.
        new: What stands there in the copy.
        base: The class of attacks.

    Returns:
        The copy, and all attacks in it: itself and those that it holds.
    """
    copies = {id(old): new}  # of objects by their ids, which deepcopy looks up and adds to
    made = copy.deepcopy(attack, copies)
    return made, [each for each in copies.values() if isinstance(each, base)]


def smallest(
    within: Within,
    has_budget: bool,
    box: Box,
    u: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
) -> Any:
    """What an attack finds: within the smallest share of its budget that suffices, if any.

    Args:
        within: The attack, called with images, their decisions and a share of its budget.
        has_budget: Whether it has one; else it is called once.
        box: The classifier that it attacks.
        u: Images between the box's bounds.
        y: The decision on each image.
    """
    if not has_budget:
        return within(u, y, 1.0)
    return nearest_within(within, box, u, y, first=1.0, last=1.0)


def in_units(settings: Mapping[str, Any], powers: Mapping[str, int], span: float) -> dict[str, Any]:
    """Those settings that are measured in pixel units, in other units.

    Args:
        settings: All settings by name.
        powers: The power of pixel units in which each of those is measured.
        span: How many pixel units a unit is.
    """
    return {
        name: settings[name] / span**power
        for name, power in powers.items()
        if isinstance(settings.get(name), int | float | Tensor | np.ndarray)
    }
