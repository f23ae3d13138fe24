"""Progress of long work: a live bar on a terminal, a plain line now and then elsewhere.

There is one bar display a process, on standard error. Worker processes stay silent (their
parent reports on them), as does any code within `silent()`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal


@runtime_checkable
class Advance(Protocol):
    """What `progress` gives to call as the work goes on."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Report that some steps are done.

        Args:
            steps: How many steps were done since the last call.
            note: A few words on where the work stands.
        """


_display: Progress | None = None
_silent = False


@contextmanager
def silent() -> Iterator[None]:
    """Show no progress inside this block."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


@contextmanager
def progress(description: str, total: int) -> Iterator[Advance]:
    """Show how far a piece of work is.

    Args:
        description: What is being done, in a few words.
        total: How many steps it has in all.

    Yields:
        A function to call after each step, or after several of them.
    """
    if _silent:
        yield lambda steps=1, note="": None
    elif sys.stderr.isatty():
        with _bar(description, total) as advance:
            yield advance
    else:
        yield _plain(description, total)


@contextmanager
def _bar(description: str, total: int) -> Iterator[Advance]:
    global _display
    outermost = _display is None
    if _display is None:
        _display = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        _display.start()
    display = _display
    task = display.add_task(description, total=total, note="")
    try:
        yield lambda steps=1, note="": display.update(task, advance=steps, note=note)
    finally:
        display.remove_task(task)
        if outermost:
            display.stop()
            _display = None


def _plain(description: str, total: int) -> Advance:
    done = 0
    last = time.monotonic()

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += steps
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            print(f"{description}: {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)

    return advance
