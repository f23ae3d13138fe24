import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Helpers that several test files share.
sys.path += [str(Path(__file__).parent), str(Path(__file__).parent / "runs")]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that share tiny products wait for each other: tenfold, where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
