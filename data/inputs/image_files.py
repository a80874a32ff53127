"""Inputs of inference from image files outside of a dataset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grain
import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from data.batches.pipeline import EvaluationBatch
from data.batches.stream import DECODE_OPTIONS, Stream
from data.builders.dicom_files import burned_in_lines
from data.builders.image_folder import images_in, volumes_in
from data.builders.unused_files import non_image_lines, unused_entries, unused_line
from data.formats.dicom.file import is_dicom
from data.formats.dicom.identity import identity_in
from data.formats.image_file import without_header
from data.formats.images import decode_image, is_deep, open_image, read_encoded, reason
from data.formats.intensity import FULL_RANGE, IntensityRange
from data.inputs.image_list import ListedImages, is_list, joined, read_image_list
from data.volume_spec import is_volume
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError


def image_files(path: str | Path) -> list[Path]:
    """Return an image file, the image files directly in a folder, sorted by name, or those listed.

    Args:
        path: File, folder, or list, see :func:`data.inputs.image_list.read_image_list`.

    Raises:
        UserError: If the path does not exist, or is a folder or a list without images.
    """
    return given_images([path]).files


def given_images(paths: Sequence[str | Path], spec: ImageSpec | None = None) -> ListedImages:
    """Return the images of some files, folders and lists, with the metadata of the lists.

    Args:
        paths: As for :func:`image_files`, at least one.
        spec: Images of the model; with a depth, the volumes of a folder are returned.

    Raises:
        UserError: As :func:`image_files`.
    """
    takes_volumes = spec is not None and spec.depth is not None
    return joined([_images_of(Path(path).expanduser(), takes_volumes) for path in paths])


def _images_of(path: Path, takes_volumes: bool) -> ListedImages:
    if path.is_file():
        return read_image_list(path) if is_list(path) else ListedImages([path], {})
    if not path.exists():
        raise UserError(f"{path} does not exist; expected an image or a folder of images.")
    names = volumes_in(path) if takes_volumes else images_in(path)
    return ListedImages([path / name for name in names], {})


def skipped_lines(path: str | Path, output: Path, spec: ImageSpec | None = None) -> list[str]:
    """Return a line for each type of file, and for folders, that :func:`given_images` skips.

    Args:
        path: Folder, or an image file, for which there are no lines.
        output: File or folder of the results, which is left out of the lines.
        spec: Images of the model.
    """
    takes_volumes = spec is not None and spec.depth is not None
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return []
    files, folders = unused_entries(folder, [output])
    if takes_volumes:
        others = [file for file in files if not is_volume(file.name)]
        lines = [unused_line(folder, others, "file", "volumes are NIfTI files")] if others else []
    else:
        lines = non_image_lines(folder, files)
    if folders:
        lines.append(unused_line(folder, folders, "folder", "name a folder to use its images"))
    return lines


@dataclass(eq=False)
class InferenceImages:
    """Batches of image files, decoded and resized in advance by threads.

    A file that cannot be decoded raises no error: it is masked in its batch.

    Attributes:
        files: The image files.
        spec: Size of the images.
        batch_size: Images in a batch; the last batch is padded.
        intensity_range: Range that maps to black and white in images of more than 8 bits, as in the
            training images. None if none of these had more than 8 bits.
        metadata: Encoded metadata of the files, [n, features]; None if the model takes none.
        metadata_note: Line of text about unknown metadata; None if there is nothing to say.
        broken: Reason of each file that cannot be decoded, by its index; complete after a pass over
            the batches.
        deep: Indices of the grayscale files of more than 8 bits; complete after a pass.
        dicom: Whether annotation is burned in, by the index of each DICOM file; complete after a
            pass.
    """

    files: Sequence[Path]
    spec: ImageSpec
    batch_size: int
    intensity_range: IntensityRange | None = None
    metadata: Float32[np.ndarray, "n features"] | None = None
    metadata_note: str | None = None
    broken: dict[int, str] = field(default_factory=dict)
    deep: set[int] = field(default_factory=set)
    dicom: dict[int, bool] = field(default_factory=dict)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """Yield ``{"image", "label", "mask"}``; the label is the index of the file.

        With metadata, there is ``"metadata"`` too.
        """
        starts = grain.MapDataset.range(0, len(self.files), self.batch_size)
        return Stream(starts.map(self._batch), DECODE_OPTIONS)

    def _batch(self, start: int) -> EvaluationBatch:
        indices = range(start, min(start + self.batch_size, len(self.files)))
        batch: EvaluationBatch = {
            "image": np.zeros((self.batch_size, *self.shape), np.uint8),
            "label": np.arange(start, start + self.batch_size, dtype=np.int32),
            "mask": np.zeros(self.batch_size, np.bool_),
        }
        if self.metadata is not None:
            features = np.zeros((self.batch_size, self.metadata.shape[1]), np.float32)
            features[: len(indices)] = self.metadata[start : start + self.batch_size]
            batch["metadata"] = features
        for i, index in enumerate(indices):
            try:
                batch["image"][i] = self.decode(index)
            except Exception as error:  # Pillow raises exceptions of many types
                self.broken[index] = reason(error)
            else:
                batch["mask"][i] = True
        return batch

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image or volume, (*space, channels)."""
        return self.spec.shape

    def decode(self, index: int) -> UInt8[np.ndarray, "*space channels"]:
        """Return an image; raise any exception of Pillow."""
        return self.decode_file(self.files[index], index)

    def decode_file(self, file: Path, index: int) -> UInt8[np.ndarray, "*space channels"]:
        """Return the image in a file, and record what is known of it under an index."""
        encoded = read_encoded(file)
        if is_dicom(encoded):
            burned_in = identity_in(encoded).burned_in
            encoded = without_header(encoded)
            self.dicom[index] = burned_in or self.dicom.get(index, False)
        if self.spec.depth is None:
            with open_image(encoded) as image:
                if is_deep(image):
                    self.deep.add(index)
        return decode_image(encoded, self.spec, self.intensity_range or FULL_RANGE)

    def parts(
        self, index: int, array: Shaped[np.ndarray, "*space"]
    ) -> list[tuple[Path, Shaped[np.ndarray, "*space"]]]:
        """Return the files of an example, each with its part of a map of the whole example."""
        return [(self.files[index], array)]

    def remarks(self) -> list[str]:
        """Return remarks, after a pass: on burned-in annotation, unknown metadata or range."""
        lines = burned_in_lines(sum(self.dicom.values()), len(self.dicom))
        lines += [] if self.metadata_note is None else [self.metadata_note]
        if not self.deep or self.intensity_range is not None:
            return lines
        return [
            *lines,
            f"{len(self.deep):,} of {len(self.files):,} images have 16 bits, and the run recorded "
            "no intensity range of its training images: 0 to 65535 became 0 to 255",
        ]
