"""Code of the user's own, by name: "module:name", of the working directory's modules too.

This package's own modules cannot be named. That a stage depends on the source which its function
reaches rests on it (`runs.source`): all other imports of the package are written out.
"""

import importlib
import os
import sys
import sysconfig
import traceback
from pathlib import Path

from bayesgap.errors import BayesgapError

OWN = __name__.partition(".")[0]
LIBRARIES = (  # where code lies that is not the user's
    *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
    *(str(Path(__file__).parent), "<"),
)


def named_object(name: str, what: str) -> object:
    """Import the object that "module:name" says.

    Args:
        name: Module and name, a colon between them.
        what: What it is to be, for messages: "attack".

    Raises:
        BayesgapError: no such module or name, one of this package's, or a module that fails when
            it is imported, with the file and line where it does.
    """
    module, _, attribute = name.partition(":")
    if module.partition(".")[0] == OWN:
        raise BayesgapError(
            f"The {what} {name!r} is of {OWN} itself: name one of your own modules."
        )
    if not module or not attribute or "/" in module:
        raise BayesgapError(f"The {what} is named module:name, as in my_module:net; got {name!r}.")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise BayesgapError(
            f"The {what} {name!r} cannot be imported: {what_stopped(error)}."
        ) from error
    finally:
        sys.path.remove(here)


def what_stopped(error: BaseException) -> str:
    """What went wrong in a user's code, and its last line on the way there, in one line.

    Args:
        error: What was raised.
    """
    lines = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(LIBRARIES)
    ]
    message = " ".join(str(error).split())
    if not lines and isinstance(error, ImportError | AttributeError | SyntaxError | ValueError):
        return message  # of a SyntaxError it names file and line
    reason = f"{type(error).__name__}: {message or 'no message'}"
    return f"{reason} ({lines[-1].filename}, line {lines[-1].lineno})" if lines else reason
