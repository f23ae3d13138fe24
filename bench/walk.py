"""The attack that is taken by default beside others: how near they come, and how fast.

Two parts: a CNN trained on samples of a task, where the nearest of all attacks is the measure, and
the optima of tasks, where the certified upper bound is. Times are of one process and the threads
that torch takes by default; the unit is that of 100 forward and backward passes of the classifier
over all points, which any attack with 100 gradients needs. Gradients for each point say the same
on a busy machine.

    python bench/walk.py [POINTS [TASK …]]

attacks POINTS points (200) of the CNN's task and half as many of each task, by default of all
released ones; a TASK is a name or a file that `load_task` takes.
"""

import sys
import time

import torch
from torch import Tensor, nn

import bayesgap as bg
from bayesgap.attacks.base import Adversarials, Attack
from bayesgap.attacks.boundary import gaps, value_and_gradient
from bayesgap.classifiers.allconv import train_allconv
from bayesgap.classifiers.module import decisions, evaluating, placed
from bayesgap.progress import silent

CNN_TASK, WIDTH, TRAINED_ON, POOL = "mnist-0-6/symmetric", 4, 2_000, 2_000
FAST = ("closest", "boundary-walk", "ddn", "fmn", "superdeepfool", "deepfool")
SLOW = ("foolbox:DDNAttack?steps=1000", "cw-l2")
TASKS = [
    f"{name}/{variant}"
    for variant in ("symmetric", "asymmetric", "fitted")
    for name in ("mnist-0-6", "mnist-2-7", "mnist-4-5")
]
WARM = 10  # points that are attacked once before the clock runs


class Counting(nn.Module):
    """A classifier that counts the images it sees, and those that gradients come back for."""

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier = classifier
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        self.backwards += len(x) * (torch.is_grad_enabled() and x.requires_grad)
        return self.classifier(x)


def hundred_gradients(classifier: nn.Module, x: Tensor, y: Tensor) -> float:
    """Seconds of 100 forward and backward passes."""
    with evaluating(classifier):
        x, gap = placed(classifier, x), gaps(classifier, y)
        start = time.perf_counter()
        for _ in range(100):
            value_and_gradient(gap, x)
    return time.perf_counter() - start


def timed(
    attack: Attack, classifier: nn.Module, x: Tensor, y: Tensor
) -> tuple[Adversarials, float, float, float]:
    attack(classifier, x[:WARM], y[:WARM])
    start = time.perf_counter()
    found = attack(classifier, x, y)
    seconds = time.perf_counter() - start
    counting = Counting(classifier)
    # Without a clock, as counting costs.
    attack(counting, x, y)
    return found, seconds, counting.forwards / len(x), counting.backwards / len(x)


def on_cnn(points: int) -> None:
    task = bg.load_task(CNN_TASK)
    network, _ = train_allconv(
        *task.sample(TRAINED_ON, seed=7), width=WIDTH, classes=task.classes, seed=0
    )
    (x, _), (pool, _) = task.sample(points, seed=3), task.sample(POOL, seed=1)
    x = x.float()
    y = decisions(network, x)
    attacks = [bg.named_attack(name, pool=pool) for name in (*FAST, *SLOW)]
    results = {attack.name: timed(attack, network, x, y) for attack in attacks}
    unit = min(hundred_gradients(network, x, y) for _ in range(3))
    sizes = torch.stack([found.sizes for found, *_ in results.values()])
    nearest = sizes.amin(dim=0)
    print(f"A CNN on {points} points of {CNN_TASK}; 100 gradients take {unit:.2f} s:")
    print(
        f"{'':30} {'success':>8} {'mean L2 / best':>15} {'worst':>8} {'time':>7} {'forwards':>9} "
        f"{'gradients':>10}"
    )
    for (name, (found, seconds, forwards, backwards)), size in zip(
        results.items(), sizes, strict=True
    ):
        ratio = (size / nearest)[found.success]
        print(
            f"{name:30} {len(ratio) / points:8.1%} {ratio.mean():15.5f} {ratio.max():8.4f} "
            f"{seconds / unit:7.2f} {forwards:9.0f} {backwards:10.0f}"
        )


def on_optimum(name: str, points: int) -> None:
    task = bg.load_task(name)
    y = torch.arange(task.classes).repeat(-(-points // task.classes))
    bracket = bg.certify(task, task.sample_given(y, seed=0)[0], y)
    there = bracket.correct
    x, y, upper = bracket.x[there], bracket.y[there], bracket.upper[there]
    pool, _ = task.sample(POOL, seed=1)
    loose = (upper / bracket.lower[there]).mean()
    print(f"\nThe optimum of {name}, {len(x)} points, upper / lower {loose:.4f}:")
    optimum = task.bayes_classifier()
    for attack in (bg.named_attack(each, pool=pool) for each in FAST):
        found, seconds, forwards, backwards = timed(attack, optimum, x, y)
        ratio = (found.sizes / upper)[found.success]
        print(
            f"{attack.name:16} success {len(ratio) / len(x):6.1%}, L2 / upper mean "
            f"{ratio.mean():8.5f}, worst {ratio.max():8.4f}, {seconds:5.2f} s, {forwards:4.0f} "
            f"forwards, {backwards:4.0f} gradients"
        )


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with silent():
        on_cnn(number)
        for each in sys.argv[2:] or TASKS:
            on_optimum(each, number // 2)
