import numpy as np
import torch

from bayesgap.attacks.pgd import PGD
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from toys import from_gap, normal, spherical_radius, spherical_task


def test_it_ends_within_its_bisections_of_a_hyperplane():
    machine, x = LinearSVM(normal(0, 1, 4), normal(1, 1)), normal(2, 20, 1, 2, 2)
    expected = (2 * machine(x)[:, 1]).abs() / machine.weight.norm()
    found = PGD()(machine, x, decisions(machine, x))
    assert found.success.all()
    assert (found.sizes >= expected * (1 - 1e-12)).all()
    # The last radius that failed is at most the distance; 10 halvings of a factor of 2 remain.
    assert (found.sizes <= expected * (1 + 2**-9)).all()


def test_the_optimum_of_two_spheres_needs_its_distance_to_the_plane_between():
    means = np.array([[0.0, 0, 0], [3, 1, 0]])
    task = spherical_task(means, 0.25)
    x, y = task.sample(30, seed=0)
    radius = spherical_radius(x, y, means, 0.25, (0.5, 0.5))
    found = PGD(bisections=14)(task.bayes_classifier(), x, y)
    right = radius > 0
    np.testing.assert_allclose(found.sizes.numpy()[right], radius[right], rtol=2**-12)


def test_the_scale_of_the_logits_does_not_matter():
    task = spherical_task([[0.0, 0, 0], [3, 1, 0]], 0.25)
    x, y = task.sample(10, seed=0)
    sizes = [
        PGD()(task.bayes_classifier(temperature=temperature), x, y).sizes
        for temperature in (1e-3, 1.0, 1e3)
    ]
    # The scale is no power of 2, so directions round differently.
    torch.testing.assert_close(sizes[0], sizes[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sizes[2], sizes[1], rtol=1e-9, atol=1e-9)


def test_more_bisections_come_nearer():
    machine, x = LinearSVM(normal(0, 1, 4), normal(1, 1)), normal(2, 20, 1, 2, 2)
    coarse, fine = (PGD(bisections=n)(machine, x, decisions(machine, x)).sizes for n in (2, 12))
    assert fine.mean() < coarse.mean()


def test_where_there_is_no_other_decision_it_ends_without_success():
    found = PGD(steps=2)(
        from_gap(lambda x: x.flatten(1).sum(1).square() + 1),
        normal(0, 3, 1, 2, 2),
        torch.zeros(3).long(),
    )
    assert not found.success.any()
