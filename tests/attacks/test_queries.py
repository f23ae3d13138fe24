import pytest
import torch

from bayesgap.attacks.queries import Queries
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError
from toys import Function, normal

PLANE = torch.tensor([[1.0, 0, 0]])


class Counting(LinearSVM):
    """Decides 1 where the first pixel is positive; counts the images that it is shown."""

    seen = 0

    def forward(self, x):
        self.seen += len(x)
        return super().forward(x)


def asked_about(n, classifier, budget=10, milestones=(1, 4, 100)):
    x = torch.full((n, 1, 1, 3), -1.0).double()
    return Queries(classifier, x, torch.zeros(n).long(), budget=budget, milestones=milestones)


def test_gaps_are_margins_and_no_more_than_the_budget_is_asked():
    machine = Counting(PLANE, torch.zeros(1))
    asked = asked_about(3, machine)
    z = normal(0, 2, 7, 1, 1, 3)
    rows = torch.tensor([2, 0])
    first = asked.gaps(rows, z)
    torch.testing.assert_close(first, -z[:, :, 0, 0, 0])
    assert machine.seen == 14
    assert asked.left.tolist() == [3, 10, 3]
    again = asked.gaps(rows, z)
    assert machine.seen == 20
    assert torch.equal(again[:, :3], first[:, :3])
    assert again[:, 3:].isposinf().all()
    assert asked.left.tolist() == [0, 10, 0]
    assert not asked.far(rows, z).any()
    assert machine.seen == 20


def test_what_is_not_wanted_is_not_asked():
    machine = Counting(PLANE, torch.zeros(1))
    asked = asked_about(2, machine, budget=3)
    wanted = torch.tensor([[True, False, True, True, True], [False] * 5])
    gap = asked.gaps(torch.arange(2), normal(0, 2, 5, 1, 1, 3), wanted)
    assert gap.isfinite().tolist() == [[True, False, True, True, False], [False] * 5]
    assert asked.left.tolist() == [0, 3]


def test_the_nearest_success_and_the_curve_are_those_of_a_plain_search():
    machine = LinearSVM(PLANE, torch.zeros(1))
    milestones = (1, 2, 5, 9, 14, 20, 60)
    asked = asked_about(4, machine, budget=20, milestones=milestones)
    batches = [normal(seed, 4, 7, 1, 1, 3) for seed in range(4)]
    for z in batches:
        asked.far(torch.arange(4), z)
    z = torch.cat(batches, dim=1)[:, :20]
    sizes = (z - asked.x[:, None]).flatten(2).norm(dim=2)
    sizes = sizes.masked_fill(z[:, :, 0, 0, 0] <= 0, torch.inf)
    best, index = sizes.min(dim=1)
    torch.testing.assert_close(asked.size, best)
    assert torch.equal(asked.best, z[torch.arange(4), index])
    expected = torch.stack([sizes[:, :count].amin(dim=1) for count in milestones], dim=1)
    torch.testing.assert_close(asked.curve, expected)
    assert (asked.curve[:, 0] != asked.curve[:, -1]).any()


def test_equal_logits_are_decided_by_the_first_and_infinite_ones_not_at_all():
    def logits(x):
        first = x[:, 0, 0, 0]
        return torch.stack([torch.where(first > 5, torch.nan, 0.0), first.clamp(min=0)], dim=1)

    z = torch.tensor([-1.0, 1.0, 9.0]).double().reshape(1, 3, 1, 1, 1).expand(2, 3, 1, 1, 3)
    x = torch.full((2, 1, 1, 3), 0.5).double()
    asked = Queries(Function(logits), x, torch.tensor([1, 0]), budget=9, milestones=())
    assert asked.far(torch.arange(2), z).tolist() == [[True, False, False], [False, True, False]]


def test_a_classifier_that_changes_its_input_changes_nothing_here():
    asked = asked_about(1, Function(lambda x: x.mul_(0).flatten(1)[:, :2] + 1))
    z = normal(0, 1, 3, 1, 1, 3)
    kept = z.clone()
    asked.far(torch.arange(1), z)
    assert torch.equal(z, kept)


def test_a_classifier_that_drops_images_is_refused():
    asked = asked_about(2, Function(lambda x: torch.unique(x.flatten(1)[:, :2], dim=0)))
    z = torch.ones(2, 3, 1, 1, 3).double()
    with pytest.raises(BayesgapError, match="This Function turned 6 images into 1 rows of logits"):
        asked.gaps(torch.arange(2), z)
