import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bayesgap.classifiers.allconv import (
    AllConvolutional,
    Training,
    derived_seed,
    train_allconv,
    train_on,
)
from bayesgap.classifiers.module import decisions
from bayesgap.errors import BayesgapError
from toys import generator, normal


def build(shape=(1, 8, 8), classes=2, width=3, seed=0, scales=None):
    return AllConvolutional(shape, classes, width, generator=generator(seed), scales=scales)


def convolutions(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def bright_half(n, seed=0):
    """Noise images that are brighter in their upper (0) or lower (1) half."""
    y = torch.arange(n) % 2
    x = 0.3 * normal(seed, n, 1, 8, 8)
    x[y == 0, :, :4] += 1
    x[y == 1, :, 4:] += 1
    return x, y


@pytest.mark.parametrize(
    ("shape", "classes", "filters"),
    [
        ((1, 28, 28), 2, [5, 10, 10, 20, 20, 40, 2]),
        ((3, 64, 64), 4, [5, 10, 10, 20, 20, 40, 40, 80, 4]),
        ((1, 8, 8), 3, [5, 10, 3]),
    ],
)
def test_each_scale_has_two_convolutions_and_halves_the_image(shape, classes, filters):
    network = build(shape, classes, width=5)
    layers = list(network.layers)
    kinds = [nn.Conv2d, nn.LeakyReLU, nn.Conv2d, nn.LeakyReLU, nn.AvgPool2d]
    scales = (len(filters) - 1) // 2
    assert [type(layer) for layer in layers] == kinds * scales + [nn.Conv2d, nn.LeakyReLU]
    found = convolutions(network)
    assert [layer.out_channels for layer in found] == filters
    assert [layer.in_channels for layer in found] == [shape[0], *filters[:-1]]
    assert {(layer.kernel_size, layer.stride, layer.padding) for layer in found} == {
        ((3, 3), (1, 1), (1, 1))
    }
    assert {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    side = network.layers(torch.zeros(1, *shape)).shape[-1]
    assert side == shape[1] // 2**scales


@pytest.mark.parametrize(
    ("shape", "scales", "filters"),
    [
        ((1, 28, 28), 0, [2]),
        ((1, 28, 28), 1, [5, 10, 2]),
        ((1, 28, 28), 2, [5, 10, 10, 20, 2]),
        ((1, 28, 28), 4, [5, 10, 10, 20, 20, 40, 40, 80, 2]),  # appendix D.1: the last is 16 · f
        ((3, 6, 4), 2, [5, 10, 10, 20, 2]),
    ],
)
def test_the_number_of_scales_can_be_chosen(shape, scales, filters):
    network = build(shape, width=5, scales=scales)
    assert network.scales == scales
    assert [layer.out_channels for layer in convolutions(network)] == filters
    assert sum(isinstance(layer, nn.AvgPool2d) for layer in network.layers) == scales
    rows, columns = network.layers(torch.zeros(1, *shape)).shape[2:]
    assert (rows, columns) == (shape[1] // 2**scales, shape[2] // 2**scales)
    assert network(torch.zeros(3, *shape)).shape == (3, 2)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (1, 8, 8)])
def test_the_papers_number_of_scales_gives_the_papers_network(shape):
    default = build(shape)
    chosen = build(shape, scales=default.scales)
    assert default.scales == round(np.log2(shape[1])) - 2
    first, second = default.state_dict(), chosen.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first | second)


@pytest.mark.parametrize(
    ("shape", "scales", "said"),
    [
        ((1, 28, 28), 5, "5 scales halve images of 28×28 pixels .* room for 4"),
        ((1, 64, 3), 2, "2 scales halve images of 64×3 pixels .* room for 1"),
        ((1, 28, 4), None, "3 scales halve images of 28×4 pixels .* room for 2"),
        ((1, 8, 8), -1, "0 scales or more; got -1"),
    ],
)
def test_scales_that_leave_no_pixel_are_refused(shape, scales, said):
    with pytest.raises(BayesgapError, match=said):
        build(shape, scales=scales)
    with pytest.raises(BayesgapError, match=said):
        train_allconv(
            torch.zeros(2, *shape), torch.arange(2), width=1, classes=2, seed=0, scales=scales
        )


@pytest.mark.parametrize(("shape", "scales"), [((2, 16, 16), 2), ((1, 28, 28), 3)])
def test_forward_equals_the_computation_written_out(shape, scales):
    network = build(shape, 3).double()
    for tensor in network.parameters():
        tensor.data = normal(tensor.numel(), *tensor.shape) / 5  # biases too
    parameters = iter(network.parameters())
    x = normal(1, 4, *shape)
    z = x
    for _ in range(scales):
        for _ in range(2):
            z = F.conv2d(z, next(parameters), next(parameters), padding=1)
            z = torch.maximum(z, 0.2 * z)
        rows, columns = z.shape[2] // 2 * 2, z.shape[3] // 2 * 2
        z = (
            z[:, :, 0:rows:2, 0:columns:2]
            + z[:, :, 1:rows:2, 0:columns:2]
            + z[:, :, 0:rows:2, 1:columns:2]
            + z[:, :, 1:rows:2, 1:columns:2]
        ) / 4
    z = F.conv2d(z, next(parameters), next(parameters), padding=1)
    z = torch.maximum(z, 0.2 * z)
    expected = z.sum(dim=(2, 3)) / (z.shape[2] * z.shape[3])
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


def test_initial_weights_have_hes_deviation_and_biases_are_zero():
    layers = convolutions(build((1, 28, 28), 2, width=16))
    for layer in layers:
        assert (layer.bias == 0).all()
        inputs = layer.in_channels * 9
        expected = np.sqrt(2 / (1 + 0.2**2) / inputs)
        weights = layer.weight.detach().double().flatten().numpy()
        # The deviation of n normal values has a standard error of 1 / sqrt(2n); 4.5 of them.
        n = len(weights)
        assert weights.std() == pytest.approx(expected, rel=4.5 / np.sqrt(2 * n))
        assert abs(weights.mean()) < 4.5 * expected / np.sqrt(n)


def test_initial_weights_come_from_the_generator_alone():
    torch.manual_seed(1)
    first = build(seed=3).state_dict()
    torch.manual_seed(2)
    second, other = build(seed=3).state_dict(), build(seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def train(seed, training=None, n=80):
    x, y = bright_half(n)
    training = training or Training(epochs=2, batch=20)
    return train_allconv(x, y, width=3, classes=2, seed=seed, training=training)


def test_training_is_reproducible_to_the_last_bit_and_depends_on_its_seed():
    (first, losses), (second, again), (other, others) = train(7), train(7), train(8)
    state, same, different = (net.state_dict() for net in (first, second, other))
    assert losses == again != others
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert not any(torch.equal(state[name], different[name]) for name in state)


def test_training_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    train(0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_learns_an_easy_toy_and_its_loss_falls():
    network, losses = train(0, Training(epochs=6, batch=20, learning_rate=1e-2), n=160)
    assert len(losses) == 6
    assert losses[0] < 1.0  # nats; a network that knows nothing has log 2
    assert losses[-1] < 0.1 * losses[0]
    x, y = bright_half(200, seed=5)
    assert (decisions(network, x) == y).double().mean() > 0.98


def test_the_loss_of_an_epoch_is_the_mean_over_images_though_batches_differ_in_size():
    x, y = bright_half(7)
    # With no learning, the loss is that of the initial network.
    still = Training(epochs=1, batch=5, learning_rate=0.0)
    network, losses = train_allconv(x, y, width=3, classes=2, seed=0, training=still)
    probabilities = network(x.float()).double().softmax(dim=1)[torch.arange(7), y]
    assert losses[0] == pytest.approx(-probabilities.log().mean().item(), rel=1e-6)  # float32


def test_training_is_adam_on_the_cross_entropy_written_out():
    """The order of random numbers and of operations, on which stored results depend."""
    x, y = bright_half(50)
    training = Training(epochs=2, batch=20, learning_rate=0.01)
    network, losses = train_allconv(x, y, width=3, classes=2, seed=7, training=training)
    chance = generator(7)
    expected = AllConvolutional((1, 8, 8), 2, 3, generator=chance)
    optimiser = torch.optim.Adam(expected.parameters(), lr=0.01)
    for found in losses:
        total = 0.0
        for rows in torch.randperm(50, generator=chance).split(20):
            optimiser.zero_grad()
            loss = F.cross_entropy(expected(x.float()[rows]), y[rows])
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
        assert found == total / 50
    state, same = network.state_dict(), expected.state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state | same)


def test_a_loss_minimises_its_first_part_and_reports_all():
    x, y = bright_half(7)

    def loss(network, images, labels):
        return 0.0 * network(images).sum(), images.mean(), labels.double().mean()

    network, history = train_on(
        loss,
        x,
        y,
        width=3,
        classes=2,
        seed=4,
        training=Training(epochs=2, batch=3),
        scales=None,
        name="nothing",
    )
    state, start = network.state_dict(), build(seed=4).state_dict()
    assert all(torch.equal(state[name], start[name]) for name in state)
    for found in history:
        assert found == pytest.approx((0.0, x.mean().item(), 3 / 7), rel=1e-6)


def test_derived_seeds_differ_by_stream_and_from_those_of_neighbouring_seeds():
    seeds = {derived_seed(seed, index) for seed in range(20) for index in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derived_seed(2**63 - 1, 10**6) == derived_seed(2**63 - 1, 10**6)


def test_a_trained_network_is_float32_in_evaluation_mode_and_frozen():
    network, _ = train(0, Training(epochs=1, batch=40))
    assert not network.training
    assert all(not tensor.requires_grad for tensor in network.parameters())
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("n", "classes", "width", "said"),
    [(0, 2, 1, "there are none"), (4, 1, 1, "got 1"), (4, 2, 0, "width of 1 or more; got 0")],
)
def test_what_cannot_be_trained_is_refused(n, classes, width, said):
    x, y = bright_half(n)
    with pytest.raises(BayesgapError, match=said):
        train_allconv(x, y, width=width, classes=classes, seed=0)
