"""A run of what the other recipes add, at tiny sizes."""

import dataclasses

from bayesgap.experiment import Setting
from bayesgap.experiment.scales import DIGITS, Draws
from bayesgap.images.sources import SOURCES
from bayesgap.norms import L2
from bayesgap.paper.engine.run import compute, plan
from bayesgap.report.page import write_report
from bayesgap.runs.run import Resources
from bayesgap.runs.store import Store
from bayesgap.tasks.fit import fit_task
from figure import EXHIBIT
from squares import Squares

TASK = "squares-left-right"
TINY = dataclasses.replace(
    DIGITS["quick"], task_kind="squares", images=60, seeds=2, per_class=5, checks={}, widths=(1,)
)
DRAWS = Draws(validation_images=50, test_images=80, pool_images=50, images=200)


def fitted(folder):
    return {TASK: fit_task(Squares(), TASK, folder)}


def reproduced(tasks, folder, norm=L2, workers=1):
    setting = Setting(
        "quick",
        seed=0,
        tasks=tasks,
        sources=(*SOURCES, Squares()),
        scales={"digits": {"quick": TINY}},
        draws=DRAWS,
        norm=norm,
    )
    made = compute(plan(setting, [EXHIBIT]), Store(str(folder / "store")), Resources(workers))
    return made, write_report(made, folder / "out")
