"""What the size of a perturbation is: norms are values, which attacks take and results carry.

A new norm is one more `Norm`, of this package or of anyone's. It measures what attacks find; those
of this package look for small L2, closed forms too, which `evaluate` then doubts. Certificates are
of L2: gaps to them are none under another norm, with the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from bayesgap.errors import BayesgapError

Sizes = Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]]


@dataclass(frozen=True)
class Norm:
    """A way to measure perturbations.

    Attributes:
        name: What results call it, for example "L2".
        measure: The size of each row of flattened perturbations (n, d), in pixel units (n,): a
            function that workers can import.

    Example:
        >>> bayesgap.L2.size(torch.tensor([[[[3.0, 4.0]]]]))
        tensor([5.], dtype=torch.float64)
    """

    name: str
    measure: Sizes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse the name of the certificates' norm for another.

        Raises:
            BayesgapError: it is called L2 and measures otherwise.
        """
        if self.name == "L2" and self.measure is not euclidean:
            raise BayesgapError(
                "A norm called L2 is bayesgap.L2; give another measure its own name."
            )

    @property
    def key(self) -> str:
        """The name as it stands in keys of records: "l2" in `mean_l2`."""
        return self.name.lower()

    def size(self, change: Float[Tensor, "n *image"]) -> Float[Tensor, " n"]:
        """The size of each perturbation (n, *image), float64, in pixel units.

        Raises:
            BayesgapError: its measure failed, or gave no tensor of sizes, 0 or more.
        """
        try:
            sizes = self.measure(change.double().flatten(1))
        except BayesgapError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(":. ")
            raise BayesgapError(f"The measure of the norm {self.name} failed: {reason}.") from error
        given = f"a {type(sizes).__name__}"
        if isinstance(sizes, Tensor):
            given = f"{tuple(sizes.shape)}, {sizes.dtype}"
        if not isinstance(sizes, Tensor) or sizes.shape != (len(change),) or sizes.is_complex():
            raise BayesgapError(
                f"The measure of the norm {self.name} must turn {len(change)} rows into a tensor "
                f"of as many sizes; it gave {given}."
            )
        if (sizes < 0).any():
            raise BayesgapError(
                f"The measure of the norm {self.name} gave the size {sizes.min().item():g}: sizes "
                "are 0 or more."
            )
        return sizes.double()


def euclidean(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The square root of each row's sum of squares."""
    sizes: Tensor = rows.norm(dim=1)
    return sizes


L2 = Norm("L2", euclidean)
