"""Is your classifier brittle because of the data, or because of the training?

Image tasks with known densities, their Bayes-optimal classifiers, attacks, and the numbers that
compare any classifier with the best that is possible.
"""

from bayesgap._version import __version__
from bayesgap.attacks.base import Adversarials, Attack, BestOf
from bayesgap.attacks.named import named_attack
from bayesgap.densities.em import fit_em
from bayesgap.densities.fitting import Fit
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.densities.sgd import fit_sgd
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.evaluate import Evaluation, evaluate
from bayesgap.images.mnist import load_mnist
from bayesgap.tasks.catalog import load_task, task_names
from bayesgap.tasks.symmetry import asymmetric, principal_spread, symmetric
from bayesgap.tasks.task import Task

__all__ = [
    "Adversarials",
    "Attack",
    "BayesgapError",
    "BestOf",
    "Evaluation",
    "Fit",
    "MixtureOfFactorAnalyzers",
    "Task",
    "__version__",
    "asymmetric",
    "evaluate",
    "fit_em",
    "fit_sgd",
    "load_mnist",
    "load_task",
    "named_attack",
    "principal_spread",
    "symmetric",
    "task_names",
]
