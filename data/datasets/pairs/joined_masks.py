"""Union of several masks of an image: datasets such as BUSI have one file per lesion."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

Mask = UInt8[np.ndarray, "height width"]


def join_masks(masks: Sequence[Mask]) -> Mask:
    """Return the union of the foregrounds of several masks.

    Args:
        masks: Values of the masks of one image, 0 for the background.

    Raises:
        ValueError: If they differ in size, or give a pixel two classes.
    """
    joined = masks[0].copy()
    for mask in masks[1:]:
        if mask.shape != joined.shape:
            sizes = " and ".join(f"{m.shape[1]}x{m.shape[0]}" for m in (joined, mask))
            raise ValueError(f"its {len(masks)} masks have {sizes} pixels; expected one size")
        conflicts = (mask != joined) & (mask != 0) & (joined != 0)
        if conflicts.any():
            values = f"{joined[conflicts][0]} and {mask[conflicts][0]}"
            raise ValueError(
                f"its {len(masks)} masks give {conflicts.sum()} pixels two values, such as "
                f"{values}; expected the class of each pixel once"
            )
        joined = np.maximum(joined, mask)
    return joined
