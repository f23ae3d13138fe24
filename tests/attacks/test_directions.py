import numpy as np
import pytest
import scipy.fft
import torch

from bayesgap.attacks.directions import Cosines
from toys import normal

SHAPES = ((1, 1, 1), (1, 1, 5), (1, 4, 6), (3, 5, 4))


@pytest.mark.parametrize("shape", SHAPES)
def test_coefficients_are_those_of_scipys_cosine_transform(shape):
    x = normal(0, 7, *shape)
    found = Cosines(shape, x).coefficients(x)
    expected = scipy.fft.dctn(x.numpy(), axes=(1, 2, 3), norm="ortho").reshape(7, -1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_images_are_an_orthonormal_basis_in_the_order_of_the_coefficients(shape):
    basis = Cosines(shape, normal(0, 1))
    d = len(basis.frequency)
    index = torch.stack([torch.arange(d), torch.arange(d).flip(0)])
    rows = basis.images(index).flatten(2)
    torch.testing.assert_close(rows[0] @ rows[0].T, torch.eye(d).double(), rtol=0, atol=1e-13)
    assert torch.equal(rows[1], rows[0].flip(0))
    x = normal(1, 4, *shape)
    coefficients = basis.coefficients(x)
    torch.testing.assert_close(coefficients, x.flatten(1) @ rows[0].T, rtol=0, atol=1e-13)
    torch.testing.assert_close(basis.combined(coefficients), x, rtol=0, atol=1e-13)


def test_the_frequency_counts_half_periods_of_all_axes():
    basis = Cosines((2, 3, 4), normal(0, 1))
    expected = [(c**2 + i**2 + j**2) ** 0.5 for c in range(2) for i in range(3) for j in range(4)]
    torch.testing.assert_close(basis.frequency, torch.tensor(expected).double())
