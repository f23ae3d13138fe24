"""Each way to look for nearer images finds what there is, and nothing at nearest points."""

from functools import partial

import pytest
import torch
from torch import nn

from bayesgap.attacks.named import as_attack
from bayesgap.classifiers.module import decisions, evaluating
from bayesgap.evaluation.doubts import NOT_NEAREST
from bayesgap.evaluation.measure import Outcome, attack_decisions
from bayesgap.evaluation.nearer import (
    Pool,
    certified_doubt,
    changes_doubt,
    clear_of_rounding,
    differences_doubt,
    leaning_doubt,
    otherwise,
    restarts_doubt,
    turned_doubt,
)
from situations import Around, Plane, plane, soft_steps, task, triggered
from toys import from_gap, present

POOL = task().sample(200, seed=1)[0].float()
LOOKS = ["turned", "changes", "differences", "restarts", "leaning"]


def looks(classifier: nn.Module):
    """Each way to look, by its name."""
    ways = (
        partial(turned_doubt, pool=Pool(POOL, decisions(classifier, POOL))),
        *(changes_doubt, differences_doubt, restarts_doubt, leaning_doubt),
    )
    return dict(zip(LOOKS, ways, strict=True))


def broken(classifier: nn.Module, attack: object = "closest"):
    """Points of the task, and what the attack made of them."""
    x = task().sample(40, seed=0)[0].float()
    return x, attack_decisions(classifier, as_attack(attack, pool=POOL), x)


def aside(share: float, angle: float):
    """To the plane and beyond it by a share, turned off the shortest way by a tangent's part."""
    weight, bias = plane()
    normal = weight / weight.norm()
    tangent = torch.eye(len(weight), dtype=weight.dtype)[0]
    tangent = tangent - (tangent @ normal) * normal
    tangent = tangent / tangent.norm()

    def attack(classifier, x, y):
        along = (x.double().flatten(1) @ weight + bias) / weight.norm()
        change = -(1 + share) * along[:, None] * normal + angle * along.abs()[:, None] * tangent
        return x + change.reshape(x.shape).to(x)

    return attack


@pytest.mark.parametrize("way", LOOKS)
def test_there_is_nothing_nearer_than_a_planes_nearest_points(way):
    net = Plane()
    assert looks(net)[way](net, *broken(net)) is None


@pytest.mark.parametrize("way", ["differences", "restarts", "leaning"])
def test_what_is_turned_off_the_shortest_way_is_found(way):
    net = Plane()
    doubt = present(looks(net)[way](net, *broken(net, aside(1e-3, 0.7))))
    assert doubt.name == NOT_NEAREST
    assert not doubt.voids
    # 1 − 1 / √(1 + 0.7²), or the same as seen from the boundary
    assert "nearer by 18%" in doubt.finding


@pytest.mark.parametrize("way", ["turned", "differences", "restarts"])
def test_what_goes_on_beyond_the_boundary_is_found_and_voids_where_it_is_far(way):
    net = Plane()
    doubt = present(looks(net)[way](net, *broken(net, aside(0.5, 0.0))))
    assert doubt.voids


def test_a_pixel_that_triggers_another_decision_is_found():
    net = Around(triggered)
    x, best = broken(net)
    doubt = present(changes_doubt(net, x, best))
    assert doubt.voids
    changed = x.clone()
    changed[:, 0, 0, 0] += 0.9 * best.sizes.float()
    assert otherwise(net, changed, best.before).any()
    assert "(1 of 200 such changes do)" in doubt.finding


def test_a_spot_between_few_pixels_is_found_that_no_slope_leads_to():
    """A half-plane at 1, and around the point a ring of another decision from 0.5 to 0.6."""
    x = torch.zeros(1, 1, 1, 2).double()

    def gap(z):
        radius = z.flatten(1).norm(dim=1)
        return torch.where((radius - 0.55).abs() < 0.05, -1.0, 1 - z.flatten(1)[:, 0])

    net, end = from_gap(gap), torch.tensor([[[[1.001, 0.0]]]]).double()
    label = torch.zeros(1).long()
    best = Outcome(label, 1 - label, torch.tensor([1.001]).double(), end)
    doubt = present(changes_doubt(net, x, best))
    assert doubt.voids
    share = (0.6**2 - 0.5**2) / 0.9**2  # of the ball that is searched
    count = int(doubt.finding.split("(")[1].split()[0])
    assert abs(count - 256 * share) < 4 * (256 * share) ** 0.5
    far = Outcome(label, 1 - label, torch.tensor([0.5]).double(), end / 2)
    assert changes_doubt(net, x, far) is None


@pytest.mark.parametrize("change", [soft_steps, lambda z: z + 0.05 * (60 * z).sin()])
def test_local_minima_are_found_by_restarts_that_neither_turns_nor_slopes_see(change):
    net = Around(lambda inner, x: inner(change(x)))
    x, best = broken(net)
    ways = looks(net)
    assert ways["turned"](net, x, best) is None
    assert ways["leaning"](net, x, best) is None
    assert (
        "descents from random points about end nearer"
        in present(ways["restarts"](net, x, best)).finding
    )


def test_gradients_that_are_missing_make_no_slope():
    net = Around(lambda inner, x: inner(x.detach()))
    with evaluating(net):
        assert leaning_doubt(net, *broken(net, "score-walk")) is None


def test_images_of_another_classifier_are_nearer_where_they_change_decisions():
    net = Plane()
    x, best = broken(net)
    images = x + 0.9 * (best.images - x)
    size = 0.9 * best.sizes
    assert certified_doubt(net, best, size, images) is None  # none of them is decided otherwise
    far = Outcome(best.before, best.after, 1.5 * best.sizes, x + 1.5 * (best.images - x))
    doubt = present(certified_doubt(net, far, 1.0001 * best.sizes, x + 1.0001 * (best.images - x)))
    assert "on average 1.5 times" in doubt.finding


def test_what_is_no_number_is_no_other_decision():
    net = Around(lambda inner, x: inner(x).where(x[:, 0, 0, :1] < 1.05, torch.nan))
    x, best = broken(net)
    assert changes_doubt(net, x, best) is None
    bright = x.clone()
    bright[:, 0, 0, 0] = 2.0
    assert not otherwise(net, bright, best.before).any()


def test_points_so_near_that_rounding_lengthens_their_sizes_are_left_out():
    """In float32, 32 roundings of an image of length 5 are 2e-5."""
    weight, bias = plane()
    x = task().sample(40, seed=0)[0]
    along = (x.flatten(1) @ weight + bias) / weight.norm()
    near = x - ((along - 1e-4 * along.sign())[:, None] * weight / weight.norm()).reshape(x.shape)
    for net, count in ((Plane(), 0), (Plane(torch.float64), 40)):
        found = attack_decisions(net, as_attack("closest", pool=POOL), near)
        clear = clear_of_rounding(net, near, found)
        assert int(clear.sizes.isfinite().sum()) == count
        assert found.sizes.isfinite().all()
