"""Weights of RGB images for models of gray images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict


def sum_over_rgb(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a classifier of RGB images for gray images.

    The kernels of the first convolution are summed over their input channels, so it gives the same
    outputs as for three channels that all equal the gray one.

    Args:
        params: The parameters; they are not changed.

    Raises:
        ValueError: If not exactly one convolution takes three channels.
    """
    flat = flatten_dict(params)
    of_rgb = [path for path, leaf in flat.items() if np.ndim(leaf) == 4 and leaf.shape[2] == 3]
    if len(of_rgb) != 1:
        raise ValueError(
            f"{len(of_rgb)} convolutions take three channels; expected one, the first of the model."
        )
    summed = {path: flat[path].sum(axis=2, keepdims=True) for path in of_rgb}
    return unflatten_dict({**flat, **summed})
