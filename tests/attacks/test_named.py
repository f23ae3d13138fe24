import pytest
import torch

from bayesgap.attacks.boundary import BoundaryWalk
from bayesgap.attacks.named import PRESETS, named_attack
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError
from toys import normal


def test_the_attacks_that_the_results_use_have_names():
    assert {"ld-grad", "ld-grad-tight", "closed-form", "ddn", "cw-l2", "boundary-walk"} <= set(
        PRESETS
    )


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_an_attack_of_its_name(name):
    assert named_attack(name, pool=torch.zeros(1, 1, 2, 2)).name == name


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"cw-l2"}))  # slow, and tested elsewhere
def test_every_preset_breaks_a_linear_machine_near_its_hyperplane(name):
    machine, x = LinearSVM(normal(0, 1, 4), normal(1, 1)), normal(2, 6, 1, 2, 2)
    expected = (2 * machine(x)[:, 1]).abs() / machine.weight.norm()
    found = named_attack(name, pool=normal(3, 20, 1, 2, 2))(machine, x, decisions(machine, x))
    assert found.success.all()
    assert (found.l2 >= expected * (1 - 1e-12)).all()
    # Plain LD-Grad oversteps by 5 %; DDN ends within 0.01.
    assert (found.l2 <= 1.051 * expected + 0.01).all()


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
def test_only_a_boundary_walk_needs_a_pool(name):
    if name == "boundary-walk":
        with pytest.raises(BayesgapError, match="starts from samples"):
            named_attack(name)
    else:
        assert named_attack(name).name == name
