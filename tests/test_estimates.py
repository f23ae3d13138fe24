import pytest

from bayesgap.estimates import UNKNOWN, Estimate


def test_an_estimate_is_a_tuple_of_three():
    estimate = Estimate(2.8, 2.7, 2.9)
    assert (estimate.value, estimate.low, estimate.high) == tuple(estimate)
    assert estimate == (2.8, 2.7, 2.9)
    assert UNKNOWN == (None, None, None)


@pytest.mark.parametrize("estimate", [Estimate(0.5, 0.25, 1.0), UNKNOWN])
def test_a_record_has_a_key_for_each_number(estimate):
    assert estimate.record("gap") == dict(
        zip(("gap", "gap_low", "gap_high"), estimate, strict=True)
    )


@pytest.mark.parametrize(
    ("low", "least", "cut"), [(-1.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.0, 0.0, 0.0), (None, 0.0, None)]
)
def test_an_interval_is_cut_off_below_what_the_number_cannot_fall_short_of(low, least, cut):
    estimate = UNKNOWN if low is None else Estimate(2.0, low, 3.0)
    assert estimate.at_least(least) == estimate._replace(low=cut)
