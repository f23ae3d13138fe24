"""Images side by side, and what was changed in them."""

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor


def strip(
    axis: Axes,
    images: Float[Tensor, "n C H W"],
    name: str,
    *,
    limits: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Images side by side, in colours where they have three channels; else the first channel.

    Args:
        axis: Where they are drawn.
        images: The images.
        name: What stands to the left of them.
        limits: The pixel values that are black and white, to which values are clipped.
    """
    low, high = limits
    row = (torch.cat(list(images.clamp(low, high)), dim=2) - low) / (high - low)
    if len(row) == 3:
        axis.imshow(row.permute(1, 2, 0).numpy(), interpolation="nearest")
    else:
        axis.imshow(row[0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _dress(axis, images, name)


def strip_of_changes(axis: Axes, change: Float[Tensor, "n C H W"]) -> None:
    """Changes side by side, magnified so that the largest is full scale; none is white or grey.

    Args:
        axis: Where they are drawn.
        change: What was changed in each image.
    """
    largest = change.abs().max().item() or 1.0
    if change.shape[1] == 3:
        strip(axis, 0.5 + change / (2 * largest), "")
    else:
        row = torch.cat(list(change[:, 0]), dim=1)
        axis.imshow(
            row.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest"
        )
    factor = float(f"{1 / largest:.2g}")
    _dress(axis, change, f"change × {factor:g}")


def _dress(axis: Axes, images: Float[Tensor, "n C H W"], name: str) -> None:
    for place in range(1, len(images)):
        axis.axvline(place * images.shape[3] - 0.5, color="white", linewidth=1.5)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
