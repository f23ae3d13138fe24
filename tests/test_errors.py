from bayesgap.errors import did_you_mean, near_names


def test_near_names_come_whatever_their_capitals_the_likest_first():
    known = ["DDNAttack", "ddn", "closest"]
    assert near_names("DDN", known) == ["ddn"]
    assert near_names("ddnattack", known, 1) == ["DDNAttack"]
    assert near_names("something else", known) == []
    assert did_you_mean("DNN", known) == " Did you mean ddn?"
    assert did_you_mean("something else", known) == ""
