"""Figure 17: every classifier of the task mnist-0-6, looked at."""

from bayesgap.paper.gallery import gallery

EXHIBIT = gallery("fig17", "mnist-0-6", "Digits 0 and 6")
