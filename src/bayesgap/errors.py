"""The one exception type that means "what was asked cannot be done, and here is why".

Everything that a user can get wrong (a shape, a label, a name, a damaged file) raises
`BayesgapError` with one sentence that holds the offending value and what to do. The command
line prints that sentence and exits with 2; anything else that is raised is a bug of ours.
"""

from numbers import Integral


class BayesgapError(ValueError):
    """The request or its data are invalid; the message says what was wrong and what to do."""


def check_integer(given: object, what: str, *, least: int) -> None:
    """Refuse what is no integer, or too small.

    Args:
        given: What was given.
        what: What it is, for the refusal, such as "seed".
        least: The smallest value that is allowed.

    Raises:
        BayesgapError: it is none of these.
    """
    if not isinstance(given, Integral) or isinstance(given, bool) or int(given) < least:
        raise BayesgapError(f"The {what} must be an integer, {least} or more; got {given!r}.")
