import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from bayesgap import files
from bayesgap.densities.base import Density
from bayesgap.densities.categorical import Categorical
from bayesgap.densities.fitting import Fit
from bayesgap.densities.mfa import PARAMETERS, MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.radius.certify import certify
from bayesgap.tasks.spread import Spread
from bayesgap.tasks.task import Task
from strategies import (
    PROPERTY,
    SEEDS,
    normal,
    points_for,
    random_mixture,
    random_task,
    seeded,
    task_settings,
    without_shape_checks,
)
from toys import Laplace, StudentT

SMALLEST_P = 1e-6  # of a test with a fixed seed


def images_for(task, seed):
    points = torch.cat([points_for(density, seed) for density in task.densities])
    return points.reshape(-1, *task.image_shape)


def scipy_log_joint(task, x):
    """Log prior + log p, summed over dense Gaussians; (n, classes)."""
    columns = []
    for prior, density in zip(task.priors.tolist(), task.densities, strict=True):
        parts = [
            math.log(prior * density.weights[k].item())
            + stats.multivariate_normal(density.means[k], density.covariance(k)).logpdf(
                x.flatten(1)
            )
            for k in range(density.components)
        ]
        columns.append(special.logsumexp(parts, axis=0))
    return np.stack(columns, axis=1)


def bright_and_dark(**kwargs):
    """Two classes far apart, each of two components, with its second an outlier."""
    densities = [
        MixtureOfFactorAnalyzers(
            torch.tensor([0.75, 0.25]),
            torch.full((2, 4), level),
            torch.zeros(2, 4, 1),
            torch.tensor([[1e-4] * 4, [0.5] * 4]),
        )
        for level in (0.0, 20.0)
    ]
    return Task(densities, image_shape=(1, 2, 2), outliers=[1, 1], **kwargs)


# Samples.


def test_samples_have_the_shape_and_types_of_the_contract():
    x, y = random_task(0).sample(20, seed=0)
    assert (x.shape, x.dtype) == ((20, 1, 2, 2), torch.float64)
    assert (y.shape, y.dtype) == ((20,), torch.int64)
    single = Task([d.to(torch.float32) for d in random_task(0).mixtures], image_shape=(1, 2, 2))
    assert single.sample(20, seed=0)[0].dtype == torch.float64


@pytest.mark.parametrize("priors", [None, [0.7, 0.1, 0.2]])
def test_labels_follow_the_priors(priors):
    task = random_task(1, classes=3, priors=priors)
    counts = task.sample(20_000, seed=1)[1].bincount(minlength=3)
    expected = 20_000 * np.array(priors or [1 / 3] * 3)
    assert stats.chisquare(counts, expected).pvalue > SMALLEST_P


def test_images_follow_the_density_of_their_label():
    task = random_task(2, classes=3, priors=[0.5, 0.3, 0.2])
    x, y = task.sample(6_000, seed=2)
    for label, density in enumerate(task.densities):
        own = x[y == label].flatten(1)
        reference = density.sample(6_000, generator=seeded(99))
        for pixel in range(4):
            same = stats.ks_2samp(own[:, pixel], reference[:, pixel])
            assert same.pvalue > SMALLEST_P
        # The log-density sees all pixels at once.
        scores = stats.ks_2samp(density.log_prob(own), density.log_prob(reference))
        assert scores.pvalue > SMALLEST_P


def test_images_stay_with_their_labels_and_in_their_shape():
    task = bright_and_dark()
    x, y = task.sample(200, seed=3)
    assert torch.equal((x.flatten(1).mean(dim=1) > 10).long(), y)
    labels = torch.arange(60) % 2
    given_labels, _ = task.sample_given(labels, seed=3)
    assert torch.equal((given_labels.flatten(1).mean(dim=1) > 10).long(), labels)


def test_pixels_keep_their_places():
    means = torch.arange(24.0)[None] * 10
    densities = [
        MixtureOfFactorAnalyzers(torch.ones(1), m, torch.zeros(1, 24, 0), torch.full((1, 24), 1e-4))
        for m in (means, means + 1000)
    ]
    x, y = Task(densities, image_shape=(2, 3, 4)).sample(40, seed=0)
    assert torch.equal(
        (x - 1000 * y[:, None, None, None]).round().long() // 10,
        torch.arange(24).reshape(2, 3, 4).expand(40, 2, 3, 4),
    )


def test_samples_are_not_clipped():
    x, _ = random_task(4, noise_std=1.0).sample(200, seed=4)
    assert x.min() < -0.5
    assert x.max() > 1.5


def test_the_same_seed_gives_the_same_images():
    task = random_task(5)
    torch.manual_seed(0)
    first = task.sample(30, seed=6)
    torch.manual_seed(1)
    again, other = task.sample(30, seed=6), task.sample(30, seed=7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    labels = torch.arange(30) % 2
    mine, same, others = (task.sample_given(labels, seed=s)[0] for s in (6, 6, 7))
    assert torch.equal(mine, same)
    assert not torch.equal(mine, others)


def test_outliers_are_told():
    task = bright_and_dark()
    labels = torch.arange(4_000) % 2
    x, is_outlier = task.sample_given(labels, seed=8)
    level = (20.0 * labels)[:, None]
    far = (x.flatten(1) - level).abs().amax(dim=1) > 0.05
    # An outlier as near as that in all four pixels has probability 1e-5.
    assert torch.equal(far, is_outlier)
    assert stats.binomtest(int(is_outlier.sum()), 4_000, 0.25).pvalue > SMALLEST_P
    assert not random_task(9).sample_given(labels, seed=8)[1].any()


@pytest.mark.parametrize("n", [0, 1])
def test_a_few_images_can_be_drawn(n):
    x, y = random_task(10).sample(n, seed=0)
    assert x.shape == (n, 1, 2, 2)
    assert y.shape == (n,)


def test_images_of_one_class_alone_can_be_drawn():
    x, _ = bright_and_dark().sample_given(torch.ones(5, dtype=torch.int64), seed=0)
    assert (x > 10).all()


@pytest.mark.parametrize(
    "dtype",
    [torch.int32, torch.uint8],
)
def test_labels_of_any_integer_type_mean_the_same(dtype):
    labels = torch.arange(20) % 2
    task = bright_and_dark()
    with without_shape_checks():
        x, is_outlier = task.sample_given(labels.to(dtype), seed=0)
    expected = task.sample_given(labels, seed=0)
    assert torch.equal(x, expected[0])
    assert torch.equal(is_outlier, expected[1])


# Posteriors.


@PROPERTY
@given(task_settings(), SEEDS)
def test_the_posterior_is_that_of_the_dense_gaussians(settings, seed):
    task = random_task(**settings)
    x = images_for(task, seed)
    joint = scipy_log_joint(task, x)
    expected = joint - special.logsumexp(joint, axis=1, keepdims=True)
    # 1e-8 of the log-joints, millions of nats at the paper's noise, whose difference this is.
    difference = np.abs(task.log_posterior(x).numpy() - expected)
    assert (difference <= 1e-8 * (1 + np.abs(joint).max(axis=1, keepdims=True))).all()


@PROPERTY
@given(task_settings(), SEEDS)
def test_the_rows_of_the_posterior_are_distributions(settings, seed):
    task = random_task(**settings)
    rows = task.log_posterior(images_for(task, seed))
    torch.testing.assert_close(
        rows.logsumexp(dim=1), torch.zeros(len(rows)).double(), rtol=0, atol=1e-12
    )


def test_where_the_densities_agree_the_posterior_is_the_prior():
    density = random_mixture(11)
    task = Task([density] * 3, image_shape=(1, 2, 2), priors=[0.2, 0.7, 0.1])
    posterior = task.log_posterior(normal(seeded(0), 5, 1, 2, 2)).exp()
    torch.testing.assert_close(posterior, task.priors.expand(5, 3), rtol=1e-9, atol=0)


def test_the_posterior_is_calibrated():
    task = random_task(12, classes=3, noise_std=0.5, priors=[0.5, 0.3, 0.2])
    x, y = task.sample(20_000, seed=12)
    posterior = task.log_posterior(x).exp()
    hit = torch.nn.functional.one_hot(y, 3) - posterior
    # Of each class among images of each fifth of its posterior, in standard errors.
    for label in range(3):
        for own in posterior[:, label].argsort().chunk(5):
            p = posterior[own, label]
            z = hit[own, label].sum() / (p * (1 - p)).sum().sqrt().clamp(min=1)
            assert z.abs() < 5


# What is checked.


def test_the_defaults_are_equal_priors_and_plain_names():
    task = random_task(13, classes=3)
    assert task.priors.tolist() == [1 / 3] * 3
    assert task.class_names == ("class 0", "class 1", "class 2")
    assert (task.classes, task.name, task.outliers, task.spread) == (3, "task", None, None)
    assert repr(task) == "Task('task', ('class 0', 'class 1', 'class 2'), components=(2, 3, 1))"


def spread_of(mean, direction):
    with without_shape_checks():
        return Spread(torch.zeros(mean).double(), torch.ones(direction).double(), 1.0)


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"image_shape": (2, 2)}, r"\(C, H, W\); got \(2, 2\)"),
        ({"image_shape": (1, 2, 3)}, r"over 4 values, images of shape \(1, 2, 3\) have 6"),
        ({"class_names": ["a"]}, "2 densities came with 1 class names"),
        ({"class_names": [0, 6]}, "names of a task and its classes are printable text; got 0"),
        ({"name": None}, "are printable text; got None"),
        ({"name": "x\nLower bounds proven: 1."}, "are printable text"),
        ({"class_names": ["a", "\x1b[8m"]}, "are printable text"),
        ({"class_names": ["a", "b", "c"]}, "2 densities came with 3 class names"),
        ({"priors": [1.0]}, "2 densities came with 1 priors"),
        ({"priors": [0.5, 0.25, 0.25]}, "2 densities came with 3 priors"),
        ({"priors": [0.5, 0.25]}, r"sum to 1; got \[0\.5, 0\.25\]"),
        ({"priors": [1.0, 0.0]}, r"must be positive .* got \[1\.0, 0\.0\]"),
        ({"priors": [1.5, -0.5]}, r"must be positive .* got \[1\.5, -0\.5\]"),
        ({"priors": [math.nan, 0.5]}, r"got \[nan, 0\.5\]"),
        ({"outliers": [0]}, r"outliers \(0,\) are no components"),
        ({"outliers": [0, 9]}, r"outliers \(0, 9\)"),
        ({"outliers": [-1, 0]}, r"outliers \(-1, 0\)"),
        ({"spread": spread_of(3, 4)}, "spread of a task over 4 values"),
        ({"spread": spread_of(4, 3)}, "spread of a task over 4 values"),
    ],
)
def test_parts_that_disagree_are_refused(changes, held):
    densities = random_task(14).densities
    arguments = {"image_shape": (1, 2, 2), **changes}
    with without_shape_checks(), pytest.raises(BayesgapError, match=held):
        Task(densities, **arguments)


@pytest.mark.parametrize("classes", [0, 1])
def test_fewer_than_two_classes_are_refused(classes):
    with pytest.raises(BayesgapError, match=f"2 or more classes; got {classes}"):
        Task([random_mixture(15)] * classes, image_shape=(1, 2, 2))


def test_a_spread_that_is_not_finite_is_refused():
    spread = Spread(torch.full((4,), math.nan).double(), torch.ones(4).double(), -1.0)
    with pytest.raises(BayesgapError):
        Task(random_task(16).densities, image_shape=(1, 2, 2), spread=spread)


@pytest.mark.parametrize(
    "shape", [(3, 4), (3, 1, 4, 1), (1, 2, 2), (3, 2, 2), (3, 1, 2, 2, 1), (4,)]
)
def test_images_of_another_shape_are_refused(shape):
    task = random_task(17, name="toy")
    with without_shape_checks(), pytest.raises(BayesgapError) as caught:
        task.log_posterior(torch.zeros(shape))
    assert str(caught.value) == (
        f"A batch of images of the task toy has shape (n, 1, 2, 2); the one given has {shape}."
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_images_that_are_not_finite_are_counted_and_the_first_named(value):
    x = torch.zeros(6, 1, 2, 2)
    x[2, 0, 1, 0] = x[4, 0, 0, 0] = value
    with pytest.raises(BayesgapError, match="2 of 6 images hold NaN or infinity, first: 2"):
        random_task(18).log_posterior(x)


@pytest.mark.parametrize(
    ("labels", "held"),
    [
        (torch.tensor([0, 2, 1]), "has labels 0 to 1; got 2"),
        (torch.tensor([0, -1, 5]), "has labels 0 to 1; got -1"),
        (torch.tensor([0.0, 1.0, 1.0]), r"3 images need 3 integer labels; got torch\.float32"),
        (torch.tensor([[0], [1], [1]]), r"got torch\.int64 of shape \(3, 1\)"),
        (torch.tensor([0, 1]), r"3 images need 3 integer labels; got torch\.int64 of shape \(2,\)"),
    ],
)
def test_labels_that_are_not_the_tasks_are_refused(labels, held):
    with pytest.raises(BayesgapError, match=held):
        random_task(19).check_labels(labels, 3)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, None, 1.0, True])
def test_a_seed_that_is_none_is_refused(seed):
    said = f"seed must be an integer, 0 to {2**63 - 1}; got {seed!r}"
    for draw in (
        partial(random_task(20).sample, 1),
        partial(random_task(20).sample_given, torch.tensor([1])),
    ):
        with without_shape_checks(), pytest.raises(BayesgapError, match=said):
            draw(seed=seed)


def test_a_seed_of_numpy_is_the_same_integer():
    task = random_task(20)
    with without_shape_checks():
        drawn = task.sample(3, seed=np.int64(7))  # type: ignore[arg-type]
    assert all(map(torch.equal, drawn, task.sample(3, seed=7)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (torch.Tensor.to_sparse, r"got a torch\.sparse_coo tensor"),
        (lambda values: values.to("meta"), "got a tensor on the device meta"),
    ],
)
def test_tensors_that_do_not_hold_each_number_are_refused(change, said):
    task = random_task(20)
    with pytest.raises(BayesgapError, match=f"Images must be a dense tensor .* {said}"):
        task.check_images(change(torch.zeros(3, 1, 2, 2)))
    with pytest.raises(BayesgapError, match=f"Labels must be a dense tensor .* {said}"):
        task.check_labels(change(torch.zeros(3, dtype=torch.int64)), 3)


def test_images_are_drawn_only_for_the_tasks_labels():
    with pytest.raises(BayesgapError, match="labels 0 to 1; got 7"):
        random_task(20).sample_given(torch.tensor([0, 7]), seed=0)


def test_good_images_and_labels_pass():
    task = random_task(21)
    task.check_images(torch.zeros(3, 1, 2, 2))
    task.check_labels(torch.tensor([0, 1, 1]), 3)


# Files.


def full_task():
    return random_task(
        22,
        classes=3,
        noise_std=1e-3,
        priors=[0.5, 0.3, 0.2],
        class_names=["ä", "b", "c"],
        name="toy/fitted",
        outliers=[1, 2, 0],
        spread=Spread(normal(seeded(0), 4), normal(seeded(1), 4), 0.1 + 0.2),
        facts={"source": "nowhere", "numbers": [1, 2.5, None]},
    )


def assert_equal_tasks(actual, expected):
    assert actual.name == expected.name
    assert actual.class_names == expected.class_names
    assert actual.image_shape == expected.image_shape
    assert actual.outliers == expected.outliers
    assert actual.facts == expected.facts
    assert torch.equal(actual.priors, expected.priors)
    for mine, yours in zip(actual.densities, expected.densities, strict=True):
        for name in PARAMETERS:
            assert torch.equal(getattr(mine, name), getattr(yours, name))
    if expected.spread is None:
        assert actual.spread is None
    else:
        assert torch.equal(actual.spread.mean, expected.spread.mean)
        assert torch.equal(actual.spread.direction, expected.spread.direction)
        assert actual.spread.deviation == expected.spread.deviation


@pytest.mark.parametrize("make", [full_task, lambda: random_task(23)])
def test_saving_and_loading_keeps_everything(make, tmp_path):
    task = make()
    task.save(tmp_path / "a.safetensors")
    assert_equal_tasks(Task.load(str(tmp_path / "a.safetensors")), task)
    tensors, metadata = task.to_tensors()
    assert_equal_tasks(Task.from_tensors(tensors, metadata, source="memory"), task)


def test_single_precision_files_round_the_parameters_alone(tmp_path):
    task = full_task()
    task.save(tmp_path / "a.safetensors", dtype=torch.float32)
    loaded = Task.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.mixtures[0].means, task.mixtures[0].means.float().double())
    assert loaded.spread is not None
    assert torch.equal(loaded.spread.mean, task.spread.mean.float().double())
    assert torch.equal(loaded.priors, task.priors)
    assert loaded.mixtures[0].means.dtype == torch.float64


def test_a_task_whose_classes_share_a_density_can_be_saved(tmp_path):
    Task([random_mixture(24)] * 2, image_shape=(1, 2, 2)).save(tmp_path / "a.safetensors")


def refusal(tensors, metadata):
    with without_shape_checks(), pytest.raises(BayesgapError) as caught:
        Task.from_tensors(tensors, metadata, source="FILE")
    message = str(caught.value)
    assert message.startswith("FILE ")
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "name",
    ["priors", "spread.mean", "spread.direction"]
    + [f"{label}.{name}" for label in (0, 2) for name in ("weights", "means", "factors", "noise")],
)
def test_a_missing_tensor_is_named(name):
    tensors, metadata = full_task().to_tensors()
    del tensors[name]
    assert f"holds no tensor {name!r}" in refusal(tensors, metadata)


@pytest.mark.parametrize(
    "name", ["name", "image_shape", "class_names", "outliers", "deviation", "facts"]
)
def test_missing_metadata_is_named(name):
    tensors, metadata = full_task().to_tensors()
    del metadata[name]
    assert repr(name) in refusal(tensors, metadata)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_shape", 4),
        ("image_shape", ["a", 2, 2]),
        ("image_shape", [None, 2, 2]),
        ("image_shape", [1, 2, 10**30]),
        ("image_shape", [2, 2]),
        ("image_shape", [1, 2, 3]),
        ("class_names", 5),
        ("class_names", None),
        ("class_names", []),
        ("class_names", ["a"]),
        ("class_names", ["a", "b", "c", "d"]),
        ("outliers", 5),
        ("outliers", "abc"),
        ("outliers", [0, 0]),
        ("outliers", [0, None, 0]),
        ("outliers", [0, 0, 17]),
        ("deviation", "wide"),
        ("deviation", [1]),
        ("facts", 5),
        ("facts", "text"),
    ],
)
def test_metadata_of_a_wrong_type_or_value_are_refused(name, value):
    tensors, metadata = full_task().to_tensors()
    refusal(tensors, {**metadata, name: value})


@pytest.mark.parametrize("name", ["image_shape", "deviation"])
def test_metadata_beyond_all_numbers_are_refused(name):
    tensors, metadata = full_task().to_tensors()
    refusal(
        tensors, {**metadata, name: {"image_shape": [1, 2, math.inf], "deviation": 10**400}[name]}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_shape", [1, -2, -2]),
        ("image_shape", [1.9, 2, 2]),
        ("outliers", [0.5, 0.5, 0.0]),
        ("class_names", "abc"),
        ("name", None),
        ("deviation", math.nan),
    ],
)
def test_metadata_that_mean_nothing_are_refused(name, value):
    tensors, metadata = full_task().to_tensors()
    refusal(tensors, {**metadata, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priors", torch.tensor([1, 0, 0])),
        ("priors", torch.tensor(1.0)),
        ("priors", torch.tensor([0.5, 0.5])),
        ("priors", torch.tensor([0.5, 0.3, 0.3])),
        ("priors", torch.tensor([math.nan, 0.5, 0.5])),
        ("spread.mean", torch.zeros(5)),
        ("spread.direction", torch.zeros(4, dtype=torch.int64)),
        ("1.means", torch.zeros(3, 5)),
        ("1.noise", torch.zeros(3, 4)),
        ("1.weights", torch.tensor([math.nan] * 3)),
        ("1.factors", torch.zeros(3, 4)),
    ],
)
def test_tensors_of_a_wrong_type_or_value_are_refused(name, value):
    tensors, metadata = full_task().to_tensors()
    refusal({**tensors, name: value}, metadata)


@pytest.mark.parametrize("value", [torch.empty(0), torch.full((3, 3), 1 / 9, dtype=torch.float64)])
def test_priors_of_another_shape_are_refused(value):
    tensors, metadata = full_task().to_tensors()
    refusal({**tensors, "priors": value}, metadata)


def test_a_damaged_file_names_itself(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors, metadata = full_task().to_tensors()
    del tensors["1.noise"]
    files.save_tensors(path, tensors, kind="task", metadata=metadata)
    with pytest.raises(BayesgapError, match=r"holds no tensor '1\.noise'") as caught:
        Task.load(path)
    assert str(path) in str(caught.value)


@PROPERTY
@given(task_settings(), st.booleans())
def test_any_task_survives_its_file(tmp_path_factory, settings, twice):
    task = random_task(**settings)
    path = tmp_path_factory.mktemp("task") / "a.safetensors"
    task.save(path)
    loaded = Task.load(path)
    if twice:
        loaded.save(path)
        loaded = Task.load(path)
    assert_equal_tasks(loaded, task)


@pytest.mark.parametrize("n", [-1, 5e3])
def test_a_number_of_images_that_is_none_is_refused(n):
    with without_shape_checks(), pytest.raises(BayesgapError, match=f"or more; got {n}"):
        random_task(30).sample(n, seed=0)


def test_a_fit_is_no_density_but_has_one():
    fit = Fit(random_mixture(31), [0.0], [], [], converged=True, log_likelihood=0.0)
    with (
        without_shape_checks(),
        pytest.raises(BayesgapError, match=r"got a Fit without .* its \.density"),
    ):
        Task([fit, fit], image_shape=(1, 2, 2))  # type: ignore[list-item]


def test_images_of_integers_are_refused():
    with without_shape_checks(), pytest.raises(BayesgapError, match=r"got torch\.uint8"):
        random_task(32).log_posterior(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


def test_a_task_is_saved_under_a_name_that_it_can_be_loaded_by(tmp_path):
    with pytest.raises(BayesgapError, match=r"saved as a \.safetensors file; got .*task\.bin"):
        random_task(33).save(tmp_path / "task.bin")
    assert not list(tmp_path.iterdir())


def test_a_task_is_not_saved_in_integers(tmp_path):
    with pytest.raises(BayesgapError, match=r"got torch\.int32"):
        random_task(34).save(tmp_path / "task.safetensors", dtype=torch.int32)


# Any densities.


def other_task(**kwargs):
    """A density of each kind: no module, a module, a mixture."""
    densities: list[Density] = [
        Laplace([0.0] * 4, 0.1),
        StudentT([9.0] * 4, 0.1),
        random_mixture(35, offset=20.0),
    ]
    names = ["flat", "heavy", "mixed"]
    return Task(densities, image_shape=(1, 2, 2), class_names=names, name="toy", **kwargs)


def test_images_of_any_densities_have_the_shape_and_types_of_the_contract():
    x, y = other_task().sample(60, seed=0)
    assert (x.shape, x.dtype, x.requires_grad) == ((60, 1, 2, 2), torch.float64, False)
    assert (y.shape, y.dtype) == ((60,), torch.int64)
    assert torch.equal((x.flatten(1).median(dim=1).values / 9).round().long(), y)
    single = Task([StudentT([0.0] * 4).float()] * 2, image_shape=(1, 2, 2))
    assert single.sample(3, seed=0)[0].dtype == torch.float64
    for n in (0, 1):
        assert other_task().sample(n, seed=0)[0].shape == (n, 1, 2, 2)


def test_images_of_any_densities_follow_them():
    task = Task([Laplace([0.0, 1.0], 0.5), StudentT([1.0, -1.0])], image_shape=(1, 1, 2))
    x, y = task.sample(8_000, seed=3)
    marginals = [stats.laplace, stats.t(df=3)], [[0.0, 1.0], [1.0, -1.0]], [0.5, 1.0]
    for label, (law, means, scale) in enumerate(zip(*marginals, strict=True)):
        for pixel, mean in zip(x[y == label].flatten(1).mT, means, strict=True):
            assert stats.kstest(((pixel - mean) / scale).numpy(), law.cdf).pvalue > SMALLEST_P


def test_the_same_seed_gives_the_same_images_of_any_densities():
    task, labels = other_task(), torch.tensor([0, 1, 2, 1, 0])
    first, again, other = (task.sample_given(labels, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not first[1].any()


def test_a_task_says_whether_it_can_be_certified():
    task = random_task(36)
    assert task.certifiable
    assert task.mixtures == task.densities
    assert not other_task().certifiable
    assert repr(other_task()) == (
        "Task('toy', ('flat', 'heavy', 'mixed'), "
        "densities=(Laplace, StudentT, MixtureOfFactorAnalyzers))"
    )


def test_what_needs_mixtures_says_so_and_names_the_density(tmp_path):
    task, x, y = other_task(), torch.zeros(1, 1, 2, 2), torch.tensor([0])
    refused = {
        "Components are known": lambda: task.mixtures,
        "Certificates exist": lambda: certify(task, x, y),
        "Task files exist": lambda: task.save(tmp_path / "a.safetensors"),
        "Outliers are known": lambda: other_task(outliers=[0, 0, 0]),
    }
    for purpose, action in refused.items():
        with pytest.raises(BayesgapError) as caught:
            action()
        assert str(caught.value).startswith(
            f"{purpose} for mixtures of factor analyzers alone, and the density of 'flat' in the "
            "task toy is a Laplace: "
        )
        assert str(caught.value).endswith(".")
    assert not list(tmp_path.iterdir())


def test_a_refusal_to_certify_says_what_works_without():
    with pytest.raises(BayesgapError, match=r"is a Laplace: bayesgap\.evaluate works without\.$"):
        certify(other_task(), torch.zeros(1, 1, 2, 2), torch.tensor([0]))


class Draws(Laplace):
    """Samples of a wrong form."""

    def __init__(self, form):
        super().__init__([0.0] * 4, 1.0)
        self.form = form

    def sample(self, n, *, generator):
        return self.form(super().sample(n, generator=generator))


@pytest.mark.parametrize(
    ("form", "given"),
    [
        (lambda x: x[:, :1], r"\(5, 1\)"),
        (lambda x: x.reshape(-1, 1, 2, 2), r"\(5, 1, 2, 2\)"),
        (lambda x: (x, None), "a tuple"),
    ],
)
def test_samples_that_are_no_points_are_refused(form, given):
    task = Task([Draws(form)] * 2, image_shape=(1, 2, 2))
    expected = rf"a Draws must give .* of shape \(5, 4\); it gave {given}\."
    with pytest.raises(BayesgapError, match=expected):
        task.sample_given(torch.zeros(5, dtype=torch.int64), seed=0)


class Box(Laplace):
    """Uniform within a distance of 1 along each axis, and nothing beyond."""

    def log_prob(self, x):
        inside = ((x - self.mean).abs() <= 1).all(dim=1)
        return torch.where(inside, -self.dimension * math.log(2), -torch.inf)

    def sample(self, n, *, generator):
        drawn = torch.rand(n, self.dimension, generator=generator, dtype=torch.float64)
        return self.mean + 2 * drawn - 1


def test_densities_that_vanish_have_no_optimum_until_a_broad_one_is_mixed_in():
    task = Task([Box([0.0] * 4, 1.0), Box([1.0] * 4, 1.0)], image_shape=(1, 2, 2), name="toy")
    x, _ = task.sample(1_000, seed=0)
    outside = int((x.flatten(1) > 1).any(dim=1).sum() + (x.flatten(1) < 0).any(dim=1).sum())
    expected = f"toy are not all finite at {outside} of 1000 images: .* a broad one mixed in"
    for ask in (task.bayes_classifier, lambda: task.log_posterior(x)):
        with pytest.raises(BayesgapError, match=expected):
            ask()


def test_tables_have_their_own_optimum():
    tables = [Categorical(torch.full((2, 2), 0.25))] * 2
    with pytest.raises(
        BayesgapError, match=r"cells of a table, .*bayesgap\.densities\.categorical"
    ):
        Task(tables, image_shape=(1, 1, 2))


def test_what_lacks_a_member_of_a_density_is_refused():
    with without_shape_checks(), pytest.raises(BayesgapError, match="a Tensor without dimension"):
        Task([torch.zeros(4)] * 2, image_shape=(1, 2, 2))  # type: ignore[list-item]


def test_any_density_must_be_over_as_many_values_as_an_image_has():
    densities = [Laplace([0.0] * 4, 1.0), Laplace([0.0] * 5, 1.0)]
    with pytest.raises(BayesgapError, match="density of 'class 1' is over 5 values, images"):
        Task(densities, image_shape=(1, 2, 2))


@pytest.mark.parametrize("priors", [["a", "b", "c"], "abc", 3 * [None], object()])
def test_priors_that_are_no_numbers_are_refused(priors):
    densities = random_task(0, classes=3).densities
    shape = random_task(0, classes=3).image_shape
    with without_shape_checks(), pytest.raises(BayesgapError, match=r"^Priors are numbers, one a"):
        Task(densities, image_shape=shape, priors=priors)


def test_images_and_labels_without_all_their_numbers_are_refused():
    task = random_task(0)
    x, y = task.sample(3, seed=0)
    for images, said in (
        (x.to("meta"), "on the device meta"),
        (x.to_sparse(), "torch.sparse_coo"),
    ):
        with without_shape_checks(), pytest.raises(BayesgapError, match=f"Images must .*{said}"):
            task.check_images(images)
    with pytest.raises(BayesgapError, match=r"Labels must be a dense tensor .*meta"):
        task.check_labels(y.to("meta"), 3)
