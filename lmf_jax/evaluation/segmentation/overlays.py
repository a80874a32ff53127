"""The cases of a test that a report shows: the worst, those in the middle and the best.

Their images are kept beside the test when it is done, so that a report needs neither the model nor
the data. The file holds images of the test part: whoever passes a run or its report on passes them
on.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from lmf_jax.errors import UserError
from lmf_jax.npz import read_arrays

SHOWN_OF_EACH = 2
"""Cases that are shown of the worst, of those in the middle and of the best."""

LARGEST_OVERLAYS = 2**31
"""Bytes of ``overlays.npz``: six images of 8,400 pixels a side."""


@dataclass(frozen=True, eq=False)
class Overlays:
    """Images of some cases with their true and predicted label maps, the worst case first.

    Attributes:
        places: place of each among the cases of the test ``[k]``.
        images: RGB as the model got them, before normalisation, ``[k, h, w, 3]``; of a volume the
            slice with the most truth in it.
        labels: true class of every pixel ``[k, h, w]``.
        predictions: predicted class of every pixel.
    """

    places: Int[np.ndarray, " k"]
    images: UInt8[np.ndarray, "k h w 3"]
    labels: UInt8[np.ndarray, "k h w"]
    predictions: UInt8[np.ndarray, "k h w"]


def shown_cases(dsc: Float[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """Return the places of the cases to show, from the worst to the best; all where there are few.

    Args:
        dsc: mean DSC of each case.
    """
    order = np.argsort(dsc, kind="stable")
    if len(order) <= 3 * SHOWN_OF_EACH:
        return order
    middle = (len(order) - SHOWN_OF_EACH) // 2
    return np.concatenate(
        [
            order[:SHOWN_OF_EACH],
            order[middle : middle + SHOWN_OF_EACH],
            order[-SHOWN_OF_EACH:],
        ]
    )


def write_overlays(run_dir: Path, overlays: Overlays) -> None:
    """Write ``overlays.npz`` into the folder of a run, whole or not at all."""
    temporary = run_dir / "overlays.tmp.npz"
    temporary.unlink(missing_ok=True)  # a link there may lead anywhere
    np.savez_compressed(temporary, **vars(overlays))
    os.replace(temporary, run_dir / "overlays.npz")


def read_overlays(run_dir: str | Path, num_cases: int, num_classes: int) -> Overlays | None:
    """Read ``overlays.npz``; None where there is no such file.

    Args:
        run_dir: the folder of the run.
        num_cases: cases of the test, of which these are some.
        num_classes: classes that their label maps are of.

    Raises:
        UserError: if the file is broken.
    """
    path = Path(run_dir) / "overlays.npz"
    if not path.exists():
        return None
    names = [field.name for field in fields(Overlays)]
    arrays = read_arrays(path, largest=LARGEST_OVERLAYS, names=names)
    if not _are_overlays(**arrays, num_cases=num_cases, num_classes=num_classes):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UserError(
            f"{path} is broken: its {shapes} are not up to {3 * SHOWN_OF_EACH} images, their "
            "places among the cases and their label maps; test the run again."
        )
    return Overlays(**arrays)


def _are_overlays(
    places: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    num_cases: int,
    num_classes: int,
) -> bool:
    """Whether arrays have the types and shapes that :class:`Overlays` says, and possible values."""
    maps = (labels, predictions)
    k = len(places) if places.ndim == 1 else 0
    return (
        places.dtype.kind in "iu"
        and 0 < k <= 3 * SHOWN_OF_EACH
        and bool(np.all((places >= 0) & (places < num_cases)))
        and images.dtype == np.uint8
        and (images.ndim, len(images), images.shape[-1]) == (4, k, 3)
        and images.size > 0
        and all(values.dtype == np.uint8 for values in maps)
        and all(values.shape == images.shape[:3] for values in maps)
        and all(values.max() < num_classes for values in maps)
    )
