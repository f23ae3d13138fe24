"""What the attacks' settings in docs/choices.md rest on, on the optimum of one symmetric task."""

import torch

from bayesgap import load_task
from bayesgap.attacks.base import Attack
from bayesgap.attacks.ld_grad import OVERSHOOT, LDGrad
from bayesgap.attacks.library import cw_l2
from bayesgap.evaluation.measure import attack_decisions
from bayesgap.progress import silent

TASK = "mnist-0-6/symmetric"


def cw_at(scale: float) -> Attack:
    attack = cw_l2()
    attack.bayes_logit_scale = scale
    return attack


if __name__ == "__main__":
    task = load_task(TASK)
    optimum = task.bayes_classifier()
    x, _ = task.sample_given(torch.arange(task.classes).repeat(100), seed=0)
    few = x[:20]
    with silent():
        for name, attack, points in (
            (f"LD-Grad, overshoot {OVERSHOOT:.1%}", LDGrad(), x),
            ("LD-Grad, overshoot 0.1%", LDGrad(overshoot=0.001), x),
            ("CW-L2, the default temperature", cw_at(1.0), few),
            ("CW-L2, a hundredth of it", cw_at(cw_l2().bayes_logit_scale), few),
        ):
            broken = attack_decisions(optimum, attack, points).sizes.isfinite()
            print(f"{name:32} breaks {int(broken.sum()):3} of {len(points)} points of {TASK}")
