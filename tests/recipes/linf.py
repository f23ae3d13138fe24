"""A norm: the largest change of a pixel."""

from bayesgap.norms import Norm


def largest(rows):
    return rows.abs().amax(dim=1)


LINF = Norm("Linf", largest)
