"""Decoder of JPEG lossless and JPEG-LS with GDCM, run as a subprocess with limits on its memory.

GDCM ends its process for some damaged data. :mod:`data.formats.dicom.gdcm_decoder` therefore runs
this file as a program that reads a codestream from standard input and writes its samples to
standard output. It imports nothing from this package, so that it starts fast.
"""

import contextlib
import resource
import sys

import gdcm

MEMORY = 2**32
"""Limit of the bytes of address space: several times the largest image, as libraries need some."""


def main() -> None:
    """Decode one frame, whose description is in the arguments."""
    with contextlib.suppress(ValueError, OSError):  # some systems do not have this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    syntax, numbers = sys.argv[1], tuple(map(int, sys.argv[2:]))
    sys.stdout.buffer.write(decode(sys.stdin.buffer.read(), syntax, *numbers))


def decode(
    codestream: bytes, syntax: str, width: int, height: int, samples: int, bits: int
) -> bytes:
    """Return the samples of a codestream, color by pixel, in 8 bits if they fit, else in 16.

    Args:
        codestream: JPEG lossless or JPEG-LS.
        syntax: UID of the transfer syntax.
        width: Pixels of a row.
        height: Number of rows.
        samples: Samples of a pixel.
        bits: Bits of a sample.
    """
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(codestream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((width, height, 1))
    image.SetDataElement(element)
    colors = "MONOCHROME2" if samples == 1 else "RGB"  # of the samples as they are
    kind = gdcm.PhotometricInterpretation.GetPIType(colors)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(samples, 8 if bits <= 8 else 16, bits, bits - 1, 0))
    decoded: str = image.GetBuffer()  # bytes as text, in the encoding of the bindings
    return decoded.encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    main()
