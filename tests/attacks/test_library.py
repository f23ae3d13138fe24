import foolbox
import numpy as np
import pytest
import torch

from bayesgap.attacks.library import BOUNDS_MARGIN, Foolbox, cw_l2, ddn
from bayesgap.attacks.named import as_attack, named_attack
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM
from bayesgap.errors import BayesgapError
from toys import from_gap, normal, spherical_radius, spherical_task

D = 6
MEANS = np.stack([np.zeros(D), np.linspace(0.2, 0.8, D)])
ATTACKS = {"ddn": ddn, "cw-l2": cw_l2}


def machine():
    return LinearSVM(normal(0, 1, 4), normal(1, 1))


def hyperplane_distance(linear, x):
    w, b = linear.weight[0].numpy(), linear.bias.item()
    return np.abs(x.flatten(1).numpy() @ w + b) / np.linalg.norm(w)


class Recorded:
    """In place of a foolbox attack: notes the model and criterion, and returns what it is told."""

    def __init__(self, images):
        self.images = images

    def run(self, model, x, criterion):
        self.bounds, self.logits = tuple(model.bounds), model(x).detach()
        self.labels, self.criterion = criterion.labels.raw, criterion
        return self.images(x)


def with_recorded(images, **settings):
    attack = Foolbox("DDNAttack", name="recorded", **settings)
    attack.attack = Recorded(images)
    return attack


@pytest.mark.parametrize("name", ATTACKS)
def test_on_two_spheres_every_success_is_real_and_just_above_the_exact_distance(name):
    variance, priors = 0.05, [0.5, 0.5]
    task = spherical_task(MEANS, variance)
    optimal = task.bayes_classifier()
    x, _ = task.sample(15, seed=0)
    y = decisions(optimal, x)
    found = ATTACKS[name]()(optimal, x, y)
    radius = spherical_radius(x, y, MEANS, variance, priors)
    assert found.success.all()
    assert (spherical_radius(found.images, y, MEANS, variance, priors) < 0).all()
    assert (found.sizes.numpy() >= radius).all()
    np.testing.assert_allclose(found.sizes.numpy(), radius, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ddn_comes_within_two_percent_of_a_hyperplane_from_above(dtype):
    linear = machine().to(dtype)
    x = normal(2, 30, 1, 2, 2).to(dtype)
    expected = hyperplane_distance(linear, x)
    x, expected = x[expected > 0.05], expected[expected > 0.05]  # DDN's last step is 0.01 long
    found = ddn()(linear, x, decisions(linear, x))
    assert found.success.all()
    assert (
        found.sizes.numpy() >= expected * (1 - (1e-5 if dtype == torch.float32 else 1e-12))
    ).all()
    assert (found.sizes.numpy() <= 1.02 * expected).all()


def test_bounds_do_not_bind_for_images_outside_0_to_1():
    linear = machine()
    x = torch.cat([normal(3, 10, 1, 2, 2) - 7, normal(4, 10, 1, 2, 2) + 9])
    # Moved along the normal to a distance of 0.7, so that DDN gets there in its 100 steps.
    normal_vector = (linear.weight[0] / linear.weight.norm()).reshape(1, 1, 2, 2)
    signed = (2 * linear(x)[:, 1] / linear.weight.norm())[:, None, None, None]
    x = x - (signed - 0.7 * signed.sign()) * normal_vector
    assert x.min() < -2
    assert x.max() > 3
    found = ddn()(linear, x, decisions(linear, x))
    assert found.success.all()
    np.testing.assert_allclose(found.sizes.numpy(), 0.7, rtol=0.02)


@pytest.mark.parametrize("distance", [0.9, 3.0])
def test_bounds_do_not_bind_where_one_pixel_must_move_far(distance):
    linear = LinearSVM(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([-0.5 - distance]))
    x = torch.full((1, 1, 2, 2), 0.5)
    found = ddn()(linear, x, torch.tensor([0]))
    assert found.sizes.item() == pytest.approx(distance, rel=0.02)


def test_bounds_are_the_images_range_with_a_margin():
    x = normal(5, 8, 1, 2, 2)
    attack = with_recorded(lambda x: x)
    attack(machine(), x, decisions(machine(), x))
    low, high = x.min().item() - BOUNDS_MARGIN, x.max().item() + BOUNDS_MARGIN
    assert attack.attack.bounds == (low, high)


def test_an_image_of_zeros_is_a_failure_even_where_zeros_are_another_class():
    upper = from_gap(lambda x: x.flatten(1).sum(dim=1) - 1)  # zeros are class 1
    x = torch.ones(3, 1, 2, 2).double()

    def zeros_but_one(x):
        z = torch.zeros_like(x)
        z[2, 0, 0, 0] = 1e-3  # found, and nearly zeros
        return z

    found = with_recorded(zeros_but_one)(upper, x, torch.zeros(3, dtype=torch.int64))
    assert found.success.tolist() == [False, False, True]
    assert torch.equal(found.images[:2], x[:2])


def test_an_attack_that_gave_up_is_a_failure():
    upper = from_gap(lambda x: x.flatten(1).sum(dim=1) - 1)
    x = torch.ones(3, 1, 2, 2).double()
    weak = Foolbox(
        "L2CarliniWagnerAttack", name="weak", binary_search_steps=1, steps=2, initial_const=1e-6
    )
    found = weak(upper, x, torch.zeros(3, dtype=torch.int64))
    assert not found.success.any()


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_only_a_bayes_optimal_classifiers_logits_are_scaled(scale):
    x = normal(6, 5, 1, 1, D)
    optimal = spherical_task(MEANS, 0.1).bayes_classifier()
    linear = LinearSVM(normal(0, 1, D), normal(1, 1))
    for classifier, factor in ((optimal, scale), (linear, 1.0)):
        attack = with_recorded(lambda x: x, bayes_logit_scale=scale)
        y = decisions(classifier, x)
        attack(classifier, x, y)
        torch.testing.assert_close(attack.attack.logits, factor * classifier(x))
        assert torch.equal(attack.attack.labels, y)
        assert isinstance(attack.attack.criterion, foolbox.criteria.Misclassification)


def test_cw_l2_has_the_papers_settings():
    attack = cw_l2().attack
    assert type(attack) is foolbox.attacks.L2CarliniWagnerAttack
    assert attack.binary_search_steps == 3
    assert attack.steps == 500
    assert attack.stepsize == 0.01
    assert attack.initial_const == 0.01
    assert attack.confidence == 0


def test_ddn_has_foolboxs_defaults_but_the_steps():
    attack, default = ddn(steps=37).attack, foolbox.attacks.DDNAttack()
    assert type(attack) is foolbox.attacks.DDNAttack
    assert attack.steps == 37
    assert ddn().attack.steps == 100
    assert (attack.gamma, attack.init_epsilon) == (default.gamma, default.init_epsilon)


def flat_away_from_the_boundary():
    """Saturated logits: gradients are exactly 0 but near the first pixel's value 1/2."""
    return from_gap(lambda x: 10 * torch.tanh(1e3 * (0.5 - x[:, 0, 0, 0])))


def test_results_do_not_depend_on_the_global_generator_and_leave_it_alone():
    x = torch.zeros(20, 1, 2, 2).double()
    y = torch.zeros(20, dtype=torch.int64)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        found.append(ddn()(flat_away_from_the_boundary(), x, y))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(found[0].images, found[1].images)


@pytest.mark.parametrize("name", ["DDN", "L2Pgd", "base", "MinimizationAttack", "Model", ""])
def test_an_unknown_attack_is_refused_by_its_name(name):
    with pytest.raises(BayesgapError, match=f"foolbox has no attack called {name!r}"):
        Foolbox(name, name="unknown")


def test_an_unknown_setting_is_refused_by_its_name():
    with pytest.raises(BayesgapError, match=r"DDNAttack cannot be set up.*'depth'"):
        Foolbox("DDNAttack", name="ddn", depth=3)


@pytest.mark.parametrize("attack", ["LInfFMNAttack", "L1FMNAttack", "EADAttack"])
def test_an_attack_that_minimises_another_norm_is_refused(attack):
    with pytest.raises(BayesgapError, match=f"foolbox's {attack} minimises .*, not L2"):
        Foolbox(attack, name="other")


@pytest.mark.parametrize("attack", ["LinfPGD", "L1FastGradientAttack", "PGD"])
def test_an_attack_that_limits_another_norm_is_refused(attack):
    with pytest.raises(BayesgapError, match=r"foolbox's L\w+ limits L\w+ distance, not L2"):
        Foolbox(attack)


def test_instances_are_run_as_those_of_their_class_by_name():
    linear, x = machine(), normal(2, 20, 1, 2, 2)
    y = decisions(linear, x)
    for instance, name in (
        (foolbox.attacks.DDNAttack(steps=30), "foolbox:DDNAttack?steps=30"),
        (foolbox.attacks.L2DeepFoolAttack(), "foolbox:L2DeepFoolAttack"),
        (foolbox.attacks.L2FastGradientAttack(), "foolbox:FGM"),
    ):
        attack = as_attack(instance)
        assert isinstance(attack, Foolbox)
        assert attack.name == type(instance).__name__
        found = attack(linear, x, y)
        assert torch.equal(found.images, named_attack(name)(linear, x, y).images)


@pytest.mark.parametrize("name", ["L2FastGradientAttack", "L2BasicIterativeAttack"])
def test_an_attack_that_must_be_told_a_size_finds_the_smallest(name):
    """On a hyperplane the gradient's step of that size is the best there is."""
    linear = machine()
    x = torch.cat([normal(2, 30, 1, 2, 2), 3 * normal(3, 6, 1, 2, 2)])
    expected = hyperplane_distance(linear, x)
    found = Foolbox(name, bounds_margin=50.0)(linear, x, decisions(linear, x))
    assert found.success.all()
    assert (found.sizes.numpy() >= expected * (1 - 1e-12)).all()
    assert (found.sizes.numpy() <= 1.006 * expected + 1e-6).all()


def test_an_attack_that_must_be_told_a_size_gives_up_where_there_is_nothing():
    never = from_gap(lambda x: 1 + 0 * x.sum(dim=(1, 2, 3)))
    x = normal(1, 3, 1, 2, 2)
    assert not Foolbox("FGM")(never, x, torch.zeros(3, dtype=torch.int64)).success.any()


def test_a_repeated_attack_is_run_through_foolboxs_own_repetition():
    linear, x = machine(), normal(2, 10, 1, 2, 2)
    y = decisions(linear, x)
    noise = foolbox.attacks.L2AdditiveGaussianNoiseAttack()
    one = as_attack(noise)(linear, x, y)
    many = as_attack(noise.repeat(30))(linear, x, y)
    assert many.sizes.mean() < one.sizes.mean()
    ddns = as_attack(foolbox.attacks.DDNAttack(steps=30).repeat(2))(linear, x, y)
    assert torch.equal(ddns.images, Foolbox("DDNAttack", steps=30)(linear, x, y).images)


@pytest.mark.parametrize(
    ("instance", "said"),
    [
        (foolbox.attacks.LinfDeepFoolAttack(), "LinfDeepFoolAttack minimises Linf.*, not L2"),
        (foolbox.attacks.LinfPGD(), "limits Linf.*, not L2"),
        (foolbox.attacks.InversionAttack(), "build it with distance=foolbox.distances.l2"),
        (foolbox.attacks.SpatialAttack(), "SpatialAttack looks for no small distance"),
    ],
)
def test_an_instance_that_looks_for_no_small_l2_is_refused(instance, said):
    with pytest.raises(BayesgapError, match=said):
        as_attack(instance)


def test_an_instance_takes_no_settings():
    with pytest.raises(BayesgapError, match="has its settings: build it with steps"):
        Foolbox(foolbox.attacks.DDNAttack(), steps=3)


def test_an_attack_for_any_distance_is_built_for_l2_by_name():
    attack = named_attack("foolbox:InversionAttack")
    linear, x = machine(), normal(2, 10, 1, 2, 2)
    found = attack(linear, x, decisions(linear, x))
    torch.testing.assert_close(
        found.images[found.success], (x.min() + x.max() - x)[found.success], atol=1e-6, rtol=1e-6
    )


def test_what_foolbox_raises_is_a_sentence():
    linear, x = machine(), normal(2, 10, 1, 2, 2)
    blur = foolbox.attacks.GaussianBlurAttack(distance=foolbox.distances.l2, channel_axis=2)
    with pytest.raises(BayesgapError, match=r"GaussianBlurAttack failed with ValueError: .*chan"):
        as_attack(blur)(linear, x, decisions(linear, x))
