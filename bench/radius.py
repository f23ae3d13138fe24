"""How near to the truth certificates and attacks come on the same points, and how fast.

All times are of one process and the threads that torch takes by default. Of certificates, the
time counts proofs and adversarial points. Ratios of L2 are to the certified lower bound.
"""

import math
import resource
import sys
import time
from typing import get_args

import torch

import bayesgap as bg
from bayesgap.attacks.library import Foolbox
from bayesgap.radius.certify import Bracket
from bayesgap.tasks.bayes import Rule

POINTS = 100  # of each class
COARSE = "noise × 50"
VARIANTS = ("symmetric", "asymmetric", COARSE, "fitted")
TASKS = ("mnist-0-6", "mnist-2-7", "mnist-4-5")
COARSE_NOISE = 0.05  # standard deviation; 50 times the paper's
FACES = {"components": 20, "latent": 10, "side": 64}
RANDOM_TASKS = 20
STRIPS = (1, 2, 4)  # sizes that show how the cost grows


def load(name: str, variant: str) -> bg.Task:
    if variant == COARSE:
        return bg.symmetric(bg.load_task(f"{name}/fitted"), noise_std=COARSE_NOISE)
    return bg.load_task(f"{name}/{variant}")


def points(task: bg.Task, per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.arange(task.classes).repeat(per_class)
    return task.sample_given(y, seed=0)[0], y


def timed(task: bg.Task, per_class: int) -> tuple[Bracket, float]:
    x, y = points(task, per_class)
    start = time.perf_counter()
    bracket = bg.certify(task, x, y)
    return bracket, time.perf_counter() - start


def tightness() -> None:
    print(f"Brackets at {2 * POINTS} points, upper / lower:")
    print(f"{'':24} {'seconds':>8} {'lower':>8} {'mean':>11} {'99 of 100':>11} {'worst':>11}")
    for name in TASKS:
        for variant in VARIANTS:
            bracket, seconds = timed(load(name, variant), POINTS)
            there = bracket.correct
            ratio = (bracket.upper / bracket.lower)[there]
            print(
                f"{name + ', ' + variant:24} {seconds:8.1f} {bracket.lower[there].mean():8.4f} "
                f"{ratio.mean():11.8f} {ratio.quantile(0.99):11.8f} {ratio.max():11.8f}"
            )


def interlocking() -> None:
    """Where brackets are wide: random mixtures a few standard deviations apart."""
    print("\nInterlocking mixtures in 2 to 6 dimensions, upper / lower:")
    for rule in get_args(Rule):
        ratios = []
        for seed in range(RANDOM_TASKS):
            generator = torch.Generator().manual_seed(seed)
            d, k = 2 + seed % 5, 2 + seed % 4
            densities = [
                bg.MixtureOfFactorAnalyzers(
                    torch.full((k,), 1 / k),
                    torch.randn(k, d, generator=generator),
                    0.2 * torch.randn(k, d, 1, generator=generator),
                    0.04 + 0.3 * torch.rand(k, d, generator=generator),
                )
                for _ in range(2)
            ]
            task = bg.Task(densities, image_shape=(1, 1, d))
            bracket = bg.certify(task, *task.sample(20, seed=seed), rule=rule)
            there = bracket.correct & (bracket.lower > 0)
            ratios.append((bracket.upper / bracket.lower)[there])
        ratio = torch.cat(ratios)
        middle, most, nearly = ratio.quantile(torch.tensor([0.5, 0.9, 0.99]).double()).tolist()
        print(
            f"{rule:14} {len(ratio):5} points: median {middle:.6f}, 90 of 100 below {most:.4f}, "
            f"99 of 100 below {nearly:.3f}, worst {ratio.max():.3f}"
        )


def beside_attacks(name: str, per_class: int) -> None:
    task = bg.load_task(name)
    bracket, seconds = timed(task, per_class)
    optimum = task.bayes_classifier()
    there = bracket.correct
    x, y, lower = bracket.x[there], bracket.y[there], bracket.lower[there]
    print(f"\n{name}, {len(x)} points:")
    print(f"{'':24} {'seconds':>8} {'L2 / lower':>11} {'success':>8} {'times slower':>13}")
    excess = (bracket.upper[there] / lower).mean().item()
    print(f"{'certify':24} {seconds:8.1f} {excess:11.6f} {1:8.1%} {1:13.1f}")
    for attack in (
        bg.named_attack("cw-l2"),
        Foolbox("DDNAttack", name="ddn, 1,000 steps", steps=1_000),
    ):
        start = time.perf_counter()
        found = attack(optimum, x, y)
        taken = time.perf_counter() - start
        ratio = (found.sizes / lower)[found.success]
        mean = ratio.mean().item() if len(ratio) else math.nan
        print(
            f"{attack.name:24} {taken:8.1f} {mean:11.6f} {len(ratio) / len(x):8.1%} "
            f"{taken / seconds:13.1f}"
        )


def faces(side: int) -> bg.Task:
    """Two classes of smooth random images of three channels, as large as the paper's faces."""
    generator = torch.Generator().manual_seed(0)

    def smooth(count: int) -> torch.Tensor:
        coarse = torch.randn(count, 3, 8, 8, generator=generator, dtype=torch.float64)
        fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
        # Of the same size in pixel units whatever the number of pixels.
        return fine.flatten(1) * 64 / side

    count, latent = FACES["components"], FACES["latent"]
    centre = 0.5 + 0.2 * smooth(1)
    densities = []
    for _ in range(2):
        means = centre + 0.03 * smooth(1) + 0.05 * smooth(count)
        factors = 0.05 * smooth(count * latent).reshape(count, latent, -1).mT
        noise = torch.full_like(means, 0.001**2)
        weights = torch.full((count,), 1 / count)
        densities.append(bg.MixtureOfFactorAnalyzers(weights, means, factors, noise))
    return bg.Task(densities, image_shape=(3, side, side), name=f"3 × {side} × {side}")


def growth() -> None:
    print("\nSmooth random images, 20 components a class, 10 factors:")
    base = 25
    for side, per_class in [(64, base * n // 2) for n in STRIPS] + [(32, 50), (16, 50)]:
        task = faces(side)
        bracket, seconds = timed(task, per_class)
        ratio = (bracket.upper / bracket.lower)[bracket.correct]
        print(
            f"d = {3 * side**2:6,}, {2 * per_class:4} points: {seconds:6.1f} s, "
            f"upper / lower mean {ratio.mean():.8f}, worst {ratio.max():.8f}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"Largest memory of the process: {peak:.1f} GiB")


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads, Python {sys.version.split()[0]}")
    bg.certify(load("mnist-0-6", "symmetric"), *points(load("mnist-0-6", "symmetric"), 2))  # warm
    growth()
    tightness()
    beside_attacks("mnist-0-6/symmetric", POINTS)
    beside_attacks("mnist-0-6/asymmetric", POINTS)
    interlocking()
