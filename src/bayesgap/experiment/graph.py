"""The stages of the experiment: every kind of classifier of a case, attacked at the same points.

For each case (a task in one variant) classifiers of several kinds are attacked at the same
points. Every kind has attacks that all its trainings face, and checks on the first training
alone: LD-Grad tightened, foolbox's DDN, and CW-L2 at the paper's settings on some points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from bayesgap.attacks.named import code_of
from bayesgap.errors import BayesgapError
from bayesgap.experiment.kinds import GAMMA, OPTIMUM, WIDTH, Kind
from bayesgap.experiment.scales import COST, Scale
from bayesgap.experiment.setting import NOISE_MULTIPLE, NOISY, REAL, SYMMETRIC, Case, Setting
from bayesgap.experiment.stages.attack import attack_classifier
from bayesgap.experiment.stages.certificate import certify_optimum
from bayesgap.experiment.stages.cnn import find_width
from bayesgap.experiment.stages.data import draw_points, make_task, read_real
from bayesgap.experiment.stages.gamma import study_gamma
from bayesgap.experiment.stages.optimum import study_optimum
from bayesgap.norms import L2
from bayesgap.runs.stage import Stage, seed_of
from bayesgap.tasks import catalog

CERTIFIED = "certified"  # what results call the nearest points that the certificates show


@dataclass(frozen=True)
class CaseGraph:
    """The stages of one case; of real images there is no optimum.

    Attributes:
        case: The task and its variant.
        scale: The sizes that it is studied at.
        data: Loads the task or the real images.
        points: Draws the points that all classifiers are attacked at.
        certificate: Certifies the optimum's radius at the points.
        width: Chooses the width of CNNs, where there are any.
        gamma: Chooses the bandwidth of RBF SVMs, where there are any.
        classifiers: Trains the classifiers of each kind, one for each replicate.
        attacks: For each kind and attack, attacks the classifiers that face it, in their order.
    """

    case: Case
    scale: Scale
    data: Stage
    points: Stage
    certificate: Stage | None
    width: Stage | None
    gamma: Stage | None
    classifiers: Mapping[Kind, list[Stage]]
    attacks: Mapping[Kind, Mapping[str, list[Stage]]]

    @property
    def optimum(self) -> Stage | None:
        """Studies the optimum, where it is among the classifiers."""
        return self.classifiers[OPTIMUM][0] if OPTIMUM in self.classifiers else None

    def targets(self) -> list[Stage]:
        """The ends of the graph; all else is needed by one of them."""
        attacks = [
            stage for kind in self.attacks.values() for row in kind.values() for stage in row
        ]
        others = (self.optimum, self.gamma, self.certificate)
        return [*(stage for stage in others if stage is not None), *attacks]


def case_graph(setting: Setting, case: Case, kinds: Sequence[Kind]) -> CaseGraph:
    """All stages of one case.

    Args:
        setting: What the run was asked for.
        case: The task and its variant.
        kinds: The kinds of classifiers to train and attack.

    Raises:
        BayesgapError: two kinds of one name, or the optimum of real images.
    """
    _check(case, kinds)
    scale = setting.scale_for(case.task)
    classifiers = {kind: classifier_stages(setting, case, kind) for kind in kinds}
    attacks: dict[Kind, dict[str, list[Stage]]] = {}
    for kind, trained in classifiers.items():
        attack = partial(attack_stage, setting, case, kind)
        attacks[kind] = {
            by: [attack(classifier, by, scale.per_class) for classifier in trained]
            for by in kind.attacks
        }
        for by, count in scale.checks.get(kind.name, {}).items():
            if case.variant in scale.checked and by not in kind.attacks:
                attacks[kind][by] = [attack(trained[0], by, count)]
    choices = {choice for kind in kinds for choice in kind.choices}
    certificate = None if case.variant == REAL else certificate_stage(setting, case)
    if OPTIMUM in kinds and certificate is not None and setting.norm == L2:
        attacks[OPTIMUM][CERTIFIED] = [certificate]
    return CaseGraph(
        case=case,
        scale=scale,
        data=data_stage(setting, case),
        points=points_stage(setting, case),
        certificate=certificate,
        width=width_stage(setting, case) if WIDTH in choices else None,
        gamma=gamma_stage(setting, case) if GAMMA in choices else None,
        classifiers=classifiers,
        attacks=attacks,
    )


def _check(case: Case, kinds: Sequence[Kind]) -> None:
    """Refuse kinds that results could not tell apart, and the optimum of real images."""
    names = [kind.name for kind in kinds]
    if len(set(names)) < len(names):
        raise BayesgapError(f"Kinds of classifiers need different names; got {', '.join(names)}.")
    if case.variant == REAL and OPTIMUM in kinds:
        raise BayesgapError(f"Real images have no optimum: leave it out of what {case} is to show.")


def data_stage(setting: Setting, case: Case) -> Stage:
    """The stage that loads a variant of a task, or the real images that it was fitted to."""
    if case.variant == REAL:
        return _real_stage(setting, case)
    known = setting.known(case.task)
    if case.variant not in (*catalog.VARIANTS, NOISY):
        variants = ", ".join((*catalog.VARIANTS, NOISY, REAL))
        raise BayesgapError(f"A task has no variant {case.variant!r}; known are {variants}.")
    fitted = replace(case, variant=SYMMETRIC) if case.variant == NOISY else case
    settings: dict[str, Any] = {
        "name": str(fitted),
        "version": known.version,
        "sha256": known.sha256,
    }
    if case.variant == NOISY:
        settings["noise_multiple"] = NOISE_MULTIPLE
    places = {} if known.released else {"folder": str(known.path.parent)}
    return Stage("task", make_task, settings, label=f"task {case}", places=places)


def _real_stage(setting: Setting, case: Case) -> Stage:
    source = setting.source(case.task)
    if not source.at_hand:
        raise BayesgapError(f"The real images of {case.task} are not at hand: give {source.needs}.")
    settings = {
        "name": case.task,
        "limit": setting.scale_for(case.task).real_limit,
        "checksum": source.checksum,
    }
    code = {"source": source}
    return Stage("real-images", read_real, settings, label=f"images {case}", code=code)


def points_stage(setting: Setting, case: Case) -> Stage:
    """The points that all classifiers of a case are attacked at.

    The noisy variant's are the symmetric one's but for the size of their noise.
    """
    settings = {
        "per_class": setting.scale_for(case.task).per_class,
        "sample_seed": seed_of("points", setting.seed),
    }
    if case.variant == NOISY:
        settings["drawn_as"] = points_stage(setting, replace(case, variant=SYMMETRIC)).seed
    inputs = {"task": data_stage(setting, case)}
    return Stage("points", draw_points, settings, inputs, f"points of {case}")


def certificate_stage(setting: Setting, case: Case) -> Stage:
    """The optimum's certified radius at those points."""
    inputs = {"task": data_stage(setting, case), "points": points_stage(setting, case)}
    return Stage("certify", certify_optimum, {}, inputs, f"certified radius of {case}")


def training_samples(setting: Setting, case: Case, replicates: int) -> list[dict[str, Any]]:
    """Which images the classifiers of each replicate are trained on, as settings of their stages.

    Of real images there are no more than there are, so that each replicate has a part of its own,
    and there are as many replicates as the scale has seeds.
    """
    identity = data_stage(setting, case).identity
    scale = setting.scale_for(case.task)
    if case.variant == REAL:
        seed = seed_of("training", identity, setting.seed)
        common = {"images": scale.images, "sample_seed": seed}
        return [{**common, "fold": [k, scale.seeds]} for k in range(scale.seeds)]
    return [
        {
            "images": scale.images,
            "sample_seed": seed_of("training", identity, setting.seed, replicate),
        }
        for replicate in range(replicates)
    ]


def width_stage(setting: Setting, case: Case) -> Stage:
    """The width of a case's CNNs.

    The paper sought it on symmetric data; the asymmetric and the noisy variant take it over, so
    that they differ in their data alone. Real images have their own.
    """
    on = case if case.variant == REAL else replace(case, variant=SYMMETRIC)
    scale = setting.scale_for(case.task)
    settings = {
        **training_samples(setting, on, 1)[0],
        "widths": list(scale.widths),
        "target": scale.accuracy,
        "training": asdict(scale.training),
        **setting.draws.settings("validation_images"),
    }
    return Stage(
        "width", find_width, settings, {"task": data_stage(setting, on)}, f"CNN width for {on}"
    )


def gamma_stage(setting: Setting, case: Case) -> Stage:
    """The curve of RBF SVMs over gamma, and the gamma that is chosen."""
    scale = setting.scale_for(case.task)
    settings = {
        **training_samples(setting, case, 1)[0],
        "gammas": list(scale.gammas),
        "costs": list(scale.costs) if case.variant == SYMMETRIC else [COST],
        "target": scale.rbf_accuracy,
        "per_class": scale.curve_per_class,
        **setting.draws.settings("validation_images", "pool_images"),
    }
    inputs = {"task": data_stage(setting, case), "points": points_stage(setting, case)}
    return Stage("gamma", study_gamma, settings, inputs, f"RBF SVMs over gamma on {case}")


CHOICES = {WIDTH: width_stage, GAMMA: gamma_stage}


def classifier_stages(setting: Setting, case: Case, kind: Kind) -> list[Stage]:
    """The classifiers of one kind: one for each replicate, or the one optimum."""
    task = {"task": data_stage(setting, case)}
    if kind is OPTIMUM:
        settings = {
            "sample_seed": seed_of("points", setting.seed),
            **setting.draws.settings("images"),
        }
        return [Stage("optimum", study_optimum, settings, task, f"optimum of {case}")]
    scale = setting.scale_for(case.task)
    settings = {**kind.settings(scale), **setting.draws.settings(*kind.draws)}
    inputs = task | {choice: CHOICES[choice](setting, case) for choice in kind.choices}
    return [
        Stage(kind.name, kind.train, {**sample, **settings}, inputs, f"{kind.one} on {case}")
        for sample in training_samples(setting, case, kind.seeds(scale))
    ]


def attack_stage(
    setting: Setting, case: Case, kind: Kind, classifier: Stage, by: str, per_class: int
) -> Stage:
    """One attack on one classifier, at the first points of each class."""
    settings = {"attack": by, "per_class": per_class, **setting.draws.settings("pool_images")}
    code: dict[str, Any] = {"load": kind.load}
    given = code_of(by)
    if given is not None:
        code["given"] = given
    if setting.norm != L2:
        settings["norm"] = setting.norm.name
        code["measure"] = setting.norm.measure
    return Stage(
        "attack",
        attack_classifier,
        settings,
        {
            "task": data_stage(setting, case),
            "points": points_stage(setting, case),
            "classifier": classifier,
        },
        f"{by} on {kind} of {case}",
        code=code,
    )
