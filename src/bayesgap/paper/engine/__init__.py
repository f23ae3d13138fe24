"""What every figure and table shares: claims, exhibits, and the run that makes them."""

from bayesgap.paper.engine.claim import NOT_DECIDED, NOT_REPRODUCED, REPRODUCED, Claim, Number
from bayesgap.paper.engine.exhibit import Exhibit, Findings, Key, Named, Wants, attacks

__all__ = [
    "NOT_DECIDED",
    "NOT_REPRODUCED",
    "REPRODUCED",
    "Claim",
    "Exhibit",
    "Findings",
    "Key",
    "Named",
    "Number",
    "Wants",
    "attacks",
]
