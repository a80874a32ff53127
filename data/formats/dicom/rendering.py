"""Rendering of stored gray values to 0..255: modality LUT, VOI LUT or window, padding, inversion.

Source: DICOM PS3.3, C.11.1 (modality), C.11.2 (VOI, with the equations of C.11.2.1.2 and
C.11.2.1.3), C.7.5.1.1.2 (padding) and C.8.11.3.1.2 (shape of the presentation LUT).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64, Integer, UInt8

from data.formats.dicom.file import DicomError
from data.formats.dicom.lookup import LookupTable, read_table
from data.formats.dicom.pixels import StoredImage

if TYPE_CHECKING:
    from pydicom import Dataset

MODALITY_ELEMENTS = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
"""Elements that describe the values of the modality, such as Hounsfield units."""

RENDERING_ELEMENTS = (
    *MODALITY_ELEMENTS,
    *("VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "PresentationLUTShape"),
)
"""Elements that describe how gray values are displayed."""

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Rescale:
    """Linear modality transformation.

    Attributes:
        slope: Factor of the stored values.
        intercept: Result for 0.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, values: Integer[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """Return ``slope * value + intercept``."""
        return values.astype(np.float64) * self.slope + self.intercept


@dataclass(frozen=True)
class Window:
    """Window of the values that are displayed.

    Attributes:
        center: Its center.
        width: Its width; at least 1 of LINEAR, else positive.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".
    """

    center: float
    width: float
    function: str = "LINEAR"

    def __call__(self, values: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """Return 0 (black) to 1 (white)."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4 * (values - self.center) / self.width, -700, 700)
            return 1 / (1 + np.exp(exponent))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.center) / self.width + 0.5, 0, 1)
        center, width = self.center - 0.5, self.width - 1
        if width == 0:  # a threshold
            return (values > center).astype(np.float64)
        return np.clip((values - center) / width + 0.5, 0, 1)


@dataclass(frozen=True, eq=False)
class Rendering:
    """Steps from stored gray values to 0..255.

    Attributes:
        modality: From stored values to those of the modality, such as Hounsfield units.
        voi: The values that are displayed; None for all of them.
        padding: Smallest and largest stored value of padding; None if there is none.
        inverted: Whether small values are white.
    """

    modality: LookupTable | Rescale = Rescale()
    voi: LookupTable | Window | None = None
    padding: tuple[int, int] | None = None
    inverted: bool = False

    def render(self, stored: Integer[np.ndarray, "height width"]) -> UInt8[np.ndarray, "h w"]:
        """Return 0 (black) to 255 (white); padding is black.

        Every stored value between the smallest and the largest is computed once if there are fewer
        of these than pixels.

        Args:
            stored: Stored values.
        """
        low, high = int(stored.min()), int(stored.max())
        if high - low >= stored.size:
            return self._levels(stored.astype(np.int64), self._range(stored))
        table = self._levels(np.arange(low, high + 1), self._range(stored))
        return table[stored.astype(np.int64) - low]

    def _levels(
        self, stored: Integer[np.ndarray, "*shape"], limits: tuple[float, float]
    ) -> UInt8[np.ndarray, "*shape"]:
        values = self.modality(stored)
        if isinstance(self.voi, LookupTable):
            shown = self.voi(values) / self.voi.most
        elif self.voi is not None:
            shown = self.voi(values)
        else:
            low, high = limits
            shown = (values - low) / (high - low if high > low else 1.0)
        shown = 1 - shown if self.inverted else shown
        levels = np.floor(255 * np.clip(shown, 0, 1) + 0.5)
        levels[self._is_padding(stored)] = 0
        return levels.astype(np.uint8)

    def _range(self, stored: Integer[np.ndarray, "height width"]) -> tuple[float, float]:
        """Return the smallest and the largest value of the modality without padding."""
        if self.voi is not None:
            return 0.0, 1.0  # not used
        kept = stored[~self._is_padding(stored)]
        if not kept.size:
            return 0.0, 1.0
        if isinstance(self.modality, LookupTable):
            kept = np.unique(kept)
        else:
            kept = np.array([kept.min(), kept.max()])
        values = self.modality(kept)
        return float(values.min()), float(values.max())

    def _is_padding(self, stored: Integer[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
        if self.padding is None:
            return np.zeros(stored.shape, bool)
        low, high = self.padding
        return (stored >= low) & (stored <= high)


def read_rendering(dataset: "Dataset", stored: StoredImage) -> Rendering:
    """Return how the gray values of a file are displayed.

    Args:
        dataset: Elements of the file, at least :data:`RENDERING_ELEMENTS`.
        stored: Its stored values.

    Raises:
        DicomError: If a window or a look-up table is damaged or unknown.
        Exception: Any exception of pydicom for values that it cannot parse.
    """
    shape = str(dataset.get("PresentationLUTShape") or "").strip()
    modality = read_modality(dataset, stored)
    extremes = modality(np.array([stored.values.min(), stored.values.max()], np.int64))
    return Rendering(
        modality=modality,
        voi=_read_voi(dataset, stored, is_signed=bool(extremes.min() < 0)),
        padding=_read_padding(dataset, stored),
        inverted=stored.photometric == "MONOCHROME1" or shape == "INVERSE",
    )


def read_modality(dataset: "Dataset", stored: StoredImage) -> LookupTable | Rescale:
    """Return the transformation from stored values to those of the modality.

    Args:
        dataset: Elements with the modality LUT, or the rescale slope and intercept.
        stored: The stored values.

    Raises:
        DicomError: If they are damaged.
        Exception: Any exception of pydicom for values that it cannot parse.
    """
    if table := _first_table(dataset, "ModalityLUTSequence", stored, is_signed=stored.is_signed):
        return table
    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    rescale = Rescale(1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
    if not all(map(math.isfinite, (rescale.slope, rescale.intercept))):
        raise DicomError("its rescale slope or intercept is not finite")
    return rescale


def _read_voi(
    dataset: "Dataset", stored: StoredImage, *, is_signed: bool
) -> LookupTable | Window | None:
    """Return the first VOI LUT, else the first window, else None."""
    if table := _first_table(dataset, "VOILUTSequence", stored, is_signed=is_signed):
        return table
    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if center is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip()
    if function not in _FUNCTIONS:
        raise DicomError(f"its VOI LUT function is not one of {', '.join(_FUNCTIONS)}")
    least = 1 if function == "LINEAR" else 0
    is_wide = width >= least if least else width > 0
    if not (is_wide and math.isfinite(width) and math.isfinite(center)):
        expected = "at least 1" if least else "more than 0"
        raise DicomError(
            f"its window has the center {center:g} and the width {width:g}; expected numbers, "
            f"and a width of {expected} for {function}"
        )
    return Window(center, width, function)


def _read_padding(dataset: "Dataset", stored: StoredImage) -> tuple[int, int] | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [int(value), int(value if limit is None else limit)]
    if stored.is_signed:  # the element may have the type of the other sign
        ends = [end - 2**16 if end >= 2**15 else end for end in ends]
    else:
        ends = [end % 2**16 for end in ends]
    return min(ends), max(ends)


def _first(dataset: "Dataset", keyword: str) -> float | None:
    """Return the first value of an element; None if it is missing or empty."""
    value: Any = dataset.get(keyword)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if value else None
    return None if value is None or value == "" else float(value)


def _first_table(
    dataset: "Dataset", keyword: str, stored: StoredImage, *, is_signed: bool
) -> LookupTable | None:
    """Return the table in the first item of a sequence; None without one."""
    items = dataset.get(keyword)
    if not items:
        return None
    return read_table(
        items[0].get("LUTDescriptor"),
        items[0].get("LUTData"),
        is_signed=is_signed,
        is_little_endian=stored.is_little_endian,
    )
