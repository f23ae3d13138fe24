"""Figure 16: every classifier of the task celeba-heavy-makeup, looked at."""

from bayesgap.paper.gallery import gallery

EXHIBIT = gallery("fig16", "celeba-heavy-makeup", "Heavy makeup")
