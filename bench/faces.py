"""How fast faces are decoded and fitted, and in how much memory.

Usage: python bench/faces.py FOLDER, where FOLDER is a copy of CelebA (img_align_celeba and
list_attr_celeba.txt or .csv). Prints, each measured in a process of its own:

- decoding all images of the folder into a fresh cache, which is removed afterwards: images,
  seconds, peak memory, and images a second beside those of a plain loop over Pillow that opens,
  cuts out and reduces the first 2,000 of the same files one after the other, kept in memory;
- opening the folder again, with its cache;
- fitting 20 components with 10 factors by EM to the first 20,000 faces (all, where there are
  fewer) as they lie in the cache: seconds, of which the start, iterations, seconds an iteration,
  and peak memory;
- the direction of the 50th largest eigenvalue of the same faces: seconds and peak memory.

Peak memory is that of the whole process, the interpreter and torch among it.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bayesgap import fit_em, principal_spread
from bayesgap.densities.fitting import QUANTISATION_VARIANCE, initialise
from bayesgap.images.celeba import CROP, CelebA, open_celeba
from bayesgap.progress import silent

FACES, COMPONENTS, LATENT = 20_000, 20, 10
LOOPED = 2000


def peak() -> str:
    """The most memory that this process has held so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB at peak"


def plain_loop(folder: Path) -> float:
    """Images a second of the few lines that everyone writes."""
    paths = sorted((folder / "img_align_celeba").glob("*.jpg"))[:LOOPED]
    start = time.perf_counter()
    faces = [
        np.asarray(Image.open(path).crop(CROP).resize((64, 64), Image.Resampling.BILINEAR))
        for path in paths
    ]
    return len(faces) / (time.perf_counter() - start)


def decoding(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as cache:
        # Before and after, so that the machine's drift and a cold disk hit both alike.
        plain = plain_loop(folder)
        start = time.perf_counter()
        images = len(open_celeba(folder, cache=cache).images)
        seconds = time.perf_counter() - start
        plain = max(plain, plain_loop(folder))
        print(f"decoding  {images} images, {seconds:.1f} s, {peak()}")
        print(f"          {images / seconds:.0f} images/s with all checks and checksums,", end=" ")
        print(f"a plain loop {plain:.0f} images/s")
        start = time.perf_counter()
        open_celeba(folder, cache=cache)
        print(f"          again, from the cache: {time.perf_counter() - start:.1f} s")


def fitting(celeba: CelebA) -> None:
    x = celeba.images[:FACES]
    settings = {"isotropic": False, "noise_floor": QUANTISATION_VARIANCE, "seed": 0}
    start = time.perf_counter()
    initialise(x.flatten(1), COMPONENTS, LATENT, **settings)
    first = time.perf_counter() - start
    start = time.perf_counter()
    fit = fit_em(x, COMPONENTS, LATENT, **settings)
    seconds = time.perf_counter() - start
    iterations = len(fit.log_likelihoods)
    print(f"fitting   {len(x)} faces, {COMPONENTS} components, {LATENT} factors,", end=" ")
    print(f"{torch.get_num_threads()} threads: {seconds:.0f} s, {peak()}")
    print(f"          about {first:.0f} s for the start, then {iterations} iterations of", end=" ")
    print(f"{(seconds - first) / iterations:.2f} s")


def spreading(celeba: CelebA) -> None:
    x = celeba.images[:FACES]
    start = time.perf_counter()
    principal_spread(x)
    print(f"direction {len(x)} faces: {time.perf_counter() - start:.0f} s, {peak()}")


def main(folder: Path, part: str) -> None:
    with silent():
        if part == "decoding":
            decoding(folder)
        else:
            {"fitting": fitting, "spreading": spreading}[part](open_celeba(folder))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(Path(sys.argv[1]), sys.argv[2])
    elif len(sys.argv) == 2:
        for part in ("decoding", "fitting", "spreading"):
            subprocess.run([sys.executable, __file__, sys.argv[1], part], check=True)
    else:
        sys.exit("Usage: python bench/faces.py FOLDER (a copy of CelebA)")
