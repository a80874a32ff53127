"""Inputs of inference from the image files of pairs, such as both eyes of a patient."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from data.builders.image_folder import stem_of
from data.formats.metadata import Metadata
from data.inputs.image_files import InferenceImages
from lmf_jax.errors import UserError

PairOfFiles = tuple[Path | None, Path | None]


@dataclass(eq=False)
class InferencePairs(InferenceImages):
    """Batches of pairs of image files side by side; ``files`` are the common parts of their names.

    Attributes:
        pairs: The two image files of each pair; None for an absent one.
    """

    pairs: Sequence[PairOfFiles] = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a pair, (height, 2 * width, channels)."""
        height, width, channels = self.spec.shape
        return (height, 2 * width, channels)

    def decode(self, index: int) -> UInt8[np.ndarray, "height two_width channels"]:
        """Return both images of a pair; an absent one is black."""
        absent = np.zeros(self.spec.shape, np.uint8)
        sides = [
            absent if file is None else self.decode_file(file, index) for file in self.pairs[index]
        ]
        return np.concatenate(sides, axis=1)

    def parts(
        self, index: int, array: Shaped[np.ndarray, "height two_width"]
    ) -> list[tuple[Path, Shaped[np.ndarray, "height width"]]]:
        """Return the files of a pair, each with its half of a map of both images."""
        halves = np.split(array, 2, axis=1)
        pair = zip(self.pairs[index], halves, strict=True)
        return [(file, half) for file, half in pair if file is not None]


def pair_files(files: Iterable[Path], sides: Sequence[str]) -> dict[Path, PairOfFiles]:
    """Return the pairs of files whose names differ in their ends, ``NAME_SIDE`` or ``NAME-SIDE``.

    Args:
        files: The image files.
        sides: The two ends, such as left and right; upper and lower case are equal.

    Returns:
        The two files by the path with the common name; None for an absent file.

    Raises:
        UserError: If a name has another end, or two files have one name.
    """
    pairs: dict[Path, list[Path | None]] = {}
    for file in files:
        name, number = _name_and_side(file, sides)
        pair = pairs.setdefault(file.parent / name, [None, None])
        if pair[number] is not None:
            raise UserError(f"{pair[number]} and {file} are the same image of one pair.")
        pair[number] = file
    return {name: (first, second) for name, (first, second) in pairs.items()}


def metadata_of_pairs(
    metadata: Metadata, files: Sequence[Path], pairs: Mapping[Path, PairOfFiles]
) -> Metadata:
    """Return the metadata of pairs, those of the first of their images that is there.

    Args:
        metadata: Value of each file by column.
        files: The image files.
        pairs: From :func:`pair_files`.
    """
    row_of = {file: row for row, file in enumerate(files)}
    rows = [row_of[next(file for file in pair if file is not None)] for pair in pairs.values()]
    return {column: values[rows] for column, values in metadata.items()}


def _name_and_side(file: Path, sides: Sequence[str]) -> tuple[str, int]:
    stem = stem_of(file)
    for number, side in enumerate(sides):
        name = stem[: -len(side) - 1]
        if name and stem.lower().endswith((f"_{side.lower()}", f"-{side.lower()}")):
            return name, number
    raise UserError(
        f"{file} belongs to no pair: the name of an image of this run ends in _{sides[0]} or "
        f"_{sides[1]}."
    )
