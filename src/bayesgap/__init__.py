"""Is your classifier brittle because of the data, or because of the training?

Image tasks with known densities, their Bayes-optimal classifiers, attacks, and the numbers that
compare any classifier with the best that is possible.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bayesgap._version import __version__

if TYPE_CHECKING:
    from bayesgap.attacks.base import Adversarials, Attack, BestOf
    from bayesgap.attacks.named import named_attack
    from bayesgap.classifiers.adapt import as_classifier
    from bayesgap.densities.base import Density
    from bayesgap.densities.categorical import Categorical
    from bayesgap.densities.em import fit_em
    from bayesgap.densities.fitting import Fit
    from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
    from bayesgap.densities.sgd import fit_sgd
    from bayesgap.errors import BayesgapError
    from bayesgap.estimates import Estimate
    from bayesgap.evaluation.doubts import Doubt, DoubtWarning
    from bayesgap.evaluation.evaluate import evaluate
    from bayesgap.evaluation.exam import Exam, exam
    from bayesgap.evaluation.loading import load_evaluation
    from bayesgap.evaluation.record import Evaluation
    from bayesgap.images.celeba import load_celeba
    from bayesgap.images.mnist import load_mnist
    from bayesgap.norms import L2, Norm
    from bayesgap.radius.certificate import Verification, verify
    from bayesgap.radius.certify import Bracket, certify
    from bayesgap.tasks.catalog import load_task, task_names
    from bayesgap.tasks.symmetry import asymmetric, principal_spread, symmetric
    from bayesgap.tasks.task import Task

# Public names are imported when they are first used: torch alone takes seconds, and the command
# line must not wait for it to print its help.
_MODULES = {
    "Adversarials": "attacks.base",
    "Attack": "attacks.base",
    "BayesgapError": "errors",
    "BestOf": "attacks.base",
    "Bracket": "radius.certify",
    "Categorical": "densities.categorical",
    "Density": "densities.base",
    "Estimate": "estimates",
    "Doubt": "evaluation.doubts",
    "DoubtWarning": "evaluation.doubts",
    "Evaluation": "evaluation.record",
    "Exam": "evaluation.exam",
    "Fit": "densities.fitting",
    "L2": "norms",
    "MixtureOfFactorAnalyzers": "densities.mfa",
    "Norm": "norms",
    "Task": "tasks.task",
    "Verification": "radius.certificate",
    "as_classifier": "classifiers.adapt",
    "asymmetric": "tasks.symmetry",
    "certify": "radius.certify",
    "evaluate": "evaluation.evaluate",
    "exam": "evaluation.exam",
    "fit_em": "densities.em",
    "fit_sgd": "densities.sgd",
    "load_celeba": "images.celeba",
    "load_evaluation": "evaluation.loading",
    "load_mnist": "images.mnist",
    "load_task": "tasks.catalog",
    "named_attack": "attacks.named",
    "principal_spread": "tasks.symmetry",
    "symmetric": "tasks.symmetry",
    "task_names": "tasks.catalog",
    "verify": "radius.certificate",
}

__all__ = [
    "L2",
    "Adversarials",
    "Attack",
    "BayesgapError",
    "BestOf",
    "Bracket",
    "Categorical",
    "Density",
    "Doubt",
    "DoubtWarning",
    "Estimate",
    "Evaluation",
    "Exam",
    "Fit",
    "MixtureOfFactorAnalyzers",
    "Norm",
    "Task",
    "Verification",
    "__version__",
    "as_classifier",
    "asymmetric",
    "certify",
    "evaluate",
    "exam",
    "fit_em",
    "fit_sgd",
    "load_celeba",
    "load_evaluation",
    "load_mnist",
    "load_task",
    "named_attack",
    "principal_spread",
    "symmetric",
    "task_names",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'bayesgap' has no attribute {name!r}")
    return getattr(import_module(f"bayesgap.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
