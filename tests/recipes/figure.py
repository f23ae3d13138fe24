"""A figure: is the nearest mean as robust as the optimum?"""

from bayesgap.drawing.section import Section
from bayesgap.experiment.kinds import OPTIMUM
from bayesgap.experiment.setting import REAL, SYMMETRIC
from bayesgap.paper import pictures
from bayesgap.paper.engine.claim import Claim
from bayesgap.paper.engine.exhibit import Exhibit, Wants, attacks
from bayesgap.paper.rules import relative_size
from nearest_mean import NEAREST_MEAN

KINDS = {SYMMETRIC: (OPTIMUM, NEAREST_MEAN), REAL: (NEAREST_MEAN,)}


def wants(setting):
    return Wants(attacks(setting.tasks, KINDS))


def claims(findings):
    numbers = [
        relative_size(findings.case(task, SYMMETRIC), NEAREST_MEAN, at_least=0.5)
        for task in findings.tasks(SYMMETRIC)
    ]
    return [Claim("means are robust", "Means are robust.", "nothing", "at least half", numbers)]


def section(findings):
    tasks = findings.tasks(SYMMETRIC)
    chart = [pictures.on_tasks(findings, tasks, SYMMETRIC, kind) for kind in KINDS[SYMMETRIC]]
    return Section(["Means."], [pictures.bar_chart({"means": chart}, "the nearest mean")])


EXHIBIT = Exhibit(
    name="means",
    label="Means",
    title="the nearest mean beside the optimum",
    needs="nothing",
    wants=wants,
    section=section,
    claims=claims,
)
