import numpy as np
import pytest
import torch
from truths import Dense, random_task

from bayesgap.radius.frame import frame

# The two forms: the span of what matters, and the pixels.
FORMS = {
    "few pixels": {"d": 5, "noises": "diagonal"},
    "span": {"d": 70, "noises": "isotropic unequal"},
    "pixels": {"d": 40, "noises": "diagonal"},
    "many components in pixels": {"d": 20, "noises": "isotropic equal", "components": 8},
}


def made(name, seed=0):
    task = random_task(seed, latent=2, **FORMS[name])
    points = task.sample(6, seed=seed)[0].flatten(1)
    return task, frame(task.bayes_classifier(temperature=1.0).marginal), points


@pytest.mark.parametrize("name", FORMS)
def test_values_are_the_log_joints_of_dense_gaussians(name):
    task, framed, x = made(name)
    assert (framed.basis is not None) == (name == "span")
    expected = Dense(task, "max-component").joints(x.numpy())
    actual = framed.values(framed.coordinates(x))
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FORMS)
def test_slopes_are_the_gradients_of_values(name):
    _, framed, x = made(name)
    z = framed.coordinates(x).requires_grad_()
    for component in range(len(framed.means)):
        (gradient,) = torch.autograd.grad(framed.values(z)[:, component].sum(), z)
        slopes = framed.slopes(z.detach(), torch.full((len(z),), component))
        torch.testing.assert_close(slopes, -gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FORMS)
def test_products_with_inverse_covariances_are_those_of_dense_ones(name):
    task, framed, x = made(name)
    dense = Dense(task, "max-component")
    component = torch.arange(len(x)) % len(dense.means)
    moves = x - x.mean(dim=0)
    if framed.basis is not None:
        moves = moves @ framed.basis @ framed.basis.mT
        inside = torch.cat([moves @ framed.basis, torch.zeros(len(x), 1)], dim=1)
        products = framed.times(component, inside)[:, :-1] @ framed.basis.mT
    else:
        products = framed.times(component, moves)
    expected = np.einsum("nij,nj->ni", dense.precisions[component.numpy()], moves.numpy())
    torch.testing.assert_close(products, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FORMS)
def test_moves_in_coordinates_and_in_pixels_are_the_same(name):
    _, framed, x = made(name)
    z = framed.coordinates(x)
    moves = 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(1)).double()
    pixels = framed.displacements(x, moves)
    torch.testing.assert_close(pixels.norm(dim=1), moves.norm(dim=1), rtol=1e-12, atol=0)
    torch.testing.assert_close(framed.coordinates(x + pixels), z + moves, rtol=1e-10, atol=1e-12)


def test_a_point_within_the_span_has_nothing_left_to_move_along():
    _, framed, _ = made("span")
    x = (framed.centre + framed.basis[:, 0])[None]
    moves = torch.zeros(1, framed.basis.shape[1] + 1, dtype=torch.float64)
    moves[0, -1] = 1.0
    assert framed.displacements(x, moves).isfinite().all()


@pytest.mark.parametrize("name", FORMS)
def test_inverses_are_dense_ones(name):
    task, framed, _ = made(name)
    inverses = framed.inverses()
    if framed.basis is not None:
        rest = torch.eye(task.densities[0].dimension) - framed.basis @ framed.basis.mT
        outside = framed.precisions[:, :, None] * rest
        inverses = framed.basis @ inverses[:, :-1, :-1] @ framed.basis.mT + outside
    expected = torch.from_numpy(Dense(task, "max-component").precisions)
    torch.testing.assert_close(inverses, expected, rtol=1e-9, atol=1e-9)


def test_where_all_noises_are_isotropic_one_precision_serves_all_pixels():
    for noises, values in (("isotropic unequal", 1), ("diagonal", 6)):
        task = random_task(3, 6, noises=noises)
        framed = frame(task.bayes_classifier(temperature=1.0).marginal)
        assert framed.precisions.shape == (4, values)
