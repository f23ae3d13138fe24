"""Figure 1: the paper in one row of images."""

from functools import partial

from bayesgap.paper.exhibit import Exhibit
from bayesgap.paper.gallery import EVERY_CLASSIFIER, OWN_TASKS, preferring

EXHIBIT = Exhibit(
    name="fig1",
    title="One image, and what alters the decision of each optimum, a CNN and an RBF SVM",
    needs=f"celeba-male for the paper's faces, else {OWN_TASKS}",
    tasks=partial(preferring, "celeba-male"),
    jobs=EVERY_CLASSIFIER,
)
