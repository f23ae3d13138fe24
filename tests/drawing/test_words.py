import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesgap.drawing import words
from bayesgap.estimates import UNKNOWN, Estimate
from toys import property_settings


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4, "4"),
        (3_000, "3,000"),
        (0.001, "0.001"),
        ("digits", "digits"),
        ((2, 4, 8), "2, 4, 8"),
        ([], "none"),
        ({}, "none"),
        (
            {"cnn": {"ddn": 100, "cw-l2": 10}, "step_share": 0.25},
            "cnn (ddn 100, cw-l2 10), step share 0.25",
        ),
    ],
)
def test_settings_are_written_as_text(value, text):
    assert words.setting(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1.0, "100\u202f%"), (0.9996, "100\u202f%"), (-0.0042, "−0.4\u202f%")],
)
def test_shares_are_written_as_percents(value, text):
    assert words.percent(value) == text


def test_shares_have_as_many_digits_as_were_asked_for():
    assert words.percent(0.99957, 2) == "99.96\u202f%"
    assert words.percent(0.5, 2) == "50\u202f%"
    assert words.percent(1.0, 0) == "100\u202f%"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (2.7813, "2.78"), (0.11535, "0.115"), (12.3456, "12.35")]
)
def test_sizes_have_about_three_digits(value, text):
    assert words.size(value) == text


@pytest.mark.parametrize(
    ("estimate", "ends", "whole"),
    [
        (Estimate(2.7813, 2.7, 2.95), "2.70 – 2.95", "2.781 (2.7 – 2.95)"),
        (Estimate(0.25, 0.0, 1.0), "0.000 – 1.00", "0.25 (0 – 1)"),
        (UNKNOWN, "", "–"),
    ],
)
def test_intervals_are_written_from_end_to_end(estimate, ends, whole):
    assert words.interval(estimate) == ends
    assert words.with_interval(estimate) == whole


def test_a_number_below_0_has_a_true_minus_sign():
    assert words.with_interval(Estimate(0.25, -0.5, 1.0)) == "0.25 (−0.5 – 1)"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (2.7813, 2.8912, "2.78 – 2.89"),
        (2.7813, 2.7831, "2.781 – 2.783"),
        (2.78134, 2.78139, "2.7813 – 2.7814"),
        (2.0, 2.0, "2 – 2"),
        (None, 1.0, "–"),
        (1.0, None, "–"),
    ],
)
def test_a_bracket_has_as_many_digits_as_tell_its_ends_apart(low, high, text):
    assert words.bracket(low, high) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.384, "0.38"), (-0.384, "−0.38"), (-12.34, "−12.3")]
)
def test_signed_numbers_have_a_true_minus_sign(value, text):
    assert words.signed(value) == text


def test_numbers_have_four_digits():
    assert words.number(1234.567) == "1235"
    assert words.number(0.123456) == "0.1235"
    assert words.number(None) == "–"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.5, None, 0.25], "0.250 to 0.500"),
        ([0.25001, 0.25002], "0.250"),
        ([None], "an unknown share"),
        ([], "an unknown share"),
    ],
)
def test_a_span_leaves_out_what_is_not_known(values, text):
    assert words.span(values) == text


def test_a_slug_has_no_spaces():
    assert words.slug("the gap of a CNN") == "the-gap-of-a-CNN"


@given(st.floats(1e-3, 1e3), st.floats(0, 1))
@property_settings(40)
def test_what_is_written_is_the_number_to_its_digits(value, share):
    assert float(words.number(value)) == pytest.approx(value, rel=1e-3)
    assert float(words.size(value)) == pytest.approx(value, rel=6e-3, abs=6e-4)
    assert float(words.percent(share).rstrip("\u202f%")) == pytest.approx(100 * share, abs=0.051)
