import dataclasses
import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn

import bayesgap
from bayesgap.attacks.boundary import value_and_gradient
from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.library import ddn
from bayesgap.classifiers.adapt import as_classifier
from bayesgap.classifiers.adapted import Adapted
from bayesgap.classifiers.module import decisions, evaluating, logits, margin
from bayesgap.errors import BayesgapError
from strategies import without_shape_checks
from toys import Function, normal, spherical_task, uniform

SHAPE = (1, 2, 2)
D = 4


def adapted(thing, *, classes=2, shape=SHAPE, **settings):
    return as_classifier(thing, image_shape=shape, classes=classes, **settings)


def network(classes=2, seed=0, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(D, classes)).to(dtype)


def images(n=5, seed=0):
    return uniform(seed, n, *SHAPE)


def after(change, classes=2, dtype=torch.float32):
    """A network whose logits are changed, as a module of its own."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network(classes, dtype=dtype)

        def forward(self, x):
            return change(self.net(x))

    return Net()


def gradient_of(classifier, x):
    """Of the margin of class 1, with respect to the images."""
    y = torch.ones(len(x), dtype=torch.int64)
    with evaluating(classifier):
        return value_and_gradient(lambda z: margin(classifier(z), y), x)[1]


def is_attacked(classifier, n=6):
    """An attack that follows gradients breaks every image."""
    x = images(n, seed=3)
    with evaluating(classifier):
        before = decisions(classifier, x)
    pool = 4 * normal(4, 60, *SHAPE)
    return BoundaryWalk(pool, attacks=[ddn(10)])(classifier, x, before).success.all().item()


# What needs no change


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_module_that_returns_logits_is_given_back_itself(dtype, classes):
    given = network(classes, dtype=dtype).train()
    assert adapted(given, classes=classes) is given
    assert given.training
    assert all(parameter.requires_grad for parameter in given.parameters())
    assert is_attacked(given)


def test_the_optimum_of_a_task_is_given_back_itself():
    task = spherical_task([[0.0] * D, [1.0] * D], 0.1)
    optimum = task.bayes_classifier()
    assert adapted(optimum, shape=task.image_shape) is optimum


def test_a_module_in_half_precision_is_refused_by_attacks_with_the_remedy():
    given = adapted(network().half())
    with pytest.raises(BayesgapError, match=r"attack classifier\.float\(\)"):
        ddn(2)(given, images(), torch.zeros(5, dtype=torch.int64))


# Outputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities_become_their_logarithm_with_the_gradient_of_the_logits(dtype):
    given = after(lambda out: out.softmax(dim=1), classes=3, dtype=dtype)
    classifier = adapted(given, classes=3, outputs="probabilities")
    x = images().to(dtype)
    expected = given.net(x).log_softmax(dim=1)
    torch.testing.assert_close(classifier(x), expected, rtol=1e-4, atol=1e-5)
    difference = gradient_of(classifier, x) - gradient_of(given.net, x)
    assert difference.abs().max() < 1e-4
    assert is_attacked(classifier)


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_saturated_probabilities_have_finite_logarithms_and_gradients(scale):
    given = after(lambda out: (scale * out).softmax(dim=1))
    classifier = adapted(given, outputs="probabilities")
    x = images(50).float()
    assert logits(classifier, x).isfinite().all()
    assert gradient_of(classifier, x).isfinite().all()


def test_probabilities_taken_for_logits_are_refused_with_the_remedy():
    with pytest.raises(BayesgapError, match=r'This Net gives rows .* say outputs="probabilities"'):
        adapted(after(lambda out: out.softmax(dim=1)))


def test_logits_taken_for_probabilities_are_refused_with_the_value():
    with pytest.raises(BayesgapError, match=r"This Net gives -?[0-9.]+ for a probability"):
        adapted(after(lambda out: 5 * out), outputs="probabilities")


def test_probabilities_out_of_range_are_found_later_too():
    classifier = adapted(lambda x: torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1),
                         outputs="probabilities")  # fmt: skip
    with pytest.raises(BayesgapError, match="gives 7 for a probability"):
        classifier(torch.full((1, *SHAPE), 7.0).double())


@pytest.mark.parametrize("squeezed", [True, False])
def test_one_logit_becomes_two_whose_margin_it_is(squeezed):
    given = nn.Sequential(network(1), nn.Flatten(0)) if squeezed else network(1)
    classifier = adapted(given, outputs="one-logit")
    x = images().float()
    f = given(x).detach().reshape(-1)
    assert torch.equal(logits(classifier, x), torch.stack([-f / 2, f / 2], dim=1))
    assert torch.equal(decisions(classifier, x), (f > 0).long())
    assert is_attacked(classifier)


def test_one_probability_decides_at_a_half_with_the_margin_of_its_logit():
    given = after(lambda out: out.sigmoid(), classes=1)
    classifier = adapted(given, outputs="one-probability")
    x = images().float()
    f = given.net(x)[:, 0]
    torch.testing.assert_close(classifier(x).diff()[:, 0], f, rtol=1e-4, atol=1e-5)
    assert torch.equal(decisions(classifier, x), (given(x)[:, 0] > 0.5).long())
    difference = gradient_of(classifier, x) - given.net[1].weight.reshape(1, *SHAPE)
    assert difference.abs().max() < 1e-4


def test_a_saturated_probability_has_finite_logits_and_gradients():
    classifier = adapted(after(lambda out: (1e3 * out).sigmoid(), 1), outputs="one-probability")
    x = normal(0, 50, *SHAPE).float()
    assert logits(classifier, x).isfinite().all()
    assert gradient_of(classifier, x).isfinite().all()


@pytest.mark.parametrize("given", [network(1), nn.Sequential(network(1), nn.Flatten(0))])
def test_one_value_an_image_without_a_word_is_refused_with_the_remedies(given):
    with pytest.raises(BayesgapError) as refusal:
        adapted(given)
    for remedy in ("one-logit", "one-probability", "labels"):
        assert f'"{remedy}"' in str(refusal.value)


def test_labels_become_one_hot():
    def brightest(x):
        return x.flatten(1).argmax(dim=1)

    classifier = adapted(brightest, classes=4, outputs="labels")
    x = images()
    assert torch.equal(classifier(x), nn.functional.one_hot(brightest(x), 4).double())


def test_labels_may_be_words_in_an_order_that_is_said():
    def light(x):
        return ["light" if image.mean() > 0.5 else "dark" for image in x]

    classifier = adapted(light, outputs="labels", labels=["light", "dark"])
    assert decisions(classifier, torch.tensor([0.1, 0.9]).reshape(2, 1, 1, 1)).tolist() == [1, 0]
    with pytest.raises(BayesgapError, match=r"the label '(light|dark)', which is none of 0, 1"):
        adapted(light, outputs="labels")


@pytest.mark.parametrize("trailing", [(1, 1), (1,), (1, 1, 1)])
def test_trailing_axes_of_one_are_dropped(trailing):
    given = after(lambda out: out.reshape(*out.shape, *trailing))
    classifier = adapted(given)
    x = images().float()
    assert torch.equal(logits(classifier, x), given.net(x).detach())
    assert is_attacked(classifier)


def test_a_batch_of_one_may_come_back_squeezed():
    given = after(lambda out: out.squeeze())
    classifier = adapted(given)
    assert classifier is not given
    assert logits(classifier, images(1)).shape == (1, 2)
    assert is_attacked(classifier)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda out: torch.cat([out, out], dim=1), "gives 4 values an image, and there are 2"),
        (lambda out: out[:, :, None].expand(-1, -1, 3), r"turns 3 images into \(3, 2, 3\)"),
        (lambda out: out[:-1], r"\(2, 2\), not \(3, 2\)"),
        (lambda out: None, "returns None, which is no output"),
        (lambda out: "zero", "returns a str"),
    ],
)
def test_outputs_that_are_no_logits_are_refused_with_their_shape(change, said):
    with pytest.raises(BayesgapError, match=f"^This Net .*{said}"):
        adapted(after(change))


# Several outputs


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    features: torch.Tensor


Pair = namedtuple("Pair", "features scores")

STRUCTURES = [
    (lambda out: (out, out.exp()), 0, "0 (Tensor (3, 2)), 1 (Tensor (3, 2))"),
    (lambda out: [out.exp(), out], 1, "0 (Tensor (3, 2)), 1 (Tensor (3, 2))"),
    (lambda out: (out,), 0, "0 (Tensor (3, 2))"),
    (lambda out: {"loss": None, "logits": out}, "logits", "'loss' (NoneType), 'logits' (Tensor"),
    (lambda out: OrderedDict(logits=out), "logits", "'logits' (Tensor (3, 2))"),
    (lambda out: Answer(out, out.exp()), "logits", "'logits' (Tensor (3, 2)), 'features'"),
    (lambda out: Pair(out.exp(), out), "scores", "0 (Tensor (3, 2)), 1"),
    (lambda out: Pair(out.exp(), out), 1, "0 (Tensor (3, 2)), 1"),
]


@pytest.mark.parametrize(("change", "take", "choices"), STRUCTURES)
def test_one_of_several_outputs_is_taken_where_it_is_said_which(change, take, choices):
    given = after(change)
    classifier = adapted(given, take=take)
    x = images().float()
    assert torch.equal(logits(classifier, x), given.net(x).detach())
    assert is_attacked(classifier)


@pytest.mark.parametrize(("change", "take", "choices"), STRUCTURES)
def test_several_outputs_without_a_choice_are_refused_with_the_choices(change, take, choices):
    for wrong in ({}, {"take": "nothing_like_it"}, {"take": 7}):
        with pytest.raises(BayesgapError) as refusal:
            adapted(after(change), **wrong)
        assert choices in str(refusal.value)
        assert "take=" in str(refusal.value)


def test_a_choice_of_what_is_one_tensor_is_refused():
    with pytest.raises(BayesgapError, match="returns a Tensor alone: leave take=0 out"):
        adapted(network(), take=0)


# Kinds of modules


@pytest.fixture
def outdated():
    """TorchScript warns that it is deprecated; people have files of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("outdated")
@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("kind", ["script", "trace", "freeze"])
def test_torchscript_modules_are_classifiers_and_keep_their_modes(kind, mode):
    given = nn.Sequential(network(), nn.Dropout()).eval()
    expected = logits(given, images())
    made = {
        "script": lambda: torch.jit.script(given),
        "trace": lambda: torch.jit.trace(given, images().float()),
        "freeze": lambda: torch.jit.freeze(torch.jit.script(given)),
    }[kind]().train(mode)
    classifier = adapted(made)
    assert is_attacked(classifier)
    torch.testing.assert_close(logits(classifier.eval(), images()), expected)
    made.train(mode)
    is_attacked(classifier)
    if kind != "freeze":
        assert [module.training for module in made.modules()] == 5 * [mode]
        assert all(parameter.requires_grad for parameter in made.parameters())


def exported(given, **settings):
    return torch.export.export(given.eval(), (images(2).float(),), **settings)


def test_exported_programs_are_classifiers():
    given = network()
    program = exported(given, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    classifier = adapted(program)
    torch.testing.assert_close(logits(classifier, images()), logits(given, images()))
    assert is_attacked(classifier)


def test_a_program_exported_for_one_size_of_batch_is_refused_with_the_remedy():
    with pytest.raises(BayesgapError, match=r"This ExportedProgram failed .* dynamic_shapes="):
        adapted(exported(network()))


def test_lazy_layers_that_were_never_used_are_refused_and_initialised_ones_are_not():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(BayesgapError, match=r"This Sequential has lazy layers .* untrained"):
        adapted(lazy)
    lazy(images().float())
    assert adapted(lazy) is lazy


def test_modules_without_parameters_are_given_float32():
    seen = []

    class Pixels(nn.Module):
        def forward(self, x):
            seen.append(x.dtype)
            return x.flatten(1)[:, :2]

    given = Pixels()
    assert adapted(given) is given
    assert set(seen) == {torch.float32}


def test_a_module_that_wants_integers_is_refused_with_what_it_said():
    with pytest.raises(BayesgapError, match=r"This Sequential failed on images of \(3, 1, 2, 2\)"):
        adapted(nn.Sequential(nn.Flatten(), nn.Embedding(9, 2)))


def test_data_parallel_and_compiled_modules_are_classifiers():
    given = network()
    parallel = adapted(nn.DataParallel(given))
    assert torch.equal(logits(parallel, images()), logits(given, images()))
    assert is_attacked(parallel)
    assert adapted(torch.compile(given, backend="eager")) is given


@pytest.mark.parametrize("kind", ["weight_norm", "orthogonal", "spectral_norm"])
def test_parametrised_layers_are_classifiers(kind):
    given = network()
    getattr(nn.utils.parametrizations, kind)(given[1])
    assert adapted(given) is given
    before = {name: value.clone() for name, value in given.state_dict().items()}
    assert is_attacked(given)
    assert all(torch.equal(before[name], value) for name, value in given.state_dict().items())
    assert given.training
    assert all(parameter.requires_grad for parameter in given.parameters())


@pytest.mark.parametrize("table", [lambda out: out.numpy(), lambda out: out.tolist()])
def test_modules_that_return_arrays_or_lists_have_no_gradient(table):
    given = after(table)
    classifier = adapted(given)
    expected = logits(given.net, images())
    torch.testing.assert_close(logits(classifier, images()), expected)
    with pytest.raises(BayesgapError, match="have none with respect to the images"):
        ddn(2)(classifier, images(), decisions(classifier, images()))


@pytest.mark.parametrize(
    "error", [KeyError, AssertionError, NotImplementedError, ZeroDivisionError]
)
def test_whatever_a_forward_raises_is_a_sentence_with_its_cause(error):
    def fail(out):
        raise error("what went wrong")

    with pytest.raises(BayesgapError, match=r"This Net .*\(3, 1, 2, 2\).*what went wrong") as found:
        adapted(after(fail))
    assert error.__name__ in str(found.value)
    assert isinstance(found.value.__cause__, error)


# Functions


def test_a_torch_function_keeps_its_gradient_in_float64():
    weight = normal(0, D, 3)
    classifier = adapted(lambda x: x.flatten(1) @ weight, classes=3)
    x = images()
    assert torch.equal(logits(classifier, x), x.flatten(1) @ weight)
    assert is_attacked(classifier)


def test_a_torch_function_of_float32_is_given_float32():
    given = network()
    classifier = adapted(lambda x: given(x))
    assert torch.equal(logits(classifier, images()), logits(given, images()))
    assert is_attacked(classifier)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.tanh(x.reshape(len(x), -1)[:, :3]),
        lambda x: np.stack([x.mean(axis=(1, 2, 3)), x.std(axis=(1, 2, 3)), x[:, 0, 0, 0]], axis=1),
        lambda x: x.reshape(len(x), -1)[:, :3].astype(np.float32).tolist(),
    ],
    ids=["ufunc", "std", "list"],
)
def test_a_numpy_function_scores_as_it_does_itself_and_has_no_gradient(function):
    x = images()
    classifier = adapted(function, classes=3)
    expected = np.asarray(function(x.numpy()), dtype=np.float64)
    np.testing.assert_allclose(logits(classifier, x).numpy(), expected, rtol=1e-12)
    with pytest.raises(BayesgapError, match="have none with respect to the images"):
        ddn(2)(classifier, x, decisions(classifier, x))


def test_a_function_that_means_something_else_by_arrays_and_tensors_is_refused():
    def spread(x):
        return (x.reshape(len(x), -1).std(1)[:, None] - 0.1) * x.reshape(len(x), -1)[:, :2]

    with pytest.raises(BayesgapError, match=r"let it convert them first, by np\.asarray"):
        adapted(spread)
    for convert in (np.asarray, torch.as_tensor):
        classifier = adapted(lambda x, convert=convert: spread(convert(x)))
        expected = np.asarray(spread(convert(images().numpy())))
        np.testing.assert_allclose(logits(classifier, images()).numpy(), expected, rtol=1e-12)


def test_a_torch_function_that_leaves_torch_inside_has_no_gradient():
    classifier = adapted(lambda x: np.tanh(x.flatten(1).numpy()[:, :2]))
    assert logits(classifier, images()).shape == (5, 2)
    with pytest.raises(BayesgapError, match="have none with respect to the images"):
        ddn(2)(classifier, images(), decisions(classifier, images()))


def test_the_module_of_a_method_is_put_into_evaluation_mode():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(network(), nn.Dropout(0.9))

        def scores(self, x):
            return self.net(x)

    given = Net().train()
    classifier = adapted(given.scores)
    with evaluating(classifier):
        assert torch.equal(classifier(images().float()), given.net[0](images().float()))
    assert given.training


def test_a_function_that_takes_no_images_is_refused_with_what_it_said_of_both_kinds():
    def score(x):
        return x["image"]

    with pytest.raises(BayesgapError, match=r"function score .* tensors .* numpy arrays") as found:
        adapted(score)
    assert found.value.__cause__ is not None


def test_a_function_whose_output_cannot_be_read_is_refused_for_that():
    with pytest.raises(BayesgapError, match="This function <lambda> gives one value"):
        adapted(lambda x: np.zeros(len(x)))


# What is none


class Predicts:
    def predict(self, x):
        return x


@pytest.mark.parametrize(
    ("thing", "settings", "said"),
    [
        (nn.Linear, {}, r"The class Linear itself is no classifier: give an object"),
        ("my_net.pt", {}, "this is a str"),
        (None, {}, "this is a NoneType"),
        (network(), {"outputs": "scores"}, "Outputs are one of logits, .*; got 'scores'"),
        (network(), {"classes": 1}, "number of classes must be an integer, 2 or more; got 1"),
        (network(), {"classes": 2.0}, "2 or more; got 2.0"),
        (network(), {"classes": "2"}, "2 or more; got '2'"),
        (network(), {"outputs": ["logits"]}, r"got \['logits'\]"),
        (network(), {"take": 1.5}, "take is an index, a key or an attribute's name; got 1.5"),
        (network(), {"take": True}, "got True"),
        (network(), {"shape": 28}, r"shape \(C, H, W\); got 28"),
        (
            network(),
            {"labels": 2, "outputs": "labels"},
            "in their order; got 2",
        ),
        (
            network(),
            {"labels": "ab", "outputs": "labels"},
            "in their order; got 'ab'",
        ),
        (network(), {"labels": [[0], [1]], "outputs": "labels"}, "must name each once"),
        (network(), {"labels": [0, 1, 1], "outputs": "labels"}, "must name each once"),
        (network(), {"labels": {0, 1}, "outputs": "labels"}, "must name each once, in their order"),
        (Predicts(), {}, r"this is a Predicts: give .* lambda x: model\.predict\(x\)"),
        (lambda: network(), {}, "takes no images: give what it makes"),
        (lambda x: network(), {}, "returns a Sequential, .*: give that instead"),
        (lambda x: "logits", {}, "returns a str, which is no output"),
        (lambda x: np.zeros((len(x), 2)) * 1j, {}, "no table of real numbers"),
        (
            network().to("meta"),
            {},
            "tensor of this Sequential must be a dense tensor .*device meta",
        ),
        (network(3), {"classes": 3, "outputs": "one-logit"}, "are of two classes; there are 3"),
        (network(), {"shape": (4,)}, r"shape \(C, H, W\); got \(4,\)"),
        (network(), {"shape": (1, 0, 2)}, r"got \(1, 0, 2\)"),
        (
            network(),
            {"labels": ["a", "b"]},
            'labels=.* are for estimators and for outputs="labels"',
        ),
        (
            network(),
            {"labels": ["a"], "outputs": "labels"},
            r"in their order; got \['a'\]",
        ),
        (after(torch.Tensor.to_sparse), {}, "returns a torch.sparse_coo tensor, and not a dense"),
        (after(lambda out: out + 1j), {}, "returns a torch.complex64 tensor, and not a dense"),
        (after(lambda out: out.to("meta")), {}, "returns a tensor on the device meta"),
        (network(), {"shape": (1, 3, 3)}, r"This Sequential failed on images of \(3, 1, 3, 3\)"),
    ],
)
def test_what_is_no_classifier_or_no_word_is_refused_in_a_sentence(thing, settings, said):
    with without_shape_checks(), pytest.raises(BayesgapError, match=said) as refusal:
        adapted(thing, **settings)
    assert str(refusal.value).endswith(".")


def test_numbers_of_numpy_and_of_torch_are_words_too():
    """Shapes, classes, indices and labels come out of arrays."""
    two = after(lambda out: (out, -out))
    x = uniform(1, 5, *SHAPE).float()
    told = {"shape": tuple(np.array(SHAPE)), "classes": np.int64(2), "take": np.int64(1)}
    named = after(lambda out: 3 + 4 * out.argmax(dim=1))
    with without_shape_checks():
        assert torch.equal(adapted(two, **told)(x), two(x)[1])
        for labels in (np.array([3, 7]), torch.tensor([3, 7]), (3, 7), range(3, 8, 4)):
            found = adapted(named, outputs="labels", labels=labels)(x)
            assert torch.equal(found.argmax(dim=1), (named(x) - 3) // 4)


def test_adapting_within_inference_mode_gives_what_can_be_attacked():
    with torch.inference_mode():
        for given, settings in (
            (network(), {}),
            (after(lambda out: (out, out)), {"take": 0}),
            (lambda x: x.flatten(1)[:, :2], {}),
        ):
            assert is_attacked(adapted(given, **settings))


@pytest.mark.parametrize("outputs", ["labels", "probabilities", "one-logit"])
def test_what_was_adapted_passes_through_as_it_is(outputs):
    """Labels are one-hot rows, which look like probabilities that are taken for logits."""
    change = {
        "labels": lambda x: x.flatten(1)[:, :2].argmax(dim=1),
        "probabilities": lambda x: x.flatten(1)[:, :2].softmax(dim=1),
        "one-logit": lambda x: x.flatten(1)[:, 0],
    }[outputs]
    for given in (change, Function(change, torch.float32)):
        classifier = adapted(given, outputs=outputs)
        assert adapted(classifier) is classifier
    with pytest.raises(BayesgapError, match="gives 2 values an image, and there are 3 classes"):
        adapted(classifier, classes=3)


@pytest.mark.filterwarnings("ignore::bayesgap.DoubtWarning")
def test_labels_are_evaluated():
    task = spherical_task([[0.0] * D, [1.0] * D], 0.01)
    classifier = adapted(
        lambda x: (x.flatten(1).sum(dim=1) > D / 2).long(), shape=(1, 1, D), outputs="labels"
    )
    report = bayesgap.evaluate(classifier, task, per_class=10)
    assert report.best.success_rate == 1
    assert report.ratio == pytest.approx(1, abs=0.01)


def test_rows_of_0_and_a_single_1_may_be_logits_and_others_that_sum_to_1_may_not():
    constant = Function(lambda x: torch.tensor([0.0, 1.0]).expand(len(x), 2), torch.float32)
    assert adapted(constant) is constant
    rough = Function(
        lambda x: torch.where(
            x.flatten(1).std(dim=1)[:, None] > 0.1, torch.tensor([1.0, 0.0]), x.flatten(1)[:, :2]
        ),
        torch.float32,
    )
    assert adapted(rough) is rough
    with pytest.raises(BayesgapError, match='say outputs="probabilities"'):
        adapted(lambda x: (20 * x.flatten(1)[:, :2]).softmax(dim=1))


@pytest.mark.parametrize("shape", [np.array([1, 2, 2]), torch.Size([1, 2, 2]), [1, 2, np.int64(2)]])
def test_a_shape_may_come_from_an_array(shape):
    given = network()
    with without_shape_checks():
        assert adapted(given, shape=shape, classes=np.int64(2)) is given
        read = adapted(
            lambda x: x.flatten(1)[:, :2].argmax(1), outputs="labels", labels=np.arange(2)
        )
    assert read(images()).shape == (5, 2)


def test_a_traced_module_that_fails_is_refused_with_why():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(after(lambda out: out.view(1, 2)), torch.zeros(1, *SHAPE))
    with pytest.raises(BayesgapError, match=r"RuntimeError: shape '\[1, 2\]' is invalid for input"):
        adapted(traced)


def test_it_is_public_and_what_it_gives_is_evaluated():
    task = spherical_task([[0.0] * D, [1.0] * D], 0.1)
    given = after(lambda out: out.softmax(dim=1))
    classifier = bayesgap.as_classifier(
        given, image_shape=task.image_shape, classes=2, outputs="probabilities"
    )
    assert isinstance(classifier, Adapted)
    with pytest.warns(bayesgap.DoubtWarning, match="images out of range"):
        report = bayesgap.evaluate(classifier, task, per_class=20)
    assert report.best.points == 40
