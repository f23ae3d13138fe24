"""The one exception type that means "what was asked cannot be done, and here is why".

Everything that a user can get wrong (a shape, a label, a name, a damaged file) raises
`BayesgapError` with one sentence that holds the offending value and what to do. The command
line prints that sentence and exits with 2; anything else that is raised is a bug of ours.
"""

import difflib
from collections.abc import Iterable
from numbers import Integral

LARGEST_SEED = 2**63 - 1  # of those that random generators take everywhere


class BayesgapError(ValueError):
    """The request or its data are invalid; the message says what was wrong and what to do."""


def check_integer(given: object, what: str, *, least: int, most: int | None = None) -> int:
    """What was given as a plain integer; what is none, too small or too large is refused.

    Args:
        given: What was given.
        what: What it is, for the refusal, such as "seed".
        least: The smallest value that is allowed.
        most: The largest; None for no limit.

    Raises:
        BayesgapError: it is none of these.
    """
    whole = isinstance(given, Integral) and not isinstance(given, bool)
    if not whole or int(given) < least or (most is not None and int(given) > most):  # type: ignore[call-overload]
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        raise BayesgapError(f"The {what} must be an integer, {allowed}; got {given!r}.")
    return int(given)  # type: ignore[call-overload, no-any-return]


def check_seed(given: object) -> int:
    """The seed of a random generator as a plain integer, from 0 to `LARGEST_SEED`.

    Args:
        given: What was given.

    Raises:
        BayesgapError: it is none.
    """
    return check_integer(given, "seed", least=0, most=LARGEST_SEED)


def near_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that one looks like, whatever its capitals; the likest first.

    Args:
        name: What was asked for, and is not known.
        known: What could have been meant.
        most: How many to give at most.
    """
    small = {each.lower(): each for each in known}
    return [small[near] for near in difflib.get_close_matches(name.lower(), small, n=most)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question after the known name that is most like another one, or nothing.

    Args:
        name: What was asked for, and is not known.
        known: What could have been meant.
    """
    near = near_names(name, known, 1)
    return f" Did you mean {near[0]}?" if near else ""
