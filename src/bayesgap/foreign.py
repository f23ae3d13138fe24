"""Code of the user's own, by name: "module:name", of the working directory's modules too.

This package's own modules cannot be named. That a stage depends on the source which its function
reaches rests on it (`runs.source`): all other imports of the package are written out.
"""

import importlib
import os
import sys

from bayesgap.errors import BayesgapError

OWN = __name__.partition(".")[0]


def named_object(name: str, what: str) -> object:
    """Import the object that "module:name" says.

    Args:
        name: Module and name, a colon between them.
        what: What it is to be, for messages: "attack".

    Raises:
        BayesgapError: no such module or name, or one of this package's.
    """
    module, _, attribute = name.partition(":")
    if module.partition(".")[0] == OWN:
        raise BayesgapError(
            f"The {what} {name!r} is of {OWN} itself: name one of your own modules."
        )
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        raise BayesgapError(f"The {what} {name!r} cannot be imported: {error}.") from error
    finally:
        sys.path.remove(here)
