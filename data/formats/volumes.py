"""Decoding of NIfTI files to volumes of bytes, for models of whole volumes."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from data.formats.intensity import FULL_RANGE, IntensityRange
from data.formats.nifti import open_nifti
from lmf_jax.config import ImageSpec

PERCENTILES = (0.5, 99.5)
"""Percentiles of a volume that become 0 and 255 if the dataset has no range."""

_MOST_SAMPLES = 2**24
"""Voxels from which the percentiles are computed; larger volumes are sampled evenly."""

Volume = UInt8[np.ndarray, "depth height width"]


def is_nifti(encoded: bytes) -> bool:
    """Return whether the bytes of a file are those of a NIfTI file, or compressed by gzip."""
    return encoded[:2] == b"\x1f\x8b" or encoded[344:348] == b"n+1\0" or encoded[4:8] == b"n+2\0"


def read_values(encoded: bytes) -> Float32[np.ndarray, "depth height width"]:
    """Return the values of a volume along z (upwards), y (to the front) and x (to the right).

    Args:
        encoded: Bytes of a NIfTI file.

    Raises:
        UserError: If they are not one volume of finite numbers. It names the file "it", for a
            sentence that begins with the name.
    """
    return open_nifti(Path("it"), encoded).read_image()


def read_volume(encoded: bytes, intensity_range: IntensityRange = FULL_RANGE) -> Volume:
    """Return a volume in its own size, with its values scaled to 0 to 255.

    Args:
        encoded: Bytes of a NIfTI file.
        intensity_range: Values that become 0 and 255; :data:`FULL_RANGE` takes
            :data:`PERCENTILES` of this volume, or all its values if these are equal. A volume of
            one value then becomes 0.

    Raises:
        UserError: As :func:`read_values`.
    """
    values = read_values(encoded)
    low, high = map(float, intensity_range)
    if intensity_range == FULL_RANGE:
        samples = values.ravel()[:: -(-values.size // _MOST_SAMPLES)].astype(np.float64)
        low, high = np.percentile(samples, PERCENTILES).tolist()
        if low == high:  # few voxels have another value
            low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(values.shape, np.uint8)
    factor = 255 / (high - low)  # multiplied first, since a difference may overflow
    scaled = np.clip(values, low, high) * factor - low * factor
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def decode_volume(
    encoded: bytes, spec: ImageSpec, intensity_range: IntensityRange = FULL_RANGE
) -> UInt8[np.ndarray, "depth height width 1"]:
    """Decode a volume to one size, with antialiased linear interpolation along each axis.

    Args:
        encoded: Bytes of a NIfTI file.
        spec: Size of the result.
        intensity_range: As for :func:`read_volume`.

    Raises:
        UserError: As :func:`read_values`.
    """
    assert spec.depth is not None
    slices = [
        Image.fromarray(part).resize((spec.width, spec.height), Image.Resampling.BILINEAR)
        for part in read_volume(encoded, intensity_range)
    ]
    rows = np.stack([np.asarray(part).ravel() for part in slices])  # a row is a slice
    resized = Image.fromarray(rows).resize((rows.shape[1], spec.depth), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(spec.shape)


def axial_picture(volume: Volume, index: int) -> Image.Image:
    """Return a slice of a volume in gray as it is displayed, with the front of the body on top.

    Args:
        volume: From :func:`read_volume`.
        index: Number of the slice, from below.
    """
    return Image.fromarray(volume[index, ::-1])
