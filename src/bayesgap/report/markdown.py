"""The claims as a page of Markdown, which code hosts show as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from bayesgap.drawing import words
from bayesgap.paper.engine import Claim, Number


def claims_page(claims: Mapping[str, Sequence[Claim]], document: Mapping[str, Any]) -> str:
    """Every claim with its verdict, and every number behind it.

    Args:
        claims: The claims of each figure or table, by its name.
        document: What `results.json` holds.
    """
    rows = [(where, claim) for where, several in claims.items() for claim in several]
    sizes = "; ".join(
        f"{kind}: {size['seeds']} training seeds ({size['cnn_seeds']} of plain CNNs), "
        f"{size['images']} training images each, "
        f"{size['per_class']} attacked points a class"
        for kind, size in document["sizes"].items()
    )
    lines = [
        "# The paper's claims, judged",
        "",
        f"bayesgap {document['version']}, {document['scale']} scale, seed {document['seed']}"
        f"{' (' + sizes + ')' if sizes else ''}. A claim is reproduced when every number lies with "
        "its whole 95 % interval where its rule says, not reproduced when one lies wholly "
        "elsewhere, and not decided otherwise.",
        "",
        *_table(["claim", "where", "verdict"], [_summary(where, claim) for where, claim in rows]),
    ]
    for where, claim in rows:
        lines += ["", f"## {claim.name} ({where}): {claim.verdict}", "", claim.statement, ""]
        lines += [f"The paper: {claim.paper}. Rule: {claim.rule}.", ""]
        lines += [text for remark in claim.remarks for text in (remark, "")]
        lines += _table(
            ["number", "value", "95 % interval", "trainings", "verdict"],
            [_row(number) for number in claim.numbers],
        )
    return "\n".join(lines) + "\n"


def _summary(where: str, claim: Claim) -> list[str]:
    return [claim.statement, where, f"**{claim.verdict}**"]


def _row(number: Number) -> list[str]:
    value, *ends = number.estimate
    interval = "" if None in ends else " – ".join(words.number(end) for end in ends)
    trainings = "" if number.trainings is None else str(number.trainings)
    return [number.label, words.number(value), interval, trainings, number.verdict]


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells are plain text; a bar would end one."""
    return [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in (heading, ["---"] * len(heading), *rows)
    ]
