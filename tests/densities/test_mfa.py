import copy
import pickle

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import distributions

from bayesgap import files
from bayesgap.densities import mfa
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from strategies import (
    PROPERTY,
    SEEDS,
    mixtures,
    normal,
    points_for,
    random_mixture,
    seeded,
    uniform,
    without_shape_checks,
)

RELATIVE = 1e-9  # of the log-density


def assert_close(actual, expected, tolerance=RELATIVE):
    expected = torch.as_tensor(np.asarray(expected))
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, check_dtype=False)


def assert_scores(density, x, actual, expected, tolerance=RELATIVE):
    """Equal but for `tolerance`, and the rounding of the terms that cancel in a squared distance.

    At the paper's noise these reach ten million nats, so that of a log-density of one nat nine
    digits remain. The factor is ten times what three thousand random mixtures needed.
    """
    centre = density.means.mean(dim=0)
    squares = (x - centre).square().sum(dim=1, keepdim=True)
    squares = squares + (density.means - centre).square().sum(dim=1)
    rounding = 16 * 2**-52 * (1 + squares / density.noise.amin(dim=1))
    if actual.ndim == 1:
        rounding = rounding.amax(dim=1)
    expected = torch.as_tensor(np.asarray(expected))
    assert ((actual - expected).abs() <= tolerance * expected.abs() + rounding).all()


def dense_covariances(density):
    return density.factors @ density.factors.mT + torch.diag_embed(density.noise)


def scipy_joints(density, x):
    return np.stack(
        [
            np.log(weight) + stats.multivariate_normal(mean, covariance).logpdf(x).reshape(len(x))
            for weight, mean, covariance in zip(
                density.weights.numpy(),
                density.means.numpy(),
                dense_covariances(density).numpy(),
                strict=True,
            )
        ],
        axis=1,
    )


# What is scored.


@PROPERTY
@given(mixtures(), SEEDS)
def test_component_log_prob_is_that_of_scipy(density, seed):
    x = points_for(density, seed)
    # SciPy diagonalises the dense covariance, whose condition at the paper's noise is 1e7.
    tolerance = RELATIVE if density.noise.min() > 1e-5 else 1e-8
    expected = scipy_joints(density, x)
    assert_scores(density, x, density.component_log_prob(x), expected, tolerance)


@PROPERTY
@given(mixtures(least_latent=1), SEEDS)
def test_log_prob_is_that_of_torch_distributions(density, seed):
    x = points_for(density, seed)
    reference = distributions.MixtureSameFamily(
        distributions.Categorical(density.weights),
        distributions.LowRankMultivariateNormal(density.means, density.factors, density.noise),
    )
    assert_scores(density, x, density.log_prob(x), reference.log_prob(x))


@PROPERTY
@given(mixtures(), SEEDS)
def test_responsibilities_are_the_posterior_and_sum_to_one(density, seed):
    x = points_for(density, seed)
    joints = scipy_joints(density, x)
    posterior = np.exp(joints - joints.max(axis=1, keepdims=True))
    responsibilities = density.responsibilities(x)
    assert_close(responsibilities.sum(dim=1), torch.ones(len(x)), 1e-14)
    # An error of 1e-9 of a million nats, and its exponential.
    assert_close(responsibilities, posterior / posterior.sum(axis=1, keepdims=True), 2e-3)
    near = np.abs(joints).max(axis=1) < 100
    assert_close(
        responsibilities[near], (posterior / posterior.sum(axis=1, keepdims=True))[near], 1e-6
    )


def precise_log_density(x, mean, factors, noise):
    """Density of N in 50 digits, by Cholesky's decomposition of the dense covariance."""
    with mpmath.workdps(50):
        loadings = mpmath.matrix(factors.tolist())
        covariance = loadings * loadings.T + mpmath.diag([mpmath.mpf(v) for v in noise.tolist()])
        root = mpmath.cholesky(covariance)
        away = [
            mpmath.mpf(a) - mpmath.mpf(b) for a, b in zip(x.tolist(), mean.tolist(), strict=True)
        ]
        whitened = mpmath.lu_solve(root, mpmath.matrix(away))
        log_determinant = 2 * sum(mpmath.log(root[i, i]) for i in range(len(away)))
        square = sum(value**2 for value in whitened)
        return float(-(square + log_determinant + len(away) * mpmath.log(2 * mpmath.pi)) / 2)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("seed", range(5))
def test_at_the_papers_noise_log_prob_agrees_with_50_digits(seed, offset):
    density = random_mixture(seed, 1, 4, 2, noise_std=1e-3, offset=offset)
    x = points_for(density, seed, n=5)
    expected = [
        precise_log_density(point, density.means[0], density.factors[0], density.noise[0])
        for point in x
    ]
    assert max(map(abs, expected)) > 1e5  # else nothing would cancel
    assert_scores(density, x, density.log_prob(x), expected)


def test_without_factors_pixels_are_independent():
    density = random_mixture(0, 1, 5, 0, noise_std=1e-3)
    x = points_for(density, seed=1)
    expected = stats.norm(density.means[0], density.noise[0].sqrt()).logpdf(x).sum(axis=1)
    assert_close(density.log_prob(x), expected, 1e-12)


def test_one_component_has_no_mixture_to_sum():
    density = random_mixture(1, 1, 3, 1)
    x = points_for(density, seed=2)
    assert torch.equal(density.log_prob(x), density.component_log_prob(x)[:, 0])
    assert torch.equal(density.weights, torch.ones(1, dtype=torch.float64))


def test_log_prob_is_finite_where_every_component_is_a_million_nats_away():
    density = random_mixture(2, 3, 4, 1, noise_std=1e-3)
    x = density.means.mean(dim=0)[None] + 100.0
    assert density.log_prob(x).item() < -1e6
    assert_close(density.log_prob(x), scipy_joints(density, x).max(axis=1))


def test_no_points_have_no_densities():
    density = random_mixture(3)
    empty = torch.empty(0, 4, dtype=torch.float64)
    assert density.component_log_prob(empty).shape == (0, 3)
    assert density.log_prob(empty).shape == (0,)


# What scores do not depend on.


@PROPERTY
@given(mixtures(), SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_components_means_nothing(density, seed, random):
    order = list(range(density.components))
    random.shuffle(order)
    permuted = MixtureOfFactorAnalyzers(
        density.weights[order], density.means[order], density.factors[order], density.noise[order]
    )
    x = points_for(density, seed)
    assert_scores(density, x, permuted.log_prob(x), density.log_prob(x), 1e-12)
    expected = density.component_log_prob(x)[:, order]
    assert_scores(permuted, x, permuted.component_log_prob(x), expected, 1e-12)


@PROPERTY
@given(mixtures(least_latent=1), SEEDS)
def test_rotating_the_factors_changes_nothing(density, seed):
    rotations, _ = torch.linalg.qr(normal(seeded(seed), density.components, *2 * [density.latent]))
    rotated = MixtureOfFactorAnalyzers(
        density.weights, density.means, density.factors @ rotations, density.noise
    )
    x = points_for(density, seed)
    expected = density.component_log_prob(x)
    assert_scores(density, x, rotated.component_log_prob(x), expected)


@PROPERTY
@given(SEEDS, st.sampled_from([2.0**-3, 3.0, -(2.0**12), 2.0**20]))
def test_moving_points_and_means_together_changes_nothing(seed, offset):
    plain = random_mixture(seed, 3, 4, 2, noise_std=1e-3)
    # On a grid of 2⁻²⁰ these sums are exact, so that only our own rounding is seen.
    means = (plain.means * 2**20).round() / 2**20
    x = (points_for(plain, seed) * 2**20).round() / 2**20
    densities = [
        MixtureOfFactorAnalyzers(plain.weights, means + move, plain.factors, plain.noise)
        for move in (0.0, offset)
    ]
    expected = densities[0].log_prob(x)
    assert_scores(densities[0], x, densities[1].log_prob(x + offset), expected, 1e-12)


@PROPERTY
@given(mixtures(), SEEDS, st.integers(1, 4000))
def test_scores_do_not_depend_on_chunks(density, seed, chunk_bytes):
    x = points_for(density, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mfa, "CHUNK_BYTES", chunk_bytes)
        chunked = density.component_log_prob(x)
    # A few units in the last place of the terms that cancel: a million nats at the paper's noise.
    centre = density.means.mean(dim=0)
    squares = (x - centre).square().sum(dim=1)
    squares = squares + (density.means - centre).square().sum(dim=1).amax()
    away = squares / density.noise.min()
    difference = (chunked - density.component_log_prob(x)).abs()
    assert (difference <= 1e-12 + 1e-15 * away[:, None]).all()


def test_many_chunks_are_really_made(monkeypatch):
    density, rows = random_mixture(4), []
    original = mfa.score

    def noted(centred, *rest):
        rows.append(len(centred))
        return original(centred, *rest)

    monkeypatch.setattr(mfa, "score", noted)
    monkeypatch.setattr(mfa, "CHUNK_BYTES", 1)
    density.log_prob(torch.zeros(5, 4, dtype=torch.float64))
    assert rows == [1] * 5


# Derivatives.


@PROPERTY
@given(mixtures(), SEEDS)
def test_the_gradient_is_the_mean_pull_of_the_components(density, seed):
    x = points_for(density, seed).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    joints = scipy_joints(density, x.detach())
    shares = torch.from_numpy(joints).softmax(dim=1)
    away = density.means - x.detach()[:, None]
    pulls = torch.linalg.solve(dense_covariances(density), away[:, :, :, None]).squeeze(3)
    expected = (shares[:, :, None] * pulls).sum(dim=1)
    clear = shares.max(dim=1).values > 1 - 1e-12  # elsewhere a share's error counts, see above
    scale = expected.abs().amax(dim=1, keepdim=True).clamp(min=1)
    assert (((gradient - expected) / scale)[clear].abs() < 1e-8).all()
    assert (((gradient - expected) / scale).abs() < 2e-2).all()


def test_gradcheck_holds_through_chunks(monkeypatch):
    monkeypatch.setattr(mfa, "CHUNK_BYTES", 1)
    density = random_mixture(7, 3, 4, 2)
    x = density.sample(4, generator=seeded(0)).requires_grad_()
    assert torch.autograd.gradcheck(density.log_prob, [x])
    assert torch.autograd.gradcheck(density.component_log_prob, [x])


# Samples. The smallest p-value accepted is 1e-6 of some thirty, and the seeds are fixed.

SMALLEST_P = 1e-6


@pytest.mark.parametrize(("latent", "noise_std"), [(0, 0.3), (2, 0.3), (2, 1e-3), (4, 0.05)])
def test_points_follow_the_gaussian_of_the_component_they_name(latent, noise_std):
    density = random_mixture(11, 3, 4, latent, noise_std=noise_std)
    x, component = density.sample_with_components(9_000, generator=seeded(0))
    for k, covariance in enumerate(dense_covariances(density)):
        own = x[component == k]
        root = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(root, (own - density.means[k]).mT, upper=False).mT
        n = len(white)
        mean_square = n * white.mean(dim=0).square().sum().item()
        assert stats.chi2(4).sf(mean_square) > SMALLEST_P
        moments = (white.mT @ white / n - torch.eye(4)) * n**0.5
        # n times a product's mean is asymptotically normal, with variance 1, or 2 for a square.
        z = moments / (1 + torch.eye(4)).sqrt()
        assert 2 * stats.norm.sf(z.abs().max().item()) * 10 > SMALLEST_P
        for pixel in white.mT:
            assert stats.kstest(pixel.numpy(), "norm").pvalue > SMALLEST_P


def test_components_come_as_often_as_their_weights_say():
    density = random_mixture(12, 4)
    _, component = density.sample_with_components(20_000, generator=seeded(1))
    counts = component.bincount(minlength=4)
    assert stats.chisquare(counts, density.weights * 20_000).pvalue > SMALLEST_P
    assert stats.chisquare(counts, np.full(4, 5_000)).pvalue < SMALLEST_P


def test_samples_are_reproducible_from_the_generator_alone():
    density = random_mixture(13)
    generator = seeded(2)
    first, second = (density.sample_with_components(50, generator=generator) for _ in range(2))
    torch.manual_seed(99)
    again = density.sample_with_components(50, generator=seeded(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], second[0])


def test_samples_do_not_depend_on_chunks(monkeypatch):
    density = random_mixture(14)
    x, component = density.sample_with_components(30, generator=seeded(3))
    monkeypatch.setattr(mfa, "CHUNK_BYTES", 1)
    chunked, again = density.sample_with_components(30, generator=seeded(3))
    assert torch.equal(again, component)
    torch.testing.assert_close(chunked, x, rtol=1e-12, atol=1e-14)


def test_no_points_can_be_drawn():
    x, component = random_mixture(15).sample_with_components(0, generator=seeded(0))
    assert x.shape == (0, 4)
    assert component.shape == (0,)


@PROPERTY
@given(mixtures(), SEEDS)
def test_points_are_the_same_with_and_without_their_components(density, seed):
    with_components, alone = seeded(seed), seeded(seed)
    expected, _ = density.sample_with_components(7, generator=with_components)
    assert torch.equal(density.sample(7, generator=alone), expected)
    assert torch.equal(alone.get_state(), with_components.get_state())


@PROPERTY
@given(mixtures())
def test_covariance_is_the_dense_formula(density):
    for k in range(density.components):
        factors = density.factors[k].numpy()
        expected = np.einsum("il,jl->ij", factors, factors) + np.diag(density.noise[k].numpy())
        assert_close(density.covariance(k), expected, 1e-14)


# Being a module.


def test_sizes_are_told():
    density = random_mixture(16, 3, 5, 2)
    assert (density.components, density.dimension, density.latent) == (3, 5, 2)
    assert repr(density).endswith("(components=3, dimension=5, latent=2)")


def test_parameters_are_kept_in_double_and_weights_normalised():
    weights = torch.tensor([0.25, 0.750002])
    density = MixtureOfFactorAnalyzers(
        weights, torch.rand(2, 3), torch.rand(2, 3, 1), torch.ones(2, 3)
    )
    assert {tensor.dtype for tensor in density.state_dict().values()} == {torch.float64}
    assert_close(density.weights, weights.double() / weights.double().sum(), 1e-15)


def test_in_single_precision_everything_is_single():
    density = random_mixture(17)
    x = points_for(density, seed=18)
    single = copy.deepcopy(density).to(torch.float32)
    scores = single.log_prob(x)
    assert scores.dtype == torch.float32
    assert {tensor.dtype for tensor in single.buffers()} == {torch.float32}
    assert single.sample(3, generator=seeded(0)).dtype == torch.float32
    # Squared distances of up to some hundreds, at 2⁻²⁴ each.
    assert_close(scores, density.log_prob(x), 1e-4)
    assert not torch.equal(scores.double(), density.log_prob(x))


def test_points_of_any_dtype_are_scored_in_the_modules():
    density = random_mixture(19)
    x = points_for(density, seed=20).float()
    assert density.log_prob(x).dtype == torch.float64
    assert torch.equal(density.log_prob(x), density.log_prob(x.double()))


def test_a_loaded_state_scores_as_its_source():
    source, target = random_mixture(21), random_mixture(22)
    target.load_state_dict(source.state_dict())
    x = points_for(source, seed=23)
    assert torch.equal(target.log_prob(x), source.log_prob(x))


def test_changing_the_arguments_later_does_not_change_the_density():
    means = uniform(seeded(0), 2, 3)
    density = MixtureOfFactorAnalyzers(
        torch.tensor([0.5, 0.5]), means, torch.ones(2, 3, 1), torch.ones(2, 3)
    )
    before = density.means.clone()
    means += 1
    assert torch.equal(density.means, before)


def test_a_state_loaded_through_a_parent_or_in_single_precision_scores_too():
    source, target = random_mixture(30), random_mixture(31).to(torch.float32)
    parent = torch.nn.ModuleList([target])
    parent.load_state_dict({f"0.{name}": tensor for name, tensor in source.state_dict().items()})
    x = points_for(source, seed=32)
    assert target.log_prob(x).dtype == torch.float32
    assert_close(target.log_prob(x), source.log_prob(x), 1e-4)


def test_a_copy_is_independent_of_its_original():
    density = random_mixture(33)
    x = points_for(density, seed=34)
    before = density.log_prob(x)
    twin = copy.deepcopy(density)
    twin.load_state_dict(random_mixture(35).state_dict())
    assert torch.equal(density.log_prob(x), before)


# Being edited.


def by_numpy(density):
    density.noise.numpy()[:] *= 100


def by_data(density):
    density.noise.data.mul_(100)


def by_assignment(density):
    density.noise = density.noise * 100


def by_buffers(density):
    for name, tensor in density.named_buffers():
        if name == "noise" or name.startswith("_"):
            tensor.mul_(100)


def by_state(density):
    density.state_dict()["noise"].mul_(100)


def in_inference_mode(density):
    with torch.inference_mode():
        density.noise.mul_(100)


EDITS = {
    "noise": lambda density: density.noise.mul_(100),
    "one value": lambda density: density.noise[0, 1].add_(1.0),
    "means": lambda density: density.means.add_(0.5),
    "factors": lambda density: density.factors.zero_(),
    "weights": lambda density: density.weights.copy_(density.weights.flip(0)),
    "NumPy": by_numpy,
    "data": by_data,
    "assignment": by_assignment,
    "buffers": by_buffers,
    "state": by_state,
    "inference mode": in_inference_mode,
}


def rebuilt(density):
    """The density of its parameters, made anew."""
    return MixtureOfFactorAnalyzers(*(getattr(density, name) for name in mfa.PARAMETERS))


@pytest.mark.parametrize("scored_before", [False, True])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_is_taken_into_account_everywhere(tmp_path, edit, scored_before):
    density = random_mixture(40)
    x = points_for(density, seed=41)
    before = random_mixture(40).log_prob(x)
    if scored_before:
        density.log_prob(x)
    edit(density)
    fresh = rebuilt(density)
    assert not torch.allclose(fresh.log_prob(x), before)
    assert torch.equal(density.log_prob(x), fresh.log_prob(x))
    assert torch.equal(density.responsibilities(x), fresh.responsibilities(x))
    assert torch.equal(density.covariance(0), fresh.covariance(0))
    assert all(map(torch.equal, density.whitening, fresh.whitening))
    drawn, expected = (d.sample(9, generator=seeded(0)) for d in (density, fresh))
    assert torch.equal(drawn, expected)
    density.save(tmp_path / "a.safetensors")
    loaded = MixtureOfFactorAnalyzers.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.log_prob(x), fresh.log_prob(x))
    torch.testing.assert_close(
        density.log_prob(x), torch.from_numpy(scipy_joints(density, x)).logsumexp(1)
    )


COPIES = {
    "deep copy": copy.deepcopy,
    "pickle": lambda density: pickle.loads(pickle.dumps(density)),
    "double": lambda density: density.double(),
    "there and back": lambda density: density.to("cpu").to(torch.float64),
}


@pytest.mark.parametrize("edit_first", [False, True])
@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_copies_and_moves_take_edits_into_account(make, edit_first):
    density = random_mixture(42)
    x = points_for(density, seed=43)
    if edit_first:
        density.noise.mul_(100)
    twin = make(density)
    if not edit_first:
        twin.noise.mul_(100)
    fresh = random_mixture(42)
    fresh.noise.mul_(100)
    assert torch.equal(twin.log_prob(x), fresh.log_prob(x))
    assert torch.equal(twin.log_prob(x), rebuilt(twin).log_prob(x))


def test_an_edit_before_a_cast_is_cast_too():
    density = random_mixture(44)
    x = points_for(density, seed=45)
    density.noise.mul_(100)
    expected = density.log_prob(x)
    density.float()
    assert density.log_prob(x).dtype == torch.float32
    assert_close(density.log_prob(x), expected, 1e-4)
    density.means.add_(1.0)
    assert_close(density.log_prob(x), rebuilt(density).log_prob(x), 1e-4)


def test_what_is_handed_out_of_the_derived_can_be_edited_without_harm():
    density = random_mixture(46)
    x = points_for(density, seed=47)
    before = density.log_prob(x)
    for tensor in density.whitening:
        tensor.zero_()
    assert torch.equal(density.log_prob(x), before)


def test_nothing_is_derived_anew_without_an_edit(monkeypatch):
    density, calls = random_mixture(48), []
    monkeypatch.setattr(mfa, "whiten", lambda *args: calls.append(args))
    density.log_prob(points_for(density, seed=49))
    density.sample(3, generator=seeded(0))
    copy.deepcopy(density).float()
    assert not calls


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda density: density.noise.neg_(), "The noise of a mixture must be positive"),
        (
            lambda density: density.weights.mul_(2),
            "weights of a mixture must sum to 1; they sum to 2",
        ),
        (lambda density: density.means.fill_(torch.nan), "The means of a mixture must be finite"),
        (lambda density: density.factors.fill_(1e8), "too large for its noise"),
        (lambda density: setattr(density, "noise", density.noise.half()), r"not in torch\.float16"),
        (lambda density: setattr(density, "noise", density.noise[:1]), "the shapes given are"),
    ],
)
def test_an_edit_that_leaves_no_density_is_refused(tmp_path, edit, said):
    uses = [
        lambda density: density.log_prob(torch.zeros(2, 4, dtype=torch.float64)),
        lambda density: density.sample(2, generator=seeded(0)),
        lambda density: density.covariance(0),
        lambda density: density.whitening,
        lambda density: density.save(tmp_path / "a.safetensors"),
        lambda density: density.float(),
    ]
    for use in uses:
        density = random_mixture(50)
        edit(density)
        for _ in range(2):  # not the first time alone
            with without_shape_checks(), pytest.raises(BayesgapError, match=said):
                use(density)


# Half precision.


@pytest.mark.parametrize(
    "move",
    [
        lambda module: module.half(),
        lambda module: module.bfloat16(),
        lambda module: module.to(torch.float16),
        lambda module: module.to("cpu", torch.bfloat16),
        lambda module: module.type(torch.half),
    ],
)
def test_half_precision_is_refused_before_anything_is_moved(move):
    density = random_mixture(51)
    x = points_for(density, seed=52)
    before = density.log_prob(x)
    with pytest.raises(
        BayesgapError, match=r"MixtureOfFactorAnalyzers computes in .* not in torch\."
    ):
        move(density)
    with pytest.raises(BayesgapError, match="log-densities would be lost"):
        move(torch.nn.ModuleList([density]))
    assert torch.equal(density.log_prob(x), before)


def test_within_autocast_single_precision_is_refused_and_double_right():
    density = random_mixture(53)
    x = points_for(density, seed=54)
    expected = density.log_prob(x), density.sample(3, generator=seeded(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(density.log_prob(x), expected[0])
        assert torch.equal(density.sample(3, generator=seeded(0)), expected[1])
    density.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(BayesgapError, match=r"Within torch\.autocast .* torch\.bfloat16"):
            density.log_prob(x)
        with pytest.raises(BayesgapError, match=r"Within torch\.autocast"):
            density.sample(3, generator=seeded(0))


# What is refused.


def arguments(**changes):
    valid = {
        "weights": torch.tensor([0.25, 0.75]),
        "means": torch.zeros(2, 3),
        "factors": torch.zeros(2, 3, 1),
        "noise": torch.ones(2, 3),
    }
    return {**valid, **changes}


def with_value(tensor, value):
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    return tensor


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"weights": torch.tensor([1.0])}, "(1,), (2, 3), (2, 3, 1), (2, 3)"),
        ({"weights": torch.tensor([[0.25, 0.75]])}, "(1, 2)"),
        ({"means": torch.zeros(3, 3)}, "(3, 3)"),
        ({"means": torch.zeros(2, 4)}, "(2, 4)"),
        ({"factors": torch.zeros(2, 3)}, "(2,), (2, 3), (2, 3), (2, 3)"),
        ({"factors": torch.zeros(2, 4, 1)}, "(2, 4, 1)"),
        ({"noise": torch.ones(2, 1)}, "(2, 1)"),
        ({"noise": torch.ones(3)}, "(3,)"),
        (
            {"means": torch.zeros(2, 0), "noise": torch.ones(2, 0)}
            | {"factors": torch.zeros(2, 0, 1)},
            "(2, 0)",
        ),
    ],
)
def test_shapes_that_disagree_are_refused(changes, held):
    with without_shape_checks(), pytest.raises(BayesgapError, match="the shapes given") as caught:
        MixtureOfFactorAnalyzers(**arguments(**changes))
    assert held in str(caught.value)


@pytest.mark.parametrize("name", ["weights", "means", "factors", "noise"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(name, value):
    broken = with_value(arguments()[name], value)
    with pytest.raises(BayesgapError, match=f"The {name} of a mixture must be finite"):
        MixtureOfFactorAnalyzers(**arguments(**{name: broken}))


@pytest.mark.parametrize("value", [0.0, -0.125])
@pytest.mark.parametrize("name", ["weights", "noise"])
def test_weights_and_noise_must_be_positive(name, value):
    broken = with_value(arguments()[name], value)
    with pytest.raises(BayesgapError, match=f"The {name} .* positive; the smallest is {value:g}"):
        MixtureOfFactorAnalyzers(**arguments(**{name: broken}))


def test_weights_must_sum_to_one():
    with pytest.raises(BayesgapError, match=r"sum to 1; they sum to 0\.75"):
        MixtureOfFactorAnalyzers(**arguments(weights=torch.tensor([0.25, 0.5])))


def test_points_of_another_width_are_refused():
    with pytest.raises(BayesgapError, match="5 values were given to a density over 4"):
        random_mixture(24).log_prob(torch.zeros(2, 5))


@pytest.mark.parametrize("size", [1e4, 1e5, 1e6, 1e7, 1e60, 1e200])
def test_parameters_beyond_double_precision_are_refused(size):
    """On every machine, though whether Cholesky's factorisation fails depends on rounding."""
    for second in (1.0, 1 + 1e-9):
        factors = size * torch.tensor([1.0, second], dtype=torch.float64).expand(2, 3, 2)
        with pytest.raises(BayesgapError, match="too large for its noise"):
            MixtureOfFactorAnalyzers(**arguments(factors=factors, noise=torch.full((2, 3), 1e-8)))


# Files. What a damaged file of any kind does is tested with `bayesgap.files`.


def test_saving_and_loading_keeps_every_bit(tmp_path):
    for seed in range(30):
        density = random_mixture(seed, 5, noise_std=1e-3)
        density.save(tmp_path / "a.safetensors")
        loaded = MixtureOfFactorAnalyzers.load(tmp_path / "a.safetensors")
        for name in mfa.PARAMETERS:
            assert torch.equal(getattr(loaded, name), getattr(density, name))
        x = points_for(density, seed)
        assert torch.equal(loaded.log_prob(x), density.log_prob(x))


def test_a_single_precision_density_can_be_saved(tmp_path):
    density = random_mixture(26).to(torch.float32)
    density.save(tmp_path / "a.safetensors")
    loaded = MixtureOfFactorAnalyzers.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.means, density.means.double())


@pytest.mark.parametrize("name", ["weights", "means", "factors", "noise"])
def test_a_file_that_lacks_a_tensor_names_it_and_the_path(tmp_path, name):
    path = tmp_path / "a.safetensors"
    tensors = random_mixture(27).parameters_for_file()
    del tensors[name]
    files.save_tensors(path, tensors, kind="density", metadata={})
    with pytest.raises(BayesgapError, match=f"holds no tensor '{name}'") as caught:
        MixtureOfFactorAnalyzers.load(path)
    assert str(path) in str(caught.value)


def test_a_file_of_integers_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = random_mixture(28).parameters_for_file()
    tensors["means"] = tensors["means"].long()
    files.save_tensors(path, tensors, kind="density", metadata={})
    with pytest.raises(BayesgapError, match=r"'means' has type torch\.int64") as caught:
        MixtureOfFactorAnalyzers.load(path)
    assert str(path) in str(caught.value)


def test_a_file_whose_numbers_are_no_density_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = random_mixture(29).parameters_for_file()
    tensors["noise"] = -tensors["noise"]
    files.save_tensors(path, tensors, kind="density", metadata={})
    with pytest.raises(BayesgapError, match=r"noise .* must be positive") as caught:
        MixtureOfFactorAnalyzers.load(path)
    assert str(path) in str(caught.value)


def test_points_are_mean_plus_factors_times_codes_plus_noise():
    density = random_mixture(31)
    x, component = density.sample_with_components(20, generator=seeded(7))
    generator = seeded(7)
    torch.multinomial(density.weights, 20, replacement=True, generator=generator)
    z = torch.randn(20, density.latent, generator=generator, dtype=torch.float64)
    epsilon = torch.randn(20, density.dimension, generator=generator, dtype=torch.float64)
    expected = (
        density.means[component]
        + torch.einsum("ndl,nl->nd", density.factors[component], z)
        + density.noise[component].sqrt() * epsilon
    )
    torch.testing.assert_close(x, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("n", [-1, 5e3, "7"])
def test_a_number_of_samples_that_is_none_is_refused(n):
    with without_shape_checks(), pytest.raises(BayesgapError, match="integer, 0 or more"):
        random_mixture(0).sample_with_components(n, generator=seeded(0))
