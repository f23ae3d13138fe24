"""Figure 15: every classifier of the task celeba-no-beard, looked at."""

from bayesgap.paper.gallery import gallery

EXHIBIT = gallery("fig15", "celeba-no-beard", "No beard")
