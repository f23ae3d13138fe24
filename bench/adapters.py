"""The adapters against the real libraries, where they are installed; those that are not are named.

Each attack meets a hyperplane whose distance is known, from images that leave [0, 1], and a task's
optimum, whose certified distance no success may undercut.

    python bench/adapters.py
"""

import importlib
import time
import warnings

import torch

import bayesgap as bg
from bayesgap.attacks.named import CLASSES, PACKAGES
from bayesgap.classifiers.module import decisions
from bayesgap.classifiers.svm import LinearSVM

POINTS = 20
PER_CLASS = 5
NAMES = (
    "foolbox:DDNAttack",
    "foolbox:L2DeepFoolAttack",
    "foolbox:L2FastGradientAttack",
    "foolbox:L2BasicIterativeAttack",
    "torchattacks:CW?c=10&steps=200&bayes_logit_scale=100",
    "torchattacks:DeepFool",
    "torchattacks:PGDL2?eps=4&alpha=0.5&steps=30",
    "torchattacks:APGD?norm=L2&eps=4",
    "torchattacks:FAB?norm=L2&eps=4&n_classes=2&steps=20",
    "art:DeepFool?batch_size=64",
    "art:ProjectedGradientDescent?norm=2&eps=4&eps_step=0.5&max_iter=30",
    "art:CarliniL2Method?max_iter=50&batch_size=64&bayes_logit_scale=100",
    "adv_lib.attacks:fmn?steps=100",
    "adv_lib.attacks:ddn",
    "adv_lib.attacks:df",
    "adv_lib.attacks:sdf",
    "adv_lib.attacks:carlini_wagner_l2?max_iterations=100",
    "adv_lib.attacks:pdgd?num_steps=200",
    "adv_lib.attacks:apgd?eps=4&loss_function=ce",
)


def installed(top: str) -> bool:
    """Whether a library can be imported; says so where it cannot."""
    module = {"art": "art.attacks.evasion", "adv_lib": "adv_lib.attacks"}
    try:
        importlib.import_module(module.get(top, top))
    except Exception as error:
        print(f"{top}: skipped, for it cannot be imported ({type(error).__name__}: {error})")
        return False
    return True


def hyperplane() -> tuple[LinearSVM, torch.Tensor, torch.Tensor]:
    """A linear machine of 28 × 28 pixels, images on both sides of it, and their distances."""
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    machine = LinearSVM(torch.randn(1, 784, **draw) / 28, torch.zeros(1, dtype=torch.float64))
    # Gentle, so that cross-entropy, which some attacks follow, has a gradient.
    normal = (machine.weight[0] / machine.weight.norm()).reshape(1, 1, 28, 28)
    x = 2 * torch.rand(POINTS, 1, 28, 28, **draw) - 0.5
    distance = 0.5 + 2 * torch.rand(POINTS, **draw)
    signed = 2 * machine(x)[:, 1] / machine.weight.norm()
    return machine, x - (signed - distance)[:, None, None, None] * normal, distance


def main() -> None:
    warnings.simplefilter("ignore")
    machine, x, distance = hyperplane()
    task = bg.load_task("mnist-0-6/symmetric")
    tops = [prefix.rstrip(":.") for prefix in (*CLASSES, *PACKAGES)]
    at_hand = {top for top in dict.fromkeys(tops) if installed(top)}
    print(
        "\nL2 over the true distance to a hyperplane; over the certified one of mnist-0-6's optimum"
    )
    for name in NAMES:
        if name.partition(":")[0].partition(".")[0] not in at_hand:
            continue
        started = time.perf_counter()
        found = bg.named_attack(name)(machine, x, decisions(machine, x))
        over = (found.sizes / distance)[found.success]
        graded = bg.exam(name, task, per_class=PER_CLASS)
        print(
            f"{name:70} {found.success.double().mean():4.0%} "
            f"{over.min() if len(over) else float('nan'):7.4f} – "
            f"{over.max() if len(over) else float('nan'):7.4f}   {graded.success.value:4.0%} "
            f"{graded.mean_ratio.value or float('nan'):7.4f}, {graded.below} below   "
            f"{time.perf_counter() - started:5.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
