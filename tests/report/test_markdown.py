from bayesgap.paper.claim import Claim, Number

from bayesgap.report.markdown import claims_page

DOCUMENT = {"version": "1", "scale": "quick", "seed": 0, "sizes": {}}


def test_every_claim_and_number_stands_on_the_page():
    numbers = [
        Number("a|b", 1.25, 1.0, 1.5, at_least=0.5, trainings=3),
        Number("none", None, None, None),
    ]
    claim = Claim("name", "Statement.", "paper", "rule", numbers, ["A remark."])
    page = claims_page({"fig4": [claim]}, DOCUMENT)
    assert "| Statement. | fig4 | **not decided** |" in page
    assert "| a\\|b | 1.25 | 1 – 1.5 | 3 | reproduced |" in page
    assert "| none | – |  |  | not decided |" in page
    assert "A remark." in page
