"""Stored values of a DICOM image, with checks of all sizes before anything is decoded."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Integer, Shaped
from PIL import Image

from data.formats.dicom.codestream import Frame, read_frame
from data.formats.dicom.file import DicomError, without_details
from data.formats.dicom.gdcm_decoder import decode_with_gdcm, has_gdcm

if TYPE_CHECKING:
    from pydicom import Dataset

PIXEL_ELEMENTS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
"""Elements that describe the stored values."""

_IMPLICIT = "1.2.840.10008.1.2"
_NATIVE = (_IMPLICIT, f"{_IMPLICIT}.1", f"{_IMPLICIT}.1.99", f"{_IMPLICIT}.2")
_RLE = f"{_IMPLICIT}.5"
_JPEG = tuple(f"{_IMPLICIT}.4.{number}" for number in (50, 51))
_JPEG_LOSSLESS = tuple(f"{_IMPLICIT}.4.{number}" for number in (57, 70))
_JPEG_LS = tuple(f"{_IMPLICIT}.4.{number}" for number in (80, 81))
_JPEG_2000 = tuple(f"{_IMPLICIT}.4.{number}" for number in (90, 91, 201, 202, 203))

_PLUGINS = {
    _RLE: "pydicom",
    **dict.fromkeys(_JPEG, "pillow"),
    **dict.fromkeys(_JPEG_2000, "pylibjpeg"),
}
"""Decoder that pydicom uses for each compressed transfer syntax; it would try others, of which GDCM
ends the process for damaged data. JPEG lossless and JPEG-LS need it, in a separate process."""

_GRAY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True, eq=False)
class StoredImage:
    """Stored values of an image.

    Attributes:
        values: Values, [height, width], or RGB [height, width, 3].
        photometric: "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR" or "RGB".
        bits: Bits stored.
        is_signed: Whether values may be negative.
        is_little_endian: Order of the bytes in the file.
    """

    values: Integer[np.ndarray, "height width *channels"]
    photometric: str
    bits: int
    is_signed: bool
    is_little_endian: bool


@dataclass(frozen=True)
class _Layout:
    """Checked description of the pixels."""

    syntax: str
    photometric: str
    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    bits: int
    high_bit: int
    is_signed: bool

    def num_bytes(self, frames: int) -> int:
        """Return the bytes of a number of decoded frames."""
        return -(-frames * self.rows * self.columns * self.samples * self.allocated // 8)

    @property
    def described(self) -> str:
        """The size in words."""
        size = f"{self.columns} x {self.rows} pixels"
        return size if self.frames == 1 else f"{self.frames} frames of {size}"


def read_stored(dataset: "Dataset", frame: int | None = None) -> StoredImage:
    """Decode the stored values of an image.

    Args:
        dataset: Elements of a file, at least :data:`PIXEL_ELEMENTS`.
        frame: Index of the frame to decode; None refuses several frames.

    Raises:
        DicomError: If there is no image, or its description is incomplete, too large or not
            supported, its data are damaged, or a decoder is missing.
    """
    with without_details("the description of its pixels is damaged"):
        layout = _read_layout(dataset, is_single=frame is None)
    with without_details("its pixel data are damaged"):
        decoded, photometric = _decode(dataset, layout, frame or 0)
    return StoredImage(
        decoded,
        photometric,
        layout.bits,
        layout.is_signed,
        layout.syntax != f"{_IMPLICIT}.2",
    )


def _read_layout(dataset: "Dataset", *, is_single: bool) -> _Layout:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise DicomError("floating-point pixels have no fixed range; save it with 8 or 16 bits")
    if "PixelData" not in dataset or not dataset["PixelData"].value:
        raise DicomError("it is a DICOM file without an image")
    samples = _number(dataset, "SamplesPerPixel", (1, 3))
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    if photometric not in (_GRAY if samples == 1 else _COLOR):
        raise DicomError(
            "its photometric interpretation is missing or not read; expected one of "
            f"{', '.join(_GRAY)} with one sample per pixel, or of {', '.join(_COLOR)} with three"
        )
    frames = _number(dataset, "NumberOfFrames", range(2**31), default=1)
    if is_single and frames > 1:
        raise DicomError(f"it has {frames} frames; expected one, so save each as a file")
    allocated = _number(dataset, "BitsAllocated", (1, 8, 16, 32) if samples == 1 else (8, 16))
    bits = _number(dataset, "BitsStored", range(1, allocated + 1), default=allocated)
    layout = _Layout(
        syntax=_transfer_syntax(dataset),
        photometric=photometric,
        rows=_number(dataset, "Rows", range(1, 2**16)),
        columns=_number(dataset, "Columns", range(1, 2**16)),
        samples=samples,
        frames=max(1, frames),
        allocated=allocated,
        bits=bits,
        high_bit=_number(dataset, "HighBit", range(bits - 1, allocated), default=bits - 1),
        is_signed=bool(_number(dataset, "PixelRepresentation", (0, 1), default=0)),
    )
    _number(dataset, "PlanarConfiguration", (0, 1), default=0)
    if photometric.startswith("YBR") and allocated != 8:
        raise DicomError(f"its YBR colors have {allocated} bits; expected 8")
    _check_size(layout, len(dataset.PixelData))
    return layout


def _number(
    dataset: "Dataset", keyword: str, allowed: "range | tuple[int, ...]", default: int | None = None
) -> int:
    """Return a whole number of the header, which is one of the allowed."""
    value = dataset.get(keyword)
    if value is None and default is not None:
        return default
    if value is None:
        raise DicomError(f"its header lacks {keyword}")
    if not isinstance(value, int) or int(value) not in allowed:
        given = f" {int(value)}" if isinstance(value, int) else " with another type"
        choices = (
            f"{allowed.start} to {allowed.stop - 1}"
            if isinstance(allowed, range)
            else " or ".join(map(str, allowed))
        )
        raise DicomError(f"its header has {keyword}{given}; expected {choices}")
    return int(value)


def _transfer_syntax(dataset: "Dataset") -> str:
    """Return the UID of the transfer syntax if it is read."""
    from pydicom.uid import UID

    syntax = str(dataset.file_meta.get("TransferSyntaxUID", _IMPLICIT))
    if syntax not in (*_NATIVE, *_PLUGINS, *_JPEG_LOSSLESS, *_JPEG_LS):
        name = UID(syntax).name
        named = "an unknown transfer syntax" if name == syntax else name
        raise DicomError(
            f"its pixel data have {named}, which is not read; save it uncompressed or as RLE, "
            "JPEG, JPEG-LS or JPEG 2000"
        )
    return syntax


def _check_size(layout: _Layout, num_bytes: int) -> None:
    """Refuse an image that is too large, or larger than its data can be."""
    pixels = layout.rows * layout.columns
    most = 2 * (Image.MAX_IMAGE_PIXELS or 2**27)
    if pixels > most:
        raise DicomError(
            f"it claims {layout.columns} x {layout.rows} pixels; expected {most} at most"
        )
    if layout.syntax in _NATIVE:
        expected = layout.num_bytes(layout.frames)
        if layout.photometric == "YBR_FULL_422":  # two pixels share their colors
            expected = expected // 3 * 2
        if num_bytes < expected:
            raise DicomError(
                f"its pixel data have {num_bytes} bytes; expected {expected} for {layout.described}"
            )


def _decode(
    dataset: "Dataset", layout: _Layout, index: int
) -> tuple[Integer[np.ndarray, "height width *channels"], str]:
    """Return the values of a frame, as RGB if they are colors, and what they are then."""
    _check_decoder(layout.syntax)
    is_rgb = False
    if layout.syntax == _RLE:
        _check_rle_size(len(_codestream(dataset, layout, index)), layout)
    if layout.syntax in (*_JPEG, *_JPEG_LOSSLESS, *_JPEG_LS, *_JPEG_2000):
        codestream = _codestream(dataset, layout, index)
        frame = _check_codestream(codestream, layout)
        is_rgb = layout.syntax in _JPEG and layout.samples == 3 and _has_adobe_marker(codestream)
        if layout.syntax in (*_JPEG_LOSSLESS, *_JPEG_LS):
            return _decode_lossless(codestream, frame, layout)
    decoded, photometric = _decode_with_pydicom(dataset, layout, index, raw=is_rgb)
    photometric = "RGB" if is_rgb else photometric
    shape = (layout.rows, layout.columns, *((3,) if layout.samples == 3 else ()))
    if decoded.shape != shape or photometric not in (*_GRAY, "RGB"):
        raise DicomError("its pixel data do not have the size or the colors of its header")
    return _significant_bits(decoded, layout), photometric


def _check_decoder(syntax: str) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    if syntax in (*_JPEG_LOSSLESS, *_JPEG_LS):
        is_available = has_gdcm()
    else:
        plugin = _PLUGINS.get(syntax)
        is_available = plugin is None or plugin in get_decoder(UID(syntax)).available_plugins
    if not is_available:
        raise DicomError(
            f"its {UID(syntax).name} data need a decoder that is not installed; run "
            "pip install -e '.[dicom]'"
        )


def _check_rle_size(num_bytes: int, layout: _Layout) -> None:
    """Refuse RLE data that could unpack to far more than a frame, up to 64 times their size.

    At worst, RLE adds a byte to 128.
    """
    most = 2 * layout.num_bytes(1) + 2**12
    if num_bytes > most:
        raise DicomError(
            f"its RLE data have {num_bytes} bytes; expected {most} at most for "
            f"{layout.columns} x {layout.rows} pixels"
        )


def _codestream(dataset: "Dataset", layout: _Layout, index: int) -> bytes:
    """Return the compressed data of a frame, the same that pydicom decodes."""
    from pydicom.encaps import get_frame

    return get_frame(dataset.PixelData, index, number_of_frames=layout.frames)


def _decode_with_pydicom(
    dataset: "Dataset", layout: _Layout, index: int, *, raw: bool
) -> tuple[Shaped[np.ndarray, "height width *channels"], str]:
    """Return the values, with YBR converted to RGB unless raw, and what they are then."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    decoded, properties = get_decoder(UID(layout.syntax)).as_array(
        dataset,
        index=index,
        raw=raw,
        decoding_plugin=_PLUGINS.get(layout.syntax, ""),
        # pydicom annotates every option as a whole set of options.
        allow_excess_frames=False,  # type: ignore[arg-type]
        correct_unused_bits=False,  # type: ignore[arg-type]
    )
    return decoded, str(properties["photometric_interpretation"])


def _decode_lossless(
    codestream: bytes, frame: Frame, layout: _Layout
) -> tuple[Integer[np.ndarray, "height width *channels"], str]:
    """Decode JPEG lossless and JPEG-LS, which do not know of negative samples."""
    from pydicom.pixels import convert_color_space

    samples = decode_with_gdcm(codestream, layout.syntax, frame)
    if layout.samples == 3:
        if layout.photometric.startswith("YBR_FULL"):
            return convert_color_space(samples, "YBR_FULL", "RGB"), "RGB"
        return samples, "RGB"
    values = samples[..., 0]
    if layout.is_signed:
        unused = 8 * values.dtype.itemsize - frame.bits
        values = (values << unused).view(f"i{values.dtype.itemsize}") >> unused
    return values, layout.photometric


def _has_adobe_marker(codestream: bytes) -> bool:
    """Return whether a JPEG declares its colors in a marker of Adobe.

    Pillow then converts them to RGB itself, and pydicom would convert them once more.
    """
    with Image.open(io.BytesIO(codestream), formats=("JPEG",)) as image:
        return "adobe_transform" in image.info


def _check_codestream(codestream: bytes, layout: _Layout) -> Frame:
    """Refuse compressed data of another size than in the header: a decoder would believe them."""
    found = read_frame(codestream, is_jpeg_2000=layout.syntax in _JPEG_2000)
    if found is None:
        raise DicomError("its compressed pixel data have no valid beginning")
    expected = (layout.columns, layout.rows, layout.samples)
    if found[:3] != expected or found.bits > layout.allocated:
        raise DicomError(
            f"its compressed pixel data have {found.width} x {found.height} pixels of "
            f"{found.samples} samples with {found.bits} bits; its header has {layout.columns} x "
            f"{layout.rows} of {layout.samples} with {layout.allocated}"
        )
    return found


def _significant_bits(
    values: Shaped[np.ndarray, "*shape"], layout: _Layout
) -> Integer[np.ndarray, "*shape"]:
    """Return the values without the unused bits, which may hold anything, with their sign.

    The decoder of JPEG 2000 knows the bits itself.
    """
    if layout.syntax in _JPEG_2000 or layout.allocated == 1:
        return values
    width = 8 * values.dtype.itemsize
    high_bit = layout.high_bit if layout.syntax in (*_NATIVE, _RLE) else layout.bits - 1
    left, right = width - 1 - high_bit, width - layout.bits
    native = values.astype(values.dtype.newbyteorder("="))
    return native if not right else (native << left) >> right
