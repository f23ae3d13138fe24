"""What the paper claims, in our words, each with a rule on intervals that decides it.

A claim is reproduced when every one of its numbers lies, with its whole 95 % interval, on the
side that the claim says; not reproduced when one lies wholly on the other side; and not decided
otherwise.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bayesgap.evaluation.measure import HEADLINE_SUCCESS, l2_table
from bayesgap.evaluation.statistics import (
    binomial_interval,
    ratio_with_interval,
    share_with_interval,
)
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.main_job import COST
from bayesgap.paper.results import Results

REPRODUCED, NOT_REPRODUCED, NOT_DECIDED = "reproduced", "not reproduced", "not decided"
IMPERCEPTIBLE = 1.5  # mean L2 below which the paper calls a change almost indistinguishable
RECOVERED = 0.8  # of the optimum's mean L2: at least that recovers it, less is brittle
ACCURATE = 0.98  # on fresh samples; the lowest of table 1's accuracies of CNNs
VAST_MAJORITY = 0.9  # of the pixels
COMPARABLE_SUCCESS = 0.9  # of both attacks, where two are compared with each other
Interval = tuple[float | None, float | None, float | None]
UNKNOWN: Interval = (None, None, None)
ALIKE = (0.8, 1.25)  # ratio of two mean L2 that the paper calls similar


@dataclass(frozen=True)
class Number:
    """One of a claim's numbers with its 95 % interval, and the range that the claim says."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def verdict(self) -> str:
        """Which side of the range the interval lies on."""
        if self.value is None or self.low is None or self.high is None:
            return NOT_DECIDED
        if self.at_least <= self.low and self.high <= self.at_most:
            return REPRODUCED
        if self.high < self.at_least or self.low > self.at_most:
            return NOT_REPRODUCED
        return NOT_DECIDED


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, judged."""

    name: str
    statement: str
    paper: str
    rule: str
    numbers: list[Number]

    @property
    def verdict(self) -> str:
        """The claim holds where all its numbers say so, and fails where one does."""
        verdicts = {number.verdict for number in self.numbers}
        if NOT_REPRODUCED in verdicts:
            return NOT_REPRODUCED
        return REPRODUCED if verdicts == {REPRODUCED} else NOT_DECIDED


def judge(results: Results) -> list[Claim]:
    """Every claim that the three MNIST tasks can test."""
    return [claim(results) for claim in CLAIMS]


def optimum_is_accurate(results: Results) -> Claim:
    """Table 1 and section 3."""
    return Claim(
        "optimum accurate",
        "The Bayes-optimal classifier decides nearly all images of every task correctly.",
        "100 % on every symmetric task (table 1); close to 100 % on all (section 3)",
        "accuracy on 10,000 samples at least 99 %, for each task and variant",
        [
            Number(
                f"{task}/{variant}",
                study["correct"] / study["images"],
                *binomial_interval(study["correct"], study["images"]),
                at_least=0.99,
            )
            for (task, variant), study in results.optima.items()
        ],
    )


def symmetric_optimum_is_robust(results: Results) -> Claim:
    """Section 3 and figure 4."""
    return Claim(
        "symmetric: optimum robust",
        "On symmetric tasks only large changes alter the optimum's decision.",
        "mean L2 around 3 is perceptible, below 1.5 almost indistinguishable (section 3, faces)",
        f"mean certified lower bound at least {IMPERCEPTIBLE} on each symmetric task",
        [
            Number(
                f"{task}, mean certified lower bound",
                record["certified_lower"],
                record["certified_lower_low"],
                record["certified_lower_high"],
                at_least=IMPERCEPTIBLE,
            )
            for task in results.tasks
            for record in (results.headline(task, "symmetric", BAYES),)
        ],
    )


def asymmetric_optimum_is_brittle(results: Results) -> Claim:
    """Section 3 and figure 4."""
    return Claim(
        "asymmetric: optimum brittle",
        "With one broad outlier a class, tiny changes alter even the optimum's decision.",
        "a tiny imperceptible change suffices (section 3)",
        f"mean L2 of the best attack at most {IMPERCEPTIBLE} on each asymmetric task",
        [_mean_l2(results, task, "asymmetric", at_most=IMPERCEPTIBLE) for task in results.tasks],
    )


def definitions_agree(results: Results) -> Claim:
    """Section 3."""
    numbers = []
    for task in results.tasks:
        for variant in ("symmetric", "asymmetric"):
            record = results.headline(task, variant, BAYES)
            numbers.append(
                Number(
                    f"{task}/{variant}",
                    *_guarded(
                        tuple(record[f"share_within_5{end}"] for end in ("", "_low", "_high")),
                        record["success_rate"],
                    ),
                    **{("at_most" if variant == "symmetric" else "at_least"): VAST_MAJORITY},
                )
            )
    return Claim(
        "two definitions agree",
        "Where the optimum's mean L2 is small nearly all pixels keep their value within 5/255, "
        "where it is large many do not. (The third definition, looking, is left to the pictures.)",
        "the vast majority of pixels, or many pixels differ (section 3, faces)",
        f"share of pixels within 5/255 at least {VAST_MAJORITY:.0%} on asymmetric tasks, at most "
        "that on symmetric ones",
        numbers,
    )


def cnn_is_brittle(results: Results) -> Claim:
    """Section 4 and figure 6."""
    return _accurate_and(
        results,
        "cnn",
        "CNN brittle",
        "A CNN trained on a symmetric task's samples classifies them well, but much smaller "
        "changes than the optimum's alter its decisions.",
        "98 to 100 % accuracy (table 1), significantly smaller perturbations on MNIST (section 4)",
        at_most=RECOVERED,
    )


def linear_svm_is_brittle(results: Results) -> Claim:
    """Section 4 and figure 6."""
    return _accurate_and(
        results,
        "linear-svm",
        "linear SVM brittle",
        "A linear SVM classifies a symmetric task's samples well too, but much "
        "smaller changes than the optimum's alter its decisions.",
        "100 % accuracy (table 1), a brittle classifier (section 4)",
        at_most=RECOVERED,
    )


def rbf_svm_recovers(results: Results) -> Claim:
    """Section 4, figure 6 and appendix D.4."""
    return _accurate_and(
        results,
        "rbf-svm",
        "RBF SVM robust",
        "An RBF SVM trained on the same images is almost as robust as the optimum.",
        "almost as robust as the optimal one on all tasks (appendix D.4.2)",
        at_least=RECOVERED,
    )


def wide_rbf_is_linear(results: Results) -> Claim:
    """Section 4, in brackets."""
    numbers = []
    for task in results.tasks:
        # The curve's SVMs saw the first training set, and so did the first of the linear ones.
        linear = results.measured[task, "symmetric", "linear-svm"].best[:1]
        table = l2_table(linear, results.points[task, "symmetric"]["y"])
        curve, l2 = results.gamma_curve(task, "symmetric")
        place, row = min(
            enumerate(curve), key=lambda item: abs(2 * item[1]["gamma"] * item[1]["cost"] - COST)
        )
        ratio = _guarded(
            ratio_with_interval(l2[place][None], table[:, : l2.shape[1]]), row["success_rate"]
        )
        label = f"{task}, gamma {row['gamma']:g}, C {row['cost']:g}"
        numbers.append(Number(label, *ratio, at_least=ALIKE[0], at_most=ALIKE[1]))
    return Claim(
        "wide RBF SVM linear",
        "With too large a bandwidth (a small gamma) an RBF SVM performs like a linear SVM. (In the "
        "limit it is the one with cost 2 · gamma · C: at C = 1, one that is regularised too much.)",
        "performs similarly (section 4)",
        "mean L2 at the smallest gamma, with the C that makes 2 · gamma · C the linear SVM's cost, "
        f"between {ALIKE[0]} and {ALIKE[1]} of that of the linear SVM trained on the same images, "
        "on each symmetric task",
        numbers,
    )


def attacks_succeed(results: Results) -> Claim:
    """Table 1: clean and adversarial accuracy add up."""
    numbers = []
    for task in results.tasks:
        y = results.points[task, "symmetric"]["y"]
        for kind in (BAYES, "cnn", "linear-svm"):
            counts = [
                (int((found.before == y).sum()), int(l2_table([found], y).isfinite().sum()))
                for found in results.measured[task, "symmetric", kind].best
            ]
            attacked, broken = min(counts, key=lambda count: count[1] / max(1, count[0]))
            share = (
                (broken / attacked, *binomial_interval(broken, attacked)) if attacked else UNKNOWN
            )
            numbers.append(Number(f"{task}, {kind}", *share, at_least=HEADLINE_SUCCESS - 0.02))
    return Claim(
        "every attack succeeds",
        "Given any budget, an attack changes the decision at nearly every point of the optimum, "
        "the CNN and the linear SVM.",
        "clean and adversarial accuracy add up to 100 % (table 1)",
        "success rate of the best attack at least 97 % on each symmetric task, for the training "
        "seed where it is lowest (with 200 points, no interval can lie above 98.2 %)",
        numbers,
    )


def rules_agree(results: Results) -> Claim:
    """Section 3 uses the largest component; the exact rule is their sum."""
    return Claim(
        "decision rules agree",
        "Keeping only the likeliest component of each class decides as the exact rule does.",
        "the likeliest component alone is used (section 3)",
        "same decision on at least 99.9 % of 10,000 samples, for each task and variant",
        [
            Number(
                f"{task}/{variant}",
                study["rules_agree"] / study["images"],
                *binomial_interval(study["rules_agree"], study["images"]),
                at_least=0.999,
            )
            for (task, variant), study in results.optima.items()
        ],
    )


def ld_grad_agrees_with_cw(results: Results) -> Claim:
    """Appendix C.2."""
    numbers = []
    for task in results.tasks:
        measured = results.measured[task, "symmetric", BAYES]
        outcomes = measured.outcomes
        success = {r["attack"]: r["success_rate"] or 0.0 for r in measured.records}
        y = results.points[task, "symmetric"]["y"]
        cw = l2_table(outcomes["cw-l2"], y[: len(outcomes["cw-l2"][0].l2)])
        plain = l2_table(outcomes["ld-grad"], y)[:, : cw.shape[1]]
        share = min(success["ld-grad"], success["cw-l2"])
        ratio = _guarded(ratio_with_interval(plain, cw), share, at_least=COMPARABLE_SUCCESS)
        label = f"{task} (LD-Grad breaks {success['ld-grad']:.0%}, CW-L2 {success['cw-l2']:.0%})"
        numbers.append(Number(label, *ratio, at_least=ALIKE[0], at_most=ALIKE[1]))
    return Claim(
        "LD-Grad agrees with CW-L2",
        "On the optimum, the simple gradient attack needs about the same perturbation as CW-L2.",
        "similar perturbation magnitudes (appendix C.2)",
        f"ratio of mean L2 between {ALIKE[0]} and {ALIKE[1]} where both succeed, on each "
        f"symmetric task; each must break at least {COMPARABLE_SUCCESS:.0%} of the points it faced",
        numbers,
    )


CLAIMS: Iterable[Callable[[Results], Claim]] = (
    optimum_is_accurate,
    symmetric_optimum_is_robust,
    asymmetric_optimum_is_brittle,
    definitions_agree,
    cnn_is_brittle,
    linear_svm_is_brittle,
    rbf_svm_recovers,
    wide_rbf_is_linear,
    attacks_succeed,
    rules_agree,
    ld_grad_agrees_with_cw,
)


def _accurate_and(
    results: Results, kind: str, name: str, statement: str, paper: str, **range_: float
) -> Claim:
    """The claim that a kind of classifier is accurate, and its mean L2 lies in a range."""
    side = "least" if "at_least" in range_ else "most"
    return Claim(
        name,
        statement,
        paper,
        f"accuracy on fresh samples at least {ACCURATE:.0%} and mean L2 at {side} {RECOVERED} of "
        "the optimum's certified lower bound, on each symmetric task",
        [
            number
            for task in results.tasks
            for number in (
                _accuracy(results, task, kind, at_least=ACCURATE),
                _relative_l2(results, task, kind, **range_),
            )
        ],
    )


def _guarded(
    numbers: Interval, success: float | None, *, at_least: float = HEADLINE_SUCCESS
) -> Interval:
    """A mean over too few successes would be one over the easy points: it decides nothing."""
    return numbers if success is not None and success >= at_least else UNKNOWN


def _mean_l2(results: Results, task: str, variant: str, **range_: float) -> Number:
    record = results.headline(task, variant, BAYES)
    numbers = record["mean_l2"], record["mean_l2_low"], record["mean_l2_high"]
    return Number(f"{task}, mean L2", *_guarded(numbers, record["success_rate"]), **range_)


def _accuracy(results: Results, task: str, kind: str, **range_: float) -> Number:
    record = results.headline(task, "symmetric", kind)
    share = share_with_interval(record["test_correct"], record["test_images"])
    return Number(f"{task}, accuracy", *share, **range_)


def _relative_l2(results: Results, task: str, kind: str, **range_: float) -> Number:
    success = results.headline(task, "symmetric", kind)["success_rate"]
    ratio = _guarded(results.relative_l2(task, "symmetric", kind), success)
    return Number(f"{task}, L2 / optimum's", *ratio, **range_)
