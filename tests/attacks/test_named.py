import pytest
import torch

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.library import Foolbox
from bayesgap.attacks.named import PRESETS, WITH_POOL, as_attack, named_attack
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError
from toys import normal


def test_the_attacks_that_the_results_use_have_names():
    used = {"ld-grad", "ld-grad-tight", "closed-form", "ddn", "cw-l2"}
    assert used | {"boundary-walk", "score-walk", "decision-walk"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_an_attack_of_its_name(name):
    assert named_attack(name, pool=torch.zeros(1, 1, 2, 2)).name == name


@pytest.mark.parametrize(
    "name", sorted(set(PRESETS) - {"cw-l2", "cw-l2-strong"})
)  # slow, and tested elsewhere
def test_every_preset_breaks_a_linear_machine_near_its_hyperplane(name):
    machine, x = LinearSVM(normal(0, 1, 4), normal(1, 1)), normal(2, 6, 1, 2, 2)
    expected = (2 * machine(x)[:, 1]).abs() / machine.weight.norm()
    found = named_attack(name, pool=normal(3, 20, 1, 2, 2))(machine, x, decisions(machine, x))
    assert found.success.all()
    assert (found.sizes >= expected * (1 - 1e-12)).all()
    # Plain LD-Grad oversteps by 5 %; DDN ends within 0.01.
    assert (found.sizes <= 1.051 * expected + 0.01).all()


def test_a_boundary_walk_starts_from_the_pool_and_from_ddn():
    pool = normal(0, 3, 1, 2, 2)
    attack = named_attack("boundary-walk", pool=pool)
    assert isinstance(attack, BoundaryWalk)
    assert attack.pool is pool
    assert [start.name for start in attack.attacks] == ["ddn"]


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(BayesgapError, match=r"'fgsm'.*ld-grad.*boundary-walk"):
        named_attack("fgsm", pool=torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("name", PRESETS)
def test_only_walks_from_samples_need_a_pool(name):
    if name in WITH_POOL:
        with pytest.raises(BayesgapError, match="starts from samples"):
            named_attack(name)
    else:
        assert named_attack(name).name == name


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("foolbox:DDNAttack?steps=7&init_epsilon=0.5", {"steps": 7, "init_epsilon": 0.5}),
        ("foolbox:L2DeepFoolAttack?steps=3&candidates=None", {"steps": 3, "candidates": None}),
        ("foolbox:L2DeepFoolAttack?loss=crossentropy", {"loss": "crossentropy"}),
        ("foolbox:L2FMNAttack", {"steps": 100}),
    ],
)
def test_foolbox_attacks_are_named_with_their_settings(name, settings):
    attack = named_attack(name)
    assert isinstance(attack, Foolbox)
    assert attack.name == name
    assert {key: getattr(attack.attack, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("foolbox:NoSuchAttack", "foolbox has no attack called 'NoSuchAttack'"),
        ("foolbox:LinfPGD", "limits Linf.*, not L2"),
        ("foolbox:DDNAtack", "called 'DDNAtack'; it has .*DDNAttack"),
        ("foolbox:DDNAttack?speed=3", "cannot be set up: .*speed"),
        (
            "foolbox:DDNAttack?steps=abc",
            "'steps' of foolbox's DDNAttack is a whole number; got 'abc'",
        ),
        ("foolbox:DDNAttack?steps=10.5", "is a whole number; got 10.5"),
        ("foolbox:DDNAttack?steps=True", "is a whole number; got True"),
        ("foolbox:DDNAttack?init_epsilon=", "is a number; got ''"),
        ("enum:Enum", "is a class: name a function, or an object of the class"),
        ("foolbox:DDNAttack?name=x", "'name' is no setting"),
        ("nosuchmodule:attack", "'nosuchmodule:attack' cannot be imported"),
        ("math:nosuchfunction", "'math:nosuchfunction' cannot be imported"),
        ("math:pi", "'math:pi' is a float, not a function"),
        (":", "is named module:name"),
    ],
)
def test_what_names_no_attack_is_refused(name, said):
    with pytest.raises(BayesgapError, match=said):
        named_attack(name)


def test_a_function_of_the_working_directory_can_be_an_attack(tmp_path, monkeypatch):
    (tmp_path / "my_attacks.py").write_text("def away(net, x, y):\n    return 10 - x\n")
    monkeypatch.chdir(tmp_path)
    attack = named_attack("my_attacks:away")
    machine, x = LinearSVM(normal(0, 1, 4), torch.zeros(1).double()), normal(2, 6, 1, 2, 2)
    found = attack(machine, x, decisions(machine, x))
    assert attack.name == "my_attacks:away"
    expected = (10 - 2 * x).flatten(1).norm(dim=1)
    assert torch.allclose(found.sizes[found.success], expected[found.success], rtol=1e-12)


class Bad(Attack):
    """A user's own attack with a mistake."""

    def run(self, classifier, x, y):
        raise KeyError("nothing")


def bad(classifier, x, y):
    return 1 / 0


class BadObject:
    def __call__(self, classifier, x, y):
        raise RuntimeError


@pytest.mark.parametrize(
    ("attack", "said", "cause"),
    [
        (Bad(), r"The attack Bad failed with KeyError: 'nothing'", KeyError),
        (bad, "The attack bad failed with ZeroDivisionError: division by zero", ZeroDivisionError),
        (BadObject(), "The attack BadObject failed with RuntimeError", RuntimeError),
    ],
)
def test_an_exception_inside_a_users_attack_is_a_sentence_with_its_cause(attack, said, cause):
    machine, x = LinearSVM(normal(0, 1, 4), normal(1, 1)), normal(2, 6, 1, 2, 2)
    machine.train()
    with pytest.raises(BayesgapError, match=f"^{said}$") as refusal:
        as_attack(attack)(machine, x, decisions(machine, x))
    assert isinstance(refusal.value.__cause__, cause)
    assert machine.training


class OutOfTime(BaseException):
    """As what cancels a task raises."""


@pytest.mark.parametrize("stop", [KeyboardInterrupt, GeneratorExit, OutOfTime])
def test_an_interrupt_inside_a_users_attack_stays_one(stop):
    def interrupted(classifier, x, y):
        raise stop

    machine, x = LinearSVM(normal(0, 1, 4), normal(1, 1)), normal(2, 6, 1, 2, 2)
    with pytest.raises(stop):
        as_attack(interrupted)(machine, x, decisions(machine, x))


def test_an_attack_that_would_end_the_program_is_a_sentence():
    def leaves(classifier, x, y):
        raise SystemExit(3)

    machine, x = LinearSVM(normal(0, 1, 4), normal(1, 1)), normal(2, 6, 1, 2, 2)
    with pytest.raises(BayesgapError, match=r"^The attack leaves failed with SystemExit: 3$"):
        as_attack(leaves)(machine, x, decisions(machine, x))


@pytest.mark.parametrize("name", [None, 7, ""])
def test_an_attack_whose_name_is_no_text_is_refused_at_once(name):
    attack = Bad()
    attack.name = name
    with pytest.raises(BayesgapError, match=rf"^An attack's name is a text, .* Bad is {name!r}\.$"):
        as_attack(attack)


@pytest.mark.parametrize(
    ("asked", "near"), [("DDN", "ddn"), (" Closest", "closest"), ("DeepFol", "deepfool")]
)
def test_a_name_is_looked_for_whatever_its_capitals(asked, near):
    with pytest.raises(BayesgapError, match=f"Did you mean {near}\\?"):
        named_attack(asked)
    with pytest.raises(BayesgapError, match="no attack called 'ddnattack'; it has DDNAttack"):
        named_attack("foolbox:ddnattack")


def test_a_bug_of_this_package_stays_one(monkeypatch):
    attack = named_attack("ld-grad-tight")
    monkeypatch.setattr(type(attack), "run", lambda *given: 1 / 0)
    machine, x = LinearSVM(normal(0, 1, 4), normal(1, 1)), normal(2, 6, 1, 2, 2)
    with pytest.raises(ZeroDivisionError):
        attack(machine, x, decisions(machine, x))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "got None"),
        (["ddn"], r"got \['ddn'\]"),
        (3, "got 3"),
        (pytest, "got <module"),
        (Bad, r"the class itself is none, Bad\(…\) is"),
        (BadObject, r"the class itself is none, BadObject\(…\) is"),
    ],
)
def test_what_is_no_attack_is_refused(given, said):
    with pytest.raises(BayesgapError, match=rf"^An attack is a name, an Attack, .*{said}"):
        as_attack(given)
