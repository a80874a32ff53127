"""The builders of all datasets whose files lie on the disk: downloads and people's own images."""

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import tensorflow_datasets as tfds
from tqdm import tqdm

from data.builders.intensity_search import IntensityCounts
from data.file_names import on_disk
from data.formats.images import read_encoded, reason
from data.formats.intensity import Intensities, write_intensities
from data.labels import Labels
from data.names import RawFolder

Result = TypeVar("Result")

SKIPPED_FILE = "skipped.txt"
"""Names of the images that were left out, in the folder of the prepared dataset."""


class RawBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Keeps the labels and the encoded images of raw files, in their order.

    A subclass says what the labels are, how the images are read and which of them are broken.

    Attributes:
        raw: The folder, the file or the two folders that hold the raw data.
        skipped: Names of the images to leave out, in order.
        intensities: The intensity range to record; None if no image has more than 8 bits.
    """

    FAULTS: ClassVar[str] = "are missing or cannot be decoded"
    """What is said of broken images."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    def __init__(self, *, raw: RawFolder, **options: Any) -> None:
        self.raw: Any = raw  # each dataset knows which
        self.skipped: list[str] = []
        self.intensities: Intensities | None = None
        super().__init__(**options)

    @cached_property
    def labels(self) -> Labels:
        """The labels of all images; raises UserError where the raw data contradict themselves."""
        return self.read_labels()

    def read_labels(self) -> Labels:
        """Return the labels of all images."""
        raise NotImplementedError

    def read_images(self) -> Iterator[bytes]:
        """Yield the encoded images, those of :attr:`skipped` left out, in the labels' order."""
        raise NotImplementedError

    def broken_images(self) -> list[str]:
        """Return the names of the images that are missing or cannot be decoded, in order."""
        raise NotImplementedError

    def describe_broken(self, name: str) -> str:
        """Return a broken image's name with what is wrong."""
        raise NotImplementedError

    def find_intensities(self) -> Intensities | None:
        """Return the intensity range of the images, once they are checked."""
        return None

    def targets(self) -> dict[str, tuple[Any, Iterable[Any]]]:
        """Return what is learned, by name: its TFDS feature, and a value for every image."""
        labels = self.labels.without(self.skipped)
        feature = tfds.features.ClassLabel(names=list(labels.class_names))
        return {"label": (feature, labels.labels.tolist())}

    def _info(self) -> tfds.core.DatasetInfo:
        targets = self.targets()
        features = {
            # The bytes are kept whatever their format is; TFDS wants one to be named.
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            **{name: feature for name, (feature, _) in targets.items()},
            "id": tfds.features.Text(),
            "group": tfds.features.Text(),
            "part": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", *targets),
            # The row numbers of a split mean something only while the order stays as generated.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded here
        if self.skipped:  # the folder becomes the dataset's in one step, with this list in it
            listed = "".join(f"{name}\n" for name in self.skipped)
            (Path(self.data_dir) / SKIPPED_FILE).write_text(listed)
        write_intensities(Path(self.data_dir), self.intensities)
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
    """What ``data/<name>/labels.py`` says of a dataset that has a file for every image."""

    def read_labels(self, raw: Any) -> Labels:
        """Return the labels; raises UserError where the files contradict themselves."""

    def image_path(self, raw: Any, name: str) -> Path:
        """Return where the image of this name lies."""


class ImageFilesBuilder(RawBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder of a dataset that has a file for every image; keeps the bytes as they are.

    Attributes:
        files: The module ``data.<name>.labels``.
    """

    files: RawFiles

    def image_path(self, name: str) -> Path:
        """Return where the image of this name lies, as the disk spells it."""
        return on_disk(self.files.image_path(self.raw, name))

    @cached_property
    def counts(self) -> IntensityCounts:
        """Intensity counts of images of more than 8 bits, filled by the checks."""
        return IntensityCounts()

    def find_intensities(self) -> Intensities | None:
        """Return the intensity range of the images, once they are checked."""
        return self.counts.find()

    def read_labels(self) -> Labels:
        """Return the labels of all images."""
        return self.files.read_labels(self.raw)

    def read_images(self) -> Iterator[bytes]:
        """Yield the bytes of the files, in the labels' order."""
        for name in self.labels.without(self.skipped).ids.tolist():
            yield read_encoded(self.image_path(name))

    def broken_images(self) -> list[str]:
        """Return the names of the images that cannot be used, in order."""
        return list(self.faults)

    def describe_broken(self, name: str) -> str:
        """Return a broken image's name with what is wrong."""
        return f"{name}: {self.faults[name]}"

    @cached_property
    def faults(self) -> dict[str, str]:
        """Reason of each broken image, by image name, in order."""
        names = self.labels.ids.tolist()
        found = zip(names, check_all(self.find_fault, names), strict=True)
        return {name: fault for name, fault in found if fault is not None}

    def find_fault(self, name: str) -> str | None:
        """Return what is wrong with an image, in few words; None if it can be used."""
        try:
            self.counts.decode(read_encoded(self.image_path(name)))
        except Exception as error:  # Pillow's formats raise nearly everything
            return reason(error)
        return None


def check_all(check: Callable[[str], Result], names: list[str]) -> list[Result]:
    """Return what a check says of every image; threads run it side by side.

    Args:
        check: What is called with a name.
        names: Names of the images.
    """
    with ThreadPoolExecutor() as pool:
        results = pool.map(check, names)
        return list(
            tqdm(results, desc="Checking images", total=len(names), leave=False, disable=None)
        )
