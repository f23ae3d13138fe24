import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesgap.errors import BayesgapError
from bayesgap.norms import L2, Norm
from linf import LINF
from toys import SEEDS, normal, property_settings


@given(
    st.integers(**SEEDS),
    st.sampled_from([(0, 1, 2, 2), (1, 1, 1, 1), (5, 3, 4, 4), (3, 7)]),
    st.sampled_from([(L2, 2), (LINF, np.inf)]),
)
@property_settings(30)
def test_sizes_are_numpys_norms_of_flattened_images(seed, shape, norm):
    change = normal(seed % 2**31, *shape)
    found = norm[0].size(change)
    expected = np.linalg.norm(change.flatten(1).numpy(), norm[1], axis=1)
    assert found.shape == (shape[0],)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_sizes_are_computed_in_double_precision(dtype):
    change = torch.full((1, 1, 1, 10_000), 0.1).to(dtype)
    exact = 100 * change[0, 0, 0, 0].double()
    found = L2.size(change)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, exact[None], rtol=1e-13, atol=0)


def test_sizes_can_be_differentiated():
    assert torch.autograd.gradcheck(L2.size, [normal(0, 3, 1, 2, 2).requires_grad_()])


def test_a_norm_is_told_by_its_name():
    with pytest.raises(BayesgapError, match=r"A norm called L2 is bayesgap\.L2"):
        Norm("L2", torch.linalg.vector_norm)
    assert L2 != LINF
    assert {L2: 1}[Norm("L2", L2.measure)] == 1
    assert (L2.key, LINF.key) == ("l2", "linf")
    assert repr(L2) == "Norm(name='L2')"


def test_workers_can_import_a_norm():
    again = pickle.loads(pickle.dumps(L2))
    assert again == L2
    assert again.measure is L2.measure


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        (lambda rows: 1 / 0, "failed: ZeroDivisionError: division by zero"),
        (lambda rows: rows, r"must turn 3 rows into a tensor of as many sizes; it gave \(3, 4\)"),
        (lambda rows: rows.norm(), r"of as many sizes; it gave \(\), torch.float64"),
        (lambda rows: rows.norm(dim=1).numpy(), "it gave a ndarray"),
        (lambda rows: rows.norm(dim=1).to(torch.complex64), "of as many sizes"),
        (lambda rows: -rows.norm(dim=1), "gave the size -2: sizes are 0 or more"),
    ],
)
def test_a_measure_that_gives_no_sizes_is_refused(measure, said):
    with pytest.raises(BayesgapError, match=rf"^The measure of the norm bad .*{said}.*\.$"):
        Norm("bad", measure).size(torch.ones(3, 1, 2, 2))


def test_sizes_are_double_precision_whatever_the_measure_gives():
    assert Norm("mine", lambda rows: rows.norm(dim=1).float()).size(torch.ones(3, 4)).dtype == (
        torch.float64
    )
