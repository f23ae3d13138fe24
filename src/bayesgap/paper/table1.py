"""Table 1: clean and adversarial accuracy of all classifiers on the symmetric tasks."""

from typing import Any

from bayesgap.evaluation.statistics import binomial_interval
from bayesgap.paper.experiment import BAYES

PAPER_POINTS = 100  # test points of each MNIST task; the table prints whole percents

# In percent, (clean, adversarial), as printed.
PAPER = {
    "mnist-0-6": {BAYES: (100, 0), "cnn": (100, 0), "linear-svm": (100, 0), "rbf-svm": (100, 4)},
    "mnist-2-7": {BAYES: (100, 0), "cnn": (100, 0), "linear-svm": (100, 0), "rbf-svm": (100, 7)},
    "mnist-4-5": {BAYES: (100, 0), "cnn": (100, 0), "linear-svm": (100, 0), "rbf-svm": (100, 8)},
}

# The attack of each column in the paper (sections B.4, C.1 and C.2).
PAPER_ATTACK = {BAYES: "ld-grad", "cnn": "cw-l2", "linear-svm": "closed-form", "rbf-svm": "ld-grad"}


def rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Each cell of the table for MNIST: the paper's, ours by its attack, and ours by the best."""
    cells = []
    for record in document["results"]:
        task, kind = record["task"], record["classifier"]
        if record["variant"] != "symmetric" or task not in PAPER:
            continue
        clean, adversarial = PAPER[task][kind]
        same = [
            other
            for other in document["attacks"]
            if all(other[key] == record[key] for key in ("task", "variant", "classifier"))
            and other["attack"] == PAPER_ATTACK[kind]
        ]
        cells.append(
            {
                "task": task,
                "classifier": kind,
                "paper_clean": _with_interval(clean),
                "paper_adversarial": _with_interval(adversarial),
                "paper_attack": PAPER_ATTACK[kind],
                "same_attack": same[0] if same else None,
                "best": record,
            }
        )
    return cells


def _with_interval(percent: int) -> tuple[float, float, float]:
    low, high = binomial_interval(round(percent / 100 * PAPER_POINTS), PAPER_POINTS)
    return percent / 100, low, high
