"""A classification problem whose class densities and priors are known."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesgap import files
from bayesgap.densities.base import Density, check_count, check_density
from bayesgap.densities.categorical import Categorical
from bayesgap.densities.mfa import PARAMETERS, MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError, check_seed
from bayesgap.tasks.bayes import OptimalClassifier, Rule, optimal_classifier
from bayesgap.tasks.checks import check_floating, check_integers
from bayesgap.tasks.spread import Spread

TEMPERATURE_POINTS = 1_000  # samples whose median margin sets the default temperature
MEDIAN_MARGIN = 10.0


class Task:
    """Two or more classes with known densities: samples, posteriors and the optimal classifier.

    Attributes:
        name: What results call the task, for example "mnist-0-6/symmetric".
        densities: The density of each class, over flattened images.
        priors: The probability of each class, (classes,), float64; they sum to 1.
        image_shape: The shape (C, H, W) of an image.
        class_names: What results call each class, for example "digit 0".
        outliers: For each class the index of its outlier component; None where there are none.
        spread: Where `asymmetric` puts outliers; None when that is not known.
        facts: Where the densities came from and how far they can be trusted, as JSON values
            under names of the maker's choice.

    Example:
        >>> x, y = bayesgap.load_mnist([0, 6])
        >>> densities = [bayesgap.fit_em(x[y == c][:100], 1, 2, seed=0).density for c in (0, 1)]
        >>> task = bayesgap.Task(densities, image_shape=(1, 28, 28), class_names=["zero", "six"])
        >>> (task.bayes_classifier()(x).argmax(dim=1) == y).double().mean().item() > 0.9
        True
    """

    def __init__(
        self,
        densities: Sequence[Density],
        *,
        image_shape: Sequence[int],
        priors: Sequence[float] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "task",
        outliers: Sequence[int] | None = None,
        spread: Spread | None = None,
        facts: Mapping[str, Any] | None = None,
    ):
        """Check that the parts fit together.

        Args:
            densities: The density of each of two or more classes, over flattened images: mixtures
                of factor analyzers, or any `bayesgap.Density`.
            image_shape: The shape (C, H, W) of an image.
            priors: The probability of each class, positive and summing to 1; equal by default.
            class_names: What results call each class; "class 0", "class 1", … by default.
            name: What results call the task.
            outliers: For each class the index of the component that is its outlier, where
                densities are mixtures that have one.
            spread: Where `asymmetric` may put outliers, as `principal_spread` of the real images
                gives it.
            facts: What else is to be kept with the task, as JSON values by name.

        Raises:
            BayesgapError: fewer than two classes, or parts that disagree with each other.
        """
        classes = len(densities)
        if classes < 2:
            raise BayesgapError(f"A task needs 2 or more classes; got {classes}.")
        self.name = name
        self.densities = tuple(densities)
        self.image_shape = tuple(image_shape)
        self.class_names = tuple(class_names or (f"class {c}" for c in range(classes)))
        given = [1 / classes] * classes if priors is None else priors
        try:
            self.priors = torch.tensor(given, dtype=torch.float64)
        except (TypeError, ValueError) as error:
            raise BayesgapError(f"Priors are numbers, one a class; got {priors!r}.") from error
        self.outliers = None if outliers is None else tuple(outliers)
        self.spread = spread
        self.facts = dict(facts or {})
        self._check()

    def _check(self) -> None:
        classes, dimension = len(self.densities), math.prod(self.image_shape)
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise BayesgapError(f"An image shape is (C, H, W); got {self.image_shape}.")
        for density, label in zip(self.densities, self.class_names, strict=False):
            check_density(density)
            if isinstance(density, Categorical):
                raise BayesgapError(
                    "The points of a Categorical are cells of a table, and no images: "
                    "bayesgap.densities.categorical has its optimum and radius."
                )
            if density.dimension != dimension:
                raise BayesgapError(
                    f"The density of {label!r} is over {density.dimension} values, images of "
                    f"shape {self.image_shape} have {dimension}."
                )
        for text in (self.name, *self.class_names):
            if not (isinstance(text, str) and text.isprintable()):
                raise BayesgapError(
                    f"The names of a task and its classes are printable text; got {text!r}."
                )
        for what, given in (("class names", self.class_names), ("priors", self.priors)):
            if len(given) != classes:
                raise BayesgapError(f"{classes} densities came with {len(given)} {what}.")
        if (
            self.priors.ndim != 1
            or not (self.priors > 0).all()
            or abs(self.priors.sum().item() - 1) > 1e-9
        ):
            raise BayesgapError(
                f"Priors must be positive and sum to 1; got {self.priors.tolist()}."
            )
        if self.outliers is not None:
            mixtures = self.mixtures_for("Outliers are known", "leave `outliers` out")
            if len(self.outliers) != classes or not all(
                0 <= k < d.components for k, d in zip(self.outliers, mixtures, strict=True)
            ):
                raise BayesgapError(
                    f"The outliers {self.outliers} are no components of the densities."
                )
        if self.spread is not None:
            self.spread.check(dimension)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.densities)

    @property
    def certifiable(self) -> bool:
        """Whether `certify` can prove radii: all densities are mixtures of factor analyzers."""
        return all(isinstance(density, MixtureOfFactorAnalyzers) for density in self.densities)

    @property
    def mixtures(self) -> tuple[MixtureOfFactorAnalyzers, ...]:
        """The densities, where all are mixtures of factor analyzers.

        Raises:
            BayesgapError: one of them is another density.
        """
        return self.mixtures_for("Components are known", "ask task.certifiable first")

    def mixtures_for(self, purpose: str, otherwise: str) -> tuple[MixtureOfFactorAnalyzers, ...]:
        """The densities, for what is possible with mixtures of factor analyzers alone.

        Args:
            purpose: What that is, the start of a refusal, such as "Certificates exist".
            otherwise: What to do without, its end, such as "evaluate works without".

        Raises:
            BayesgapError: one of them is another density; the sentence names its class.
        """
        mixtures = []
        for density, label in zip(self.densities, self.class_names, strict=True):
            if not isinstance(density, MixtureOfFactorAnalyzers):
                raise BayesgapError(
                    f"{purpose} for mixtures of factor analyzers alone, and the density of "
                    f"{label!r} in the task {self.name} is a {type(density).__name__}: {otherwise}."
                )
            mixtures.append(density)
        return tuple(mixtures)

    def sample(self, n: int, *, seed: int) -> tuple[Float[Tensor, "n C H W"], Int[Tensor, " n"]]:
        """Draw n images with their labels; the labels follow the priors.

        Images are not clipped to [0, 1]: the density that is known is that of these values.

        Args:
            n: The number of images to draw, 0 or more.
            seed: Seed of the random generator: the same seed gives the same images.

        Returns:
            Images (n, C, H, W), float64, and their labels (n,), int64.

        Raises:
            BayesgapError: n is no number of images, the seed is none, or a density draws no points.
        """
        check_count(n)
        generator = torch.Generator().manual_seed(check_seed(seed))
        # torch refuses to draw none; one is drawn and left out.
        labels = torch.multinomial(self.priors, max(n, 1), replacement=True, generator=generator)
        return self._sample(labels[:n], generator)[0], labels[:n]

    def sample_given(
        self, labels: Int[Tensor, " n"], *, seed: int
    ) -> tuple[Float[Tensor, "n C H W"], Bool[Tensor, " n"]]:
        """Draw one image for each label, and tell which come from an outlier component.

        Args:
            labels: The class of each image, from 0 to classes − 1.
            seed: Seed of the random generator: the same seed gives the same images.

        Returns:
            Images (n, C, H, W), float64, and whether each comes from an outlier, (n,).

        Raises:
            BayesgapError: labels out of range, a seed that is none, or a density draws no points.
        """
        self.check_labels(labels, len(labels))
        return self._sample(labels.long(), torch.Generator().manual_seed(check_seed(seed)))

    def _sample(
        self, labels: Int[Tensor, " n"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "n C H W"], Bool[Tensor, " n"]]:
        x = torch.empty(len(labels), math.prod(self.image_shape), dtype=torch.float64)
        is_outlier = torch.zeros(len(labels), dtype=torch.bool)
        for label in range(self.classes):
            rows = (labels == label).nonzero().flatten()
            drawn, is_outlier[rows] = self._drawn(label, len(rows), generator)
            x[rows] = drawn.detach().to(x)
        return x.reshape(-1, *self.image_shape), is_outlier

    def _drawn(
        self, label: int, n: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n d"], Bool[Tensor, " n"]]:
        """n points of a class, flat, and whether each comes from its outlier component."""
        density = self.densities[label]
        if self.outliers is not None and isinstance(density, MixtureOfFactorAnalyzers):
            drawn, component = density.sample_with_components(n, generator=generator)
            return drawn, (component == self.outliers[label]).cpu()
        drawn = density.sample(n, generator=generator)
        given = tuple(drawn.shape) if isinstance(drawn, Tensor) else f"a {type(drawn).__name__}"
        if given != (n, density.dimension):
            raise BayesgapError(
                f"The sample of a {type(density).__name__} must give a tensor of points, here of "
                f"shape {(n, density.dimension)}; it gave {given}."
            )
        return drawn, torch.zeros(n, dtype=torch.bool)

    def log_posterior(self, x: Tensor) -> Float[Tensor, "n classes"]:
        """log P(class given x) in nats.

        Args:
            x: Images (n, C, H, W).

        Raises:
            BayesgapError: images of another shape, with NaN, or without a finite log-density.
        """
        self.check_images(x)
        posterior: Tensor = self.bayes_classifier(temperature=1.0)(x).log_softmax(dim=1)
        self._check_finite(posterior)
        return posterior

    def bayes_classifier(
        self, *, temperature: float | None = None, rule: Rule = "log-sum-exp"
    ) -> OptimalClassifier:
        """The classifier that no other beats in accuracy on this task.

        Args:
            temperature: What the logits are divided by, in nats. Decisions do not depend on it;
                attacks do. By default the median margin on samples becomes 10.
            rule: How a class collects its components: "log-sum-exp", exact, or the paper's
                "max-component", which mixtures of factor analyzers alone have.

        Returns:
            A `bayesgap.tasks.bayes.BayesClassifier`, which knows components, where the densities
            are mixtures of factor analyzers; a `DensityClassifier` for any others.

        Raises:
            BayesgapError: a temperature that is not positive and finite, a rule that does not
                exist for these densities, or densities that vanish at the task's samples.
        """
        if temperature is None:
            exact = optimal_classifier(self.densities, self.priors, temperature=1.0, rule=rule)
            best = exact(self.sample(TEMPERATURE_POINTS, seed=0)[0]).topk(2, dim=1).values
            self._check_finite(best)
            # Classes that no image tells apart have margins of 0, at any temperature.
            temperature = (best[:, 0] - best[:, 1]).median().item() / MEDIAN_MARGIN or 1.0
        return optimal_classifier(self.densities, self.priors, temperature=temperature, rule=rule)

    def _check_finite(self, scores: Float[Tensor, "n _"]) -> None:
        broken = int((~scores.isfinite()).any(dim=1).sum())
        if broken:
            raise BayesgapError(
                f"The log-densities of the task {self.name} are not all finite at {broken} of "
                f"{len(scores)} images: these lie too far away, or a density vanishes there and "
                "needs a broad one mixed in."
            )

    def check_images(self, x: Tensor) -> None:
        """Refuse images that are not this task's: their shape, or NaN or infinity in them."""
        check_floating(x)
        if tuple(x.shape[1:]) != self.image_shape:
            raise BayesgapError(
                f"A batch of images of the task {self.name} has shape "
                f"(n, {', '.join(map(str, self.image_shape))}); the one given has {tuple(x.shape)}."
            )
        broken = ~torch.isfinite(x).flatten(1).all(dim=1)
        if broken.any():
            raise BayesgapError(
                f"{int(broken.sum())} of {len(x)} images hold NaN or infinity, "
                f"first: {int(broken.nonzero()[0])}."
            )

    def check_labels(self, y: Tensor, n: int) -> None:
        """Refuse labels that are not one integer in 0 … classes − 1 for each of n images."""
        check_integers(y, n, classes=self.classes)
        y = y.long()
        wrong = y[(y < 0) | (y >= self.classes)]
        if len(wrong):
            raise BayesgapError(
                f"The task {self.name} has labels 0 to {self.classes - 1}; got {wrong[0].item()}."
            )

    def to_tensors(
        self, dtype: torch.dtype = torch.float64
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that defines the task, as named tensors and JSON metadata.

        Args:
            dtype: The type that the numbers of densities and spread are given in.

        Returns:
            The tensors and the metadata, each by name, as `from_tensors` takes them.

        Raises:
            BayesgapError: a density is no mixture of factor analyzers.
        """
        tensors = {"priors": self.priors}
        mixtures = self.mixtures_for("Task files exist", "keep the code that builds the task")
        for label, density in enumerate(mixtures):
            for name, tensor in density.parameters_for_file().items():
                tensors[f"{label}.{name}"] = tensor.to(dtype)
        if self.spread is not None:
            tensors["spread.mean"] = self.spread.mean.to(dtype)
            tensors["spread.direction"] = self.spread.direction.to(dtype)
        metadata = {
            "name": self.name,
            "image_shape": list(self.image_shape),
            "class_names": list(self.class_names),
            "outliers": None if self.outliers is None else list(self.outliers),
            "deviation": None if self.spread is None else self.spread.deviation,
            "facts": self.facts,
        }
        return tensors, metadata

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], *, source: str | Path
    ) -> "Task":
        """What `to_tensors` gave, as a task again.

        Args:
            tensors: The tensors by name; a stranger's may be anything.
            metadata: The metadata by name; a stranger's may be anything.
            source: What error messages call the place that these came from, such as a path.

        Raises:
            BayesgapError: something is missing or does not fit; the message names the `source`.
        """
        try:
            densities = [
                MixtureOfFactorAnalyzers(
                    *files.require(tensors, [f"{label}.{name}" for name in PARAMETERS], source)
                )
                for label in range(len(files.listed(metadata, "class_names", str)))
            ]
            spread = None
            if metadata["deviation"] is not None:
                names = ["spread.mean", "spread.direction"]
                mean, direction = files.require(tensors, names, source)
                spread = Spread(mean.double(), direction.double(), float(metadata["deviation"]))
            return cls(
                densities,
                image_shape=files.listed(metadata, "image_shape", int),
                priors=files.require(tensors, ["priors"], source)[0].tolist(),
                class_names=files.listed(metadata, "class_names", str),
                name=files.typed(metadata["name"], "name", str),
                outliers=metadata["outliers"] and files.listed(metadata, "outliers", int),
                spread=spread,
                facts=metadata["facts"],
            )
        except BayesgapError as error:
            raise BayesgapError(f"{source} cannot be read as a task: {error}") from error
        except KeyError as error:
            raise BayesgapError(f"{source} is damaged: its metadata lacks {error}.") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise BayesgapError(f"{source} is damaged: {error}.") from error

    def save(self, path: str | Path, *, dtype: torch.dtype = torch.float64) -> None:
        """Write the task to one safetensors file.

        Args:
            path: The file to write; its name ends in ".safetensors", by which `load_task` knows a
                path from a name.
            dtype: The type that numbers are stored in; float32 rounds them, and thereby changes
                the task.

        Raises:
            BayesgapError: another ending or dtype, a density that is no mixture of factor
                analyzers, or the folder is missing or not writable.
        """
        if files.as_path(path).suffix != ".safetensors":
            raise BayesgapError(f"A task is saved as a .safetensors file; got {path}.")
        if dtype not in (torch.float32, torch.float64):
            raise BayesgapError(f"A task is saved in torch.float32 or float64; got {dtype}.")
        tensors, metadata = self.to_tensors(dtype)
        files.save_tensors(path, tensors, kind="task", metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> "Task":
        """Read what `save` wrote; a stranger's file is only ever read as numbers and text.

        Args:
            path: The file to read.

        Raises:
            BayesgapError: the file is missing, damaged or holds something else.
        """
        return cls.from_tensors(*files.load_tensors(path, kind="task"), source=path)

    def __repr__(self) -> str:
        if self.certifiable:
            of_each = "components", [str(density.components) for density in self.mixtures]
        else:
            of_each = "densities", [type(density).__name__ for density in self.densities]
        return f"Task({self.name!r}, {self.class_names}, {of_each[0]}=({', '.join(of_each[1])}))"


def check_task(task: object) -> None:
    """Refuse what is no task."""
    if not isinstance(task, Task):
        raise BayesgapError(
            f"A task is needed, such as bayesgap.load_task gives; got a {type(task).__name__}."
        )
