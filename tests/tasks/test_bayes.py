import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bayesgap.attacks.boundary_walk import BoundaryWalk
from bayesgap.attacks.ld_grad import LDGrad, TightLDGrad, differences
from bayesgap.classifiers.module import decisions, placed
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.radius.certify import certify
from bayesgap.tasks.bayes import (
    BayesClassifier,
    DensityClassifier,
    OptimalClassifier,
    optimal_classifier,
)
from bayesgap.tasks.task import Task
from strategies import (
    COSTLY_PROPERTY,
    PROPERTY,
    SEEDS,
    normal,
    points_for,
    random_mixture,
    random_task,
    seeded,
    task_settings,
    uniform,
    without_shape_checks,
)
from toys import Laplace, StudentT


def images_for(task, seed):
    points = torch.cat([points_for(density, seed) for density in task.densities])
    return points.reshape(-1, *task.image_shape)


def scipy_parts(task, x):
    """For each class its components' log (prior · pi · N), from dense covariances."""
    return [
        np.stack(
            [
                math.log(prior * density.weights[k].item())
                + stats.multivariate_normal(density.means[k], density.covariance(k)).logpdf(
                    x.flatten(1)
                )
                for k in range(density.components)
            ],
            axis=1,
        )
        for prior, density in zip(task.priors.tolist(), task.densities, strict=True)
    ]


def gaussian(mean, noise_std):
    dimension = len(mean)
    return MixtureOfFactorAnalyzers(
        torch.ones(1),
        torch.as_tensor(mean)[None].double(),
        torch.zeros(1, dimension, 0),
        torch.full((1, dimension), noise_std**2),
    )


# Logits.


@PROPERTY
@given(task_settings(), SEEDS, st.sampled_from(["log-sum-exp", "max-component"]))
def test_the_joints_are_those_of_the_dense_gaussians(settings, seed, rule):
    task = random_task(**settings)
    x = images_for(task, seed)
    classifier = task.bayes_classifier(temperature=1.0, rule=rule)
    assert isinstance(classifier, BayesClassifier)
    parts = scipy_parts(task, x)
    collect = np.logaddexp.reduce if rule == "log-sum-exp" else np.max
    expected = np.stack([collect(part, axis=1) for part in parts], axis=1)
    # SciPy's own error at the paper's noise; what is exact there is tested in test_mfa.py.
    np.testing.assert_allclose(classifier.log_joint(x).numpy(), expected, rtol=1e-8, atol=1e-7)
    components = np.concatenate(parts, axis=1)
    own = classifier.component_log_joints(x).numpy()
    np.testing.assert_allclose(own, components, rtol=1e-8, atol=1e-7)
    sizes = [part.shape[1] for part in parts]
    expected_class = np.repeat(np.arange(task.classes), sizes)
    assert classifier.component_class.tolist() == expected_class.tolist()


@PROPERTY
@given(task_settings(), SEEDS, st.floats(1e-3, 1e6))
def test_logits_are_centred_joints_over_the_temperature(settings, seed, temperature):
    task = random_task(**settings)
    x = images_for(task, seed)
    classifier = task.bayes_classifier(temperature=temperature)
    logits, joint = classifier(x), classifier.log_joint(x)
    scale = joint.abs().amax(dim=1, keepdim=True) / temperature
    assert (logits.sum(dim=1, keepdim=True).abs() <= 1e-14 * scale).all()
    expected = (joint[:, :1] - joint) / temperature
    assert ((logits[:, :1] - logits - expected).abs() <= 1e-14 * scale).all()


@PROPERTY
@given(task_settings(), SEEDS, st.sampled_from(["log-sum-exp", "max-component"]))
def test_decisions_do_not_depend_on_the_temperature(settings, seed, rule):
    task = random_task(**settings)
    x = images_for(task, seed)
    decisions = [
        task.bayes_classifier(temperature=t, rule=rule)(x).argmax(dim=1) for t in (1.0, 0.01, 1e5)
    ]
    assert torch.equal(decisions[0], decisions[1])
    assert torch.equal(decisions[0], decisions[2])


@PROPERTY
@given(task_settings(), SEEDS)
def test_decisions_are_the_likeliest_class(settings, seed):
    task = random_task(**settings)
    x = images_for(task, seed)
    decisions = task.bayes_classifier(temperature=3.0)(x).argmax(dim=1)
    assert torch.equal(decisions, task.log_posterior(x).argmax(dim=1))
    joint = np.stack([np.logaddexp.reduce(p, axis=1) for p in scipy_parts(task, x)], axis=1)
    best = joint.max(axis=1)
    ahead = best - np.partition(joint, -2, axis=1)[:, -2] > 1e-8 * (1 + np.abs(best))
    assert ahead.mean() > 0.9
    assert (decisions.numpy() == joint.argmax(axis=1))[ahead].all()


def test_the_rules_differ_where_one_class_has_many_equal_components():
    one, twin = gaussian([0.0] * 4, 1.0), gaussian([0.0] * 4, 1.0)
    many = MixtureOfFactorAnalyzers(
        torch.full((4,), 0.25),
        twin.means.expand(4, 4),
        torch.zeros(4, 4, 0),
        twin.noise.expand(4, 4),
    )
    task = Task([one, many], image_shape=(1, 2, 2), priors=[0.4, 0.6])
    x = normal(seeded(0), 5, 1, 2, 2)
    assert (task.bayes_classifier(temperature=1.0)(x).argmax(dim=1) == 1).all()
    largest = task.bayes_classifier(temperature=1.0, rule="max-component")
    assert (largest(x).argmax(dim=1) == 0).all()


@pytest.mark.parametrize("rule", ["log-sum-exp", "max-component"])
@pytest.mark.parametrize("classes", [2, 4])
def test_by_default_the_median_margin_is_about_ten(rule, classes):
    task = random_task(1, classes=classes, noise_std=0.01)
    x, _ = task.sample(4_000, seed=77)
    best = task.bayes_classifier(rule=rule)(x).topk(2, dim=1).values
    # The default comes from 1,000 samples, whose median is off by some percent.
    assert (best[:, 0] - best[:, 1]).median().item() == pytest.approx(10, rel=0.15)


def test_the_default_temperature_is_that_of_the_rule():
    one, shift = gaussian([0.0] * 4, 1.0), torch.full((64, 4), 1.5)
    many = MixtureOfFactorAnalyzers(
        torch.full((64,), 1 / 64), shift, torch.zeros(64, 4, 0), torch.ones(64, 4)
    )
    # The largest of 64 equal components lies log 64 = 4.2 nats below their sum.
    task = Task([one, many], image_shape=(1, 2, 2), priors=[0.99, 0.01])
    x, _ = task.sample(4_000, seed=3)
    for rule in ("log-sum-exp", "max-component"):
        logits = task.bayes_classifier(rule=rule)(x)
        assert (logits[:, 0] - logits[:, 1]).abs().median().item() == pytest.approx(10, rel=0.1)


def test_the_default_temperature_is_the_same_each_time():
    task = random_task(2)
    assert task.bayes_classifier().temperature == task.bayes_classifier().temperature


def test_classes_that_cannot_be_told_apart_have_a_classifier():
    task = Task([random_mixture(3), random_mixture(3)], image_shape=(1, 2, 2))
    assert torch.equal(task.bayes_classifier()(torch.zeros(2, 1, 2, 2)), torch.zeros(2, 2).double())


def test_images_of_any_dtype_are_scored_in_double():
    task = random_task(4)
    x = torch.rand(5, 1, 2, 2)
    classifier = task.bayes_classifier(temperature=1.0)
    assert classifier(x).dtype == torch.float64
    assert torch.equal(classifier(x), classifier(x.double()))


@pytest.mark.parametrize("rule", ["log-sum-exp", "max-component"])
def test_logits_can_be_differentiated(rule):
    task = random_task(5, classes=3)
    classifier = task.bayes_classifier(temperature=2.0, rule=rule)
    x = images_for(task, 0)[::9].requires_grad_()
    assert torch.autograd.gradcheck(classifier, [x])


def test_it_is_a_module_whose_densities_move_with_it():
    classifier = random_task(6).bayes_classifier(temperature=1.0)
    names = {name for name, _ in classifier.named_buffers()}
    assert {"component_class", "marginal.means", "marginal.noise"} <= names
    assert not list(classifier.parameters())


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(BayesgapError, match=f"must be positive and finite; got {temperature}"):
        random_task(7).bayes_classifier(temperature=temperature)


def test_a_temperature_must_be_finite():
    with pytest.raises(BayesgapError):
        random_task(8).bayes_classifier(temperature=math.inf)


def test_another_rule_is_refused():
    with without_shape_checks(), pytest.raises(BayesgapError, match="got 'mean'"):
        random_task(9).bayes_classifier(temperature=1.0, rule="mean")  # type: ignore[arg-type]


# No classifier is better.


@pytest.mark.parametrize("priors", [[0.5, 0.5], [0.2, 0.8]])
def test_its_accuracy_is_the_known_one_for_two_gaussians(priors):
    step = torch.tensor([0.3, -0.2, 0.1, 0.4])
    task = Task(
        [gaussian(torch.zeros(4), 0.3), gaussian(step, 0.3)], image_shape=(1, 2, 2), priors=priors
    )
    x, y = task.sample(20_000, seed=1)
    right = (task.bayes_classifier()(x).argmax(dim=1) == y).sum().item()
    # Linear discriminant analysis: classes delta apart, the threshold moved by the log-odds.
    delta = step.norm().item() / 0.3
    odds = math.log(priors[0] / priors[1]) / delta
    expected = sum(
        prior * stats.norm.cdf(delta / 2 + sign * odds)
        for prior, sign in zip(priors, (1, -1), strict=True)
    )
    assert 0.7 < expected < 0.95
    assert stats.binomtest(right, 20_000, expected).pvalue > 1e-6


@pytest.fixture(scope="module")
def judged():
    task = random_task(12, classes=3, noise_std=0.5, priors=[0.5, 0.3, 0.2])
    return task, *task.sample(20_000, seed=2)


def worse_by(judged, decisions):
    """By how many standard errors the optimal classifier is more accurate than `decisions`."""
    task, x, y = judged
    optimal = task.bayes_classifier(temperature=1.0)(x).argmax(dim=1)
    lead = (optimal == y).double() - (decisions == y).double()
    return (lead.mean() / (lead.std() / len(y) ** 0.5).clamp(min=1e-12)).item()


@COSTLY_PROPERTY
@given(SEEDS, st.sampled_from([0.1, 0.5, 2.0]))
def test_no_perturbed_classifier_is_more_accurate(judged, seed, size):
    task, x, _ = judged
    logits = task.bayes_classifier(temperature=1.0)(x)
    slope = size * normal(seeded(seed), 4, 3)
    bias = size * normal(seeded(seed + 1), 3)
    assert worse_by(judged, (logits + x.flatten(1) @ slope + bias).argmax(dim=1)) > -4.5


def test_each_part_of_the_rule_earns_accuracy(judged):
    task, x, _ = judged
    without_priors = torch.stack([d.log_prob(x.flatten(1)) for d in task.densities], dim=1)
    assert worse_by(judged, without_priors.argmax(dim=1)) > 4.5
    moved = BayesClassifier(
        [
            MixtureOfFactorAnalyzers(
                d.weights, d.means + 0.3 * uniform(seeded(k), *d.means.shape), d.factors, d.noise
            )
            for k, d in enumerate(task.densities)
        ],
        task.priors,
        temperature=1.0,
    )
    assert worse_by(judged, moved(x).argmax(dim=1)) > 4.5


# Likeliest components.


@PROPERTY
@given(task_settings(), SEEDS, st.integers(1, 4))
def test_the_likeliest_components_are_found(settings, seed, targets):
    task = random_task(**settings)
    x = images_for(task, seed)
    y = torch.arange(len(x)) % task.classes
    classifier = task.bayes_classifier(temperature=1.0)
    assert isinstance(classifier, BayesClassifier)
    source, target = classifier.likeliest_components(x, y, targets)
    joints = classifier.component_log_joints(x)
    others = [int((classifier.component_class != label).sum()) for label in range(task.classes)]
    assert target.shape == (len(x), min(targets, *others))
    for row, label, own, other in zip(joints, y, source, target, strict=True):
        of_class = classifier.component_class == label
        assert of_class[own]
        assert row[own] == row[of_class].max()
        ranked = row[~of_class].sort(descending=True).values[: len(other)]
        assert torch.equal(row[other], ranked)
        assert not of_class[other].any()
        assert len(set(other.tolist())) == len(other)


def test_one_target_is_the_default():
    task = random_task(10)
    x, y = task.sample(6, seed=0)
    classifier = task.bayes_classifier(temperature=1.0)
    assert isinstance(classifier, BayesClassifier)
    source, target = classifier.likeliest_components(x, y)
    assert source.shape == (6,)
    assert target.shape == (6, 1)


def test_classes_may_differ_in_components_and_factors():
    densities = [random_mixture(40, 2, 4, 3), random_mixture(41, 1, 4, 0), random_mixture(42, 4)]
    priors = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    classifier = BayesClassifier(densities, priors, temperature=1.0)
    x = normal(seeded(43), 50, 1, 2, 2)
    expected = [d.log_prob(x.flatten(1)) + p.log() for d, p in zip(densities, priors, strict=True)]
    torch.testing.assert_close(
        classifier.log_joint(x), torch.stack(expected, dim=1), rtol=1e-12, atol=1e-12
    )


# Of any densities.

PRIORS = [0.5, 0.3, 0.2]
MEANS = [[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.5, 0.0], [0.0, 2.0, 0.0, -1.0]]
SCALES = [0.3, 0.5, 1.0]


def laplace_task(priors=PRIORS, name="toy"):
    densities = [Laplace(mean, scale) for mean, scale in zip(MEANS, SCALES, strict=True)]
    return Task(densities, image_shape=(1, 2, 2), priors=priors, name=name)


def scipy_laplace_joint(x, priors=PRIORS):
    return np.stack(
        [
            math.log(prior) + stats.laplace(mean, scale).logpdf(x.flatten(1)).sum(axis=1)
            for prior, mean, scale in zip(priors, MEANS, SCALES, strict=True)
        ],
        axis=1,
    )


@pytest.mark.parametrize("priors", [PRIORS, [0.05, 0.05, 0.9]])
def test_the_optimum_of_laplace_densities_is_that_of_scipy(priors):
    task = laplace_task(priors)
    x, _ = task.sample(500, seed=0)
    expected = scipy_laplace_joint(x, priors)
    classifier = task.bayes_classifier(temperature=3.0)
    assert isinstance(classifier, DensityClassifier)
    joint = classifier.log_joint(x)
    np.testing.assert_allclose(joint.numpy(), expected, rtol=1e-12, atol=1e-12)
    centred = expected - expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier(x).numpy(), centred / 3, rtol=1e-12, atol=1e-12)
    assert (decisions(classifier, x).numpy() == expected.argmax(axis=1)).all()
    posterior = expected - np.logaddexp.reduce(expected, axis=1)[:, None]
    np.testing.assert_allclose(task.log_posterior(x).numpy(), posterior, rtol=1e-12, atol=1e-12)


def test_its_accuracy_is_the_known_one_for_two_laplace_densities():
    densities = [Laplace([0.0, 0.0, 0.0, 0.0], 0.3), Laplace([1.0, 0.0, 0.0, 0.0], 0.3)]
    task = Task(densities, image_shape=(1, 2, 2))
    x, y = task.sample(20_000, seed=1)
    right = (task.bayes_classifier()(x).argmax(dim=1) == y).sum().item()
    expected = stats.laplace(scale=0.3).cdf(0.5)
    assert stats.binomtest(right, 20_000, expected).pvalue > 1e-6


def test_of_other_densities_too_the_median_margin_is_about_ten_by_default():
    task = laplace_task()
    x, _ = task.sample(4_000, seed=77)
    best = task.bayes_classifier()(x).topk(2, dim=1).values
    assert (best[:, 0] - best[:, 1]).median().item() == pytest.approx(10, rel=0.15)


def test_of_mixtures_both_classifiers_are_the_same_but_for_rounding():
    task = random_task(44, classes=3, priors=PRIORS)
    x = images_for(task, 0)
    general = DensityClassifier(task.densities, task.priors, temperature=2.0)
    special = optimal_classifier(task.densities, task.priors, temperature=2.0)
    assert isinstance(special, BayesClassifier)
    assert isinstance(special, OptimalClassifier)
    assert isinstance(general, OptimalClassifier)
    torch.testing.assert_close(general(x), special(x), rtol=1e-11, atol=1e-11)


def test_one_density_that_is_no_mixture_is_enough_for_the_general_optimum():
    mixture, other = random_mixture(45), StudentT([0.5] * 4)
    task = Task([mixture, other], image_shape=(1, 2, 2), priors=[0.4, 0.6])
    x = images_for(random_task(46), 0)
    joint = task.bayes_classifier(temperature=1.0).log_joint(x)
    points = x.flatten(1)
    equal = Task([mixture, mixture], image_shape=(1, 2, 2))
    expected = [
        math.log(0.4 / 0.5) + np.logaddexp.reduce(scipy_parts(equal, x)[0], axis=1),
        math.log(0.6) + stats.multivariate_t([0.5] * 4, np.eye(4), df=3).logpdf(points),
    ]
    np.testing.assert_allclose(joint.numpy(), np.stack(expected, axis=1), rtol=1e-9)


@pytest.mark.parametrize("make", [laplace_task, lambda: Task(spheres(4)[0], image_shape=(1, 2, 2))])
def test_the_logits_of_any_densities_can_be_differentiated(make):
    task = make()
    x = task.sample(6, seed=0)[0].requires_grad_()
    assert torch.autograd.gradcheck(task.bayes_classifier(temperature=2.0), [x])


class Given(Laplace):
    """Computes in the type that it is given."""

    def log_prob(self, x):
        return -x.square().sum(dim=1) - x.new_tensor(math.pi).sqrt().log() * self.dimension


@pytest.mark.parametrize("kind", [Laplace, Given])
def test_images_of_single_precision_are_scored_in_double_by_any_densities(kind):
    task = Task([kind([0.0] * 4, 1.0), Laplace([1.0] * 4, 1.0)], image_shape=(1, 2, 2))
    x = torch.rand(5, 1, 2, 2)
    classifier = task.bayes_classifier(temperature=1.0)
    assert classifier(x).dtype == torch.float64
    assert torch.equal(classifier(x), classifier(x.double()))
    assert placed(classifier, x).dtype == torch.float64


def test_a_class_has_no_components_to_choose_the_largest_of():
    with pytest.raises(BayesgapError) as caught:
        laplace_task().bayes_classifier(rule="max-component")
    assert str(caught.value) == (
        "The rule 'max-component' exists for mixtures of factor analyzers alone, and a Laplace "
        "has no components: take 'log-sum-exp', the exact rule."
    )


def test_another_rule_is_refused_for_any_densities():
    with without_shape_checks(), pytest.raises(BayesgapError, match=r"The rules are .*got 'mean'"):
        laplace_task().bayes_classifier(temperature=1.0, rule="mean")


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_must_be_positive_and_finite_for_any_densities(temperature):
    with pytest.raises(BayesgapError, match="must be positive and finite"):
        laplace_task().bayes_classifier(temperature=temperature)


class Scores(Laplace):
    """Log-densities of a wrong form."""

    def __init__(self, form):
        super().__init__([0.0] * 4, 1.0)
        self.form = form

    def log_prob(self, x):
        return self.form(super().log_prob(x))


@pytest.mark.parametrize(
    ("form", "given"),
    [
        (lambda score: score[:, None], r"\(5, 1\)"),
        (lambda score: score.sum(), r"\(\)"),
        (lambda score: score.tolist(), "a list"),
    ],
)
def test_log_densities_that_are_not_one_for_each_point_are_refused(form, given):
    task = Task([Scores(form), Laplace([0.0] * 4, 1.0)], image_shape=(1, 2, 2))
    expected = rf"a Scores must give .* of shape \(5,\); it gave {given}\."
    with pytest.raises(BayesgapError, match=expected):
        task.bayes_classifier(temperature=1.0)(torch.zeros(5, 1, 2, 2))


# Densities that are modules.


def spheres(d, scale=0.4):
    """Two spherical densities that differ by a shift, and that shift."""
    generator = seeded(47)
    mean, shift = normal(generator, d), normal(generator, d)
    return [StudentT(mean, scale), StudentT(mean + shift, scale)], shift


def test_moving_the_optimum_moves_its_copies_and_not_the_tasks_densities():
    densities, _ = spheres(4)
    task = Task(densities, image_shape=(1, 2, 2))
    classifier = task.bayes_classifier(temperature=1.0)
    x, _ = task.sample(9, seed=0)
    before = classifier(x)
    single = copy.deepcopy(classifier).to(torch.float32)
    assert {tensor.dtype for tensor in single.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(single(x), before.float(), rtol=1e-3, atol=1e-4)
    assert placed(single, x).dtype == torch.float32
    assert densities[0].mean.dtype == torch.float64
    assert torch.equal(classifier(x), before)
    with torch.no_grad():
        densities[0].mean += 1.0
    assert torch.equal(classifier(x), before)


def test_the_optimum_of_modules_is_nothing_to_train():
    densities, _ = spheres(4)
    densities[0].train()
    task = Task(densities, image_shape=(1, 2, 2))
    classifier = task.bayes_classifier(temperature=1.0)
    assert isinstance(classifier, DensityClassifier)
    assert [p.requires_grad for p in classifier.parameters()] == [False, False]
    assert not classifier(torch.zeros(2, 1, 2, 2)).requires_grad
    assert not any(module.training for module in classifier.density_modules)
    assert densities[0].training
    assert densities[0].mean.requires_grad


# Attacks on optima without components; between spheres the boundary is a plane.


@pytest.fixture(params=[2, 5])
def between_spheres(request):
    """The optimum, points, their decisions and distances to the plane, and a pool."""
    densities, shift = spheres(request.param)
    task = Task(densities, image_shape=(1, 1, request.param))
    optimum = task.bayes_classifier()
    x, _ = task.sample(60, seed=0)
    side = (x.flatten(1) - densities[0].mean.detach() - shift / 2) @ shift
    assert torch.equal(decisions(optimum, x), (side > 0).long())
    return optimum, x, (side > 0).long(), side.abs() / shift.norm(), task.sample(200, seed=1)[0]


def test_a_walk_finds_the_plane_between_two_spherical_densities(between_spheres):
    optimum, x, y, distance, pool = between_spheres
    found = BoundaryWalk(pool)(optimum, x, y)
    reached = (found.images - x).flatten(1).norm(dim=1)
    assert found.success.all()
    assert (reached >= distance * (1 - 1e-9)).all()
    np.testing.assert_allclose(reached, distance, rtol=1e-4)


@pytest.mark.parametrize("attack", [LDGrad(), TightLDGrad()])
def test_ld_grad_follows_the_margin_of_an_optimum_without_components(attack, between_spheres):
    optimum, x, y, distance, _ = between_spheres
    assert len(differences(optimum, x, y, targets=5)) == 1
    found = attack(optimum, x, y)
    reached = (found.images - x).flatten(1).norm(dim=1)[found.success]
    # Far out in the heavy tails the gradient grows on the way, and steps miss.
    assert found.success.double().mean() > 0.6
    assert (reached >= distance[found.success] * (1 - 1e-9)).all()
    assert (reached / distance[found.success]).min() < 1.1


def test_a_walk_finds_the_plane_between_laplace_densities_whose_gradient_vanishes():
    """Beyond both means the log-densities differ by a constant."""
    task = Task([Laplace([0.0, 1.0], 0.3), Laplace([1.0, 1.0], 0.3)], image_shape=(1, 1, 2))
    optimum = task.bayes_classifier()
    x, _ = task.sample(60, seed=0)
    distance = (x[:, 0, 0, 0] - 0.5).abs()
    assert (distance > 0.5).any()
    found = BoundaryWalk(task.sample(200, seed=1)[0])(optimum, x, decisions(optimum, x))
    reached = (found.images - x).flatten(1).norm(dim=1)
    assert (reached >= distance * (1 - 1e-9)).all()
    np.testing.assert_allclose(reached, distance, rtol=1e-6, atol=1e-9)


# Edits and precision.


def test_an_edited_density_is_the_one_that_optimum_and_certificate_know():
    task = random_task(60)
    x, y = task.sample(20, seed=1)
    before = task.bayes_classifier(temperature=1.0)
    old = before(x)
    certify(task, x, y)
    task.mixtures[0].noise.mul_(100)
    task.mixtures[1].means.add_(0.3)
    fresh = Task(
        [MixtureOfFactorAnalyzers(d.weights, d.means, d.factors, d.noise) for d in task.mixtures],
        image_shape=task.image_shape,
    )
    after = task.bayes_classifier(temperature=1.0)
    assert torch.equal(before(x), old)  # it was made before
    assert not torch.allclose(after(x), old)
    assert torch.equal(after(x), fresh.bayes_classifier(temperature=1.0)(x))
    scores = torch.stack([d.log_prob(x.flatten(1)) for d in task.densities], dim=1)
    torch.testing.assert_close(after.log_joint(x), scores + task.priors.log())
    assert torch.equal(task.sample(5, seed=0)[0], fresh.sample(5, seed=0)[0])
    brackets = [certify(t, x, y) for t in (task, fresh)]
    assert torch.equal(brackets[0].lower, brackets[1].lower)
    assert torch.equal(brackets[0].upper, brackets[1].upper)


def test_an_edit_of_the_optimums_own_density_changes_its_logits():
    task = random_task(61)
    x, _ = task.sample(9, seed=1)
    classifier = BayesClassifier(task.mixtures, task.priors, temperature=1.0)
    before = classifier(x)
    classifier.marginal.noise.mul_(100)
    assert not torch.allclose(classifier(x), before)


def test_an_edited_mixture_beside_another_density_is_followed():
    mixture = random_mixture(62)
    task = Task([mixture, Laplace(torch.zeros(4), 0.3)], image_shape=(1, 2, 2))
    x = uniform(seeded(0), 7, 1, 2, 2)
    mixture.noise.mul_(100)
    classifier = task.bayes_classifier(temperature=1.0)
    scores = torch.stack([d.log_prob(x.flatten(1)) for d in task.densities], dim=1)
    torch.testing.assert_close(classifier.log_joint(x), scores + task.priors.log())


@pytest.mark.parametrize("move", [torch.nn.Module.half, torch.nn.Module.bfloat16])
def test_an_optimum_in_half_precision_is_refused(move):
    laplace = [Laplace(torch.zeros(4), 0.3), Laplace(torch.ones(4), 0.3)]
    for densities in (laplace, random_task(63).densities):
        task = Task(densities, image_shape=(1, 2, 2))
        classifier = task.bayes_classifier(temperature=1.0)
        x = uniform(seeded(0), 7, 1, 2, 2)
        before = classifier(x)
        with pytest.raises(BayesgapError, match=r"Classifier computes in torch\.float32 or"):
            move(classifier)
        assert torch.equal(classifier(x), before)
        assert classifier.float()(x).dtype == torch.float32
