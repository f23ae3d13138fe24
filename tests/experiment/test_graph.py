"""Which stages a case has, and what their settings say."""

from dataclasses import replace

import pytest

from bayesgap.errors import BayesgapError
from bayesgap.experiment.graph import (
    CERTIFIED,
    case_graph,
    classifier_stages,
    data_stage,
    gamma_stage,
    points_stage,
    width_stage,
)
from bayesgap.experiment.kinds import CNN, LEARNED, LINEAR_SVM, OPTIMUM, PAPER_KINDS, RBF_SVM
from bayesgap.experiment.scales import COST
from bayesgap.experiment.setting import ASYMMETRIC, NOISY, REAL, SYMMETRIC, Case, Setting
from bayesgap.experiment.stages.data import as_data, read_real
from bayesgap.images.digits import Digits
from bayesgap.images.faces import Faces
from bayesgap.images.source import RealImages
from bayesgap.tasks.catalog import known_tasks
from linf import LINF

DIGITS, FACES = "mnist-4-5", "celeba-male"
KNOWN = known_tasks()[DIGITS][-1]


class SomeFaces(Faces):
    """A copy of CelebA that nobody opens."""

    checksum = "1" * 64


def setting(scale="default", **changes):
    sources = (Digits(), SomeFaces("/nowhere"))
    return Setting(scale, 0, {DIGITS: KNOWN, FACES: KNOWN}, **{"sources": sources, **changes})


@pytest.mark.parametrize("task", [DIGITS, FACES])
def test_enough_real_images_are_read_for_all_trainings(task):
    asked, case = setting(), Case(task, REAL)
    scale = asked.scale_for(task)
    samples = [stage.settings for kind in LEARNED for stage in classifier_stages(asked, case, kind)]
    assert {(one["sample_seed"], one["images"]) for one in samples} == {
        (samples[0]["sample_seed"], scale.images)
    }
    folds = scale.seeds
    assert [one["fold"] for one in samples] == [[k, folds] for _ in range(3) for k in range(folds)]
    data = data_stage(asked, case)
    limit = data.settings["limit"]
    assert limit >= folds * samples[0]["images"] // 2
    if task == DIGITS:
        result = read_real(**data.settings, **data.code, seed=data.seed)
        images = as_data(result)
        assert isinstance(images, RealImages)
        assert images.size(scale.images, folds=folds) == scale.images


@pytest.mark.parametrize("variant", [SYMMETRIC, ASYMMETRIC, NOISY, REAL])
def test_all_kinds_of_a_replicate_learn_from_the_same_images(variant):
    for scale in ("quick", "default", "paper"):
        asked, case = setting(scale), Case(DIGITS, variant)
        rows = [
            [stage.settings["sample_seed"] for stage in classifier_stages(asked, case, kind)]
            for kind in LEARNED
        ]
        for replicate in range(asked.scale_for(DIGITS).seeds):
            assert len({row[replicate] for row in rows}) == 1


def test_the_width_is_that_of_the_symmetric_variant_but_of_real_images_their_own():
    asked = setting()
    widths = {
        variant: width_stage(asked, Case(DIGITS, variant)).identity
        for variant in (SYMMETRIC, ASYMMETRIC, NOISY, REAL)
    }
    assert widths[SYMMETRIC] == widths[ASYMMETRIC] == widths[NOISY] != widths[REAL]


def test_every_variant_has_a_gamma_of_its_own_and_the_symmetric_one_all_costs():
    asked = setting()
    stages = {variant: gamma_stage(asked, Case(DIGITS, variant)) for variant in (SYMMETRIC, NOISY)}
    assert stages[SYMMETRIC].identity != stages[NOISY].identity
    assert stages[SYMMETRIC].settings["costs"] == list(asked.scale_for(DIGITS).costs)
    assert stages[NOISY].settings["costs"] == [COST]


def test_the_noisy_variant_is_the_symmetric_one_with_its_points():
    asked = setting()
    plain, noisy = (Case(DIGITS, variant) for variant in (SYMMETRIC, NOISY))
    data = {case: data_stage(asked, case) for case in (plain, noisy)}
    multiple = data[noisy].settings["noise_multiple"]
    assert data[noisy].settings == {**data[plain].settings, "noise_multiple": multiple}
    assert multiple == 50
    points = points_stage(asked, noisy).settings
    assert points["drawn_as"] == points_stage(asked, plain).seed
    assert points["sample_seed"] == points_stage(asked, plain).settings["sample_seed"]


def test_another_seed_means_other_points_and_samples_of_the_same_task():
    case = Case(DIGITS, SYMMETRIC)
    one, other = setting(), replace(setting(), seed=1)
    assert points_stage(one, case).seed != points_stage(other, case).seed
    assert data_stage(one, case).identity == data_stage(other, case).identity
    seeds = [
        {stage.settings["sample_seed"] for stage in classifier_stages(each, case, CNN)}
        for each in (one, other)
    ]
    assert seeds[0].isdisjoint(seeds[1])


def test_a_case_has_the_attacks_of_its_kinds_and_checks_on_the_first_training():
    asked, case = setting(), Case(DIGITS, SYMMETRIC)
    scale = asked.scale_for(DIGITS)
    graph = case_graph(asked, case, PAPER_KINDS)
    for kind, attacks in graph.attacks.items():
        checks = scale.checks.get(kind.name, {})
        certified = {CERTIFIED} if kind is OPTIMUM else set()
        assert set(attacks) == {*kind.attacks, *checks} | certified
        for name in kind.attacks:
            assert [s.inputs["classifier"] for s in attacks[name]] == graph.classifiers[kind]
            assert {s.settings["per_class"] for s in attacks[name]} == {scale.per_class}
        for name, count in checks.items():
            (stage,) = attacks[name]
            assert stage.inputs["classifier"] is graph.classifiers[kind][0]
            assert (stage.settings["attack"], stage.settings["per_class"]) == (name, count)
    assert graph.optimum is graph.classifiers[OPTIMUM][0]
    assert {graph.optimum, graph.gamma, graph.certificate} < set(graph.targets())


def test_only_variants_that_the_scale_checks_have_checks():
    graph = case_graph(setting(), Case(DIGITS, NOISY), [LINEAR_SVM])
    assert list(graph.attacks[LINEAR_SVM]) == list(LINEAR_SVM.attacks)
    assert graph.gamma is None  # nobody needs one
    assert graph.optimum is None
    assert case_graph(setting(), Case(DIGITS, NOISY), [RBF_SVM]).gamma is not None


def test_of_real_images_there_is_no_optimum_to_certify():
    graph = case_graph(setting(), Case(DIGITS, REAL), LEARNED)
    assert graph.certificate is graph.optimum is None
    assert CERTIFIED not in {name for attacks in graph.attacks.values() for name in attacks}


def test_another_norm_is_measured_by_every_attack_and_leaves_the_certified_points_out():
    case = Case(DIGITS, SYMMETRIC)
    plain, other = (
        case_graph(asked, case, PAPER_KINDS) for asked in (setting(), setting(norm=LINF))
    )
    assert CERTIFIED in plain.attacks[OPTIMUM]
    assert CERTIFIED not in other.attacks[OPTIMUM]
    for kind, attacks in other.attacks.items():
        for name, stages in attacks.items():
            for stage, before in zip(stages, plain.attacks[kind][name], strict=True):
                assert stage.settings == {**before.settings, "norm": "Linf"}
                assert stage.code == {**before.code, "measure": LINF.measure}
                assert stage.inputs["classifier"].identity == before.inputs["classifier"].identity


def test_what_is_not_at_hand_is_refused_with_what_it_needs():
    absent = setting(sources=(Digits(), Faces()))
    with pytest.raises(BayesgapError, match="celeba-male are not at hand: give your copy"):
        data_stage(absent, Case(FACES, REAL))
    assert absent.with_real_images() == [DIGITS]
    assert setting().with_real_images() == [DIGITS, FACES]
    with pytest.raises(BayesgapError, match="The task mnist-0-6 is not at hand"):
        data_stage(setting(), Case("mnist-0-6", SYMMETRIC))


def test_a_scale_that_is_none_is_refused_with_those_that_there_are():
    with pytest.raises(BayesgapError, match=r"no scale 'huge'\. Known are quick, default, paper"):
        points_stage(setting("huge"), Case(DIGITS, SYMMETRIC))


def test_two_kinds_of_one_name_are_refused():
    twin = replace(CNN)
    with pytest.raises(BayesgapError, match="need different names; got cnn, cnn"):
        case_graph(setting(), Case(DIGITS, SYMMETRIC), [CNN, twin])


def test_the_optimum_of_real_images_is_refused():
    with pytest.raises(BayesgapError, match="Real images have no optimum"):
        case_graph(setting(), Case(DIGITS, REAL), [OPTIMUM, CNN])
