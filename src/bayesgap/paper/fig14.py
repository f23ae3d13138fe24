"""Figure 14: every classifier of the task celeba-eyeglasses, looked at."""

from bayesgap.paper.gallery import gallery

EXHIBIT = gallery("fig14", "celeba-eyeglasses", "Eyeglasses")
