"""The builder of every dataset that a person downloads: label files and a folder of images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import tensorflow_datasets as tfds

from data.labels import Labels


class Download(Protocol):
    """What ``data/<name>/labels.py`` says of a download."""

    CLASSES: tuple[str, ...]

    def read_labels(self, raw_dir: Path) -> Labels:
        """Returns the labels; raises UserError where the download contradicts itself."""

    def image_path(self, raw_dir: Path, name: str) -> Path:
        """Returns where the image of this name lies."""


class RawImagesBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Keeps the bytes of every image file as they are, in the order of the label file.

    The folder of the download is what TFDS calls the manual one.

    Attributes:
        download: How the download is read: the module ``data.<name>.labels``.
        skipped: Names of the images to leave out, because they cannot be read.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "python -m data prepare NAME --raw-dir DIR"
    download: Download
    skipped: frozenset[str] = frozenset()

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        features = {
            "image": image,
            "label": tfds.features.ClassLabel(names=list(self.download.CLASSES)),
            "id": tfds.features.Text(),
            "group": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            # The row numbers of a split mean something only while the order stays as generated.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {"full": self._generate_examples(Path(dl_manager.manual_dir))}

    def _generate_examples(self, raw_dir: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        labels = self.download.read_labels(raw_dir)
        groups = [""] * len(labels.ids) if labels.groups is None else labels.groups.tolist()
        rows = zip(labels.ids.tolist(), labels.labels.tolist(), groups, strict=True)
        for row, (name, label, group) in enumerate(rows):
            if name not in self.skipped:
                image = self.download.image_path(raw_dir, name)
                yield row, {"image": image, "label": label, "id": name, "group": group}
