"""File format of a prepared case: its slices, followed by its description.

For every z the file holds the image float32 [height, width, modalities] and the labels uint8
[height, width], so reading a few slices reads nothing else. After the last slice follows an npz
archive: shape, voxels per class, positions of some voxels of each class, and checksums.

The image is float32 although float16 would halve its size: it is the input of the model, so no
value is rounded or overflows, and a patch is copied instead of converted. A voxel takes 5 bytes of
CT and 17 bytes of MRI in four modalities, where voxels around the brain are cropped.
"""

import hashlib
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8, UInt32

from lmf_jax.errors import UserError
from lmf_jax.npz import read_arrays

MOST_POSITIONS = 4096
"""Maximum number of stored positions of a class: patches can center anywhere in it."""

_LARGEST_DESCRIPTION = 2**26
_FIELDS = {
    "shape": "<i8",
    "voxel_counts": "<i8",
    "position_counts": "<i8",
    "positions": "<i4",
    "checksums": "<u4",
    "digest": "<U64",
    "state": "<U64",
}


class Volume(NamedTuple):
    """Volume, or a part of one, with its label map."""

    image: Float32[np.ndarray, "depth height width modalities"]
    labels: UInt8[np.ndarray, "depth height width"]


@dataclass(frozen=True, eq=False)
class CaseFile:
    """Prepared case in its file.

    The checksum of a slice is compared when it is first read; later reads of the same pages come
    from memory.

    Attributes:
        path: The file.
        shape: Voxels along z, y, x, and modalities.
        voxel_counts: Voxels of each class, [C].
        positions: For each class, sorted positions of some of its voxels in the flat label map;
            none for the background.
        checksums: CRC-32 of every slice, [depth].
        digest: SHA-256, in hex, over shape and slices.
        state: Hash of the raw files and the method of preparation.
        unread: Whether a slice has not been read yet, [depth].
    """

    path: Path
    shape: tuple[int, int, int, int]
    voxel_counts: Int64[np.ndarray, " classes"]
    positions: tuple[Int32[np.ndarray, " _"], ...]
    checksums: UInt32[np.ndarray, " depth"]
    digest: str
    state: str
    unread: Bool[np.ndarray, " depth"]

    def read(self, first: int, last: int) -> Volume:
        """Read slices ``first`` to ``last - 1``.

        Args:
            first: First slice, from 0.
            last: End of the range, at most the depth.

        Raises:
            UserError: If the file has changed since it was written.
        """
        _, height, width, modalities = self.shape
        image = np.empty((last - first, height, width, modalities), np.float32)
        labels = np.empty((last - first, height, width), np.uint8)
        try:
            with self.path.open("rb", buffering=0) as file:
                for z in range(first, last):
                    self._read_slice(file, z, image[z - first].data, labels[z - first].data)
        except OSError as error:
            raise self.damaged(error.strerror or str(error)) from error
        return Volume(image, labels)

    def _read_slice(self, file: Any, z: int, image: memoryview, labels: memoryview) -> None:
        size = image.nbytes + labels.nbytes
        count = os.preadv(file.fileno(), [image, labels], z * size)
        if count < size:
            raise self.damaged(f"it has {count} of the {size} bytes of slice {z}")
        if self.unread[z]:
            if zlib.crc32(labels, zlib.crc32(image)) != self.checksums[z]:
                raise self.damaged(f"slice {z} has changed since it was written")
            self.unread[z] = False

    def damaged(self, reason: str) -> UserError:
        """Return an error that names the case.

        Args:
            reason: Description of the damage.
        """
        return _damaged(self.path, reason)


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"Case {path.stem} cannot be read from the prepared dataset {path.parent} ({reason}); "
        f"remove {path.name} there and prepare the dataset again."
    )


def write_case(file: BinaryIO, volume: Volume, num_classes: int, state: str) -> None:
    """Write a prepared case.

    Args:
        file: File to write, empty and open.
        volume: The case.
        num_classes: Number of classes C; the labels are below it.
        state: Hash of the raw files and the method of preparation; at most 64 characters.
    """
    image, labels = volume
    digest = hashlib.sha256(repr(image.shape).encode())
    checksums = []
    for image_slice, labels_slice in zip(image, labels, strict=True):
        content = image_slice.astype("<f4").tobytes() + labels_slice.tobytes()
        file.write(content)
        digest.update(content)
        checksums.append(zlib.crc32(content))
    counts = np.bincount(labels.ravel(), minlength=num_classes)
    positions = [_some_positions(labels, number) for number in range(1, num_classes)]
    fields: dict[str, Any] = {
        "shape": image.shape,
        "voxel_counts": counts,
        "position_counts": [0, *map(len, positions)],
        "positions": np.concatenate(positions),
        "checksums": checksums,
        "digest": digest.hexdigest(),
        "state": state,
    }
    arrays: dict[str, Any] = {name: np.array(fields[name], _FIELDS[name]) for name in _FIELDS}
    np.savez(file, **arrays)


def _some_positions(labels: UInt8[np.ndarray, "d h w"], number: int) -> Int32[np.ndarray, " _"]:
    """Return positions of a class in the flat label map, one at random from each equal interval."""
    found = np.flatnonzero(labels == number)
    count = min(len(found), MOST_POSITIONS)
    raw = np.random.PCG64([number, len(found)]).random_raw(count)
    within = (raw >> np.uint64(11)) * 2.0**-53
    places = ((np.arange(count) + within) * len(found) / max(1, count)).astype(int)
    return found[places].astype("i4")


def open_case(path: Path, num_modalities: int, num_classes: int) -> CaseFile:
    """Open a prepared case without reading its slices.

    Args:
        path: The file.
        num_modalities: Number of modalities M.
        num_classes: Number of classes C.

    Raises:
        UserError: If it is missing or damaged, or has other numbers of modalities or classes.
    """
    if not path.exists():
        raise _damaged(path, "its file is missing")
    try:
        found = read_arrays(path, largest=_LARGEST_DESCRIPTION, names=_FIELDS)
    except UserError as error:
        raise _damaged(path, "the end of its file is damaged or missing") from error
    if not _fits(path, found, num_modalities, num_classes):
        raise _damaged(
            path, f"it does not have {num_modalities} modalities and {num_classes} classes"
        )
    depth, height, width, modalities = found["shape"].tolist()
    ends = np.cumsum(found["position_counts"])[:-1]
    return CaseFile(
        path=path,
        shape=(depth, height, width, modalities),
        voxel_counts=found["voxel_counts"],
        positions=tuple(np.split(found["positions"], ends)),
        checksums=found["checksums"],
        digest=str(found["digest"]),
        state=str(found["state"]),
        unread=np.ones(depth, bool),
    )


def _fits(path: Path, found: Mapping[str, np.ndarray], num_modalities: int, classes: int) -> bool:
    """Return whether the description of a file is possible and fits the size of the file."""
    kinds = {name: array.dtype for name, array in found.items()}
    if any(kinds[name].kind != np.dtype(_FIELDS[name]).kind for name in found):
        return False
    if any(kinds[name] != _FIELDS[name] for name in found if kinds[name].kind != "U"):
        return False
    shape, counts = found["shape"], found["voxel_counts"]
    listed, positions = found["position_counts"], found["positions"]
    if shape.shape != (4,) or not np.all((shape >= 1) & (shape < 2**31)):
        return False
    depth, height, width, modalities = shape.tolist()
    voxels = math.prod((depth, height, width))
    return (
        modalities == num_modalities
        and voxels < 2**31
        and voxels * (4 * modalities + 1) < path.stat().st_size
        and counts.shape == listed.shape == (classes,)
        and bool(np.all((counts >= 0) & (counts <= voxels)))
        and int(counts.sum()) == voxels
        and listed.tolist() == [0, *np.minimum(counts[1:], MOST_POSITIONS).tolist()]
        and positions.shape == (int(listed.sum()),)
        and bool(np.all((positions >= 0) & (positions < voxels)))
        and found["checksums"].shape == (depth,)
        and found["digest"].shape == found["state"].shape == ()
    )
