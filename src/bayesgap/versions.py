"""The versions of the numerical libraries, which results depend on and carry."""

from importlib.metadata import version

import numpy
import sklearn
import torch


def versions() -> dict[str, str]:
    """The versions of the numerical libraries, on which any result may depend."""
    return {
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scikit-learn": sklearn.__version__,
        "scipy": version("scipy"),
        "foolbox": version("foolbox"),
    }
