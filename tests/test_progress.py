import sys

import pytest

from bayesgap import progress as module
from bayesgap.progress import progress, silent


def show_a_terminal(monkeypatch):
    """To be called in the test itself: pytest replaces sys.stderr after the fixtures."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when a test says so."""
    now = [100.0]
    monkeypatch.setattr("bayesgap.progress.time.monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_appears_every_ten_seconds(capsys, clock):
    with progress("counting", 5) as advance:
        for seconds in (9.0, 1.0, 9.9, 0.2, 5.0):
            clock[0] += seconds
            advance(note="so far")
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["counting: 2/5 so far", "counting: 4/5 so far"]
    assert captured.out == ""


def test_steps_add_up_and_an_empty_note_leaves_no_space(capsys, clock):
    with progress("counting", 10) as advance:
        advance(3)
        clock[0] += 11
        advance(steps=4)
    assert capsys.readouterr().err == "counting: 7/10\n"


def test_quick_work_prints_nothing_without_a_terminal(capsys):
    with progress("counting", 3) as advance:
        for _ in range(3):
            advance()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_on_standard_error(monkeypatch, capsys):
    show_a_terminal(monkeypatch)
    with progress("counting", 4) as advance:
        advance(3, note="nearly")
        assert module._display is not None
        module._display.refresh()
    shown = capsys.readouterr()
    assert "counting" in shown.err
    assert "3/4" in shown.err
    assert "nearly" in shown.err
    assert shown.out == ""


def test_nested_work_shares_one_display_which_ends_with_the_outermost(monkeypatch):
    show_a_terminal(monkeypatch)
    with progress("outer", 2) as outer:
        display = module._display
        assert display is not None
        with progress("inner", 3) as inner:
            assert module._display is display
            inner(2)
            assert [task.completed for task in display.tasks] == [0, 2]
        assert module._display is display
        assert display.live.is_started
        assert [task.description for task in display.tasks] == ["outer"]
        outer()
        assert [task.completed for task in display.tasks] == [1]
    assert module._display is None
    assert not display.live.is_started


def test_a_failure_inside_takes_the_display_down_and_passes_on(monkeypatch):
    show_a_terminal(monkeypatch)
    with pytest.raises(ZeroDivisionError) as caught, progress("outer", 1), progress("inner", 1):
        raise ZeroDivisionError(module._display)
    assert caught.value.args[0] is not None
    assert module._display is None


def test_nothing_is_shown_within_silent(monkeypatch, capsys, clock):
    show_a_terminal(monkeypatch)
    with silent():
        with progress("counting", 2) as advance:
            clock[0] += 100
            advance(note="a")
            advance(2)
        with silent():
            pass
        with progress("still silent", 1) as advance:
            advance()
    assert capsys.readouterr() == ("", "")
    assert module._display is None


def test_silence_ends_with_its_block_even_on_failure(monkeypatch):
    show_a_terminal(monkeypatch)
    with pytest.raises(ZeroDivisionError), silent():
        raise ZeroDivisionError
    with progress("loud", 1):
        assert module._display is not None
