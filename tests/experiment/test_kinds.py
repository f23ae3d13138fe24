"""What every kind of classifier promises: one contract for all that are declared."""

import inspect
import json
import pickle
import re
from dataclasses import asdict, fields, replace
from importlib import import_module

import pytest
import torch

from bayesgap.attacks.named import named_attack
from bayesgap.classifiers.allconv import Training
from bayesgap.classifiers.module import decisions
from bayesgap.errors import BayesgapError
from bayesgap.experiment.graph import CHOICES, case_graph, classifier_stages
from bayesgap.experiment.kinds import CNN, KINDS, LEARNED, OPTIMUM, PAPER_KINDS
from bayesgap.experiment.measured import collect
from bayesgap.experiment.scales import DIGITS, SCALES, Draws, trades
from bayesgap.experiment.setting import REAL, SYMMETRIC, VARIANTS, Case, Setting
from bayesgap.experiment.stages.data import as_data
from bayesgap.norms import L2
from bayesgap.runs.run import Resources, run
from bayesgap.runs.store import Store
from bayesgap.tasks.fit import fit_task
from blobs import Blobs

NAME = "blobs-2"
IMAGES = Blobs(count=60)
EVERY_SCALE = [scale for family in SCALES.values() for scale in family.values()]
POOL = torch.zeros(1, 1, 1, 1)
# Sizes that train and attack every kind in a moment.
TINY = replace(
    DIGITS["quick"],
    images=100,
    seeds=2,
    cnn_seeds=3,
    per_class=3,
    curve_per_class=2,
    checks={},
    widths=(4,),
    gammas=(0.01, 0.1),
    training=Training(epochs=15, batch=10, learning_rate=1e-2),
    robust=trades(l2=0.1, linf=0.01, wide=0.02, steps=1, epochs=15, batch=10, learning_rate=1e-2),
)
DRAWS = Draws(validation_images=50, test_images=80, pool_images=60, images=200)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    known = fit_task(IMAGES, NAME, tmp_path_factory.mktemp("tasks"))
    return Setting(
        "quick",
        seed=0,
        tasks={NAME: known},
        sources=(IMAGES,),
        scales={IMAGES.sizes: {"quick": TINY}},
        draws=DRAWS,
    )


@pytest.fixture(scope="module")
def ran(setting, tmp_path_factory):
    """Every kind, one of it trained and attacked on samples and on real images."""
    scale = replace(TINY, seeds=1, cnn_seeds=1)
    setting = replace(setting, scales={IMAGES.sizes: {"quick": scale}})
    graphs = [
        case_graph(setting, Case(NAME, SYMMETRIC), KINDS),
        case_graph(setting, Case(NAME, REAL), [kind for kind in KINDS if kind is not OPTIMUM]),
    ]
    store = Store(str(tmp_path_factory.mktemp("store")))
    targets = [stage for graph in graphs for stage in graph.targets()]
    finished = run(targets, store, Resources())
    return [(graph, finished, collect(graph, finished, L2)) for graph in graphs]


@pytest.mark.parametrize("kind", KINDS, ids=str)
class TestEveryKind:
    def test_it_has_names_and_a_colour(self, kind):
        assert re.fullmatch(r"[a-z0-9-]+", kind.name)  # it names folders of the store
        assert str(kind) == kind.name
        assert kind.label
        assert kind.one
        assert re.fullmatch(r"#[0-9A-F]{6}", kind.colour)

    def test_its_attacks_are_known(self, kind):
        assert kind.attacks
        assert len(set(kind.attacks)) == len(kind.attacks)
        for name in kind.attacks:
            assert named_attack(name, pool=POOL).name == name

    def test_workers_can_import_what_trains_and_loads_it(self, kind):
        for function in (kind.train, kind.load):
            assert getattr(import_module(function.__module__), function.__qualname__) is function
            assert pickle.loads(pickle.dumps(function)) is function

    @pytest.mark.parametrize("scale", EVERY_SCALE, ids=lambda s: f"{s.task_kind}-{s.name}")
    def test_its_settings_are_json_at_every_scale(self, kind, scale):
        settings = kind.settings(scale)
        assert json.loads(json.dumps(settings, allow_nan=False)) == settings

    @pytest.mark.parametrize("scale", EVERY_SCALE, ids=lambda s: f"{s.task_kind}-{s.name}")
    def test_its_stage_function_takes_what_it_is_given(self, kind, scale):
        given = dict.fromkeys(("task", *kind.choices, "images", "sample_seed", "seed"))
        given |= kind.settings(scale) | dict.fromkeys(kind.draws)
        if kind is not OPTIMUM:  # of real images there is none
            given |= {"fold": (0, 1)}
        inspect.signature(kind.train).bind(**given)

    def test_its_choices_are_known(self, kind):
        assert set(kind.choices) <= CHOICES.keys()

    def test_its_draws_are_fields_of_draws_and_arguments_of_its_stage(self, kind):
        assert set(kind.draws) <= {field.name for field in fields(Draws)}
        assert set(kind.draws) <= inspect.signature(kind.train).parameters.keys()

    @pytest.mark.parametrize("scale", EVERY_SCALE, ids=lambda s: f"{s.task_kind}-{s.name}")
    def test_at_least_one_is_trained_at_every_scale(self, kind, scale):
        assert kind.seeds(scale) >= 1

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_as_many_are_trained_as_its_seeds_say(self, kind, variant, setting):
        stages = classifier_stages(setting, Case(NAME, variant), kind)
        assert len(stages) == (1 if kind is OPTIMUM else kind.seeds(TINY))
        assert len({stage.identity for stage in stages}) == len(stages)
        if kind is not OPTIMUM:
            assert {stage.name for stage in stages} == {kind.name}
            assert len({stage.settings["sample_seed"] for stage in stages}) == len(stages)

    def test_of_real_images_each_training_has_a_fold_of_its_own(self, kind, setting):
        if kind is OPTIMUM:
            return
        stages = classifier_stages(setting, Case(NAME, REAL), kind)
        assert [stage.settings["fold"] for stage in stages] == [[0, TINY.seeds], [1, TINY.seeds]]

    def test_what_is_stored_of_it_is_a_classifier_of_the_tasks_images(self, kind, ran):
        for graph, finished, _ in ran:
            data = as_data(finished[graph.data])
            x = finished[graph.points].tensors["x"]
            for stage in graph.classifiers.get(kind, []):
                classifier = kind.load(finished[stage], data)
                assert isinstance(classifier, torch.nn.Module)
                assert set(decisions(classifier, x).tolist()) == {0, 1}

    def test_its_accuracy_is_stored(self, kind, ran):
        for graph, _, results in ran:
            if kind in graph.classifiers:
                measured = results.measured[kind]
                assert measured.images == (200 if kind is OPTIMUM else 80)
                assert measured.accuracy.value > 0.9  # the blobs are easily told apart

    def test_its_attacks_break_every_point_of_every_training(self, kind, ran):
        for graph, _, results in ran:
            if kind in graph.classifiers:
                measured = results.measured[kind]
                assert set(measured.attacks) >= set(kind.attacks)
                assert measured.summary.seeds == len(graph.classifiers[kind])
                assert measured.summary.success_rate == 1
                assert measured.summary.unbroken == 0


@pytest.mark.parametrize("attribute", ["name", "label", "one", "colour"])
def test_kinds_are_told_apart_by(attribute):
    values = [getattr(kind, attribute).lower() for kind in KINDS]
    assert len(set(values)) == len(values)


def test_the_papers_kinds_are_among_them():
    assert (OPTIMUM, *LEARNED) == PAPER_KINDS
    assert set(PAPER_KINDS) <= set(KINDS)


# The sizes that name kinds.


@pytest.mark.parametrize("scale", EVERY_SCALE, ids=lambda s: f"{s.task_kind}-{s.name}")
def test_what_a_scale_says_of_single_kinds_is_about_kinds_that_there_are(scale):
    names = {kind.name for kind in KINDS}
    assert scale.checks.keys() <= names
    assert scale.robust.keys() <= names
    assert set(scale.checked) <= set(VARIANTS)


@pytest.mark.parametrize("scale", EVERY_SCALE, ids=lambda s: f"{s.task_kind}-{s.name}")
def test_checks_are_known_attacks_on_some_of_the_points(scale):
    for name, checks in scale.checks.items():
        (kind,) = (kind for kind in KINDS if kind.name == name)
        assert set(checks).isdisjoint(kind.attacks)
        for attack, points in checks.items():
            assert named_attack(attack, pool=POOL).name == attack
            assert 1 <= points <= scale.per_class


def test_every_scale_stands_under_its_name():
    for family in SCALES.values():
        assert [scale.name for scale in family.values()] == list(family)
        assert len({scale.task_kind for scale in family.values()}) == 1


def test_plain_cnns_may_be_more_than_the_others_whose_samples_the_first_share(setting):
    case = Case(NAME, SYMMETRIC)
    cnns, others = (
        [s.settings["sample_seed"] for s in classifier_stages(setting, case, kind)]
        for kind in (CNN, LEARNED[-1])
    )
    assert (len(cnns), len(others)) == (3, 2)
    assert cnns[:2] == others


def test_the_sizes_of_draws_reach_the_stages_that_take_them(setting):
    for kind in KINDS:
        for stage in classifier_stages(setting, Case(NAME, SYMMETRIC), kind):
            for name in kind.draws:
                assert stage.settings[name] == asdict(DRAWS)[name]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"attacks": "boundary-walk"}, "The attacks of cnn are a tuple of names"),
        ({"choices": ("depth",)}, "The choices of cnn are of width, gamma"),
        ({"draws": ("tests",)}, "The draws of cnn are of validation_images"),
    ],
)
def test_a_declaration_that_a_run_would_trip_over_is_refused(changed, message):
    kind = replace(CNN)
    for name, value in changed.items():  # not by the constructor, whose types the tests check
        object.__setattr__(kind, name, value)
    with pytest.raises(BayesgapError, match=message):
        kind.__post_init__()
