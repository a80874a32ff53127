"""Datasets of images with a split: examples, classes and the rows of the three parts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from data.builders.unused_files import unused_file_lines
from data.formats.intensity import FULL_RANGE, IntensityRange, fingerprint_with_range
from data.formats.metadata import Metadata
from data.labels import PARTS, Rows
from data.names import parse_name
from data.prepared.images import Prepared
from data.prepared.prepare import open_dataset
from data.registry import default_settings
from data.sources import ImageSource
from data.splits.folds import Fold
from data.splits.image_pairs import ABSENT, Pairs, pair_images
from data.splits.methods import check_seed, default_split
from data.splits.notes import split_notes
from data.splits.opened_split import open_split
from data.splits.selection import Selection, select_rows
from data.volume_spec import are_volumes
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.config.volume_settings import VOLUME_DEFAULTS
from lmf_jax.errors import UserError
from lmf_jax.metadata_encoding import MetadataEncoding

AnyDataset = TypeVar("AnyDataset", bound="SplitDataset")


@dataclass(frozen=True, eq=False, kw_only=True)
class SplitDataset:
    """Attributes of every dataset of images with a split.

    Attributes:
        name: Name of the dataset, as given on the command line.
        class_names: Name of every class, by class id.
        ids: Name of every example, unicode [n].
        groups: Patient or lesion of every example, unicode [n]; None if unknown.
        source: Encoded image of every example.
        rows: Sorted row numbers of "train", "validation" and "test".
        defaults: Values of settings that the user left open, and the split.
        content_fingerprint: SHA-256, in hex, over everything but the split.
        fingerprint: SHA-256, in hex, over everything and the rows of each part: runs with equal
            fingerprints used the same data.
        split_version: Version of the split method.
        split_notes: Remarks on the split, such as a class that a part lacks, one line each.
        intensity_range: Values that map to 0 and 255 in images of more than 8 bits.
        intensity_note: Line of text about this range; None if no image has more than 8 bits.
        dicom_notes: Lines of text about DICOM files among the images.
        metadata: Value of every example, unicode [n], by column; "" is unknown.
        encoding: Encoding of the columns that the model gets beside the image; None if it gets the
            image alone.
        metadata_notes: Lines of text about these columns.
        pairs: The rows of ``source`` with the two images of every example; None if an example is
            one image.
    """

    name: str
    class_names: tuple[str, ...]
    ids: Shaped[np.ndarray, " n"]
    groups: Shaped[np.ndarray, " n"] | None
    source: ImageSource
    rows: dict[str, Int64[np.ndarray, " _"]]
    defaults: dict[str, Any]
    content_fingerprint: str
    fingerprint: str
    split_version: int = 1
    split_notes: tuple[str, ...] = ()
    intensity_range: IntensityRange = FULL_RANGE
    intensity_note: str | None = None
    dicom_notes: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=dict)
    encoding: MetadataEncoding | None = None
    metadata_notes: tuple[str, ...] = ()
    pairs: Pairs | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data to print before training, one line each."""
        intensities = () if self.intensity_note is None else (self.intensity_note,)
        of_images = (*intensities, *self.dicom_notes)
        return (
            *unused_file_lines(self.name),
            *of_images,
            *self.metadata_notes,
            *self.split_notes,
        )

    @property
    def whole_volumes(self) -> bool:
        """Whether the examples are volumes in NIfTI files instead of images."""
        return are_volumes(self.ids)

    def groups_of(self, part: str) -> Shaped[np.ndarray, " n"] | None:
        """Return the patient or lesion of every example of a part, or None if unknown.

        Args:
            part: "train", "validation" or "test".
        """
        return None if self.groups is None else self.groups[self.rows[part]]

    def images_of(
        self, rows: Int64[np.ndarray, " m"]
    ) -> tuple[Int64[np.ndarray, " images"], Int64[np.ndarray, " images"]]:
        """Return the rows of ``source`` with the images of some examples.

        Args:
            rows: Row numbers of the examples.

        Returns:
            The rows of the images, and the position in ``rows`` of the example of each.
        """
        if self.pairs is None:
            return rows, np.arange(len(rows), dtype=np.int64)
        images = self.pairs.rows[rows]
        example_of = np.broadcast_to(np.arange(len(rows), dtype=np.int64)[:, None], images.shape)
        return images[images != ABSENT], example_of[images != ABSENT]

    def metadata_of(self, part: str) -> Metadata:
        """Return the metadata of every example of a part, unicode [n], by column.

        Args:
            part: "train", "validation" or "test".
        """
        return {column: values[self.rows[part]] for column, values in self.metadata.items()}

    def metadata_fingerprint(self, names: Sequence[str]) -> str:
        """Return the SHA-256, in hex, of the values of some columns in all parts."""
        rows = np.concatenate([self.rows[part] for part in PARTS])
        digest = hashlib.sha256()
        for name in names:
            for text in (name, *self.metadata[name][rows].tolist()):
                digest.update(len(text.encode()).to_bytes(8, "little") + text.encode())
        return digest.hexdigest()

    def select(self: AnyDataset, part: str, where: str) -> AnyDataset:
        """Return the dataset with those examples of a part alone that meet the conditions.

        Args:
            part: "train", "validation" or "test"; the other parts stay as they are.
            where: Conditions, see :func:`data.splits.selection.select_rows`.

        Raises:
            UserError: If a condition does not fit the metadata, or no example of the part meets
                all of them.
        """
        selected = select_rows(self.metadata, where, self.name)
        rows = np.intersect1d(self.rows[part], selected)
        if not len(rows):
            raise UserError(f"No example of the {part} part meets --where {where!r}.")
        return replace(self, rows={**self.rows, part: rows})

    @property
    def _scales_each_volume(self) -> bool:
        return self.whole_volumes and self.intensity_range == FULL_RANGE

    @property
    def description(self) -> dict[str, Any]:
        """Record of the data in ``config.json``, JSON-serializable."""
        known = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "split_version": self.split_version,
            "split_notes": list(self.split_notes),
            "class_names": list(self.class_names),
        }
        if self.whole_volumes:
            known["intensities"] = self.intensity_note
        if self.intensity_note is not None and not self._scales_each_volume:
            known["intensity_range"] = list(self.intensity_range)
        if self.encoding is not None:
            known["metadata"] = self.encoding.record
            known["metadata_fingerprint"] = self.metadata_fingerprint(self.encoding.names)
        if self.pairs is not None:
            known["pair_sides"] = list(self.pairs.sides)
        return known


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(SplitDataset):
    """Dataset whose images have classes, with a split.

    Attributes:
        labels: Class id of every example, [n].
    """

    labels: Int32[np.ndarray, " n"]

    @property
    def description(self) -> dict[str, Any]:
        """Record of the data in ``config.json``, JSON-serializable."""
        counts = {part: self.class_counts(part).tolist() for part in self.rows}
        return {**super().description, "class_counts": counts}

    def class_counts(self, part: str) -> Int64[np.ndarray, " classes"]:
        """Return the number of examples of each class in a part, by class id.

        Args:
            part: "train", "validation" or "test".
        """
        labels = self.labels[self.rows[part]]
        return np.bincount(labels, minlength=len(self.class_names)).astype(np.int64)


def load_dataset(
    name: str,
    *,
    data_dir: str | Path = DEFAULT_DATA_DIR,
    split: str | None = None,
    split_seed: int = 0,
    imbalance_ratio: float | None = None,
    fingerprint: str | None = None,
    fold: Fold | None = None,
    where: str | None = None,
) -> Dataset:
    """Open a dataset and split it; prepare it on first use if it needs no download.

    Args:
        name: Name of the dataset: digits_lt, one that was prepared from a download, or folder:PATH,
            manifest:FILE.csv or medmnist:FILE.npz.
        data_dir: Folder of prepared datasets; "~" is the home folder.
        split: "paper" (stratified by class, 70 : 15 : 15), "grouped" (the same, with no patient or
            lesion in two parts) or "official" (the split of the dataset). None takes "official" if
            the dataset has one, else "paper".
        split_seed: Seed of the split; any whole number from 0.
        imbalance_ratio: Size of the first class over that of the last in training and validation
            rows, from 1. None takes the default of the dataset; only balanced datasets have one.
        fingerprint: Fingerprint recorded by a run, to find rows of an earlier version of the split
            method; None takes the present version.
        fold: The fold of a cross-validation that is the test part. Its split is "grouped" or
            "paper"; None takes "grouped" if patients or lesions are known.
        where: Conditions on the metadata, see :func:`data.splits.selection.select_rows`; the other
            images are in no part. None keeps all images.

    Returns:
        The dataset. It depends only on these arguments and the files they name.

    Raises:
        UserError: If a name is unknown, an argument does not fit the dataset, an image is broken,
            or ``data_dir`` cannot be written.
    """
    if parse_name(name).has_masks:
        raise UserError(
            f"The images of {name} have masks and no classes; give --task segmentation, or a "
            "dataset with classes."
        )
    if parse_name(name).has_label_vectors:
        raise UserError(
            f"The images of {name} may have several labels; give --task multilabel, or a dataset "
            "with classes."
        )
    ratio = _imbalance_ratio(name, imbalance_ratio)
    parts_of = split, split_seed, ratio, fingerprint, fold, where
    prepared, parts = open_parts(name, data_dir, *parts_of)
    return Dataset(**parts, class_names=prepared.class_names, labels=prepared.labels)


def open_parts(
    name: str,
    data_dir: str | Path,
    split: str | None,
    split_seed: int,
    imbalance_ratio: float | None = None,
    fingerprint: str | None = None,
    fold: Fold | None = None,
    where: str | None = None,
    pair_by: str | None = None,
) -> tuple[Prepared, dict[str, Any]]:
    """Open a dataset of images with classes, masks or several labels, and split it.

    Args:
        name: Name of the dataset.
        data_dir: Folder of prepared datasets; "~" is the home folder.
        split: "paper", "grouped" or "official"; None takes the default of the dataset.
        split_seed: Seed of the split; any whole number from 0.
        imbalance_ratio: Imbalance ratio of training and validation rows; None keeps all rows.
        fingerprint: Fingerprint recorded by a run; None takes the present version of the split.
        fold: The fold of a cross-validation that is the test part; None makes a single split.
        where: Conditions on the metadata; None keeps all images.
        pair_by: Column that tells the two images of an example apart, see
            :func:`data.splits.image_pairs.pair_images`; None for one image per example.

    Returns:
        All examples, and the attributes of :class:`SplitDataset` except the class names.

    Raises:
        UserError: If there is no such dataset, an argument does not fit it, an image is broken, or
            ``data_dir`` cannot be written.
    """
    check_seed(split_seed)
    prepared = open_dataset(name, Path(data_dir).expanduser())
    found = (prepared.masks is not None, prepared.label_vectors is not None)
    if found != (parse_name(name).has_masks, parse_name(name).has_label_vectors):
        raise UserError(
            f"{prepared.folder} has another dataset; remove it and prepare {name} again."
        )
    pairs = None
    if pair_by is not None:
        prepared, pairs = pair_images(prepared, pair_by, name)
    selection = None if where is None else Selection.of(prepared, where, name)
    split = split or default_split(prepared, fold)
    opened = open_split(prepared, split, split_seed, imbalance_ratio, fingerprint, fold, selection)
    _check_parts(prepared, opened.rows, split)
    # Runs before ranges were recorded were trained on images scaled from the full range.
    is_earlier = fingerprint == opened.fingerprint
    intensity_range = FULL_RANGE if is_earlier else prepared.intensity_range
    return prepared, {
        "name": name,
        "ids": prepared.ids,
        "groups": prepared.groups,
        "source": prepared.source,
        "rows": opened.rows,
        "defaults": {
            **default_settings(name),
            **(VOLUME_DEFAULTS if prepared.whole_volumes else {}),
            "split": split,
        },
        "content_fingerprint": fingerprint_with_range(prepared.fingerprint, intensity_range),
        "fingerprint": fingerprint_with_range(opened.fingerprint, intensity_range),
        "intensity_range": intensity_range,
        "intensity_note": None if prepared.intensities is None else prepared.intensities.line,
        "dicom_notes": () if prepared.dicom is None else tuple(prepared.dicom.lines),
        "split_version": opened.version,
        "split_notes": tuple(split_notes(prepared, opened.rows, split, fold)),
        "metadata": prepared.metadata,
        "pairs": pairs,
    }


def check_is_of_run(name: str, found: str, fingerprint: str) -> None:
    """Reject data that differ from those of a run.

    Args:
        name: Name of the dataset.
        found: Fingerprint of the data.
        fingerprint: Fingerprint recorded by the run.

    Raises:
        UserError: If the fingerprints differ.
    """
    if found != fingerprint:
        raise UserError(
            f"The images, intensity range, labels or split of {name} are not those that the run "
            "was trained with; give the --data-dir that has them."
        )


def _check_parts(prepared: Prepared, rows: Rows, split: str) -> None:
    """Reject a split with an empty part, or with a class without training images."""
    for part in PARTS:
        if not len(rows[part]):
            raise UserError(
                f"No image is in the {part} part by --split {split}; give more images (the paper's "
                "split keeps a class of fewer than four in the training part), or another --split."
            )
    counts = np.bincount(prepared.labels[rows["train"]], minlength=len(prepared.class_names))
    if not counts.all():
        missing = [n for n, count in zip(prepared.class_names, counts, strict=True) if not count]
        raise UserError(
            f"No image of the class {', '.join(missing)} is trained on by --split {split}; choose "
            "another --split or --split-seed, or leave the class out."
        )


def _imbalance_ratio(name: str, imbalance_ratio: float | None) -> float | None:
    """Return the imbalance ratio, or None for a dataset that keeps all rows."""
    defaults = default_settings(name)
    if imbalance_ratio is None:
        return defaults.get("imbalance_ratio")
    if "imbalance_ratio" not in defaults:
        raise UserError(f"{name} has no default imbalance ratio; leave --imbalance-ratio out.")
    if not 1 <= imbalance_ratio < np.inf:
        raise UserError(f"--imbalance-ratio must be a number from 1, got {imbalance_ratio}.")
    return imbalance_ratio
