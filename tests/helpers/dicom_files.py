"""DICOM files made by pydicom, with a sentinel in every element that can identify a person."""

import io
import tempfile
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

_PLUGINS = {RLELossless: "pydicom", JPEG2000Lossless: "pylibjpeg"}
"""Writers of pydicom; it has none of JPEG, and that of GDCM ends the process."""

SENTINEL = "ZZSENTINELZZ"
"""Text of every name and number of a patient; it may not occur in anything that is written."""

IDENTIFYING = (
    *("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName"),
    *("NameOfPhysiciansReadingStudy", "RequestingPhysician", "PhysiciansOfRecord"),
    *("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "IssuerOfPatientID"),
    *("PatientAddress", "InstitutionName", "AdmissionID", "ProtocolName", "StudyDescription"),
)


def dicom_dataset(pixels: np.ndarray, **elements: Any) -> Dataset:
    """Return a dataset with uncompressed pixels, and elements that replace the usual ones."""
    dataset = Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = generate_uid()
    for keyword in IDENTIFYING:
        setattr(dataset, keyword, SENTINEL)
    dataset.PatientBirthDate = "19011231"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if "BitsStored" in elements and "HighBit" not in elements:
        dataset.HighBit = dataset.BitsStored - 1
    return dataset


def encode(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return the bytes of a file; compress its pixels if the transfer syntax does."""
    syntax = UID(syntax)
    if syntax == ExplicitVRBigEndian and dataset.BitsAllocated > 8:
        pixels = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}")
        dataset.PixelData = pixels.byteswap().tobytes()
    if syntax in _PLUGINS:
        encode_with(dataset, ExplicitVRLittleEndian)  # gives it the syntax that pydicom asks for
        plugin = _PLUGINS[syntax]
        dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    elif syntax == JPEGBaseline8Bit:
        _compress_baseline(dataset)
    elif syntax.is_encapsulated:
        frame = _compress_with_gdcm(encode_with(dataset, ExplicitVRLittleEndian), syntax)
        dataset.PixelData = encapsulate([frame])
    return encode_with(dataset, syntax)


def encode_with(dataset: Dataset, syntax: UID) -> bytes:
    """Return the bytes of a file with this transfer syntax; its pixels stay as they are."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file = io.BytesIO()
    is_implicit, is_little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dataset.save_as(
        file, implicit_vr=is_implicit, little_endian=is_little, enforce_file_format=True
    )
    return file.getvalue()


def _compress_baseline(dataset: Dataset) -> None:
    """Replace pixels of 8 bits by a JPEG, and RGB by YBR_FULL_422."""
    shape = (dataset.Rows, dataset.Columns, *([3] if dataset.SamplesPerPixel == 3 else []))
    pixels = np.frombuffer(dataset.PixelData, np.uint8)[: np.prod(shape)].reshape(shape)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=95, subsampling=1)
    dataset.PixelData = encapsulate([file.getvalue()])
    if dataset.SamplesPerPixel == 3:
        dataset.PhotometricInterpretation = "YBR_FULL_422"


def _compress_with_gdcm(content: bytes, syntax: UID) -> bytes:
    """Return the compressed frame of an uncompressed file."""
    kind = gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax)))
    with tempfile.NamedTemporaryFile() as source:
        source.write(content)
        source.flush()
        reader = gdcm.ImageReader()
        reader.SetFileName(source.name)
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(kind)
        change.SetInput(reader.GetImage())
        assert change.Change(), syntax.name
        fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
        frame = fragments.GetFragment(0).GetByteValue().GetBuffer()
        return frame.encode("utf-8", "surrogateescape")


def write_dicom(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """Write a DICOM file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(dicom_dataset(pixels, **elements)))
    return path
