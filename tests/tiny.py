"""Runs at sizes that compute in seconds: what tests of whole runs share."""

import dataclasses

from bayesgap.classifiers.allconv import Training
from bayesgap.experiment.kinds import OPTIMUM
from bayesgap.experiment.scales import DIGITS, FACES, Draws, trades
from bayesgap.experiment.setting import VARIANTS, Setting
from bayesgap.paper.engine.run import compute, plan
from bayesgap.paper.fig9 import exhibit as fig9
from bayesgap.paper.fig10 import exhibit as fig10
from bayesgap.paper.observations import exhibit as observations
from bayesgap.paper.registry import EXHIBITS, choose
from bayesgap.report.page import write_report
from bayesgap.runs.run import Resources
from bayesgap.runs.store import Store
from bayesgap.tasks.catalog import known_tasks

TASK = "mnist-0-6"
SCALE = dataclasses.replace(
    DIGITS["quick"],
    images=120,
    seeds=2,
    cnn_seeds=2,
    per_class=4,
    curve_per_class=2,
    checks={OPTIMUM.name: {"ddn": 2, "cw-l2": 1}},
    checked=VARIANTS,
    widths=(1,),
    gammas=(0.01, 0.1),
    training=Training(epochs=1),
    robust=trades(l2=1.0, linf=0.1, wide=0.3, steps=2, epochs=1),
)
SCALE_OF_FACES = dataclasses.replace(
    FACES["quick"],
    images=40,
    seeds=2,
    cnn_seeds=2,
    per_class=2,
    curve_per_class=1,
    widths=(1,),
    gammas=(0.0003,),
    training=Training(epochs=1),
    robust=trades(l2=0.5, linf=0.01, wide=0.02, steps=1, epochs=1),
)
SCALES = {"digits": {"quick": SCALE}, "faces": {"quick": SCALE_OF_FACES}}
DRAWS = Draws(validation_images=100, test_images=100, pool_images=100, images=100)
SMALLER = (
    fig9.exhibit({"digits": {"quick": fig9.Size((1_000, 2_000), ((1, 2), (2, 2)), 2, 2)}}),
    fig10.exhibit(images=100),
    observations.exhibit(points=4),
)
# The registry's exhibits, those with sizes of their own at the smallest.
TINY_EXHIBITS = tuple(
    next((small for small in SMALLER if small.name == each.name), each) for each in EXHIBITS
)


def digits(seed=0):
    """The setting of a run on one released task."""
    return Setting("quick", seed, {TASK: known_tasks()[TASK][-1]}, scales=SCALES, draws=DRAWS)


def ran_with(setting, names, folder, out="out", *, private=True):
    """Plan, compute and report, as the command line does, with the store in the folder."""
    planned = plan(setting, choose(names, TINY_EXHIBITS))
    made = compute(planned, Store(str(folder / "store")), Resources())
    return made, write_report(made, folder / out, private=private)
