"""What misleads elsewhere is refused, doubted or right here: zero wrong numbers, no traceback."""

import pytest

from situations import SITUATIONS, Situation, happened


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_no_number_is_wrong_without_a_doubt(situation: Situation):
    found = happened(situation)
    expected, _, said = situation.expected.partition(": ")
    if expected == "refused":
        assert found.what == "refused"
        assert said in found.detail
    elif expected == "works":
        assert found.what == "works", found
    else:
        assert found.what == "doubted"
        assert situation.expected in found.detail.split("; ")
    assert found.right or not situation.also
