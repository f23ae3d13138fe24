"""Whether two runs of `bayesgap reproduce` gave the same numbers, to the last digit.

Usage: python bench/compare_runs.py OLD NEW, the folders that the two runs wrote. `results.csv` and
`claims.md` must be equal byte for byte; `results.json` in every value but the seconds of stages,
the hash of the source and the order in which stages stand.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EQUAL_FILES = ("results.csv", "claims.md")


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """The document without times and the hash of the source, stages in an order of their own."""
    timeless = [{**stage, "seconds": 0.0} for stage in document["stages"]]
    stages = sorted(timeless, key=lambda stage: (stage["label"], stage["seed"]))
    environment = {**document["environment"], "source": ""}
    return {**document, "environment": environment, "stages": stages}


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Each place where two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            there = f"{where}.{key}"
            if key not in old or key not in new:
                yield f"{there}: only in the {'old' if key in old else 'new'} run"
            else:
                yield from differences(old[key], new[key], there)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, f"{where}[{place}]")
    elif type(old) is not type(new) or old != new:
        yield f"{where}: {old!r:.80} became {new!r:.80}"


def main() -> int:
    """Compare, say what differs, and exit with 1 where anything does."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    old, new = map(Path, sys.argv[1:])
    found = [
        f"{name} differs"
        for name in EQUAL_FILES
        if (old / name).read_bytes() != (new / name).read_bytes()
    ]
    documents = [comparable(json.loads((run / "results.json").read_text())) for run in (old, new)]
    found += differences(*documents)
    print("\n".join(found) or "Equal in every number.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
