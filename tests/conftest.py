import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Where helpers lie that several test files share.
HELPERS = ("", "paper", "radius", "recipes", "runs")
sys.path += [str(Path(__file__).parent / folder) for folder in HELPERS]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that share tiny products wait for each other: tenfold, where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
