import pytest

from bayesgap.report import words


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


def test_exhibits_are_called_as_in_the_paper():
    assert [words.exhibit_name(name) for name in ("fig12", "table2")] == ["Figure 12", "Table 2"]
