"""What doubts cost: an evaluation with them beside its attack and certificates alone.

python bench/doubts.py [POINTS OF EACH CLASS]
"""

import sys
import time

import torch

import bayesgap
from bayesgap.attacks.closest import Closest
from bayesgap.classifiers.allconv import Training, train_allconv
from bayesgap.evaluation.measure import attack_decisions

TRAINING_IMAGES = 2_000
ROUNDS = 3  # of which the fastest counts


def seconds(work) -> float:
    """The fastest of a few rounds."""
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    torch.set_num_threads(1)
    per_class = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    task = bayesgap.load_task("mnist-0-6/symmetric")
    x, y = task.sample(TRAINING_IMAGES, seed=7)
    net, _ = train_allconv(x.float(), y, width=4, classes=2, seed=0, training=Training(epochs=8))
    labels = torch.arange(2).repeat(per_class)
    points, _ = task.sample_given(labels, seed=0)

    def bare() -> None:
        pool, _ = task.sample(2_000, seed=1)
        attack_decisions(net, Closest(pool), points)
        bayesgap.certify(task, points, labels)

    alone = seconds(bare)
    print(f"attack and certificates alone: {alone:.2f} s")
    for doubts in ("quick", "full"):
        with_doubts = seconds(
            lambda doubts=doubts: bayesgap.evaluate(net, task, per_class=per_class, doubts=doubts)
        )
        print(
            f'evaluate(…, doubts="{doubts}"): {with_doubts:.2f} s, {with_doubts / alone:.2f} times'
        )


if __name__ == "__main__":
    main()
