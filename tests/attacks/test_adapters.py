import copy
import random
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bayesgap as bg
from bayesgap.attacks.adapters import in_units
from bayesgap.attacks.adv_lib import AdvLib
from bayesgap.attacks.art import ART
from bayesgap.attacks.box import Box
from bayesgap.attacks.named import Installed, as_attack, code_of, is_foreign, named_attack
from bayesgap.attacks.torchattacks import TorchAttacks
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError
from libraries import with_adv_lib, with_art, with_torchattacks
from strategies import without_shape_checks
from toys import SEEDS, from_gap, normal, property_settings, spherical_task

WITH = {"torchattacks": with_torchattacks, "art": with_art, "adv_lib": with_adv_lib}
DEEPFOOLS = ("torchattacks:DeepFool", "art:DeepFool?max_iter=5", "adv_lib.attacks:df?steps=5")
BUDGETS = (
    "torchattacks:PGDL2?eps=40&alpha=8&steps=20",
    "torchattacks:APGD?norm=L2&eps=40&steps=20",
    "art:ProjectedGradientDescent?norm=2&eps=40&eps_step=8&max_iter=20",
    "adv_lib.attacks:apgd?eps=40",
)
FAR = 30.0  # pixel units: a margin of which no clipping is felt at these distances


@pytest.fixture(autouse=True)
def library(request, monkeypatch):
    """The stand-ins, installed for one test."""
    return {name: put(monkeypatch) for name, put in WITH.items()}


def machine():
    return LinearSVM(normal(0, 1, 4), normal(1, 1))


def images():
    return 3 * normal(2, 12, 1, 2, 2) - 5


def distances(linear, x):
    return (2 * linear(x)[:, 1]).abs() / linear.weight.norm()


def with_margin(name):
    return f"{name}{'&' if '?' in name else '?'}bounds_margin={FAR}"


class Model(nn.Module):
    """A user's own model, other than the classifier that is attacked: it must not be called."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        raise AssertionError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DEEPFOOLS)
def test_images_far_outside_0_to_1_are_attacked_as_well_as_the_library_can(name, dtype):
    linear, x = machine().to(dtype), images().to(dtype)
    found = named_attack(with_margin(name))(linear, x, decisions(linear, x))
    expected = distances(linear, x).double()
    assert found.success.all()
    assert found.images.dtype == dtype
    # The overshoot is 2 %; the box is about 80 wide, of which float32 resolves 1e-5.
    torch.testing.assert_close(found.sizes, 1.02 * expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_is_shrunk_to_the_smallest_that_suffices(name):
    linear, x = machine(), images()
    found = named_attack(with_margin(name))(linear, x, decisions(linear, x))
    expected = distances(linear, x)
    assert found.success.all()
    assert (found.sizes >= expected * (1 - 1e-12)).all()
    assert (found.sizes <= 1.006 * expected + 1e-4).all()


@pytest.mark.parametrize(
    "name",
    [
        "torchattacks:PGDL2?eps={}&alpha=2",
        "art:ProjectedGradientDescent?norm=2&eps={}&eps_step=0.2",
        "adv_lib.attacks:apgd?eps={}",
    ],
)
def test_a_budget_is_in_pixel_units(name):
    linear, x = machine(), images()
    distance = distances(linear, x)
    budget = distance.median().item() * 1.001
    found = named_attack(name.format(budget))(linear, x, decisions(linear, x))
    assert torch.equal(found.success, distance <= budget)


@given(seed=st.integers(**SEEDS), low=st.floats(-5, 5), width=st.floats(0.1, 9))
@property_settings(30)
def test_a_box_shows_the_classifier_as_it_is(seed, low, width):
    linear, x = machine(), low + width * torch.rand(6, 1, 2, 2, dtype=torch.float64)
    for unit, dtype in ((True, torch.float64), (True, torch.float32), (False, None)):
        box = Box(linear, x, margin=1.0, scale=1.0, unit=unit, dtype=dtype)
        u = box.inward(x)
        assert box.bounds[0] <= u.min()
        assert u.max() <= box.bounds[1]
        accuracy = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(box.outward(u), x, rtol=accuracy, atol=accuracy * (2 + width))
        torch.testing.assert_close(box(u).double(), linear(box.outward(u)), rtol=1e-5, atol=1e-5)
        moved = (u + 0.01 * normal(seed, *u.shape).to(u)).clamp(*box.bounds)
        sizes = (box.outward(moved) - box.outward(u)).flatten(1).norm(dim=1)
        expected = box.span * (moved - u).double().flatten(1).norm(dim=1)
        torch.testing.assert_close(sizes, expected, rtol=1e-4, atol=1e-6)


def test_lengths_are_converted_and_nothing_else():
    settings = {"eps": 6, "c": 18.0, "steps": 6, "alpha": None, "tensor": torch.tensor([3.0])}
    made = in_units(settings, {"eps": 1, "c": 2, "alpha": 1, "tensor": 1, "absent": 1}, 3.0)
    assert made == {"eps": 2.0, "c": 2.0, "tensor": torch.tensor([1.0])}


def test_what_torchattacks_is_told_is_in_units_of_the_box(library):
    linear, x = machine(), images()
    attack = named_attack("torchattacks:CW?c=5&lr=0.25")
    attack(linear, x, decisions(linear, x))
    (told,) = library["torchattacks"].CW.told
    span = (x.max() - x.min()).item() + 2
    assert told.c == pytest.approx(5 / span**2)
    assert told.lr == 0.25


def test_what_adv_lib_is_told_is_in_units_of_the_box_by_default_too(library):
    linear, x = machine(), images()
    y, span = decisions(linear, x), (x.max() - x.min()).item() + 2
    told = library["adv_lib"].told
    named_attack("adv_lib.attacks:fmn?steps=7&α_final=0.5")(linear, x, y)
    assert told["fmn"]["α_init"] == pytest.approx(1 / span)
    assert told["fmn"]["α_final"] == pytest.approx(0.5 / span)
    assert (told["fmn"]["norm"], told["fmn"]["steps"]) == (2, 7)
    named_attack("adv_lib.attacks:ddn?init_norm=4")(linear, x, y)
    assert told["ddn"]["init_norm"] == pytest.approx(4 / span)
    assert told["ddn"]["γ"] == 0.05
    named_attack("adv_lib.attacks:carlini_wagner_l2")(linear, x, y)
    assert told["carlini_wagner_l2"]["initial_const"] == pytest.approx(0.001 / span**2)


def test_instances_of_torchattacks_are_aimed_at_the_classifier_and_left_as_they_were(library):
    torchattacks, model = library["torchattacks"], Model()
    linear, x = machine(), images()
    single = torchattacks.PGDL2(model, eps=40.0, alpha=8.0, steps=20)
    several = torchattacks.MultiAttack([single, torchattacks.DeepFool(model)])
    single.set_normalization_used([0.5], [0.25])
    for attack, overshoot in ((single, 1.006), (several, 1.021)):
        attack.device = "elsewhere"
        before = dict(vars(attack))
        assert isinstance(as_attack(attack), TorchAttacks)
        found = TorchAttacks(attack, bounds_margin=FAR)(linear, x, decisions(linear, x))
        assert found.success.all()
        assert (found.sizes <= overshoot * distances(linear, x) + 1e-4).all()
        assert vars(attack) == before
        assert attack.model is model
        assert model.training


def test_instances_of_art_are_aimed_at_the_classifier_and_left_as_they_were(library):
    art, linear, x = library["art"], machine(), images()
    estimator = sys.modules["art.estimators.classification"].PyTorchClassifier(
        Model(), None, (1, 2, 2), 2, clip_values=(0, 1), device_type="cpu"
    )
    pgd = art.ProjectedGradientDescent(estimator, norm=2, eps=40.0, eps_step=8.0, max_iter=20)
    before, inner = dict(vars(pgd)), copy.copy(vars(pgd._attack))
    assert isinstance(as_attack(pgd), ART)
    found = ART(pgd, bounds_margin=FAR)(linear, x, decisions(linear, x))
    assert found.success.all()
    assert (found.sizes <= 1.006 * distances(linear, x) + 1e-4).all()
    assert vars(pgd) == before
    assert vars(pgd._attack) == inner


def test_functions_of_adv_lib_and_partials_of_them_are_adapted(library):
    attacks = library["adv_lib"]
    linear, x = machine(), images()
    for given_, name in (
        (attacks.df, "df"),
        (attacks.fmn, "fmn"),
        (partial(attacks.fmn, steps=9), "fmn?steps=9"),
        (partial(partial(attacks.fmn, steps=9), norm=2), "fmn?steps=9&norm=2"),
    ):
        attack = as_attack(given_)
        assert isinstance(attack, AdvLib)
        assert attack.name == name
        found = attack(linear, x, decisions(linear, x))
        close = found.sizes <= 1.03 * distances(linear, x)
        assert torch.equal(close, found.success)
    with pytest.raises(BayesgapError, match="gives the first arguments"):
        as_attack(partial(attacks.fmn, linear))


@pytest.mark.parametrize("name", ["torchattacks:Noise", "art:DeepFool"])
def test_the_global_generators_are_lent_and_taken_back(name):
    linear, x = machine(), images()
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        decided, attack = decisions(linear, x), named_attack(name)
        before = torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
        with without_shape_checks():  # which draw themselves
            found.append(attack(linear, x, decided))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert str(np.random.get_state(legacy=False)) == str(before[1])  # noqa: NPY002
        assert random.getstate() == before[2]
    assert torch.equal(found[0].images, found[1].images)
    assert found[0].success.any()


def test_an_attack_that_raises_is_named_with_the_reason_and_nothing_of_the_users_is_changed(
    library,
):
    linear, x, model = machine(), images(), Model()
    linear.train()
    attack = library["torchattacks"].Broken(model)
    before, state = dict(vars(attack)), torch.get_rng_state()
    with pytest.raises(
        BayesgapError, match=r"^The attack Broken failed with IndexError: no third class$"
    ) as refusal:
        as_attack(attack)(linear, x, decisions(linear, x))
    assert isinstance(refusal.value.__cause__, IndexError)
    assert vars(attack) == before
    assert linear.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchattacks:Deepfool", "torchattacks has no attack called 'Deepfool'; it has DeepFool"),
        ("torchattacks:CW?speed=3", "torchattacks' CW cannot be set up: .*speed"),
        ("torchattacks:CW?steps=many", "'steps' of torchattacks' CW is a number; got 'many'"),
        ("torchattacks:PGD", "torchattacks' PGD measures by the norm Linf, not L2"),
        ("torchattacks:APGD?eps=1", "torchattacks' APGD measures by the norm Linf, not L2"),
        ("torchattacks:CW?name=x", "'name' is no setting of CW"),
        ("torchattacks:CW?bounds_margin=0", "bounds_margin must be a number above 0; got 0.0"),
        ("torchattacks:CW?bayes_logit_scale=much", "must be a number above 0; got 'much'"),
        ("art:Deepfool", "ART has no attack called 'Deepfool'; it has DeepFool"),
        ("art:EvasionAttack", "ART has no attack called"),
        ("art:DeepFool?speed=3", "ART's DeepFool cannot be set up: .*speed"),
        ("art:DeepFool?max_iter=0", "ART's DeepFool cannot be set up: .*positive integer"),
        ("art:ProjectedGradientDescent", "measures by the norm inf, not L2"),
        ("art:ProjectedGradientDescent?norm=2&targeted=True", "build it untargeted"),
        ("adv_lib.attacks:nosuch", "cannot be imported: .*nosuch"),
        ("adv_lib.nosuch:fmn", "cannot be imported: .*nosuch"),
        ("adv_lib.attacks:fmn?speed=3", "adv-lib's fmn cannot be set up: .*speed"),
        ("adv_lib.attacks:apgd", "adv-lib's apgd cannot be set up: .*eps"),
        ("adv_lib.attacks:fmn?norm=1", "adv-lib's fmn measures by the norm 1, not L2"),
        ("adv_lib.attacks:fmn?targeted=True", "build it untargeted"),
        ("adv_lib.attacks:ddn?levels=256", "leave its levels out"),
        ("adv_lib.attacks:pgd_linf?ε=1", "measures by the norm inf, not L2"),
    ],
)
def test_what_names_no_attack_of_a_library_is_refused(name, said):
    with pytest.raises(BayesgapError, match=said):
        named_attack(name)


def test_instances_that_cannot_be_run_are_refused(library):
    torchattacks, model = library["torchattacks"], Model()
    aimed = torchattacks.DeepFool(model)
    aimed.set_mode_targeted_by_label()
    with pytest.raises(BayesgapError, match="torchattacks' DeepFool is aimed at given classes"):
        as_attack(aimed)
    with pytest.raises(BayesgapError, match="torchattacks' PGD measures by the norm Linf"):
        as_attack(torchattacks.PGD(model))
    with pytest.raises(BayesgapError, match=r"the class itself is none, CW\(…\) is"):
        as_attack(torchattacks.CW)
    with pytest.raises(BayesgapError, match="This CW has its settings: build it with steps"):
        TorchAttacks(torchattacks.CW(model), steps=3)
    with pytest.raises(BayesgapError, match="ART's Poisoning is none of its evasion attacks"):
        as_attack(sys.modules["art.attacks.poisoning"].Poisoning())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("art:AdversarialPatch", "AdversarialPatch failed with"),
        ("adv_lib.attacks:nothing", "must return images; it returned a NoneType"),
    ],
)
def test_what_returns_no_images_is_refused(name, said):
    linear, x = machine(), images()
    with pytest.raises(BayesgapError, match=said):
        named_attack(name)(linear, x, decisions(linear, x))


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("art:DeepFool", "adversarial-robustness-toolbox"),
        ("torchattacks:CW", "torchattacks"),
        ("adv_lib.attacks:fmn", "adv-lib"),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, name.partition(":")[0].partition(".")[0], None)
    monkeypatch.setitem(sys.modules, "adv_lib.attacks", None)
    with pytest.raises(BayesgapError, match=rf"cannot be imported .*`pip install {package}`"):
        named_attack(name)


def test_a_gradient_that_is_none_is_a_failure_that_names_the_attack():
    hidden = from_gap(lambda x: (x.detach().flatten(1) - 0.1).sum(dim=1))
    x = images()
    with pytest.raises(BayesgapError, match="The attack torchattacks:DeepFool failed with"):
        named_attack("torchattacks:DeepFool")(hidden, x, decisions(hidden, x))


def test_stored_results_depend_on_the_version_of_a_library(monkeypatch):
    monkeypatch.setattr("bayesgap.attacks.named.version", lambda package: f"1.0 of {package}")
    for name, package in (
        ("torchattacks:DeepFool", "torchattacks"),
        ("art:DeepFool", "adversarial-robustness-toolbox"),
        ("adv_lib.attacks:fmn?steps=5", "adv-lib"),
    ):
        assert is_foreign(name)
        code = code_of(name)
        assert code == Installed(name, f"1.0 of {package}")
        assert as_attack(code).name == name
    assert code_of("foolbox:DDNAttack") is None
    assert code_of("ddn") is None
    with pytest.raises(BayesgapError, match="torchattacks has no attack"):
        code_of("torchattacks:Nosuch")


def test_a_library_without_a_version_is_refused_where_results_are_stored():
    with pytest.raises(BayesgapError, match="pip install torchattacks"):
        code_of("torchattacks:DeepFool")


@pytest.mark.filterwarnings("ignore:nearer ones exist")  # DeepFool's ends are 2 % too far
def test_evaluate_and_exam_take_instances(library):
    task = spherical_task([[0.0] * 6, [0.5] * 6], 0.05)
    attack = library["torchattacks"].DeepFool(Model())
    graded = bg.exam(attack, task, per_class=2)
    assert graded.attack == "DeepFool"
    assert graded.below == 0
    report = bg.evaluate(
        task.bayes_classifier(), task, attacks=[attack, library["adv_lib"].df], per_class=20
    )
    assert set(report.attacks) == {"DeepFool", "df"}
