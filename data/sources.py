"""Encoded images of a dataset, by row number."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from lmf_jax.errors import UserError


@runtime_checkable
class ImageSource(Protocol):
    """Random access to encoded images by row number."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> bytes: ...


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Encoded images of a prepared dataset, by row number.

    Attributes:
        examples: Data source of TFDS, which has no public type.
        ids: Name of every image, unicode [n].
        folder: Folder of the prepared dataset.
        feature: "image", or "mask" for the masks of the images.
    """

    examples: Any
    ids: Shaped[np.ndarray, " n"]
    folder: Path
    feature: Literal["image", "mask"] = "image"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> bytes:
        """Return the bytes of one image file, as the builder received them.

        Raises:
            UserError: If they cannot be read, or have changed: ArrayRecord hashes them.
        """
        try:
            encoded: bytes = self.examples[row][self.feature]
            if not encoded:  # ArrayRecord returns nothing behind the end of a truncated file
                raise EOFError("the file ends before it")
            return encoded
        except Exception as error:  # ArrayRecord and protobuf have no error in common
            raise UserError(
                f"{self.feature.title()} {self.ids[row]} cannot be read from the prepared dataset "
                f"{self.folder} ({error_name(error)}); remove that folder and prepare "
                "the dataset again."
            ) from error


def error_name(error: Exception) -> str:
    """Return the first line of an error, or its type if it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
