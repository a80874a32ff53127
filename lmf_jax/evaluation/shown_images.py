"""Test images that are kept for the report, and their file in the folder of a run.

They are stored next to the test results, so that a report needs neither the model nor the data.
Sharing a run or its report shares these images.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int, UInt8

from lmf_jax.npz import read_arrays
from lmf_jax.runs.files import check

MAX_BYTES = 2**31
"""Maximum size of a file in bytes: five RGB images of 11,900 pixels a side and small heat maps."""


@dataclass(frozen=True, eq=False)
class ShownImages:
    """Some images of a test.

    Attributes:
        indices: Index of each among the test examples ``[k]``.
        images: Input of the model before normalization, as RGB ``[k, h, w, 3]``.
    """

    indices: Int[np.ndarray, " k"]
    images: UInt8[np.ndarray, "k h w 3"]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by their names in the file."""
        arrays = {_file_name(name): array for name, array in vars(self).items()}
        return {name: array for name, array in arrays.items() if array is not None}


def as_rgb(
    images: UInt8[np.ndarray, "*batch height width channels"],
) -> UInt8[np.ndarray, "*batch height width 3"]:
    """Return images of the model as RGB, for pictures; gray ones get three equal channels."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


Shown = TypeVar("Shown", bound=ShownImages)


def _file_name(name: str) -> str:
    return "places" if name == "indices" else name  # names in files do not change


def write_shown_images(path: Path, shown: ShownImages, *, compressed: bool = False) -> None:
    """Write the images atomically: the file is complete or absent."""
    temporary = path.with_suffix(".tmp.npz")
    temporary.unlink(missing_ok=True)  # A symbolic link here could point anywhere.
    save = np.savez_compressed if compressed else np.savez
    save(temporary, **shown.arrays)  # type: ignore[arg-type]
    os.replace(temporary, path)


def read_shown_images(
    path: Path,
    kind: type[Shown],
    are_valid: Callable[[Mapping[str, np.ndarray]], bool],
    expected: str,
) -> Shown | None:
    """Read the images that a report shows; return None if the file does not exist.

    Args:
        path: The npz file.
        kind: Their class; arrays with a default may be missing.
        are_valid: Called with the arrays by their names in the class; returns whether types, shapes
            and values are possible.
        expected: Description of valid contents, for error messages.

    Raises:
        UserError: If the file is broken.
    """
    if not path.exists():
        return None
    names = {_file_name(field.name): field.name for field in fields(kind)}
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    required = tuple(file_name for file_name, name in names.items() if name not in optional)
    found = read_arrays(path, largest=MAX_BYTES, names=required, optional=optional)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
    arrays = {names[file_name]: array for file_name, array in found.items()}
    check(path, are_valid(arrays), f"its arrays {shapes} are not {expected}")
    return kind(**arrays)


def are_images(arrays: Mapping[str, np.ndarray], max_images: int, num_examples: int) -> bool:
    """Return whether indices and images have the types, shapes and values of :class:`ShownImages`.

    Args:
        arrays: ``indices`` and ``images``.
        max_images: Maximum number of images.
        num_examples: Number of test examples.
    """
    indices, images = arrays["indices"], arrays["images"]
    k = indices.size
    return (
        indices.dtype.kind in "iu"
        and indices.ndim == 1
        and k <= max_images
        and bool(np.all((indices >= 0) & (indices < num_examples)))
        and images.dtype == np.uint8
        and (images.ndim, len(images), images.shape[-1], images.size > 0) == (4, k, 3, k > 0)
    )
