"""Inputs of a model besides the images."""

from collections.abc import Mapping
from typing import Any

FURTHER_INPUTS = ("metadata",)
"""Entries of a batch that a model takes besides the images, as keyword arguments of its call."""


def further_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a batch that a model takes besides the images; mostly there are none.

    Args:
        batch: Arrays by name.
    """
    return {name: batch[name] for name in FURTHER_INPUTS if name in batch}


def model_entries(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a batch that a model takes: the images and the further inputs.

    Args:
        batch: Arrays by name.
    """
    return {"image": batch["image"], **further_inputs(batch)}
