from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Categorical, kl_divergence

from bayesgap.classifiers.allconv import AllConvolutional, Training, derived_seed, train_allconv
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.trades import (
    Ball,
    divergence,
    trades_loss,
    train_trades,
    worst_in_ball,
)
from bayesgap.errors import BayesgapError
from toys import SEEDS, Function, generator, normal, property_settings, uniform

SHAPE = (1, 8, 8)
NORMS = ("L2", "Linf")


def size(move, norm):
    """The norm of each image of a batch, in float64."""
    flat = move.double().flatten(1)
    return flat.norm(dim=1) if norm == "L2" else flat.abs().amax(dim=1)


def gradients(network: nn.Module) -> list[torch.Tensor]:
    """Of all parameters; none may lack its own."""
    found = [parameter.grad for parameter in network.parameters()]
    assert None not in found
    return [gradient for gradient in found if gradient is not None]


def cnn(seed, classes=3):
    return AllConvolutional(SHAPE, classes, 2, generator=generator(seed))


def bright_half(n, seed=0):
    """Noise images that are brighter in their lower (0) or upper (1) half."""
    y = torch.arange(n) % 2
    sign = (2.0 * y - 1)[:, None, None]
    x = 0.5 * normal(seed, n, *SHAPE)
    x[:, 0, :4] += 0.5 * sign
    x[:, 0, 4:] -= 0.5 * sign
    return x, y


@given(
    seed=st.integers(**SEEDS),
    classes=st.integers(2, 6),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
@property_settings(40)
def test_the_divergence_is_that_of_torchs_distributions(seed, classes, scale):
    p, q = scale * normal(seed, 5, classes), scale * normal(seed + 1, 5, classes)
    expected = kl_divergence(Categorical(logits=p), Categorical(logits=q))
    # Relative to the logarithms that cancel.
    torch.testing.assert_close(divergence(p, q), expected, rtol=1e-9, atol=1e-14 * (1 + scale))


def test_the_divergence_is_not_symmetric_and_keeps_the_published_direction():
    sure, unsure = torch.tensor([[4.0, 0.0]]), torch.zeros(1, 2)
    p = torch.sigmoid(torch.tensor(4.0)).item()
    expected = p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))
    assert divergence(sure, unsure).item() == pytest.approx(expected, rel=1e-5)
    assert divergence(unsure, sure).item() > 2 * expected


def test_the_divergence_stays_finite_where_probabilities_underflow():
    p, q = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]], requires_grad=True)
    value = divergence(p, q)
    value.sum().backward()
    assert q.grad is not None
    assert value.item() == 1e4
    assert torch.equal(q.grad, torch.tensor([[-1.0, 1.0]]))


@given(
    seed=st.integers(**SEEDS),
    norm=st.sampled_from(NORMS),
    radius=st.sampled_from([1e-3, 0.1, 2.0]),
    steps=st.integers(1, 5),
    share=st.sampled_from([0.1, 0.5, 3.0]),
)
@property_settings(40)
def test_the_ascent_stays_in_its_ball_and_never_falls_below_its_start(
    seed, norm, radius, steps, share
):
    network = cnn(seed)
    x = normal(seed, 4, *SHAPE).float()
    z = worst_in_ball(network, x, Ball(norm, radius, steps, share), generator=generator(seed))
    assert (size(z - x, norm) <= radius * (1 + 1e-5) + 1e-6).all()  # float32
    start = 0.001 * torch.randn(x.shape, generator=generator(seed))
    length = size(start, norm).float()[:, None, None, None]
    if norm == "L2":
        start = start * (radius / length).clamp(max=1.0)
    else:
        start = start.clamp(-radius, radius)
    with torch.no_grad():
        logits = network(x)
        found = divergence(logits, network(z))
        begun = divergence(logits, network(x + start))
    # The start made here differs by rounding, and with it a divergence that cancels to almost 0.
    assert (found >= begun - 1e-6).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_that_overshoots_does_not_lose_what_was_found(norm):
    """The divergence falls again beyond a ridge that the second step jumps over."""

    def ridge(x):
        height = -(x[:, 0, 0, 0] - 0.3).abs()
        return torch.stack([10 * height, torch.zeros_like(height)], dim=1)

    x = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    network = Function(ridge)
    found = [
        worst_in_ball(network, x, Ball(norm, 1.0, steps, 0.29), generator=generator(1))
        for steps in range(1, 8)
    ]
    values = [divergence(network(x), network(z)).item() for z in found]
    assert values == sorted(values)
    assert values[0] > 0.1


class Linear(nn.Module):
    """Logits (−w·x/2, w·x/2)."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        score = x.flatten(1) @ self.w
        return torch.stack([-score / 2, score / 2], dim=1)


@given(
    seed=st.integers(**SEEDS),
    norm=st.sampled_from(NORMS),
    radius=st.sampled_from([0.3, 1.0, 2.0]),
    start=st.sampled_from([0.0, 1.0, 3.0]),
)
@property_settings(40)
def test_on_a_linear_classifier_the_ascent_ends_at_the_closed_form_maximiser(
    seed, norm, radius, start
):
    w = normal(seed, 6)
    w = w + 0.1 * w.sign()  # no entry so small that the noise decides its sign
    x = start * normal(seed + 1, 3, 1, 2, 3)
    ball = Ball(norm, radius, steps=40, step_share=0.5)
    z = worst_in_ball(Linear(w), x, ball, generator=generator(seed))
    direction = w.sign() if norm == "Linf" else w / w.norm()
    side = ((z - x).flatten(1) @ w).sign()[:, None]
    # What is left of the noise changes the divergence in second order only, below its rounding.
    expected = radius * side * direction
    torch.testing.assert_close((z - x).flatten(1), expected, rtol=0, atol=1e-5 * radius)


@pytest.mark.parametrize("norm", NORMS)
def test_the_ascent_of_a_network_nears_the_best_of_many_random_images(norm):
    network = cnn(3).double()
    x = normal(0, 6, *SHAPE)
    ball = Ball(norm, 1.0 if norm == "L2" else 0.15, steps=20, step_share=0.2)
    z = worst_in_ball(network, x, ball, generator=generator(0))
    logits = network(x)
    moves = normal(1, 2_000, *SHAPE)
    moves = ball.radius * (
        moves.sign() if norm == "Linf" else moves / size(moves, norm)[:, None, None, None]
    )
    with torch.no_grad():
        tried = torch.stack([divergence(logits, network(x + move)) for move in moves[:300]])
    assert (divergence(logits, network(z)) > 2 * tried.amax(dim=0)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_ascent_leaves_parameters_modes_and_the_global_generator_alone(norm):
    network = nn.Sequential(cnn(0), nn.BatchNorm1d(3), nn.Dropout(0.5))
    network[1].train()
    network[2].eval()
    x = normal(0, 4, *SHAPE).float()
    network(x).sum().backward()
    before = [gradient.clone() for gradient in gradients(network)]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    chance = torch.random.get_rng_state()
    z = worst_in_ball(network, x, Ball(norm, 0.5), generator=generator(0))
    assert not z.requires_grad
    assert [module.training for module in network] == [True, True, False]
    assert all(p.requires_grad for p in network.parameters())
    assert all(
        torch.equal(gradient, old) for gradient, old in zip(gradients(network), before, strict=True)
    )
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), chance)


@pytest.mark.parametrize("norm", NORMS)
def test_a_network_without_gradient_leaves_images_at_the_start(norm):
    flat = Function(lambda x: 0.0 * x.flatten(1)[:, :2])
    x = normal(0, 3, *SHAPE)
    z = worst_in_ball(flat, x, Ball(norm, 1.0), generator=generator(0))
    assert 0 < (z - x).abs().max() < 0.01


@pytest.mark.parametrize("norm", NORMS)
def test_with_a_box_images_stay_in_both(norm):
    network = cnn(1)
    x = uniform(0, 5, *SHAPE).float()
    ball = Ball(norm, 1.0, box=(0.0, 1.0))
    z = worst_in_ball(network, x, ball, generator=generator(0))
    # By rounding, that of x + (z − x).
    assert z.min() >= -1e-6
    assert z.max() <= 1 + 1e-6
    assert (size(z - x, norm) <= 1 + 1e-5).all()
    free = worst_in_ball(network, x, Ball(norm, 1.0), generator=generator(0))
    assert free.min() < -0.05


@pytest.mark.parametrize("norm", NORMS)
def test_the_loss_and_its_gradient_are_the_published_ones(norm):
    """As in the authors' code; the gradient does not pass through the choice of worst images."""
    x, y = normal(0, 6, *SHAPE), torch.arange(6) % 3
    network, ball = cnn(2).double(), Ball(norm, 0.3, steps=3)
    total, natural, robust = trades_loss(ball, 6.0, generator=generator(5))(network, x, y)
    total.backward()
    found = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    z = worst_in_ball(network, x, ball, generator=generator(5))
    cross = nn.functional.cross_entropy(network(x), y)
    log_q, p = network(z).log_softmax(dim=1), network(x).softmax(dim=1)
    kl = nn.functional.kl_div(log_q, p, reduction="sum") / len(x)
    (cross + 6 * kl).backward()
    torch.testing.assert_close(natural, cross)
    torch.testing.assert_close(robust, kl, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(total, cross + 6 * kl)
    for gradient, parameter in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-12)


SETTINGS: dict[str, Any] = {"width": 2, "classes": 2, "seed": 3}
SHORT = Training(epochs=2, batch=20, learning_rate=0.01)


@pytest.mark.parametrize("norm", NORMS)
def test_without_its_weight_training_is_the_plain_one_bit_for_bit(norm):
    x, y = bright_half(70)
    plain, losses = train_allconv(x, y, **SETTINGS, training=SHORT)
    network, parts = train_trades(x, y, **SETTINGS, training=SHORT, ball=Ball(norm, 1.0), beta=0.0)
    state, same = plain.state_dict(), network.state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state | same)
    assert [epoch.total for epoch in parts] == [epoch.natural for epoch in parts] == losses
    assert all(epoch.robust > 0 for epoch in parts)


@pytest.mark.parametrize("norm", NORMS)
def test_training_is_reproducible_and_depends_on_its_weight(norm):
    x, y = bright_half(70)
    (first, losses), (second, again), (other, _) = (
        train_trades(x, y, **SETTINGS, training=SHORT, ball=Ball(norm, 1.0), beta=beta)
        for beta in (10.0, 10.0, 5.0)
    )
    state, same, different = (net.state_dict() for net in (first, second, other))
    assert losses == again
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert not torch.equal(state["layers.0.weight"], different["layers.0.weight"])


@pytest.mark.parametrize("norm", NORMS)
def test_losses_are_those_of_the_initial_network_where_nothing_is_learned(norm):
    x, y = bright_half(50)
    ball = Ball(norm, 0.5, steps=3)
    still = Training(epochs=1, batch=50, learning_rate=0.0)
    network, ((total, natural, robust),) = train_trades(
        x, y, **SETTINGS, training=still, ball=ball, beta=6.0
    )
    assert total == pytest.approx(natural + 6 * robust, rel=1e-6)
    logits = network(x.float())
    assert natural == pytest.approx(nn.functional.cross_entropy(logits, y).item(), rel=1e-6)
    # The ascent starts from noise of its own, which meets the images in the order of the epoch.
    chance = generator(SETTINGS["seed"])
    AllConvolutional(SHAPE, 2, 2, generator=chance)
    rows = torch.randperm(50, generator=chance)
    ascents = generator(derived_seed(SETTINGS["seed"], 0))
    z = worst_in_ball(network, x.float()[rows], ball, generator=ascents)
    expected = kl_divergence(Categorical(logits=logits[rows]), Categorical(logits=network(z)))
    assert robust == pytest.approx(expected.mean().item(), rel=1e-3)


@pytest.mark.parametrize(("norm", "radius"), [("L2", 2.5), ("Linf", 0.35)])
def test_training_makes_a_network_robust_and_without_its_weight_does_not(norm, radius):
    x, y = bright_half(160)
    unseen, truth = bright_half(100, seed=1)
    training = Training(epochs=6, batch=20, learning_rate=0.01)

    def left(beta):
        """The mean divergence in the ball at unseen images, by a longer ascent."""
        ball = Ball(norm, radius, steps=5, step_share=0.4)
        network, _ = train_trades(x, y, **SETTINGS, training=training, ball=ball, beta=beta)
        assert (decisions(network, unseen) == truth).double().mean() > 0.98
        longer = Ball(norm, radius, steps=30)
        z = worst_in_ball(network, unseen.float(), longer, generator=generator(0))
        return divergence(network(unseen.float()), network(z)).mean()

    plain = left(0.0)
    assert left(0.01) > plain / 3  # hardly any weight
    assert left(10.0) < plain / 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"norm": "L1", "radius": 1.0}, '"L2" or "Linf"; got \'L1\''),
        ({"norm": "L2", "radius": 0.0}, "positive radius; got 0.0"),
        ({"norm": "L2", "radius": float("nan")}, "positive radius; got nan"),
        ({"norm": "Linf", "radius": float("inf")}, "positive radius; got inf"),
        ({"norm": "Linf", "radius": 1.0, "step_share": -0.1}, "positive step share; got -0.1"),
        ({"norm": "Linf", "radius": 1.0, "steps": 0}, "1 step or more; got 0"),
        ({"norm": "Linf", "radius": 1.0, "box": (1.0, 0.0)}, r"got \(1.0, 0.0\)"),
    ],
)
def test_what_is_no_ball_is_refused(settings, said):
    with pytest.raises(BayesgapError, match=said):
        Ball(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"beta": -1.0}, "beta of 0 or more; got -1.0"),
        ({"beta": float("inf")}, "beta of 0 or more; got inf"),
        ({"width": 0}, "width of 1 or more; got 0"),
        ({"scales": 4}, "room for 3"),
        ({"classes": 1}, "0 to 0; got 1"),
        ({"ball": Ball("L2", 1.0, box=(0.0, 1.0))}, r"outside the ball's box \(0.0, 1.0\)"),
    ],
)
def test_what_cannot_be_trained_is_refused(settings, said):
    x, y = bright_half(10)
    with pytest.raises(BayesgapError, match=said):
        train_trades(x, y, **{**SETTINGS, "ball": Ball("L2", 1.0), **settings})


def test_no_images_are_refused_with_a_box_too():
    x, y = bright_half(0)
    with pytest.raises(BayesgapError, match="there are none"):
        train_trades(x, y, **SETTINGS, ball=Ball("L2", 1.0, box=(0.0, 1.0)))
