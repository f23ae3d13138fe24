"""Figure 10: fifty times the noise (appendix D.2)."""

from collections.abc import Mapping

from bayesgap.classifiers.module import decisions
from bayesgap.evaluation.measure import l2_table
from bayesgap.evaluation.statistics import binomial_interval, ratio_with_interval
from bayesgap.paper.claim import Claim, Number
from bayesgap.paper.claims import ACCURATE, ALIKE, RECOVERED, accuracy, guarded
from bayesgap.paper.exhibit import Exhibit, Setting
from bayesgap.paper.experiment import BAYES, as_task
from bayesgap.paper.gallery import OWN_TASKS
from bayesgap.paper.jobs import NOISE_MULTIPLE, NOISY, SYMMETRIC, data_stage, lower_bounds
from bayesgap.paper.results import Results
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.runs.store import Result

PAIRED_IMAGES = 5_000
SAME = 0.99  # share of points on which the two optima decide alike


def stages(setting: Setting) -> dict[str, Stage]:
    """For each task, the decisions of the two optima on the same points."""
    return {
        task: Stage(
            "same-decisions",
            compare_optima,
            {"sample_seed": seed_of("noise", setting.seed)},
            {
                "plain": data_stage(setting, task, SYMMETRIC),
                "noisy": data_stage(setting, task, NOISY),
            },
            f"optima of {task} with and without noise",
        )
        for task in setting.tasks
    }


def compare_optima(plain: Result, noisy: Result, *, sample_seed: int, seed: int) -> Result:
    """How often the optimum of much noise decides as that of little, on samples of either."""
    tasks = {"plain": as_task(plain), "noisy": as_task(noisy)}
    optima = {name: task.bayes_classifier(temperature=1.0) for name, task in tasks.items()}
    values: dict[str, int] = {"images": PAIRED_IMAGES}
    for name, task in tasks.items():
        # The same seed draws the same components, factors and noise but for its size.
        x, _ = task.sample(PAIRED_IMAGES, seed=seed_of(sample_seed, seed))
        first, second = (decisions(optimum, x) for optimum in optima.values())
        values[name] = int((first == second).sum())
    return Result(values=values)


def claims(found: Mapping[str, Result]) -> list[Claim]:
    """Appendix D.2: the optimum keeps its decisions."""
    return [
        Claim(
            "noise leaves the optimum's decisions alone",
            "With fifty times the noise the optimum decides the same points alike.",
            "it does not change its decision boundary (appendix D.2)",
            f"the optima of both noises decide at least {SAME:.0%} of samples of either alike",
            [
                Number(
                    f"{task}, {name} samples",
                    result.values[name] / result.values["images"],
                    *binomial_interval(result.values[name], result.values["images"]),
                    at_least=SAME,
                )
                for task, result in found.items()
                for name in ("plain", "noisy")
            ],
        )
    ]


def optimum_stays_robust(results: Results) -> Claim:
    """Appendix D.2: the optimum remains robust."""
    numbers = []
    for task in results.tasks_with(NOISY):
        noisy, plain = (
            lower_bounds(results.job(task, variant), results.finished)[None]
            for variant in (NOISY, SYMMETRIC)
        )
        numbers.append(Number(task, *ratio_with_interval(noisy, plain), at_least=RECOVERED))
    return Claim(
        "noise leaves the optimum robust",
        "With fifty times the noise the optimum is as robust as before.",
        "remains robust; its dashed lines stay where they are (figure 10)",
        f"mean certified lower bound at points with the noise at least {RECOVERED} of that at the "
        "same points without, on each task",
        numbers,
    )


def cnn_stays_brittle(results: Results) -> Claim:
    """Appendix D.2: the effect on CNNs is minor."""
    numbers = []
    for task in results.tasks_with(NOISY, "cnn"):
        noisy = results.headline(task, NOISY, "cnn")
        numbers.append(accuracy(results, task, NOISY, "cnn", at_least=ACCURATE))
        success = min(
            results.headline(task, variant, "cnn")["success_rate"] or 0.0
            for variant in (NOISY, SYMMETRIC)
        )
        tables = [
            l2_table(
                results.measured[task, variant, "cnn"].best, results.points[task, variant]["y"]
            )
            for variant in (NOISY, SYMMETRIC)
        ]
        ratios = {
            "L2 / optimum's": (results.relative_l2(task, NOISY, "cnn"), {"at_most": RECOVERED}),
            "L2 with over without noise": (
                ratio_with_interval(*tables),
                {"at_least": ALIKE[0], "at_most": ALIKE[1]},
            ),
        }
        numbers += [
            Number(f"{task}, {label}", *guarded(ratio, success), trainings=noisy["seeds"], **range_)
            for label, (ratio, range_) in ratios.items()
        ]
    return Claim(
        "noise does not help CNNs",
        "A CNN trained on samples with fifty times the noise is about as brittle as before.",
        "only a small effect on CNNs trained on the noisy samples (figure 10)",
        f"accuracy on fresh samples at least {ACCURATE:.0%}, mean L2 at most {RECOVERED} of the "
        "certified lower bound of the optimum there, and "
        f"between {ALIKE[0]} and {ALIKE[1]} of that of CNNs trained without, on each task",
        numbers,
    )


EXHIBIT = Exhibit(
    name="fig10",
    title=f"{NOISE_MULTIPLE} times the noise: the optimum and the CNN",
    needs=f"{OWN_TASKS}, and faces where they are fitted",
    stages=stages,
    claims=claims,
    jobs={SYMMETRIC: (BAYES, "cnn"), NOISY: (BAYES, "cnn")},
    judges=(optimum_stays_robust, cnn_stays_brittle),
)
