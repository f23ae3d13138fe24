"""How fast an EM iteration is, and how much memory it takes, as ratios within one run.

Prints, for the 5,923 zeros of MNIST with 25 components and 6 factors: the share of the machine's
own matrix-product rate that an iteration reaches, its speed against a plain loop over components
(the same algorithm, one component at a time), and how its working memory grows with the images.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from bayesgap import load_mnist
from bayesgap.densities.em import expectation, maximisation, varying_pixels
from bayesgap.densities.fitting import QUANTISATION_VARIANCE, Parameters, initialise
from bayesgap.progress import silent

COMPONENTS, LATENT = 25, 6
SETTINGS = {"isotropic": False, "noise_floor": QUANTISATION_VARIANCE}
CHUNK = 2048


def interleaved(rounds: int, *calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call, taken in turn so that the machine's drift hits all alike."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for times, call in zip(seconds, calls, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return [statistics.median(times[1:]) for times in seconds]


def iteration(
    x: torch.Tensor, varying: torch.Tensor, start: Parameters, workspace: torch.Tensor
) -> Parameters:
    statistics_, whitening = expectation(x, varying, start, workspace)
    return maximisation(statistics_, whitening, **SETTINGS)


def one_component_at_a_time(x: torch.Tensor, start: Parameters) -> Parameters:
    """The textbook's EM (Ghahramani and Hinton, 1996), component by component, in float32."""
    joint, posteriors = [], []
    for weight, mean, factors, noise in zip(
        *(getattr(start, name).float() for name in ("weights", "means", "factors", "noise")),
        strict=True,
    ):
        centred = x - mean
        scaled = factors / noise[:, None]
        capacitance = torch.eye(LATENT) + factors.mT @ scaled
        inverse = torch.linalg.inv(capacitance)
        projected = centred @ scaled
        z = projected @ inverse
        distance = (centred.square() / noise).sum(1) - (projected * z).sum(1)
        joint.append(
            weight.log() - 0.5 * (distance + torch.logdet(capacitance) + noise.log().sum())
        )
        posteriors.append((z, inverse))
    responsibilities = torch.stack(joint, dim=1).softmax(dim=1)
    new = []
    for k, (z, inverse) in enumerate(posteriors):
        r = responsibilities[:, k : k + 1]
        ones = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)
        outer = ones.mT @ (r * ones)
        outer[:LATENT, :LATENT] += r.sum() * inverse
        cross = x.mT @ (r * ones)
        regression = torch.linalg.solve(outer, cross.mT).mT
        noise = ((r * x.square()).sum(0) - (regression * cross).sum(1)) / r.sum()
        new.append((r.mean(), regression[:, -1], regression[:, :-1], noise.clamp(min=1e-6)))
    return Parameters(*(torch.stack(parts).double() for parts in zip(*new, strict=True)))


def speed() -> None:
    x = load_mnist([0])[0].flatten(1)
    n, d = x.shape
    start = initialise(x, COMPONENTS, LATENT, seed=0, **SETTINGS)
    varying = varying_pixels(x, isotropic=False)
    start_of_those = start.at(varying)
    everything = torch.arange(d)
    workspace, workspace_of_those = torch.empty(2, CHUNK, d), torch.empty(2, CHUNK, len(varying))
    side = 1024
    a, b = torch.randn(side, side), torch.randn(side, side)
    product, ours, all_pixels, plain = interleaved(
        12,
        lambda: [a @ b for _ in range(4)],
        lambda: iteration(x, varying, start_of_those, workspace_of_those),
        lambda: iteration(x, everything, start, workspace),
        lambda: one_component_at_a_time(x, start),
    )
    rate = 4 * 2 * side**3 / product
    # x·(W and mean terms), x²·D⁻¹, and the M-step's two products of the same sizes.
    needed = 2 * 2 * n * d * (COMPONENTS * (LATENT + 1) + COMPONENTS)
    print(f"images {n}, d {d}, components {COMPONENTS}, factors {LATENT}, float32,", end=" ")
    print(f"{torch.get_num_threads()} threads")
    print(f"machine's matrix-product rate   {rate / 1e9:8.1f} GFLOP/s ({side}² by {side}²)")
    print(f"necessary products              {needed / 1e9:8.2f} GFLOP an iteration")
    print(f"an EM iteration                 {ours:8.4f} s, {needed / ours / rate:.0%} of that rate")
    print(f"  if it saw constant pixels too {all_pixels:8.4f} s, ", end="")
    print(f"{needed / all_pixels / rate:.0%} ({d - len(varying)} of {d} pixels are constant)")
    print(f"a loop over components          {plain:8.4f} s, {plain / ours:.1f} times as long")


def memory(images: int) -> None:
    """Print the peak that an iteration adds to the images themselves, in MB."""
    some = torch.rand(1000, 784)
    start = initialise(some, COMPONENTS, LATENT, seed=0, **SETTINGS)
    x = torch.rand(images, 784)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    iteration(x, torch.arange(784), start, torch.empty(2, CHUNK, 784))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


if __name__ == "__main__":
    with silent():
        if len(sys.argv) > 1:
            memory(int(sys.argv[1]))
        else:
            speed()
            for images in (25_000, 100_000):
                added = subprocess.check_output([sys.executable, __file__, str(images)], text=True)
                size = images * 784 * 4 / 2**20
                print(f"{images:6} images of {size:3.0f} MB add {float(added):4.1f} MB at peak")
