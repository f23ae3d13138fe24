"""How much a run computes: quick, default or the paper's sizes, for digits and for faces."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bayesgap.classifiers.allconv import Training
from bayesgap.classifiers.trades import Ball
from bayesgap.experiment.stages.attack import POOL_IMAGES
from bayesgap.experiment.stages.optimum import BAYES, IMAGES
from bayesgap.experiment.stages.trained import TEST_IMAGES, VALIDATION_IMAGES

BETA = 10.0  # of TRADES; the paper gives no radius: 0.3 is its authors' for MNIST, others are ours
COST = 1.0  # scikit-learn's C; the paper tunes gamma alone
NAMES = ("quick", "default", "paper")


@dataclass(frozen=True)
class Scale:
    """How much is computed on a task.

    Attributes:
        name: What the report calls the scale.
        task_kind: What the tasks' images are: "digits" or "faces".
        images: How many training images each classifier has.
        seeds: How many training sets there are, and classifiers of each kind.
        cnn_seeds: How many plain CNNs there are, which scatter more than other kinds; the first
            learn from the training sets of the others. (Not of real images: they are too few.)
        per_class: How many points of each class are attacked.
        checks: For each kind of classifier, further attacks on its first training, and how many
            points of each class they face.
        checked: The variants whose classifiers face checks.
        curve_per_class: How many points of each class are attacked for the curve over gamma.
        widths: The widths of a CNN's first convolution, in the order in which they are tried.
        accuracy: The validation accuracy at which a width suffices.
        gammas: The values of the RBF kernel's gamma that are tried.
        rbf_accuracy: The validation accuracy of the RBF SVM that its gamma must reach.
        costs: The C of the curves over gamma. The first is the one that is used, and the only one
            on other variants than the symmetric.
        wide_cost: The C at the smallest gamma that makes an RBF SVM resemble the linear SVM: as
            gamma → 0 it tends to the linear one with cost 2 · gamma · C (Keerthi and Lin, 2003),
            here 1.
        training: How plain CNNs are trained.
        robust: How the CNNs of adversarial training are trained, by kind (appendix D.3).
    """

    name: str
    task_kind: str
    images: int
    seeds: int
    cnn_seeds: int
    per_class: int
    checks: Mapping[str, Mapping[str, int]]
    checked: tuple[str, ...]
    curve_per_class: int
    widths: tuple[int, ...]
    accuracy: float
    gammas: tuple[float, ...]
    rbf_accuracy: float
    costs: tuple[float, ...]
    wide_cost: float
    training: Training
    robust: Mapping[str, Mapping[str, Any]]

    @property
    def real_limit(self) -> int:
        """Real images of each class in each part, at most.

        Enough for every purpose, and for all replicates to train on images of their own.
        """
        return max(self.seeds * self.images // 2, TEST_IMAGES)


def trades(
    *, l2: float, linf: float, wide: float, steps: int, **training: Any
) -> dict[str, dict[str, Any]]:
    """TRADES with the paper's beta of 10, within an L2 ball and two L∞ balls of these radii."""
    balls = {
        "trades-l2": ("L2", l2),
        "trades-linf": ("Linf", linf),
        "trades-linf-wide": ("Linf", wide),
    }
    return {
        kind: {
            "beta": BETA,
            "training": asdict(Training(**training)),
            "ball": asdict(Ball(norm=norm, radius=radius, steps=steps, step_share=2 / steps)),
        }
        for kind, (norm, radius) in balls.items()
    }


DIGITS = {
    "quick": Scale(
        name="quick",
        task_kind="digits",
        images=1_000,
        seeds=1,
        cnn_seeds=1,
        per_class=100,
        checks={BAYES: {"cw-l2": 5}},
        checked=("symmetric",),
        curve_per_class=10,
        widths=(4,),
        accuracy=0.999,
        gammas=(0.001, 0.01, 0.1),
        rbf_accuracy=0.99,
        costs=(COST, 500 * COST),
        wide_cost=500 * COST,
        training=Training(epochs=8),
        robust=trades(l2=1.5, linf=0.1, wide=0.3, steps=3, epochs=4),
    ),
    "default": Scale(
        name="default",
        task_kind="digits",
        images=3_000,
        seeds=3,
        cnn_seeds=5,
        per_class=100,
        checks={
            BAYES: {"ld-grad-tight": 100, "ddn": 100, "cw-l2": 25},
            "cnn": {"ddn": 100, "cw-l2": 10},
            "linear-svm": {"ddn": 100},
            "rbf-svm": {"ld-grad-tight": 100, "ddn": 100, "cw-l2": 10},
        },
        checked=("symmetric", "asymmetric"),
        curve_per_class=25,
        widths=(2, 4, 8),
        accuracy=0.999,
        gammas=(0.0001, 0.001, 0.01, 0.03, 0.1, 0.3),
        rbf_accuracy=0.99,
        costs=(COST, 5_000 * COST),
        wide_cost=5_000 * COST,
        training=Training(epochs=8),
        robust=trades(l2=1.5, linf=0.1, wide=0.3, steps=8, epochs=8),
    ),
    "paper": Scale(
        name="paper",
        task_kind="digits",
        images=10_000,
        seeds=5,
        cnn_seeds=10,
        per_class=500,
        checks={
            BAYES: {"ld-grad-tight": 500, "ddn": 500, "cw-l2": 100},
            "cnn": {"ddn": 500, "cw-l2": 100},
            "linear-svm": {"ddn": 500},
            "rbf-svm": {"ld-grad-tight": 500, "ddn": 500, "cw-l2": 50},
        },
        checked=("symmetric", "asymmetric"),
        curve_per_class=100,
        widths=(2, 4, 8, 16, 32, 64),
        accuracy=1.0,
        gammas=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3),
        rbf_accuracy=0.99,
        costs=(COST, 5_000 * COST),
        wide_cost=5_000 * COST,
        training=Training(epochs=20),
        robust=trades(l2=1.5, linf=0.1, wide=0.3, steps=40, epochs=20),
    ),
}

# Faces have 16 times the values of a digit; the paper attacked about 50 of each task.
FACES = {
    "quick": Scale(
        name="quick",
        task_kind="faces",
        images=600,
        seeds=1,
        cnn_seeds=1,
        per_class=10,
        checks={},
        checked=(),
        curve_per_class=5,
        widths=(4,),
        accuracy=0.98,
        gammas=(0.0002, 0.005),
        rbf_accuracy=0.9,
        costs=(COST,),
        wide_cost=2_500 * COST,
        training=Training(epochs=4, batch=50, learning_rate=1e-3),
        robust=trades(l2=1.0, linf=2 / 255, wide=8 / 255, steps=2, epochs=2),
    ),
    "default": Scale(
        name="default",
        task_kind="faces",
        images=4_000,
        seeds=3,
        cnn_seeds=3,
        per_class=25,
        checks={BAYES: {"ddn": 25, "cw-l2": 10}, "cnn": {"cw-l2": 5}},
        checked=("symmetric",),
        curve_per_class=5,
        widths=(4, 8),
        accuracy=0.995,
        gammas=(0.0001, 0.001, 0.003, 0.006, 0.01, 0.015, 0.02),
        rbf_accuracy=0.9,
        costs=(COST,),
        wide_cost=5_000 * COST,
        training=Training(epochs=12, batch=50, learning_rate=1e-3),
        robust=trades(
            l2=1.0, linf=2 / 255, wide=8 / 255, steps=5, epochs=12, batch=50, learning_rate=1e-3
        ),
    ),
    "paper": Scale(
        name="paper",
        task_kind="faces",
        images=20_000,
        seeds=5,
        cnn_seeds=5,
        per_class=100,
        checks={
            BAYES: {"ld-grad-tight": 100, "ddn": 100, "cw-l2": 50},
            "cnn": {"ddn": 100, "cw-l2": 50},
        },
        checked=("symmetric", "asymmetric"),
        curve_per_class=50,
        widths=(8, 16, 32, 64),
        accuracy=1.0,
        gammas=(0.0001, 0.001, 0.003, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.03),
        rbf_accuracy=0.9,
        costs=(COST,),
        wide_cost=5_000 * COST,
        training=Training(epochs=10, batch=50, learning_rate=1e-3),
        robust=trades(
            l2=1.0, linf=2 / 255, wide=8 / 255, steps=10, epochs=10, batch=50, learning_rate=1e-3
        ),
    ),
}

# By the key that a source names as its `sizes`, then by the name of the scale.
SCALES: Mapping[str, Mapping[str, Scale]] = {"digits": DIGITS, "faces": FACES}


@dataclass(frozen=True)
class Draws:
    """How many images stages draw for purposes of their own, at every scale.

    Attributes:
        validation_images: For choosing a width or a gamma.
        test_images: For the accuracy of a trained classifier.
        pool_images: From which boundary walks start.
        images: For the accuracy of an optimum.
    """

    validation_images: int = VALIDATION_IMAGES
    test_images: int = TEST_IMAGES
    pool_images: int = POOL_IMAGES
    images: int = IMAGES

    def settings(self, *names: str) -> dict[str, int]:
        """What stages are given of these: nothing of what is the default of their functions."""
        usual = asdict(Draws())
        return {name: value for name in names if (value := getattr(self, name)) != usual[name]}
