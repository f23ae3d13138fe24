"""A kind of classifier: the nearest mean of the training images of each class."""

import torch
from torch import nn

from bayesgap.experiment.kinds import Kind
from bayesgap.experiment.stages.data import as_data, draw
from bayesgap.experiment.stages.trained import TEST_IMAGES, score
from bayesgap.images.source import ONE_FOLD
from bayesgap.runs.store import Result


class NearestMean(nn.Module):
    """Logits are squared distances to the means, negated."""

    def __init__(self, means):
        super().__init__()
        self.register_buffer("means", means)

    def forward(self, x):
        return -(x.flatten(1)[:, None] - self.means).square().sum(dim=2)


def train(task, *, images, sample_seed, fold=ONE_FOLD, test_images=TEST_IMAGES, seed):
    data = as_data(task)
    x, y = draw(data, "training", images, seed=sample_seed, fold=fold)
    means = torch.stack([x[y == label].flatten(1).mean(dim=0) for label in range(data.classes)])
    return Result({"means": means}, score(NearestMean(means), data, seed, test_images))


def load(result, data):
    return NearestMean(result.tensors["means"])


NEAREST_MEAN = Kind(
    name="nearest-mean",
    label="Nearest mean",
    one="nearest mean",
    colour="#882255",
    attacks=("boundary-walk",),
    train=train,
    draws=("test_images",),
    load=load,
)
