"""The table of docs/situations.md: what misleads elsewhere, and what happens here.

python bench/situations.py > docs/situations.md
"""

import sys
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).parent.parent / "tests" / part) for part in ("", "evaluation", "recipes")
]

from situations import PER_CLASS, SITUATIONS, Happened, happened  # noqa: E402

HEAD = f"""# Situations that mislead

In each of these {len(SITUATIONS)} situations a tool of robustness can give a wrong number: most are
known from users' reports of such tools, others are variants. The task is two spheres in 100 pixels
and the classifier a plane that is not the optimum's, so the right mean L2 is known; {PER_CLASS}
points a class are attacked with `bayesgap.evaluate`. *Works* means a mean within 3 % of the truth
and no doubt. *Doubted* means that `Evaluation.doubts` names what is wrong; where the mean is right
all the same, it says so. *Refused* means one sentence. `tests/evaluation/test_situations.py` holds
each to what it should be; this table is what

    python bench/situations.py

prints.

| | the classifier, attack or user … | what happens |
| --- | --- | --- |"""


def said(found: Happened) -> str:
    """What happened, in words."""
    if found.what == "refused":
        return f"refused: {found.detail.partition(chr(10))[0].replace('|', chr(92) + '|')}"
    if found.what == "doubted":
        return f"doubted: {found.detail}{' (mean right)' if found.right else ''}"
    return found.what


def main() -> None:
    print(HEAD)
    group = ""
    for situation in SITUATIONS:
        found = said(happened(situation))
        name = situation.group if situation.group != group else ""
        group = situation.group
        print(f"| {name} | {situation.does} | {found} |", flush=True)


if __name__ == "__main__":
    main()
