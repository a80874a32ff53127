"""TFDS builders of datasets from raw files: downloads and the user's own images."""

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import tensorflow_datasets as tfds
from tqdm import tqdm

from data.builders.dicom_files import DicomSummary, with_patients, write_summary
from data.builders.intensity_search import IntensityCounts, VolumeCounts
from data.file_names import on_disk
from data.formats.image_file import read_image_file
from data.formats.images import reason
from data.formats.intensity import Intensities, write_intensities
from data.formats.metadata import write_metadata
from data.labels import Labels
from data.names import RawFolder

Result = TypeVar("Result")

SKIPPED_FILE = "skipped.txt"
"""File in the prepared dataset with the names of the images that were left out."""


class RawBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder that stores the labels and the encoded images of raw files, in order.

    A subclass reads the labels and the images, and finds the broken ones.

    Attributes:
        raw: Folder, file or two folders of the raw data.
        skipped: Names of the images to leave out, in order.
        intensities: Intensity range to record; None if no image has more than 8 bits.
        dicom: Counts of DICOM files to record; None if there are none.
    """

    FAULTS: ClassVar[str] = "are missing or cannot be decoded"
    """Description of broken images, for the error."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    def __init__(self, *, raw: RawFolder, **options: Any) -> None:
        self.raw: Any = raw  # its type depends on the dataset
        self.skipped: list[str] = []
        self.intensities: Intensities | None = None
        self.dicom: DicomSummary | None = None
        super().__init__(**options)

    @cached_property
    def labels(self) -> Labels:
        """Labels of all images; raises ``UserError`` if the raw data contradict themselves."""
        return self.read_labels()

    def read_labels(self) -> Labels:
        """Return the labels of all images."""
        raise NotImplementedError

    def read_images(self) -> Iterator[bytes]:
        """Yield the encoded images in the order of the labels, without those of :attr:`skipped`."""
        raise NotImplementedError

    def broken_images(self) -> list[str]:
        """Return the names of the images that are missing or cannot be decoded, in order."""
        raise NotImplementedError

    def describe_broken(self, name: str) -> str:
        """Return the name of a broken image with the reason."""
        raise NotImplementedError

    def find_intensities(self) -> Intensities | None:
        """Return the intensity range of the images, after they were checked."""
        return None

    def targets(self) -> dict[str, tuple[Any, Iterable[Any]]]:
        """Return the targets by name: the TFDS feature, and a value for every image."""
        labels = self.labels.without(self.skipped)
        feature = tfds.features.ClassLabel(names=list(labels.class_names))
        return {"label": (feature, labels.labels.tolist())}

    def _info(self) -> tfds.core.DatasetInfo:
        targets = self.targets()
        features = {
            # Bytes of any format are stored unchanged; TFDS requires one to be named.
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            **{name: feature for name, (feature, _) in targets.items()},
            "id": tfds.features.Text(),
            "group": tfds.features.Text(),
            "part": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", *targets),
            # The row numbers of a split are valid only in the order of generation.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded here
        if self.skipped:  # TFDS moves the folder into place in one step, with this list in it
            listed = "".join(f"{name}\n" for name in self.skipped)
            (Path(self.data_dir) / SKIPPED_FILE).write_text(listed)
        write_intensities(Path(self.data_dir), self.intensities)
        write_metadata(Path(self.data_dir), self.labels.without(self.skipped).metadata)
        write_summary(Path(self.data_dir), self.dicom)
        return {"full": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        labels = self.labels.without(self.skipped)
        nothing = [""] * len(labels.ids)
        fields = {
            "image": map(io.BytesIO, self.read_images()),
            **{name: values for name, (_, values) in self.targets().items()},
            "id": labels.ids.tolist(),
            "group": nothing if labels.groups is None else labels.groups.tolist(),
            "part": nothing if labels.parts is None else labels.parts.tolist(),
        }
        for row, values in enumerate(zip(*fields.values(), strict=True)):
            yield row, dict(zip(fields, values, strict=True))


class RawFiles(Protocol):
    """Functions of a dataset with one file per image."""

    def read_labels(self, raw: Any) -> Labels:
        """Return the labels; raise ``UserError`` if the files contradict themselves."""

    def image_path(self, raw: Any, name: str) -> Path:
        """Return the path of an image."""


class ImageFilesBuilder(RawBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder of a dataset with one file per image.

    The bytes are stored unchanged, except that DICOM files are rendered and stored as PNG.

    Attributes:
        files: Module with the functions of the dataset.
    """

    files: RawFiles

    def image_path(self, name: str) -> Path:
        """Return the path of an image, as the disk spells it."""
        return on_disk(self.files.image_path(self.raw, name))

    @cached_property
    def counts(self) -> IntensityCounts:
        """Intensity counts of images of more than 8 bits, filled by the checks."""
        return IntensityCounts()

    @cached_property
    def examples(self) -> IntensityCounts | VolumeCounts:
        """What decodes the examples for the checks, and counts their intensities."""
        return VolumeCounts() if self.labels.whole_volumes else self.counts

    def find_intensities(self) -> Intensities | None:
        """Return the intensity range of the images, after they were checked."""
        return self.examples.find()

    def read_labels(self) -> Labels:
        """Return the labels of all images; patients of DICOM files are groups if none are given."""
        labels = self.files.read_labels(self.raw)
        paths = map(self.image_path, labels.ids.tolist())
        labels, self.dicom = with_patients(labels, list(paths))
        return labels

    def read_images(self) -> Iterator[bytes]:
        """Yield the bytes of the files, in the order of the labels."""
        for name in self.labels.without(self.skipped).ids.tolist():
            yield read_image_file(self.image_path(name))

    def broken_images(self) -> list[str]:
        """Return the names of the broken images, in order."""
        return list(self.faults)

    def describe_broken(self, name: str) -> str:
        """Return the name of a broken image with the reason."""
        return f"{name}: {self.faults[name]}"

    @cached_property
    def faults(self) -> dict[str, str]:
        """Reason of each broken image, by image name, in order."""
        names = self.labels.ids.tolist()
        found = zip(names, check_all(self.find_fault, names), strict=True)
        return {name: fault for name, fault in found if fault is not None}

    def find_fault(self, name: str) -> str | None:
        """Return why an image is broken, in a few words, or None if it is not."""
        try:
            self.examples.decode(read_image_file(self.image_path(name)))
        except Exception as error:  # Pillow raises exceptions of many types
            return reason(error)
        return None


def check_all(check: Callable[[str], Result], names: list[str]) -> list[Result]:
    """Return the result of a check for every image; threads run it in parallel.

    Args:
        check: Function of the name of an image.
        names: Names of the images.
    """
    with ThreadPoolExecutor() as pool:
        results = pool.map(check, names)
        return list(
            tqdm(results, desc="Checking images", total=len(names), leave=False, disable=None)
        )
