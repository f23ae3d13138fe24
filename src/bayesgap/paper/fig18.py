"""Figure 18: every classifier of the task mnist-4-5, looked at."""

from bayesgap.paper.gallery import gallery

EXHIBIT = gallery("fig18", "mnist-4-5", "Digits 4 and 5")
