"""Situations in which tools of robustness mislead, each with what is expected of this package.

The task is two spheres in 100 pixels, and the classifier a plane that is not the optimum's, behind
whatever each situation puts before, after or around it. The distance to the plane is known, so
that a wrong number is known too: expected is the right number without a doubt ("works"), a doubt
by its name, or a refusal by a piece of its sentence. `bench/situations.py` prints the table of
docs/situations.md.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import bayesgap
from bayesgap.evaluation import doubts as names
from linf import LINF
from strategies import without_shape_checks
from toys import normal, spherical_task, uniform

PIXELS, SHAPE, PER_CLASS = 100, (1, 10, 10), 15
NEAR = 0.03  # share by which a mean size may differ from the plane's and still be right


def task(priors: list[float] | None = None) -> bayesgap.Task:
    """Two spheres of standard deviation 0.1 around images of grey."""
    means = 0.4 + 0.15 * uniform(0, 2, PIXELS)
    means[1] += 0.12 * normal(1, PIXELS)
    made = spherical_task(means, 0.01, priors=priors)
    return bayesgap.Task(made.densities, image_shape=SHAPE, priors=priors, name="spheres")


@cache
def plane() -> tuple[Tensor, Tensor]:
    """Weight and bias of a plane that is not the optimum's: positive on the side of class 1."""
    one, other = (density.means[0] for density in task().mixtures)
    way = other - one
    weight = way + 0.6 * way.norm() / PIXELS**0.5 * normal(2, PIXELS)
    return weight, -(weight @ (one + other)) / 2


class Plane(nn.Module):
    """The plane as a network; float32 unless it is told otherwise."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        super().__init__()
        weight, bias = plane()
        self.linear = nn.Linear(PIXELS, 2, dtype=dtype)
        with torch.no_grad():
            self.linear.weight.copy_(5 * torch.stack([-weight, weight]))
            self.linear.bias.copy_(5 * torch.stack([-bias, bias]))

    def forward(self, x):
        logits: Tensor = self.linear(x.flatten(1))
        return logits


class Around(nn.Module):
    """A function of the plane's network and images."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Any]):
        super().__init__()
        self.net = Plane()
        self.function = function

    def forward(self, x):
        return self.function(self.net, x)


def backward(
    change: Callable[[Tensor], Tensor], forward: Callable[[Tensor], Tensor] = Tensor.clone
):
    """The images, or a function of them, whose gradient is changed on its way back."""

    class Changed(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return forward(x)

        @staticmethod
        def backward(context, gradient):
            return change(gradient)

    return Changed.apply


@dataclass(frozen=True)
class Situation:
    """What a user does, and what is expected.

    Attributes:
        group: What kind of situation it is.
        does: What the user does, in words.
        classifier: Makes the classifier.
        expected: "works", the name of a doubt, or "refused: " and a piece of the sentence.
        also: Whether the mean size must be right as well, where a doubt is expected.
        settings: What else `evaluate` is given; callables are called.
    """

    group: str
    does: str
    classifier: Callable[[], object]
    expected: str
    also: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.does


def seen_by(
    group: str, does: str, function: Callable[[nn.Module, Tensor], Any], expected: str, **more: Any
) -> Situation:
    return Situation(group, does, lambda: Around(function), expected, **more)


def attacked_by(does: str, attack: object, expected: str, **more: Any) -> Situation:
    return Situation("attacks", does, Plane, expected, settings={"attacks": attack}, **more)


@dataclass(frozen=True)
class Happened:
    """What came of a situation.

    Attributes:
        what: "works", "doubted", "refused" or "wrong".
        detail: The doubts' names, or the sentence.
        right: Whether the mean size is the plane's.
    """

    what: str
    detail: str
    right: bool


def happened(situation: Situation) -> Happened:
    """Evaluate as the situation says; what is raised but a refusal goes through."""
    torch.manual_seed(0)
    known = task()
    settings = {
        key: value() if key == "points" else value for key, value in situation.settings.items()
    }
    try:
        with warnings.catch_warnings(), without_shape_checks():
            warnings.simplefilter("ignore", bayesgap.DoubtWarning)
            found = bayesgap.evaluate(
                situation.classifier(), known, **{"per_class": PER_CLASS, **settings}
            )
    except bayesgap.BayesgapError as error:
        return Happened("refused", str(error), False)
    right = is_right(found)
    if found.doubts:
        return Happened("doubted", "; ".join(doubt.name for doubt in found.doubts), right)
    return Happened("works" if right else "wrong", f"{found.best.mean.value}", right)


def is_right(found: bayesgap.Evaluation) -> bool:
    """Whether the mean size is that of the plane over the points it decides correctly."""
    weight, bias = plane()
    along = (found.x.double().flatten(1) @ weight + bias) / weight.norm()
    correct = (along > 0).long() == found.y
    truth = along.abs()[correct].mean().item()
    return found.best.mean.value is not None and abs(found.best.mean.value / truth - 1) < NEAR


def rounded(x: Tensor) -> Tensor:
    return (255 * x).round() / 255


def soft_steps(x: Tensor) -> Tensor:
    """Seven steps a unit, smooth and with gradients everywhere."""
    level = (7 * x).floor()
    return (level + (20 * (7 * x - level - 0.5)).sigmoid()) / 7


def triggered(net: nn.Module, x: Tensor) -> Tensor:
    """The other decision where the first pixel is bright."""
    logits: Tensor = net(x)
    return logits.where(x[:, 0, 0, :1] < 0.8, logits.flip(1))


def cosines(x: Tensor, step: float) -> Tensor:
    """Images whose two-dimensional cosine coefficients are rounded, as JPEG does."""
    places = torch.arange(10) + 0.5
    basis = (torch.arange(10)[:, None] * places * torch.pi / 10).cos().to(x)
    basis = basis / basis.norm(dim=1, keepdim=True)
    coefficients: Tensor = basis @ x @ basis.mT
    back: Tensor = basis.mT @ (step * (coefficients / step).round()) @ basis
    return back


def raises(gradient: Tensor) -> Tensor:
    raise ValueError("no way back")


def pieces(net: nn.Module, x: Tensor) -> Tensor:
    """The least of the plane's margin and of 20 linear functions of very unequal steepness."""
    normals = normal(5, 20, PIXELS).to(x)
    normals = normals / normals.norm(dim=1, keepdim=True)
    steepness = 10 ** (4 * uniform(6, 20).to(x) - 2)
    margins = net(x) @ torch.tensor([1.0, -1.0]).to(x)
    walls = steepness * (0.3 - (x.flatten(1) - 0.5) @ normals.mT)
    least = torch.cat([margins[:, None], walls], dim=1).amin(dim=1)
    return torch.stack([least, -least], dim=1) / 2


def patched(net: nn.Module, x: Tensor) -> Tensor:
    """The other decision where a patch of two pixels by two is bright."""
    logits: Tensor = net(x)
    return logits.where(x[:, :, :2, :2].mean(dim=(1, 2, 3))[:, None] < 0.62, logits.flip(1))


def shelled(net: nn.Module, x: Tensor) -> Tensor:
    """Class 1 also in a shell about the middle of class 0, which has no sample in it."""
    away = (x.flatten(1) - task().mixtures[0].means[0].to(x)).norm(dim=1)
    margins = net(x) @ torch.tensor([1.0, -1.0]).to(x)
    least = torch.minimum(margins, 50 * ((away - 1.3).abs() - 0.02))
    return torch.stack([least, -least], dim=1) / 2


def near_only(most: float) -> Callable[[nn.Module, Tensor], Tensor]:
    """The plane's logits of images that hold nothing beyond a value."""

    def function(net: nn.Module, x: Tensor) -> Tensor:
        if x.abs().max() > most:
            raise OverflowError(f"beyond {most}")
        logits: Tensor = net(x)
        return logits

    return function


def labels() -> nn.Module:
    """The plane's decisions, read by their names."""
    return bayesgap.as_classifier(
        lambda images: cached_plane()(images.float()).argmax(dim=1),
        image_shape=SHAPE,
        classes=2,
        outputs="labels",
    )


class Counter(nn.Module):
    """Answers otherwise once it was asked often."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.asked = Plane(), 0

    def forward(self, x):
        self.asked += len(x)
        late = torch.tensor([20.0, 0.0]) * (self.asked > 5_000)
        return self.net(x) + late


class Adapting(nn.Module):
    """Moves a buffer towards each batch that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Plane()
        self.middle: Tensor
        self.register_buffer("middle", torch.zeros(SHAPE))

    def forward(self, x):
        with torch.no_grad():
            self.middle.mul_(0.9).add_(0.1 * (x.mean(dim=0) - 0.475))
        return self.net(x - self.middle)


class Remembering(nn.Module):
    """Answers what it answered to the first image that rounds to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Plane()
        self.known: dict[bytes, Tensor] = {}

    def forward(self, x):
        fresh = self.net(x)
        rows = []
        for image, logits in zip(x.detach(), fresh, strict=True):
            key = (20 * image).round().to(torch.int8).numpy().tobytes()
            rows.append(self.known.setdefault(key, logits.detach()) + 0 * logits)
        return torch.stack(rows)


class AlwaysTraining(nn.Module):
    """Batch normalisation that `eval` does not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.norm = Plane(), nn.BatchNorm2d(1, affine=False)

    def train(self, mode: bool = True) -> "AlwaysTraining":
        return super().train(True)

    def forward(self, x):
        return self.net(0.115 * self.norm(x) + 0.475)


class WithStatistics(nn.Module):
    """A plain network with batch normalisation, trained and in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.norm = Plane(), nn.BatchNorm1d(PIXELS, affine=False)
        self.eval()

    def forward(self, x):
        return self.net(self.norm(x.flatten(1)))


def seeded_noise(x: Tensor, seed: int) -> Tensor:
    return 0.05 * torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed))


def by_content(net, x):
    sums = x.detach().double().flatten(1).sum(dim=1)[:, None]
    noise = (1e6 * sums * torch.arange(1, 1 + PIXELS)).sin()
    return net(x + 0.05 * noise.reshape(x.shape).to(x))


def another_with_gradients(net, x):
    return net(x).flip(1) if torch.is_grad_enabled() else net(x)


FUNCTION = "the classifier is no function of one image"
GRADIENTS = "gradients"
BOUNDARY = "the boundary"
RANGES = "ranges and precision"
OUTPUTS = "outputs"
STATE = "modes and state"
POINTS = "points, labels and settings"

# Of the classifier itself.
OF_FUNCTIONS = [
    Situation(FUNCTION, "a plain network", Plane, "works"),
    Situation(FUNCTION, "the same in float64", lambda: Plane(torch.float64), "works"),
    seen_by(
        FUNCTION,
        "adds fresh noise of 0.001 to images",
        lambda net, x: net(x + 0.001 * torch.randn_like(x)),
        names.RANDOM,
    ),
    seen_by(
        FUNCTION,
        "adds fresh noise to logits, too little to change a clean decision",
        lambda net, x: net(x) + 1e-3 * torch.randn(len(x), 2),
        names.RANDOM,
    ),
    seen_by(
        FUNCTION,
        "leaves dropout on in forward",
        lambda net, x: net(nn.functional.dropout(x, 0.002)),
        names.RANDOM,
    ),
    seen_by(
        FUNCTION,
        "averages 16 noisy copies",
        lambda net, x: torch.stack([net(x + 0.1 * torch.randn_like(x)) for _ in range(16)]).mean(0),
        names.RANDOM,
    ),
    seen_by(
        FUNCTION,
        "shifts images by a random pixel",
        lambda net, x: net(x.roll(int(torch.randint(0, 2, ())), 3)),
        names.RANDOM,
    ),
    seen_by(
        FUNCTION,
        "adds noise with a constant seed",
        lambda net, x: net(x + 0.0 * seeded_noise(x, 0)),
        "works",
    ),
    seen_by(FUNCTION, "adds noise seeded by the image's content", by_content, names.NOT_NEAREST),
    Situation(FUNCTION, "answers otherwise after 5,000 images", Counter, names.CHANGED),
    Situation(FUNCTION, "adapts a buffer to each batch", Adapting, names.RANDOM),
    Situation(
        FUNCTION,
        "remembers answers to rounded images",
        Remembering,
        names.VANISHING,
        settings={"attacks": "boundary-walk"},
    ),
    seen_by(
        FUNCTION,
        "subtracts the batch's mean",
        lambda net, x: net(x - x.mean(dim=0) + 0.475),
        names.BATCH,
    ),
    seen_by(
        FUNCTION,
        "treats every 7th image of a batch otherwise",
        lambda net, x: net(x) * (1 - 2 * (torch.arange(len(x)) % 7 == 6)[:, None]),
        names.BATCH,
    ),
    Situation(FUNCTION, "has batch normalisation that stays on", AlwaysTraining, names.BATCH),
]

OF_GRADIENTS = [
    seen_by(
        GRADIENTS,
        "rounds images to 8 bits",
        lambda net, x: net(rounded(x)),
        names.VANISHING,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "has a layer whose gradient is 0",
        lambda net, x: net(backward(torch.zeros_like)(x)),
        names.VANISHING,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "has a layer whose gradient is noise",
        lambda net, x: net(backward(torch.randn_like)(x)),
        names.DISAGREEING,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "has a layer whose gradient is NaN",
        lambda net, x: net(backward(lambda g: g * torch.nan)(x)),
        names.NOT_FINITE,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "has a layer whose gradient is negated",
        lambda net, x: net(backward(torch.neg)(x)),
        names.DISAGREEING,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "detaches half of the pixels",
        lambda net, x: net(torch.cat([x[..., :5], x[..., 5:].detach()], dim=3)),
        names.DISAGREEING,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "detaches one column of ten",
        lambda net, x: net(torch.cat([x[..., :1].detach(), x[..., 1:]], dim=3)),
        names.DISAGREEING,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "detaches its images",
        lambda net, x: net(x.detach()),
        names.NO_GRADIENTS,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "runs without gradients inside",
        lambda net, x: torch.no_grad()(net)(x),
        names.NO_GRADIENTS,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "computes in numpy inside",
        lambda net, x: torch.from_numpy(net(x.detach()).detach().numpy().copy()),
        names.NO_GRADIENTS,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "rounds images, with the identity as gradient (straight through)",
        lambda net, x: net(backward(Tensor.clone, rounded)(x)),
        "works",
    ),
    seen_by(
        GRADIENTS,
        "gives signs of logits",
        lambda net, x: (net(x) - net(x).flip(1)).sign(),
        names.SATURATED,
    ),
    seen_by(
        GRADIENTS,
        "gives one-hot decisions with a gradient of 0",
        lambda net, x: 2 * nn.functional.one_hot(net(x).argmax(dim=1), 2) + 0 * net(x),
        names.SATURATED,
    ),
    seen_by(
        GRADIENTS,
        "rounds logits to halves",
        lambda net, x: (2 * net(x)).round() / 2 + 0 * net(x),
        names.VANISHING,
    ),
    seen_by(
        GRADIENTS,
        "squashes logits by tanh",
        lambda net, x: (20 * net(x)).tanh(),
        names.SATURATED,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "ripples its logits by a steep sine",
        lambda net, x: net(x) + 0.02 * (4_000 * net(x)).sin().flip(1),
        names.DISAGREEING,
    ),
    seen_by(
        GRADIENTS,
        "abstains by NaN near its boundary",
        lambda net, x: net(x).where((net(x)[:, :1] - net(x)[:, 1:]).abs() > 0.3, torch.nan),
        names.ABSTAINS,
    ),
    seen_by(
        GRADIENTS,
        "is another function where gradients are on",
        another_with_gradients,
        names.DISAGREEING,
    ),
    seen_by(GRADIENTS, "multiplies logits by 1e6", lambda net, x: 1e6 * net(x), "works"),
    seen_by(GRADIENTS, "multiplies logits by 1e-20", lambda net, x: 1e-20 * net(x), "works"),
    seen_by(
        GRADIENTS, "rounds to 16 levels", lambda net, x: net((15 * x).round() / 15), names.VANISHING
    ),
    seen_by(
        GRADIENTS,
        "makes images black and white",
        lambda net, x: net((x > 0.5).to(x)),
        names.NO_GRADIENTS,
    ),
    seen_by(
        GRADIENTS,
        "rounds cosine coefficients, as JPEG does",
        lambda net, x: net(cosines(x, 0.05)),
        names.VANISHING,
    ),
    seen_by(
        GRADIENTS,
        "rounds images by half",
        lambda net, x: net((x + rounded(x)) / 2),
        names.DISAGREEING,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "gives signs of gradients",
        lambda net, x: net(backward(torch.sign)(x)),
        names.DISAGREEING,
    ),
    seen_by(
        GRADIENTS,
        "shrinks gradients to 1e-30 of themselves",
        lambda net, x: net(backward(lambda g: 1e-30 * g)(x)),
        names.DISAGREEING,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "raises an error in its backward pass",
        lambda net, x: net(backward(raises)(x)),
        names.NO_GRADIENTS,
        also=True,
    ),
    seen_by(
        GRADIENTS,
        "starts a new graph from detached images",
        lambda net, x: net(x.detach().requires_grad_()),
        names.NO_GRADIENTS,
        also=True,
    ),
    seen_by(
        GRADIENTS, "divides logits by a temperature of 100", lambda net, x: net(x) / 100, "works"
    ),
    seen_by(GRADIENTS, "ends in a ReLU, so that logits tie", lambda net, x: net(x).relu(), "works"),
    seen_by(GRADIENTS, "clips images to [0, 1] itself", lambda net, x: net(x.clamp(0, 1)), "works"),
]
OF_BOUNDARY = [
    Situation(
        BOUNDARY,
        "confines images to [0, 1], where some points do not lie",
        Plane,
        names.OUTSIDE,
        also=True,
        settings={"box": (0, 1)},
    ),
    Situation(
        BOUNDARY,
        "confines images to [−1, 2], where all points lie",
        Plane,
        "works",
        settings={"box": (-1, 2)},
    ),
    seen_by(
        BOUNDARY, "has steps that are smooth", lambda net, x: net(soft_steps(x)), names.NOT_NEAREST
    ),
    seen_by(
        BOUNDARY,
        "ripples its images by a sine",
        lambda net, x: net(x + 0.05 * (60 * x).sin()),
        names.NOT_NEAREST,
    ),
    seen_by(BOUNDARY, "decides otherwise where one pixel is bright", triggered, names.NOT_NEAREST),
    seen_by(
        BOUNDARY,
        "is the least of functions that cross no way to a sample",
        pieces,
        names.NOT_NEAREST,
    ),
    seen_by(BOUNDARY, "raises an error far from all samples", near_only(5), "works"),
    seen_by(
        BOUNDARY,
        "raises an error where a pixel is brighter than all samples' are",
        near_only(1.25),
        names.FAILS,
        also=True,
    ),
    seen_by(
        BOUNDARY,
        "takes no batch of nothing",
        lambda net, x: net(x.view(x.size(0), -1).view(x.shape)),
        "works",
    ),
    seen_by(
        BOUNDARY,
        "gives NaN where a pixel is brighter than all samples' are",
        lambda net, x: net(x.where((x - 0.5).abs() < 1, torch.nan)),
        "works",
    ),
    seen_by(
        BOUNDARY,
        "gives NaN far from all samples",
        lambda net, x: net(x).where(x.abs().amax(dim=(1, 2, 3))[:, None] < 3, torch.nan),
        "works",
    ),
    seen_by(BOUNDARY, "decides otherwise in a shell between samples", shelled, names.NOT_NEAREST),
    seen_by(BOUNDARY, "decides otherwise where a patch is bright", patched, names.NOT_NEAREST),
]

OF_RANGES = [
    seen_by(RANGES, "expects 0 … 255", lambda net, x: net(x / 255), names.RANGE),
    seen_by(RANGES, "expects inverted images", lambda net, x: net(1 - x), names.RANGE),
    seen_by(RANGES, "expects rows and columns exchanged", lambda net, x: net(x.mT), names.RANGE),
    seen_by(RANGES, "gives logits in float64", lambda net, x: net(x).double(), "works"),
    seen_by(RANGES, "gives logits in bfloat16", lambda net, x: net(x).bfloat16(), "works"),
    seen_by(
        RANGES,
        "edits its images in place",
        lambda net, x: net(x.sub_(0.1).add_(0.1)),
        "works",
    ),
    seen_by(RANGES, "adds 1e5 to its logits", lambda net, x: net(x) + 1e5, "works"),
    seen_by(RANGES, "adds 1e6 to its logits", lambda net, x: net(x) + 1e6, names.COARSE, also=True),
    Situation(
        RANGES, "is in half precision", lambda: Plane().half(), "refused: classifier.float()"
    ),
    Situation(
        RANGES,
        "is in bfloat16",
        lambda: Plane().bfloat16(),
        "refused: classifier.float()",
    ),
    Situation(
        RANGES,
        "gives images of 0 … 255 as floats",
        lambda: Plane(torch.float64),
        names.UNLIKE,
        settings={
            "points": lambda: (255 * task().sample(40, seed=3)[0], task().sample(40, seed=3)[1])
        },
    ),
    Situation(
        RANGES,
        "gives images as uint8",
        Plane,
        "refused: floating-point",
        settings={
            "points": lambda: (
                (255 * task().sample(40, seed=3)[0]).clamp(0, 255).to(torch.uint8),
                task().sample(40, seed=3)[1],
            )
        },
    ),
]

OF_OUTPUTS = [
    seen_by(
        OUTPUTS,
        "gives probabilities",
        lambda net, x: net(x).softmax(dim=1),
        'refused: outputs="probabilities"',
    ),
    seen_by(OUTPUTS, "gives log-probabilities", lambda net, x: net(x).log_softmax(dim=1), "works"),
    seen_by(OUTPUTS, "gives one logit", lambda net, x: net(x)[:, :1], "refused: one-logit"),
    seen_by(
        OUTPUTS, "gives three logits", lambda net, x: net(x)[:, [0, 1, 1]], "refused: 3 values"
    ),
    seen_by(OUTPUTS, "gives (logits, features)", lambda net, x: (net(x), x), "refused: take="),
    seen_by(OUTPUTS, "gives a dictionary", lambda net, x: {"logits": net(x)}, "refused: take="),
    seen_by(OUTPUTS, "exchanges its outputs", lambda net, x: net(x).flip(1), names.LABELS),
    seen_by(
        OUTPUTS,
        "always says class 0",
        lambda net, x: 0 * net(x) + torch.tensor([2.0, 1.0]),
        names.ACCURACY,
    ),
    seen_by(
        OUTPUTS,
        "gives NaN for bright images",
        lambda net, x: net(x).where(x.mean(dim=(1, 2, 3))[:, None] < 0.47, torch.nan),
        "refused: NaN or infinite",
    ),
    seen_by(OUTPUTS, "gives integers", lambda net, x: (100 * net(x)).long(), names.NO_GRADIENTS),
    Situation(OUTPUTS, "gives labels, and says so", labels, names.SATURATED, also=True),
    seen_by(OUTPUTS, "gives complex numbers", lambda net, x: net(x) + 0j, "refused: complex"),
    seen_by(OUTPUTS, "gives a sparse table", lambda net, x: net(x).to_sparse(), "refused: sparse"),
    Situation(OUTPUTS, "has weights without numbers", lambda: Plane().to("meta"), "refused: meta"),
    seen_by(OUTPUTS, "squeezes a batch of one", lambda net, x: net(x).squeeze(0), "works"),
]


class Raising(nn.Module):
    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


def deprecated(make: Callable[..., nn.Module], *given: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return make(*given)


def casting(x):
    return cached_plane()(x.float())


@cache
def cached_plane() -> Plane:
    return Plane()


class OddBuffers(Plane):
    """Buffers of one number seen many times, and of few numbers among zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.1).expand(1, 10, 10))
        self.register_buffer("mask", torch.eye(10).to_sparse())


class NoneFromTrain(Plane):
    def train(self, mode=True):
        super().train(mode)


OF_STATE = [
    Situation(STATE, "has expanded and sparse buffers", OddBuffers, "works"),
    Situation(STATE, "left it in training mode", lambda: Plane().train(), "works"),
    Situation(STATE, "has statistics of a batch normalisation", WithStatistics, "works"),
    Situation(STATE, "overrides train without returning itself", NoneFromTrain, "works"),
    Situation(
        STATE, "gives a scripted module", lambda: deprecated(torch.jit.script, Plane()), "works"
    ),
    Situation(
        STATE,
        "gives a traced module",
        lambda: deprecated(torch.jit.trace, Plane(), torch.zeros(2, *SHAPE)),
        "works",
    ),
    Situation(
        STATE,
        "gives lazy layers",
        lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(2)),
        "refused: lazy layers",
    ),
    Situation(STATE, "raises a KeyError", lambda: Raising(KeyError("x")), "refused: KeyError"),
    Situation(
        STATE,
        "asserts that images lie in [0, 1]",
        lambda: Raising(AssertionError("0 ≤ x ≤ 1")),
        "refused: AssertionError",
    ),
    Situation(STATE, "gives the class, not an object", lambda: Plane, "refused: itself is no"),
    Situation(STATE, "gives a path", lambda: "model.pt", "refused: function of images"),
    Situation(STATE, "gives a function of tensors", lambda: Plane().forward, "works"),
    Situation(
        STATE,
        "gives a function that casts to float32",
        lambda: casting,
        "works",
    ),
    Situation(
        STATE,
        "gives a function of arrays",
        lambda: (
            lambda x: np.stack(
                [
                    -(np.asarray(x).reshape(len(x), -1) @ plane()[0].numpy() + plane()[1].item()),
                    np.asarray(x).reshape(len(x), -1) @ plane()[0].numpy() + plane()[1].item(),
                ],
                axis=1,
            )
        ),
        names.NO_GRADIENTS,
        also=True,
    ),
]


def trains(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    net.train()
    net(x + 1)
    return x


def zeroes(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    for parameter in net.parameters():
        parameter.data.zero_()
    return x


def hooks(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    net.register_forward_hook(lambda module, given, out: out.flip(1))
    return x


def gradients_off(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    return x


def fails(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    raise KeyError("epsilon")


def fixed_radius(net, x, y):
    weight, _ = plane()
    side = torch.where(y == 0, 1.0, -1.0)[:, None]
    return x + (2 * side * (weight / weight.norm())).reshape(x.shape).to(x)


def ddn(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    def changed(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return change(bayesgap.named_attack("ddn")(net, x, y).images)

    return changed


OF_ATTACKS = [
    attacked_by("by name, DDN", "ddn", "works"),
    attacked_by("several by name", ["fmn", "superdeepfool", "pgd"], "works"),
    attacked_by("returns the images unchanged", lambda net, x, y: x, names.UNBROKEN),
    attacked_by("returns zeros", lambda net, x, y: 0 * x, names.UNBROKEN),
    attacked_by("returns NaN", lambda net, x, y: x * torch.nan, names.UNBROKEN),
    attacked_by("returns None", lambda net, x, y: None, "refused: must return images"),
    attacked_by("returns fewer images", lambda net, x, y: x[:1], "refused: must return images"),
    attacked_by("returns another order", ddn(lambda images: images.flip(0)), names.UNBROKEN),
    attacked_by("clips to [0.3, 0.7]", ddn(lambda images: images.clamp(0.3, 0.7)), names.UNBROKEN),
    attacked_by("returns rounded images", ddn(rounded), names.UNBROKEN),
    attacked_by("goes to a fixed radius", fixed_radius, names.ALIKE),
    attacked_by("zeroes the classifier's weights", zeroes, names.CHANGED),
    attacked_by("leaves a hook on the classifier", hooks, names.CHANGED),
    attacked_by("switches gradients off", gradients_off, names.UNBROKEN),
    attacked_by("raises a KeyError", fails, "refused: KeyError"),
    Situation(
        "attacks",
        "trains the classifier's batch normalisation",
        WithStatistics,
        names.CHANGED,
        settings={"attacks": trains},
    ),
    attacked_by("returns complex images", lambda net, x, y: x + 0j, "refused: complex"),
    attacked_by("is of a name in capitals", "CLOSEST", "refused: Did you mean closest?"),
    attacked_by("is of an unknown name", "ddnn", "refused: no attack"),
    attacked_by("is a class", bayesgap.BestOf, "refused: the class itself"),
]

OF_POINTS = [
    Situation(
        POINTS, "attacks 3 points a class", Plane, names.FEW_POINTS, settings={"per_class": 3}
    ),
    Situation(POINTS, "per_class=10.0", Plane, "refused: 10.0", settings={"per_class": 10.0}),
    Situation(POINTS, "seed=None", Plane, "refused: None", settings={"seed": None}),
    Situation(
        POINTS, "seed=2 ** 64", Plane, "refused: 18446744073709551616", settings={"seed": 2**64}
    ),
    Situation(POINTS, 'certificates="no"', Plane, "refused: 'no'", settings={"certificates": "no"}),
    Situation(
        POINTS, "a box up to NaN", Plane, "refused: nan", settings={"box": (0.0, float("nan"))}
    ),
    Situation(
        POINTS,
        "points and labels of numpy",
        Plane,
        "works",
        settings={"points": lambda: tuple(each.numpy() for each in task().sample(60, seed=3))},
    ),
    Situation(
        POINTS,
        "points of one class alone",
        Plane,
        "works",
        settings={
            "points": lambda: (
                task().sample_given(torch.zeros(30).long(), seed=3)[0],
                torch.zeros(30).long(),
            )
        },
    ),
    Situation(POINTS, 'norm="L2"', Plane, "refused: A norm is a", settings={"norm": "L2"}),
    Situation(
        POINTS,
        "measures by L∞ what attacks find by L2",
        Plane,
        names.NORM,
        settings={"norm": LINF},
    ),
    Situation(POINTS, "a box of nothing", Plane, "refused: A box", settings={"box": (None, 1.0)}),
    Situation(POINTS, "an empty box", Plane, "refused: (1, 0)", settings={"box": (1, 0)}),
    Situation(
        POINTS,
        "one-hot labels",
        Plane,
        "refused: integer labels",
        settings={"points": lambda: (task().sample(40, seed=3)[0], torch.eye(2).repeat(20, 1))},
    ),
    Situation(
        POINTS,
        "images of another shape",
        Plane,
        "refused: has shape",
        settings={"points": lambda: (torch.zeros(4, 1, 5, 20), torch.zeros(4, dtype=torch.long))},
    ),
    Situation(
        POINTS,
        "images with NaN",
        Plane,
        "refused: NaN",
        settings={"points": lambda: (torch.full((4, *SHAPE), torch.nan), torch.zeros(4).long())},
    ),
    Situation(
        POINTS,
        "images that require gradients",
        Plane,
        "works",
        settings={
            "points": lambda: (
                task().sample(60, seed=3)[0].requires_grad_(),
                task().sample(60, seed=3)[1],
            )
        },
    ),
    Situation(
        POINTS,
        "labels that were shuffled",
        Plane,
        names.ACCURACY,
        settings={
            "points": lambda: (
                task().sample(60, seed=3)[0],
                task().sample(60, seed=3)[1][
                    torch.randperm(60, generator=torch.Generator().manual_seed(1))
                ],
            )
        },
    ),
    Situation(
        POINTS,
        "an untrained network",
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2)),
        names.ACCURACY,
    ),
]

SITUATIONS = [
    *OF_FUNCTIONS,
    *OF_GRADIENTS,
    *OF_BOUNDARY,
    *OF_RANGES,
    *OF_OUTPUTS,
    *OF_STATE,
    *OF_ATTACKS,
    *OF_POINTS,
]
