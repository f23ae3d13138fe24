"""Figure 13: every classifier of the task celeba-smiling, looked at."""

from bayesgap.paper.gallery import gallery

EXHIBIT = gallery("fig13", "celeba-smiling", "Smiling")
