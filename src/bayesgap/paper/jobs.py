"""The paper's experiment on tasks: every kind of classifier, attacked at the same points.

For each task and variant the optimum, CNNs, linear SVMs and RBF SVMs are attacked at the same
points. Every kind has attacks that all its training seeds face, and checks on the first seed
alone: LD-Grad tightened, foolbox's DDN, and CW-L2 at the paper's settings on some points. The
main job does this for the MNIST tasks, symmetric and asymmetric; figures and tables ask for other
tasks, variants and kinds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bayesgap.errors import BayesgapError
from bayesgap.evaluation.measure import (
    Outcome,
    best_outcome,
    gap_to_optimum,
    l2_table,
    pixel_changes,
    summarise,
)
from bayesgap.evaluation.statistics import mean_with_interval
from bayesgap.images.mnist import mnist_checksum
from bayesgap.paper import experiment
from bayesgap.paper.exhibit import Setting
from bayesgap.paper.experiment import BAYES
from bayesgap.paper.real import read_real
from bayesgap.paper.scales import COST, FACES, Scale
from bayesgap.runs.run import Finished
from bayesgap.runs.stage import Stage, seed_of

TASKS = ("mnist-0-6", "mnist-2-7", "mnist-4-5")
SYMMETRIC, ASYMMETRIC, NOISY, REAL = "symmetric", "asymmetric", "noisy", "real"
VARIANTS = (SYMMETRIC, ASYMMETRIC)
KINDS = (BAYES, "cnn", "linear-svm", "rbf-svm")
WIDE = "rbf-svm-wide"  # at the smallest gamma, and the C that makes it resemble the linear SVM
ROBUST = ("trades-l2", "trades-linf", "trades-linf-wide")
HEADLINE_ATTACKS = {
    BAYES: ("ld-grad", "boundary-walk"),
    "cnn": ("boundary-walk",),
    "linear-svm": ("closed-form",),
    "rbf-svm": ("ld-grad", "boundary-walk"),
    WIDE: ("boundary-walk",),
    **dict.fromkeys(ROBUST, ("boundary-walk",)),
}
CERTIFIED = "certified"  # what results call the nearest points that the certificates show
NOISE_MULTIPLE = 50  # of appendix D.2


@dataclass(frozen=True)
class TaskJob:
    """The stages of one task and variant; of real images there is no optimum."""

    name: str
    variant: str
    scale: Scale
    data: Stage
    points: Stage
    optimum: Stage | None
    certificate: Stage | None
    width: Stage
    gamma: Stage | None
    classifiers: Mapping[str, list[Stage]]
    attacks: Mapping[str, Mapping[str, list[Stage]]]

    def stages(self) -> list[Stage]:
        """The ends of the graph; all else is needed by one of them."""
        attacks = [
            stage for kind in self.attacks.values() for row in kind.values() for stage in row
        ]
        return [stage for stage in (self.optimum, self.gamma, *attacks) if stage is not None]


def build(setting: Setting, wanted: Mapping[tuple[str, str], Sequence[str]]) -> list[TaskJob]:
    """The stages of the experiment.

    Args:
        setting: The scale, the seed and the tasks at hand.
        wanted: For each name of a task and variant, the kinds of classifiers to attack.
    """
    return [
        task_job(setting, name, variant, tuple(kinds)) for (name, variant), kinds in wanted.items()
    ]


def main_job(setting: Setting, names: Sequence[str] = TASKS) -> list[TaskJob]:
    """The stages of the main job: all kinds, on both variants of the MNIST tasks."""
    return build(setting, {(name, variant): KINDS for name in names for variant in VARIANTS})


def theory(*, seed: int) -> Stage:
    """Observations 1 to 4, which no task of the paper's is needed for."""
    draw = {"sample_seed": seed_of("theory", seed)}
    return Stage("theory", experiment.study_theory, draw, label="observations 1 to 4")


def data_stage(setting: Setting, name: str, variant: str) -> Stage:
    """The stage that loads a variant of a task, or the real images that it was fitted to."""
    label = f"{name}/{variant}"
    if variant == REAL:
        return _real_stage(setting, name)
    known = setting.known(name)
    settings: dict[str, Any] = {
        "name": f"{name}/{SYMMETRIC if variant == NOISY else variant}",
        "version": known.version,
        "sha256": known.sha256,
    }
    if variant == NOISY:
        settings["noise_multiple"] = NOISE_MULTIPLE
    places = {} if known.released else {"folder": str(known.path.parent)}
    return Stage("task", experiment.make_task, settings, label=f"task {label}", places=places)


def _real_stage(setting: Setting, name: str) -> Stage:
    settings: dict[str, Any] = {"name": name, "limit": setting.scale_for(name).real_limit}
    places = {}
    if not name.startswith(FACES):
        settings["checksum"] = mnist_checksum()
    else:
        if setting.celeba is None:
            raise BayesgapError(f"The real images of {name} need a copy of CelebA: give --celeba.")
        places["celeba"], settings["checksum"] = setting.celeba
    return Stage("real-images", read_real, settings, label=f"images {name}/real", places=places)


def points_stage(setting: Setting, name: str, variant: str) -> Stage:
    """The points that all classifiers of a variant are attacked at.

    The noisy variant's are the symmetric one's but for the size of their noise.
    """
    settings = {
        "per_class": setting.scale_for(name).per_class,
        "sample_seed": seed_of("points", setting.seed),
    }
    if variant == NOISY:
        settings["drawn_as"] = points_stage(setting, name, SYMMETRIC).seed
    return Stage(
        "points",
        experiment.draw_points,
        settings,
        {"task": data_stage(setting, name, variant)},
        f"points of {name}/{variant}",
    )


def certificate_stage(setting: Setting, name: str, variant: str) -> Stage:
    """The optimum's certified radius at those points."""
    return Stage(
        "certify",
        experiment.certify_optimum,
        {},
        {
            "task": data_stage(setting, name, variant),
            "points": points_stage(setting, name, variant),
        },
        f"certified radius of {name}/{variant}",
    )


def training_samples(
    setting: Setting, name: str, variant: str, kind: str = ""
) -> list[dict[str, Any]]:
    """Which images each replicate's classifiers of a kind are trained on.

    Of real images there are no more than there are, so that each replicate has a part of its own.
    """
    identity = data_stage(setting, name, variant).identity
    scale = setting.scale_for(name)
    if variant == REAL:
        common = {
            "images": scale.images,
            "sample_seed": seed_of("training", identity, setting.seed),
        }
        return [{**common, "fold": [k, scale.seeds]} for k in range(scale.seeds)]
    return [
        {
            "images": scale.images,
            "sample_seed": seed_of("training", identity, setting.seed, replicate),
        }
        for replicate in range(scale.cnn_seeds if kind == "cnn" else scale.seeds)
    ]


def width_stage(setting: Setting, name: str, variant: str) -> Stage:
    """The width of a variant's CNNs.

    The paper sought it on symmetric data; the asymmetric and the noisy variant take it over, so
    that they differ in their data alone. Real images have their own.
    """
    on = REAL if variant == REAL else SYMMETRIC
    scale = setting.scale_for(name)
    return Stage(
        "width",
        experiment.find_width,
        {
            **training_samples(setting, name, on)[0],
            "widths": list(scale.widths),
            "target": scale.accuracy,
            "training": asdict(scale.training),
        },
        {"task": data_stage(setting, name, on)},
        f"CNN width for {name}/{on}",
    )


def gamma_stage(setting: Setting, name: str, variant: str) -> Stage:
    """The curve of RBF SVMs over gamma, and the gamma that is chosen."""
    scale = setting.scale_for(name)
    return Stage(
        "gamma",
        experiment.study_gamma,
        {
            **training_samples(setting, name, variant)[0],
            "gammas": list(scale.gammas),
            "costs": list(scale.costs) if variant == SYMMETRIC else [COST],
            "target": scale.rbf_accuracy,
            "per_class": scale.curve_per_class,
        },
        {
            "task": data_stage(setting, name, variant),
            "points": points_stage(setting, name, variant),
        },
        f"RBF SVMs over gamma on {name}/{variant}",
    )


def classifier_stages(setting: Setting, name: str, variant: str, kind: str) -> list[Stage]:
    """The classifiers of one kind: one for each replicate, or the one optimum."""
    task = {"task": data_stage(setting, name, variant)}
    on = f"on {name}/{variant}"
    if kind == BAYES:
        draw = {"sample_seed": seed_of("points", setting.seed)}
        return [
            Stage("optimum", experiment.study_optimum, draw, task, f"optimum of {name}/{variant}")
        ]
    samples = training_samples(setting, name, variant, kind)
    scale = setting.scale_for(name)
    if kind == "linear-svm":
        return [Stage(kind, experiment.train_linear, s, task, f"linear SVM {on}") for s in samples]
    if kind == "rbf-svm":
        inputs = {**task, "gamma": gamma_stage(setting, name, variant)}
        return [
            Stage(kind, experiment.train_rbf, {**s, "cost": COST}, inputs, f"RBF SVM {on}")
            for s in samples
        ]
    if kind == WIDE:
        chosen = {"gamma": scale.gammas[0], "cost": scale.wide_cost}
        return [
            Stage(kind, experiment.train_rbf_at, {**s, **chosen}, task, f"wide RBF SVM {on}")
            for s in samples
        ]
    inputs = {**task, "width": width_stage(setting, name, variant)}
    if kind == "cnn":
        training = {"training": asdict(scale.training)}
        return [
            Stage(kind, experiment.train_cnn, {**s, **training}, inputs, f"CNN {on}")
            for s in samples
        ]
    settings = scale.robust[kind]
    return [
        Stage(kind, experiment.train_robust, {**s, **settings}, inputs, f"{kind} CNN {on}")
        for s in samples
    ]


def attack_stage(
    setting: Setting, name: str, variant: str, kind: str, classifier: Stage, by: str, per_class: int
) -> Stage:
    """One attack on one classifier, at the first points of each class."""
    return Stage(
        "attack",
        experiment.attack_classifier,
        {"attack": by, "per_class": per_class},
        {
            "task": data_stage(setting, name, variant),
            "points": points_stage(setting, name, variant),
            "classifier": classifier,
        },
        f"{by} on {kind} of {name}/{variant}",
    )


def task_job(setting: Setting, name: str, variant: str, kinds: tuple[str, ...]) -> TaskJob:
    """All stages of one task and variant."""
    scale = setting.scale_for(name)
    about = (setting, name, variant)
    classifiers = {kind: classifier_stages(*about, kind) for kind in kinds}
    attacks: dict[str, dict[str, list[Stage]]] = {}
    for kind, trained in classifiers.items():
        attack = partial(attack_stage, *about, kind)
        attacks[kind] = {
            by: [attack(classifier, by, scale.per_class) for classifier in trained]
            for by in HEADLINE_ATTACKS[kind]
        }
        for by, count in scale.checks.get(kind, {}).items():
            if variant in scale.checked:
                attacks[kind][by] = [attack(trained[0], by, count)]
    known = BAYES in kinds
    certificate = certificate_stage(*about) if variant != REAL else None
    if known and certificate is not None:
        attacks[BAYES][CERTIFIED] = [certificate]
    return TaskJob(
        name,
        variant,
        scale,
        data_stage(*about),
        points_stage(*about),
        classifiers[BAYES][0] if known else None,
        certificate,
        width_stage(*about),
        gamma_stage(*about) if "rbf-svm" in kinds else None,
        classifiers,
        attacks,
    )


@dataclass(frozen=True)
class Measured:
    """What came of one task, variant and kind of classifier.

    Attributes:
        headline: The record of the best attack.
        records: Of each attack.
        best: For each training seed, the nearest success at each point.
        outcomes: Of each attack, for each training seed that it faced.
    """

    headline: dict[str, Any]
    records: list[dict[str, Any]]
    best: list[Outcome]
    outcomes: dict[str, list[Outcome]]


def measure(job: TaskJob, kind: str, finished: Finished) -> Measured:
    """Read the attacks on one kind of classifier and put them into numbers."""
    points = finished[job.points].tensors
    x, y = points["x"], points["y"]
    about = {"task": job.name, "variant": job.variant, "classifier": kind}
    outcomes = {
        name: [_outcome(finished[stage].tensors) for stage in stages]
        for name, stages in job.attacks[kind].items()
    }
    records = [
        {**about, "attack": name, **summarise(found, y[: len(found[0].l2)])}
        for name, found in outcomes.items()
    ]
    headline = HEADLINE_ATTACKS[kind]
    if kind == BAYES:
        for record in records:
            first = outcomes[record["attack"]][0]
            broken = l2_table([first], y[: len(first.l2)])[0].isfinite()
            record |= certified(job, finished, among=broken)
    # The checks, which the first seed alone faces, may find a nearer success there too.
    best = [
        best_outcome(
            [outcomes[name][replicate] for name in headline]
            + [found[0] for name, found in outcomes.items() if name not in headline][
                : None if replicate == 0 else 0
            ]
        )
        for replicate in range(len(job.classifiers[kind]))
    ]
    at_points = torch.stack([(found.before == y) & found.l2.isfinite() for found in best])
    summary = summarise(best, y)
    record = {
        **about,
        "attack": "best of " + ", ".join(outcomes),
        **summary,
        **_test_accuracy(job, kind, finished),
        **_against_the_optimum(job, kind, finished, l2_table(best, y), summary["success_rate"]),
        **pixel_changes(
            torch.cat([x[chosen] for chosen in at_points]),
            torch.cat([f.images[c].double() for f, c in zip(best, at_points, strict=True)]),
            at=at_points,
        ),
    }
    return Measured(record, records, best, outcomes)


def _against_the_optimum(
    job: TaskJob,
    kind: str,
    finished: Finished,
    l2: Float[Tensor, "seeds points"],
    success_rate: float | None,
) -> dict[str, Any]:
    """The optimum's own certified numbers, or a classifier's gap to it."""
    if job.certificate is None:
        return gap_to_optimum(l2, None, success_rate)
    if kind == BAYES:
        return certified(job, finished)
    return gap_to_optimum(l2, lower_bounds(job, finished), success_rate)


def lower_bounds(job: TaskJob, finished: Finished) -> Float[Tensor, " points"]:
    """The optimum's certified distances at the points; NaN where it decides wrongly.

    Raises:
        BayesgapError: of real images, whose optimum is not known.
    """
    if job.certificate is None:
        raise BayesgapError(f"The optimum of {job.name}/{job.variant} is not known.")
    found = finished[job.certificate].tensors
    correct = found["before"] == finished[job.points].tensors["y"]
    return torch.where(correct, found["lower"], torch.nan)


def certified(
    job: TaskJob, finished: Finished, *, among: Bool[Tensor, " first"] | None = None
) -> dict[str, Any]:
    """The optimum's mean certified lower bound, with its 95 % interval over points.

    Args:
        job: The stages.
        finished: Their results.
        among: Which of the first points to count; all by default.
    """
    lower = lower_bounds(job, finished)
    if among is not None:
        lower = torch.where(among, lower[: len(among)], torch.nan)
    names = ("certified_lower", "certified_lower_low", "certified_lower_high")
    return dict(zip(names, mean_with_interval(lower[None]), strict=True))


def _test_accuracy(job: TaskJob, kind: str, finished: Finished) -> dict[str, Any]:
    """How many fresh samples each training seed's classifier decided correctly."""
    trained = [finished[stage].values for stage in job.classifiers[kind]]
    return {
        "test_images": trained[0]["images"],
        "test_correct": [values["correct"] for values in trained],
    }


def subpopulations(
    job: TaskJob, kind: str, measured: Measured, finished: Finished
) -> list[dict[str, Any]]:
    """Headline numbers on the parts of an asymmetric task's points."""
    points = finished[job.points].tensors
    outlier, own_side = points["outlier"], points["own_side"]
    parts = {
        "without outliers' points": ~outlier,
        "own outlier likelier, without outliers' points": own_side & ~outlier,
        "other outlier likelier, without outliers' points": ~own_side & ~outlier,
    }
    about = {"task": job.name, "variant": job.variant, "classifier": kind}
    return [
        {
            **about,
            "among": part,
            **summarise(measured.best, points["y"], among=chosen),
            **(certified(job, finished, among=chosen) if kind == BAYES else {}),
        }
        for part, chosen in parts.items()
        if chosen.any()
    ]


def _outcome(tensors: Mapping[str, Any]) -> Outcome:
    return Outcome(tensors["before"], tensors["after"], tensors["l2"], tensors["images"])
