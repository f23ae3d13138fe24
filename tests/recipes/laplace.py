"""A density without certificates: independent Laplace distributions."""

import torch
from torch.distributions import Laplace


class LaplaceImages:
    """Pixels that are independent of each other, each Laplace around its mean."""

    def __init__(self, means, scale):
        self.law = Laplace(means, scale)
        self.dimension = len(means)

    def log_prob(self, x):
        return self.law.log_prob(x).sum(dim=1)

    def sample(self, n, *, generator):
        uniform = torch.rand(n, self.dimension, generator=generator, dtype=torch.float64)
        return self.law.icdf(uniform)
