"""Attacks of adv-lib behind this package's signature."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

from jaxtyping import Float, Int
from torch import Tensor

from bayesgap.attacks.adapters import (
    BOUNDS_MARGIN,
    check_norm,
    check_settings,
    check_untargeted,
    in_units,
    not_installed,
    smallest,
)
from bayesgap.attacks.box import Box, LibraryAttack
from bayesgap.errors import BayesgapError
from bayesgap.foreign import named_object

# Powers of pixel units in which settings are measured.
POWERS = {
    **dict.fromkeys(("eps", "max_eps", "init_norm", "α_init", "α_final", "random_init"), 1),
    **dict.fromkeys(("ε", "primal_lr", "lr_init", "init_lr_distance"), 1),
    "initial_const": 2,
    "dual_ratio_init": -1,  # the weight of a length over that of logits
}
# Of functions that do not take one.
NORMS = {"carlini_wagner_linf": "inf", "pgd_linf": "inf", "sigma_zero": 0, "fga": 0, "vfga": 0}


class AdvLib(LibraryAttack):
    """Any attack of adv-lib, by name or as a function.

    The attack works in a box of [0, 1]. Settings that are lengths (eps, init_norm, …), given or by
    default, are in pixel units, and CW's initial_const weighs logits against squared pixel units:
    both are converted. What the library fixes, such as the last step of `ddn`, counts in units of
    the box, a few pixel units each. An attack that must be told a budget (eps) is run at smaller
    ones too, until the smallest that suffices for an image is found to half a percent. `norm` is 2
    where it is not given, and images are not quantised: `levels` is None.
    """

    def __init__(
        self,
        attack: str | Callable[..., Any],
        *,
        name: str | None = None,
        bayes_logit_scale: float = 1.0,
        bounds_margin: float = BOUNDS_MARGIN,
        **settings: Any,
    ):
        """Hold the function.

        Args:
            attack: The "module:function" of adv-lib, such as "adv_lib.attacks:fmn"; or the
                function; or a `functools.partial` of it.
            name: What results call the attack; by default the function's name and settings.
            bayes_logit_scale: What a Bayes-optimal classifier's logits are multiplied by.
            bounds_margin: How far, in pixel units, the bounds lie beyond the images' own range.
            **settings: What the function itself takes, such as steps=100.

        Raises:
            BayesgapError: adv-lib is not installed or has no such function, not with these
                settings; it is aimed at classes, or measures by another norm.
        """
        function: Any = _imported(attack) if isinstance(attack, str) else attack
        if isinstance(function, partial):
            if function.args:
                raise BayesgapError(
                    "Of a partial of adv-lib's attacks this package gives the first arguments; "
                    "name those that you set, as in partial(fmn, norm=2)."
                )
            function, settings = function.func, {**function.keywords, **settings}
        if not inspect.isfunction(function):
            raise BayesgapError(f"An attack of adv-lib is a function; got {function!r}.")
        query = f"?{urlencode(settings)}" if settings else ""
        self.function = function
        self.settings = _all_settings(function, settings)
        super().__init__(
            name=name or f"{function.__name__}{query}",
            bounds_margin=bounds_margin,
            bayes_logit_scale=bayes_logit_scale,
        )

    def search(self, box: Box, u: Float[Tensor, "n C H W"], y: Int[Tensor, " n"]) -> Any:
        """Call the function.

        Args:
            box: The classifier that it attacks.
            u: Images in [0, 1].
            y: The decision on each image.
        """
        eps = inspect.signature(self.function).parameters.get("eps")
        has_budget = eps is not None and eps.default is eps.empty  # else it is a step or a hint
        return smallest(partial(self._within, box), has_budget, box, u, y)

    def _within(
        self, box: Box, u: Float[Tensor, "n C H W"], y: Int[Tensor, " n"], share: float
    ) -> Any:
        """What the function makes of the images within a share of its budget."""
        converted = in_units(self.settings, POWERS, box.span / share)
        return self.function(box, u, y, **{**self.settings, **converted})


def _imported(name: str) -> object:
    """What "module:function" of the library says."""
    try:
        import adv_lib.attacks  # noqa: F401
    except Exception as error:  # libraries of another age fail at import in many ways
        raise not_installed("adv-lib", "adv-lib", error) from error
    return named_object(name, "attack")


def _all_settings(function: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a function, those by default too; refused where they do not fit."""
    what, signature = f"adv-lib's {function.__name__}", inspect.signature(function)
    defaults = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.default is not parameter.empty
    }
    if "norm" in signature.parameters:
        defaults.setdefault("norm", 2)
    if "levels" in defaults:
        defaults["levels"] = None
    together = {**defaults, **settings}
    try:
        signature.bind(None, None, None, **together)
    except TypeError as error:
        raise BayesgapError(f"{what} cannot be set up: {error}.") from error
    check_settings(function, settings, what)
    check_untargeted(bool(together.get("targeted")), what)
    if together.get("levels") is not None:
        raise BayesgapError(f"{what} cannot quantise images in a box: leave its levels out.")
    for key in {"norm", "p", "distance"} & together.keys():
        check_norm(together[key], what)
    check_norm(NORMS.get(function.__name__, 2), what)
    return together
