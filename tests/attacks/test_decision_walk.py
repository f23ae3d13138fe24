import torch

from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.decision_walk import DecisionWalk
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.tasks.catalog import load_task
from toys import Function, normal, uniform


def linear(d):
    return LinearSVM(normal(0, 1, d), normal(1, 1))


def signs(machine):
    """The same decisions, and nothing else."""
    return Function(lambda x: 2 * torch.eye(2).double()[machine(x).argmax(dim=1)] - 1)


def test_only_decisions_count():
    machine, x = linear(16), normal(2, 10, 1, 4, 4)
    y = decisions(machine, x)
    attack = DecisionWalk(normal(3, 30, 1, 4, 4), queries=1_000)
    plain, found = attack(machine, x, y), attack(signs(machine), x, y)
    torch.testing.assert_close(found.sizes, plain.sizes, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.curve, plain.curve, rtol=1e-6, atol=0)


def test_rounding_and_signs_together_do_not_hide_the_boundary():
    machine, x = linear(64), uniform(2, 15, 1, 8, 8)
    rounded = signs(lambda x: machine((255 * x).round() / 255))
    y = decisions(rounded, x)
    expected = (2 * machine(x)[:, 1]).abs() / machine.weight.norm()
    found = DecisionWalk(uniform(3, 60, 1, 8, 8), queries=4_000)(rounded, x, y)
    assert found.success.all()
    assert found.sizes.mean() <= 1.03 * expected.mean()


def test_coarse_gradients_of_a_task_are_found_with_few_queries():
    task = load_task("mnist-0-6/symmetric")
    optimum = task.bayes_classifier()
    x, _ = task.sample_given(torch.arange(2), seed=5)
    y = decisions(optimum, x)
    pool = task.sample(100, seed=6)[0]
    walked = BoundaryWalk(pool)(optimum, x, y)
    found = DecisionWalk(pool, queries=1_500, milestones=(60, 1_500))(optimum, x, y)
    assert found.success.all()
    assert found.sizes.mean() <= 1.1 * walked.sizes.mean()
    assert found.curve[:, 0].mean() > 1.2 * walked.sizes.mean()
