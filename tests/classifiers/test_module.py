import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bayesgap.classifiers import module
from bayesgap.classifiers.module import (
    check_labels,
    decisions,
    evaluating,
    gradient_of,
    logits,
    margin,
    outputs,
    placed,
)
from bayesgap.errors import BayesgapError
from strategies import without_shape_checks
from toys import SEEDS, Function, normal, property_settings


class Recorder(nn.Module):
    """A linear classifier that notes what it was given."""

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))
        self.weight = nn.Parameter(weight)
        self.batches, self.dtypes, self.gradients = [], [], []

    def forward(self, x):
        self.batches.append(len(x))
        self.dtypes.append(x.dtype)
        self.gradients.append(torch.is_grad_enabled())
        return x.flatten(1) @ self.weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_placed_images_have_the_dtype_of_the_first_floating_tensor(dtype):
    x = normal(0, 3, 1, 2, 2)
    placed_images = placed(Recorder(normal(1, 4, 2).to(dtype)), x)
    assert placed_images.dtype == dtype
    assert torch.equal(placed_images, x.to(dtype))


def test_placed_images_follow_buffers_where_there_are_no_parameters():
    assert placed(Function(None, torch.float64), torch.zeros(1, 1, 2, 2)).dtype == torch.float64


def test_placed_images_are_float32_for_a_classifier_without_tensors():
    assert placed(nn.Flatten(), normal(0, 1, 1, 2, 2)).dtype == torch.float32


@pytest.mark.parametrize("n", [1, 3, 4, 10])
def test_chunked_logits_equal_those_of_one_batch(monkeypatch, n):
    monkeypatch.setattr(module, "CHUNK", 3)
    x, weight = normal(n, n, 1, 2, 2), normal(9, 4, 3)
    classifier = Recorder(weight)
    got = logits(classifier, x)
    # A row of a float64 product may round differently in a batch of another size.
    torch.testing.assert_close(got, x.flatten(1) @ weight, rtol=1e-13, atol=1e-13)
    assert max(classifier.batches) <= 3
    assert sum(classifier.batches) == n


def test_logits_are_made_without_gradients_and_in_the_classifiers_dtype():
    classifier = Recorder(normal(0, 4, 2).float())
    out = logits(classifier, normal(1, 5, 1, 2, 2))
    assert not out.requires_grad
    assert not any(classifier.gradients)
    assert classifier.dtypes == [torch.float32]


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x.flatten(1).sum(dim=1), "(5,)"),
        (lambda x: x, "(5, 1, 2, 2)"),
        (lambda x: x.flatten(1)[:, :1], "(5, 1)"),
        (lambda x: x.flatten(1)[:-1], "(4, 4)"),
        (lambda x: x.sum(), "()"),
    ],
    ids=["no class axis", "images", "one class", "an image short", "a number"],
)
def test_an_output_that_is_no_table_of_logits_is_refused_with_its_shape(function, shape):
    with pytest.raises(BayesgapError) as refusal:
        logits(Function(function), normal(0, 5, 1, 2, 2))
    assert shape in str(refusal.value)
    assert "Function" in str(refusal.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_are_refused_with_their_number(value):
    def spoiled(x):
        out = x.flatten(1).clone()
        out[1, 0] = out[3, 1] = out[3, 2] = value
        return out

    with pytest.raises(BayesgapError, match="for 2 of 5 images"):
        logits(Function(spoiled), normal(0, 5, 1, 2, 2))


def test_a_decision_is_the_first_of_the_largest_logits():
    table = torch.tensor([[1.0, 3, 2], [2, 2, 1], [0, 5, 5], [4, 4, 4], [-1, -2, -0.5]])
    classifier = Function(lambda x: table[: len(x)])
    assert decisions(classifier, torch.zeros(5, 1, 1, 1)).tolist() == [1, 0, 1, 0, 2]


@given(st.integers(**SEEDS), st.integers(2, 5), st.booleans())
@property_settings(60)
def test_the_margin_is_the_own_logit_less_the_largest_other(seed, classes, ties):
    random = np.random.default_rng(seed)
    table = random.normal(size=(7, classes))
    table = np.round(table) if ties else table
    y = random.integers(classes, size=7)
    got = margin(torch.from_numpy(table), torch.from_numpy(y)).numpy()
    expected = [row[k] - max(np.delete(row, k)) for row, k in zip(table, y, strict=True)]
    assert (got == expected).all()


@given(st.integers(**SEEDS), st.integers(2, 5))
@property_settings(40)
def test_the_margin_is_negative_exactly_where_the_decision_is_another(seed, classes):
    random = np.random.default_rng(seed)
    table = torch.from_numpy(random.normal(size=(9, classes)))
    y = torch.from_numpy(random.integers(classes, size=9))
    decided = decisions(Function(lambda x: table), torch.zeros(9, 1, 1, 1))
    assert torch.equal(margin(table, y) < 0, decided != y)


def test_evaluating_gives_every_networkback_its_own_mode():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    network.train()
    network[2].eval()  # frozen statistics, as in fine-tuning
    with evaluating(network):
        assert not any(each.training for each in network.modules())
    assert [each.training for each in network.modules()] == [True, True, True, False]


def test_evaluating_gives_the_modes_back_after_an_error_too():
    network = nn.Sequential(nn.Dropout()).train()
    with pytest.raises(ZeroDivisionError), evaluating(network):
        raise ZeroDivisionError
    assert network.training
    assert network[0].training


def test_what_is_no_networkis_no_classifier():
    with (
        without_shape_checks(),
        pytest.raises(BayesgapError, match=r"is a torch\.nn\.Module .* this is a function"),
        evaluating(lambda x: x),  # type: ignore[arg-type]
    ):
        pass


def test_an_output_that_is_no_tensor_is_refused_with_its_type():
    with pytest.raises(BayesgapError, match=r"turned \(3, 1, 2, 2\) into a tuple"):
        logits(Function(lambda x: (x, x), torch.float64), normal(0, 3, 1, 2, 2))


def test_a_classifier_of_other_images_is_refused_with_the_shape_given():
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    with pytest.raises(BayesgapError, match=r"This Sequential failed on images of \(3, 1, 2, 2\)"):
        logits(network, normal(0, 3, 1, 2, 2))


@pytest.mark.parametrize(
    ("labels", "said"), [([], "there are none"), ([0, 2], "0 to 1; got 2"), ([-1], "got -1")]
)
def test_labels_that_cannot_be_learned_are_refused(labels, said):
    with pytest.raises(BayesgapError, match=said):
        check_labels(torch.tensor(labels, dtype=torch.int64), 2)


def test_evaluating_freezes_parameters_and_gives_back_those_that_were_trained():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    with evaluating(network):
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == [False, False, True, True]


def test_a_classifier_that_changes_its_input_changes_no_images():
    x = normal(0, 3, 1, 2, 2)
    before = x.clone()
    logits(Function(lambda x: x.sub_(1).flatten(1)[:, :2]), x)
    assert torch.equal(x, before)


class Merging(nn.Linear):
    """As adapters of low rank do, it folds its second weight into the first to evaluate."""

    def __init__(self):
        super().__init__(4, 2)
        self.second, self.merged = nn.Parameter(torch.ones(2, 4)), False

    def train(self, mode=True):
        self.training = mode
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.second.data
            self.merged = not mode
        # Nothing is returned, as happens.


@pytest.mark.parametrize("fails", [False, True])
def test_a_train_and_eval_of_the_modules_own_is_undone_by_itself(fails):
    merging = Merging()
    network = nn.Sequential(nn.Flatten(), merging, nn.Dropout())
    merging.weight.data = torch.arange(8.0).reshape(2, 4)
    before = merging.weight.clone()
    try:
        with evaluating(network):
            assert merging.merged
            assert torch.equal(merging.weight, before + 1)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert not merging.merged
    assert torch.equal(merging.weight, before)
    assert all(child.training for child in network.modules())


class EvalReturnsNothing(nn.Sequential):
    def eval(self):
        super().eval()

    def train(self, mode=True):
        super().train(mode)


def test_an_eval_that_returns_nothing_is_as_good():
    network = EvalReturnsNothing(nn.Flatten(), nn.Linear(4, 2), nn.Dropout())
    network[1].bias.requires_grad_(False)
    with evaluating(network):
        assert not any(child.training for child in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(child.training for child in network.modules())
    assert [parameter.requires_grad for parameter in network.parameters()] == [True, False]


def test_an_eval_that_fails_is_a_sentence_and_leaves_everything_as_it_was():
    class Stubborn(nn.Sequential):
        def eval(self):
            self[1].eval()
            raise RuntimeError("not now")

    network = Stubborn(nn.Linear(2, 2), nn.Dropout())
    with (
        pytest.raises(BayesgapError, match=r"This Stubborn cannot be put into .*: not now"),
        evaluating(network),
    ):
        pass
    assert network.training
    assert network[1].training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_train_that_fails_is_not_kept_quiet_and_modes_come_back_nevertheless():
    class Stubborn(nn.Sequential):
        def train(self, mode=True):
            if mode:
                raise RuntimeError("not again")
            super().train(mode)

    network = Stubborn(nn.Linear(2, 2), nn.Dropout())
    said = "This Stubborn cannot be put back into training mode by its own train: RuntimeError: not"
    with pytest.raises(BayesgapError, match=said) as refusal, evaluating(network):
        pass
    assert isinstance(refusal.value.__cause__, RuntimeError)
    assert network.training
    assert network[1].training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_train_that_fails_leaves_what_was_raised_within_as_it_is():
    class Frozen(nn.Linear):
        def train(self, mode=True):
            raise RuntimeError("frozen")

    said = "This Sequential cannot be put into evaluation mode: RuntimeError: frozen"
    network = nn.Sequential(Frozen(2, 2))
    assert network.training
    with pytest.raises(BayesgapError, match=said), evaluating(network):
        pass
    assert network.training
    assert network[0].training


class Uninitialised(nn.Module):
    def __init__(self):
        pass


def test_a_network_that_was_never_initialised_is_refused_with_the_remedy():
    holder = nn.Sequential()
    holder.add_module("part", Uninitialised())
    for network, name in ((Uninitialised(), "Uninitialised"), (holder, "Sequential")):
        said = rf"This {name}, or a module in it, was never .* must call super\(\).__init__\(\)"
        with pytest.raises(BayesgapError, match=said), evaluating(network):
            pass


def test_a_network_without_numbers_is_refused():
    said = "Each tensor of this Linear must be a dense tensor .* on the device meta"
    with pytest.raises(BayesgapError, match=said), evaluating(nn.Linear(2, 2, device="meta")):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda out: out.to("meta"), "tensor on the device meta"),
        (lambda out: out.to_sparse(), "torch.sparse_coo tensor"),
        (lambda out: out.to(torch.complex64), "torch.complex64 tensor"),
    ],
)
def test_outputs_that_are_no_real_numbers_are_refused(change, said):
    given = Function(lambda x: change(x.flatten(1)[:, :2]))
    with pytest.raises(BayesgapError, match=f"this Function turned .* into a {said}"):
        outputs(given, torch.rand(3, 1, 2, 2))


class Backward(torch.autograd.Function):
    """The identity with a backward of the test's own."""

    @staticmethod
    def forward(ctx, x, back):
        ctx.back = back
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.back(gradient), None


def raises(gradient):
    raise NotImplementedError("no backward here")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda z: z.detach().requires_grad_(), "have none with respect to the images"),
        (lambda z: z.detach() + torch.zeros(2, requires_grad=True), "have none"),
        (lambda z: z.detach(), "have none with respect to the images"),
        (lambda z: Backward.apply(z, lambda gradient: None), "have none"),
        (lambda z: Backward.apply(z, raises), "failed: NotImplementedError: no backward here"),
        (lambda z: Backward.apply(z, lambda gradient: gradient[:1, :1]), "failed: RuntimeError: "),
        (lambda z: torch.unique(z, dim=0), "failed: NotImplementedError: "),
        (
            lambda z: torch.utils.checkpoint.checkpoint(torch.exp, z, use_reentrant=True),
            "failed: RuntimeError: ",
        ),
    ],
)
def test_a_backward_pass_that_fails_is_a_sentence(change, said):
    z = torch.rand(3, 2).requires_grad_()
    with pytest.raises(BayesgapError, match=f"^This attack follows gradients, and .*{said}"):
        gradient_of(change(z)[:, 0], z)


def test_a_gradient_is_that_of_each_value_and_may_be_asked_for_again():
    z = torch.rand(3, 2).requires_grad_()
    value = z.square().sum(dim=1)
    for again in (True, False):
        torch.testing.assert_close(gradient_of(value, z, again=again), 2 * z.detach())


def test_whatever_happens_to_modes_within_they_come_back():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    network[1].train()
    with evaluating(network):
        network.train().requires_grad_(True)
    assert [child.training for child in network.modules()] == [False, False, True]
    with evaluating(network):
        network.requires_grad_(True)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_is_not_in_training_is_not_told_to_evaluate():
    class Never(nn.Linear):
        def train(self, mode=True):
            raise AssertionError

    network = Never(2, 2)
    network.training = False
    with evaluating(network):
        pass


@pytest.mark.parametrize("within", [torch.no_grad, torch.inference_mode])
def test_gradients_flow_within_inference_mode_and_through_what_was_made_in_it(within):
    with within():
        layer, norm = nn.Linear(4, 2), nn.BatchNorm1d(2)
        network = nn.Sequential(nn.Flatten(), layer, norm).train()
        held = [*network.parameters(), *network.buffers()]
        x = torch.ones(3, 1, 2, 2).clone()
        with evaluating(network), torch.enable_grad():
            z = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(network(z)[:, 0].sum(), z)
        assert gradient.flatten(1)[0].tolist() == pytest.approx(
            (layer.weight[0] / (1 + norm.eps) ** 0.5).tolist(), rel=1e-5
        )
        now = [*network.parameters(), *network.buffers()]
        assert all(one is other for one, other in zip(held, now, strict=True))
        assert all(parameter.requires_grad for parameter in network.parameters())


def test_lazy_layers_are_refused_before_anything_is_changed():
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with (
        pytest.raises(BayesgapError, match="lazy layers that no image has passed"),
        evaluating(network),
    ):
        pass
    assert network.training


@pytest.mark.parametrize("error", [KeyError, AttributeError, AssertionError, IndexError])
def test_whatever_a_classifier_raises_is_a_sentence_that_names_it(error):
    def fail(x):
        raise error("\nsecond line")

    with pytest.raises(BayesgapError) as refusal:
        logits(Function(fail), normal(0, 3, 1, 2, 2))
    assert (
        f"This Function failed on images of (3, 1, 2, 2), torch.float64: {error.__name__}"
        in str(refusal.value)
    )
    assert "\n" not in str(refusal.value)
    assert isinstance(refusal.value.__cause__, error)


def test_a_sentence_of_a_classifiers_own_is_passed_on():
    def refuse(x):
        raise BayesgapError("Only on Sundays.")

    with pytest.raises(BayesgapError, match=r"^Only on Sundays\.$"):
        logits(Function(refuse), normal(0, 3, 1, 2, 2))


def test_evaluating_leaves_gradients_as_disabled_as_they_are():
    with torch.no_grad(), evaluating(nn.Linear(2, 2)):
        assert not torch.is_grad_enabled()
