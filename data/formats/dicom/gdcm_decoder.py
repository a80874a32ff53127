"""Decoding of JPEG lossless and JPEG-LS, in a separate process."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt

from data.formats.dicom.codestream import Frame
from data.formats.dicom.file import DicomError

PROGRAM = Path(__file__).with_name("gdcm_program.py")
"""The program that decodes; it is not imported, because GDCM may end its process."""

SECONDS = 120
"""Time limit of an image."""


def has_gdcm() -> bool:
    """Return whether GDCM is installed."""
    return find_spec("gdcm") is not None


def decode_with_gdcm(
    codestream: bytes, syntax: str, frame: Frame
) -> UInt[np.ndarray, "height width samples"]:
    """Return the samples of a codestream; negative ones are not known as such.

    Args:
        codestream: JPEG lossless or JPEG-LS.
        syntax: UID of the transfer syntax.
        frame: Size of its image.

    Raises:
        DicomError: If it cannot be decoded, which may have ended the process.
    """
    numbers = (frame.width, frame.height, frame.samples, frame.bits)
    command = [sys.executable, "-P", str(PROGRAM), syntax, *map(str, numbers)]
    try:
        done = subprocess.run(command, input=codestream, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise DicomError(f"its pixel data take longer than {SECONDS} seconds to decode") from None
    samples = np.frombuffer(done.stdout, np.uint8 if frame.bits <= 8 else np.uint16)
    shape = (frame.height, frame.width, frame.samples)
    if done.returncode or samples.size != np.prod(shape):
        raise DicomError("its compressed pixel data are damaged")
    return samples.reshape(shape)
