"""How a linear SVM on real faces changes with the number of faces that it learns from.

Usage: python bench/training_size.py FOLDER, where FOLDER is a copy of CelebA. For rising numbers of
training faces, half of them Male, prints the accuracy on test faces of which half are Male, and
the mean L2 of the nearest change of decision over those decided correctly: |w·x + b| / ‖w‖. The
paper's linear SVM (figure 12) reaches 90.0 % and 0.15, and it does not say from how many faces.
"""

import sys
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning

from bayesgap import load_celeba
from bayesgap.classifiers.svm import train_linear_svm

SIZES = (1_000, 4_000, 16_000)


def main(folder: str) -> None:
    faces, labels = load_celeba(folder, "Male", split="train")
    x, y = load_celeba(folder, "Male", split="test")
    count = int(y.bincount().min())
    test = torch.cat([(y == label).nonzero().flatten()[:count] for label in (0, 1)])
    x, y = x[test].double().flatten(1), y[test]
    for size in SIZES:
        rows = torch.cat([(labels == label).nonzero().flatten()[: size // 2] for label in (0, 1)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # printed below
            machine = train_linear_svm(faces[rows], labels[rows], classes=2, seed=0)
        decision = (x @ machine.weight.mT + machine.bias)[:, 0]
        correct = (decision > 0) == y
        l2 = (decision.abs() / machine.weight.norm())[correct].mean().item()
        print(
            f"{len(rows):6d} faces: {correct.double().mean().item():.1%} of {len(y)} test faces, "
            f"mean L2 {l2:.3f}{'' if machine.converged else ' (stopped before it converged)'}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1])
