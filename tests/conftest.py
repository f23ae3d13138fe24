import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Where helpers lie that several test files share.
HELPERS = ("", "evaluation", "paper", "radius", "recipes", "runs")
sys.path += [str(Path(__file__).parent / folder) for folder in HELPERS]


# Files of whole runs begin first, so that no worker is left with one of them at the end.
LONGEST = ("test_page.py", "test_faces.py", "test_exam.py", "test_certify.py", "test_cli.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, the others in their order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that share tiny products wait for each other: tenfold, where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
