import numpy as np
import pytest
import torch

from bayesgap import files
from bayesgap.classifiers import online, stored
from bayesgap.classifiers.allconv import AllConvolutional, cross_entropy, derived_seed, step
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.online import OnlineTraining, continue_training, start_training
from bayesgap.classifiers.svm import train_linear_svm
from bayesgap.errors import BayesgapError
from toys import generator, normal, spherical_task

SHAPE = (1, 8, 8)
BLOCK = 60  # instead of 1,000, so that legs of a few steps cross it


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(online, "BLOCK", BLOCK)


def bright_half(n, *, seed):
    """Noise images that are brighter in their upper (0) or lower (1) half; labels by chance."""
    y = torch.randint(2, (n,), generator=generator(seed))
    x = 0.3 * normal(seed, n, *SHAPE)
    x[y == 0, :, :4] += 1
    x[y == 1, :, 4:] += 1
    return x, y


def start(seed=0, **settings):
    return start_training(SHAPE, width=3, classes=2, seed=seed, **settings)


def legs(lengths, *, between=lambda state: state, batch=20, seed=5):
    state, losses = start(), []
    for length in lengths:
        state, more = continue_training(
            between(state), bright_half, samples=length, batch=batch, seed=seed
        )
        losses.append(more)
    return state, losses


def assert_equal(first, second):
    tensors, about = first.to_tensors()
    others, other = second.to_tensors()
    assert about == other
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.mark.parametrize("lengths", [(160, 80), (20, 20, 200), (100, 0, 140), (60, 60, 120)])
def test_legs_through_a_file_end_where_one_leg_ends_bit_for_bit(tmp_path, lengths):
    def through_a_file(state):
        tensors, metadata = state.to_tensors()
        # A header that grows moves the tensors, and steps round by their alignment.
        padded = {**metadata, "pad": "x" * (state.samples // 20 * 8)}
        files.save_tensors(tmp_path / "state", tensors, kind="training", metadata=padded)
        loaded, about = files.load_tensors(tmp_path / "state", kind="training")
        return OnlineTraining.from_tensors(loaded, about)

    whole, _ = legs([240])
    parts, _ = legs(lengths, between=through_a_file)
    assert_equal(whole, parts)
    assert whole.samples == 240


def test_legs_are_equal_for_a_network_wide_enough_for_vector_instructions():
    """Its convolutions have channels last, in which Adam's moments must be restored as well."""
    begun = start_training((3, 16, 16), width=8, classes=3, seed=1, scales=2)

    def draw(n, *, seed):
        return normal(seed, n, 3, 16, 16), torch.arange(n) % 3

    def train(state, samples):
        return continue_training(state, draw, samples=samples, batch=20, seed=2)[0]

    half = OnlineTraining.from_tensors(*train(begun, 60).to_tensors())
    assert_equal(train(begun, 120), train(half, 60))


def test_the_training_is_that_of_adam_on_the_blocks_in_turn():
    network = AllConvolutional(SHAPE, 2, 3, generator=generator(0))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    expected = []
    for block in range(2):
        x, y = bright_half(BLOCK, seed=derived_seed(5, block))
        of_batches = [
            step(network, optimiser, cross_entropy, x[rows].float(), y[rows])[0]
            for rows in torch.arange(BLOCK).split(20)
        ]
        expected.append(np.mean(of_batches))
    state, losses = legs([2 * BLOCK])
    assert losses[0] == pytest.approx(expected, rel=1e-12)
    found = state.network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in network.state_dict().items())
    assert {state.adam[name].item() for name in state.adam if name.startswith("step.")} == {6}


def test_losses_are_of_the_images_of_each_draw_that_a_leg_trained_on():
    _, (whole,) = legs([2 * BLOCK])
    _, (first, second) = legs([40, 80])
    assert (len(whole), len(first), len(second)) == (2, 1, 2)
    assert (2 * first[0] + second[0]) / 3 == pytest.approx(whole[0], rel=1e-12)
    assert second[1] == whole[1]


def test_images_depend_on_the_seed_and_their_place_alone():
    seen = []

    def draw(n, *, seed):
        seen.append((n, seed))
        return bright_half(n, seed=seed)

    state, _ = continue_training(start(), draw, samples=80, batch=20, seed=7)
    continue_training(state, draw, samples=60, batch=20, seed=7)
    blocks = [(BLOCK, derived_seed(7, block)) for block in (0, 1, 1, 2)]
    assert seen == blocks
    assert derived_seed(7, 1) != derived_seed(8, 0)
    assert not torch.equal(
        legs([60], seed=7)[0].adam["exp_avg.layers.0.weight"],
        legs([60], seed=8)[0].adam["exp_avg.layers.0.weight"],
    )


def test_a_leg_leaves_the_state_before_it_and_the_global_generator_alone():
    state, _ = legs([40])
    before = OnlineTraining.from_tensors(*state.to_tensors())
    chance = torch.random.get_rng_state()
    after, _ = continue_training(state, bright_half, samples=40, batch=20, seed=5)
    assert torch.equal(torch.random.get_rng_state(), chance)
    assert_equal(state, before)
    assert not torch.equal(
        state.network.state_dict()["layers.0.weight"], after.network.state_dict()["layers.0.weight"]
    )


def test_between_legs_the_network_is_frozen_float32_and_can_be_stored():
    state, _ = legs([40])
    assert not state.network.training
    assert all(p.dtype == torch.float32 for p in state.network.parameters())
    assert all(not p.requires_grad and p.grad is None for p in state.network.parameters())
    again = stored.from_tensors(*stored.to_tensors(state.network))
    x = normal(0, 4, *SHAPE).float()
    assert torch.equal(again(x), state.network(x))


def test_an_easy_toy_is_learned():
    state = start(learning_rate=1e-2)
    state, losses = continue_training(state, bright_half, samples=1_200, batch=20, seed=0)
    assert losses[-1] < 0.1 * losses[0]
    x, y = bright_half(200, seed=99)
    assert (decisions(state.network, x) == y).double().mean() > 0.98


def test_a_tasks_sample_is_a_draw():
    means = torch.zeros(2, 8)
    means[1] = 1.0
    task = spherical_task(means, 0.01)
    state = start_training(task.image_shape, width=2, classes=2, seed=0)
    state, losses = continue_training(state, task.sample, samples=60, seed=0, batch=20)
    assert state.samples == 60
    assert np.isfinite(losses).all()


def test_the_learning_rate_and_the_scales_survive_storing():
    state = start(learning_rate=0.02, scales=2)
    again = OnlineTraining.from_tensors(*state.to_tensors())
    assert again.learning_rate == 0.02
    assert again.network.scales == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch": 40}, "divide the 60 images of a draw; got 40"),
        ({"batch": 0}, "divide the 60 images of a draw; got 0"),
        ({"samples": 50}, "mini-batches of 20 images; this leg has 50"),
        ({"samples": -20}, "this leg has -20"),
    ],
)
def test_a_leg_of_parts_of_mini_batches_is_refused(settings, said):
    settings = {"samples": 60, "batch": 20, "seed": 0, **settings}
    with pytest.raises(BayesgapError, match=said):
        continue_training(start(), bright_half, **settings)


def test_so_is_one_after_a_training_with_other_mini_batches():
    state, _ = legs([40])
    with pytest.raises(BayesgapError, match="30 images; those before had 40"):
        continue_training(state, bright_half, samples=60, batch=30, seed=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x[1:], y), r"60 images of shape \(1, 8, 8\) gave images \(59, 1, 8, 8\)"),
        (lambda x, y: (x[..., :7], y), r"\(60, 1, 8, 7\) and 60 labels"),
        (lambda x, y: (x, y[1:]), "59 labels"),
        (lambda x, y: (x, y + 1), "Labels must lie in 0 to 1; got 2"),
    ],
)
def test_a_draw_of_something_else_is_refused(change, said):
    with pytest.raises(BayesgapError, match=said):
        continue_training(
            start(),
            lambda n, *, seed: change(*bright_half(n, seed=seed)),
            samples=60,
            batch=20,
            seed=0,
        )


@pytest.mark.parametrize("name", ["adam.step.layers.0.weight", "adam.exp_avg_sq.layers.2.bias"])
def test_a_stored_training_that_lacks_something_is_refused_with_its_name(name):
    tensors, metadata = start().to_tensors()
    del tensors[name]
    with pytest.raises(BayesgapError, match=f"stored training lacks '{name}'"):
        OnlineTraining.from_tensors(tensors, metadata)


def test_a_stored_training_that_is_damaged_is_refused():
    tensors, metadata = start().to_tensors()
    name = "adam.exp_avg.layers.0.bias"
    with pytest.raises(BayesgapError, match=rf"{name}' has shape \(2,\) instead of \(3,\)"):
        OnlineTraining.from_tensors({**tensors, name: torch.zeros(2)}, metadata)
    with pytest.raises(BayesgapError, match="lacks 'samples'"):
        OnlineTraining.from_tensors(
            tensors, {key: value for key, value in metadata.items() if key != "samples"}
        )
    with pytest.raises(BayesgapError, match=r"Missing key.*layers\.0\.bias"):
        OnlineTraining.from_tensors({"adam.x": torch.zeros(1)}, metadata)


def test_what_is_no_stored_training_is_refused():
    x, y = bright_half(20, seed=0)
    tensors, about = stored.to_tensors(train_linear_svm(x, y, classes=2, seed=0))
    with pytest.raises(BayesgapError, match="got 'linear-svm'"):
        OnlineTraining.from_tensors(tensors, about)
    held = {f"network.{name}": tensor for name, tensor in tensors.items()}
    _, metadata = start().to_tensors()
    with pytest.raises(BayesgapError, match="A LinearSVM is not trained online"):
        OnlineTraining.from_tensors(held, {**metadata, "network": about})


def test_a_network_without_filters_is_refused():
    with pytest.raises(BayesgapError, match="width of 1 or more; got 0"):
        start_training(SHAPE, width=0, classes=2, seed=0)
