import pytest

from bayesgap.estimates import UNKNOWN, Estimate
from bayesgap.paper.engine import Claim, Number
from bayesgap.report.markdown import claims_page

DOCUMENT = {"version": "1", "scale": "quick", "seed": 0, "sizes": {}}


def claim(*numbers, **texts):
    about = {"name": "name", "statement": "Statement.", "paper": "paper", "rule": "rule"}
    return Claim(**{**about, **texts}, numbers=list(numbers))


def test_every_claim_and_number_stands_on_the_page():
    one = claim(
        Number("a|b", Estimate(1.25, 1.0, 1.5), at_least=0.5, trainings=3),
        Number("none", UNKNOWN),
        remarks=["A remark."],
    )
    page = claims_page({"fig4": [one]}, DOCUMENT)
    assert "| Statement. | fig4 | **not decided** |" in page
    assert "| a\\|b | 1.25 | 1 – 1.5 | 3 | reproduced |" in page
    assert "| none | – |  |  | not decided |" in page
    assert "A remark." in page
    assert "The paper: paper. Rule: rule." in page
    assert page.endswith("|\n")


def test_all_claims_of_all_exhibits_come_in_order_each_under_its_name():
    wins = Number("n", Estimate(1.0, 1.0, 1.0), at_least=0.5)
    fails = Number("n", Estimate(1.0, 1.0, 1.0), at_most=0.5)
    claims = {
        "fig4": [claim(wins, name="one"), claim(fails, name="two")],
        "fig6": [],
        "table1": [claim(wins, fails, name="three")],
    }
    headings = [
        line for line in claims_page(claims, DOCUMENT).splitlines() if line.startswith("##")
    ]
    assert headings == [
        "## one (fig4): reproduced",
        "## two (fig4): not reproduced",
        "## three (table1): not reproduced",
    ]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({}, "seed 0. A claim"),
        (
            {"digits": {"seeds": 3, "cnn_seeds": 5, "images": 3_000, "per_class": 100}},
            "seed 0 (digits: 3 training seeds (5 of plain CNNs), 3000 training images each, "
            "100 attacked points a class). A claim",
        ),
    ],
)
def test_the_sizes_of_the_run_are_said_first(sizes, said):
    assert said in claims_page({}, {**DOCUMENT, "sizes": sizes})
