"""From the name of a dataset to its examples, its classes and the rows of its three parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from data.builders.unused_files import unused_file_lines
from data.formats.intensity import FULL_RANGE, IntensityRange, fingerprint_with_range
from data.labels import PARTS, Rows
from data.names import parse_name
from data.prepared.images import Prepared
from data.prepared.prepare import open_dataset
from data.registry import default_settings
from data.sources import ImageSource
from data.splits.methods import make_split, possible_splits, split_versions
from data.splits.notes import split_notes
from data.splits.paper import long_tail
from data.splits.split_file import stored_split
from data.splits.validation_cut import lacks_validation
from lmf_jax.config import DEFAULT_DATA_DIR, Config
from lmf_jax.errors import UserError


@dataclass(frozen=True, eq=False, kw_only=True)
class SplitDataset:
    """What every dataset has, whatever is learned of its images.

    Attributes:
        name: Its name, as given on the command line.
        class_names: Name of every class, by class id.
        ids: Name of every example, unicode [n].
        groups: Patient or lesion of every example, unicode [n]; None where the dataset has none.
        source: The encoded image of every example.
        rows: Sorted row numbers of "train", "validation" and "test".
        defaults: The dataset's own values for settings that the person left open, and the split.
        content_fingerprint: SHA-256, in hex, over everything but the split.
        fingerprint: SHA-256, in hex, over everything and the rows of each part: two runs with the
            same one saw the same data.
        split_version: Version of the method that made the split.
        split_notes: Remarks on the split, such as a class that a part lacks, one line each.
        intensity_range: Values that map to 0 and 255 in images of more than 8 bits.
        intensity_note: The same for a person, in one line; None where no image has more.
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

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data to print before training, one line each."""
        intensities = () if self.intensity_note is None else (self.intensity_note,)
        return (*unused_file_lines(self.name), *intensities, *self.split_notes)

    def groups_of(self, part: str) -> Shaped[np.ndarray, " n"] | None:
        """Return the patient or lesion of every example of a part, None where none is known.

        Args:
            part: "train", "validation" or "test".
        """
        return None if self.groups is None else self.groups[self.rows[part]]

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
        if self.intensity_note is not None:
            known["intensity_range"] = list(self.intensity_range)
        return known


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(SplitDataset):
    """A dataset whose images have classes, with its split.

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
        """Return how many examples of each class a part has, by class id.

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
) -> Dataset:
    """Open a dataset and splits it; prepares it on first use if it needs no download.

    Args:
        name: Name of the dataset: digits_lt, one that was prepared from a download, or folder:PATH,
            manifest:FILE.csv or medmnist:FILE.npz.
        data_dir: The folder of prepared datasets; "~" is the home folder.
        split: "paper" (by class, 70 : 15 : 15), "grouped" (the same, but no patient or lesion in
            two parts) or "official" (as the dataset comes). None takes the official one where there
            is one, else the paper's.
        split_seed: Decides the split alone; any whole number from 0.
        imbalance_ratio: Size of the first class over that of the last in training and validation
            rows, from 1. None takes the dataset's own; only a balanced dataset has one.
        fingerprint: What a run recorded of its data, to find rows that an earlier version of the
            split's method chose; None takes the present version.

    Returns:
        The dataset. It depends on nothing but these arguments and the files they name.

    Raises:
        UserError: If a name is unknown, an argument does not fit the dataset, an image is broken,
            or ``data_dir`` cannot be written.
    """
    if parse_name(name).has_masks:
        raise UserError(
            f"The images of {name} have masks and no classes, so there is nothing to classify; "
            "give --task segmentation, or a dataset of classes."
        )
    ratio = _imbalance_ratio(name, imbalance_ratio)
    prepared, parts = open_parts(name, data_dir, split, split_seed, ratio, fingerprint)
    return Dataset(**parts, class_names=prepared.class_names, labels=prepared.labels)


def open_parts(
    name: str,
    data_dir: str | Path,
    split: str | None,
    split_seed: int,
    imbalance_ratio: float | None = None,
    fingerprint: str | None = None,
) -> tuple[Prepared, dict[str, Any]]:
    """Open a dataset and splits it, whatever is learned of its images.

    Args:
        name: Name of the dataset.
        data_dir: The folder of prepared datasets; "~" is the home folder.
        split: "paper", "grouped" or "official"; None takes the dataset's own.
        split_seed: Decides the split alone; any whole number from 0.
        imbalance_ratio: What training and validation rows are thinned to; None leaves them.
        fingerprint: What a run recorded of its data; None takes the present version of the split.

    Returns:
        All examples, and the attributes of :class:`SplitDataset` but the names of the classes.

    Raises:
        UserError: If there is no such dataset, an argument does not fit it, an image is broken, or
            ``data_dir`` cannot be written.
    """
    if split_seed < 0:
        raise UserError(f"--split-seed must be a whole number from 0, got {split_seed}.")
    prepared = open_dataset(name, Path(data_dir).expanduser())
    if (prepared.masks is not None) != parse_name(name).has_masks:
        raise UserError(
            f"{prepared.folder} holds another dataset; remove it, and prepare it again."
        )
    split = split or possible_splits(prepared)[0]
    opened = open_split(prepared, split, split_seed, imbalance_ratio, fingerprint)
    _check_parts(prepared, opened.rows, split)
    # A run of before ranges were recorded was trained on images scaled from the full one.
    is_earlier = fingerprint == opened.fingerprint
    intensity_range = FULL_RANGE if is_earlier else prepared.intensity_range
    return prepared, {
        "name": name,
        "ids": prepared.ids,
        "groups": prepared.groups,
        "source": prepared.source,
        "rows": opened.rows,
        "defaults": {**default_settings(name), "split": split},
        "content_fingerprint": fingerprint_with_range(prepared.fingerprint, intensity_range),
        "fingerprint": fingerprint_with_range(opened.fingerprint, intensity_range),
        "intensity_range": intensity_range,
        "intensity_note": None if prepared.intensities is None else prepared.intensities.line,
        "split_version": opened.version,
        "split_notes": tuple(split_notes(prepared, opened.rows, split)),
    }


def dataset_of_run(config: Config, fingerprint: str, data_dir: str | Path | None = None) -> Dataset:
    """Open the data that a run was trained with.

    Args:
        config: The settings of the run.
        fingerprint: What the run recorded of its data.
        data_dir: The folder of prepared datasets; by itself that of the run.

    Raises:
        UserError: If the data are not there, or are others, on which the figures of the run would
            mean something else.
    """
    data = config.data
    dataset = load_dataset(
        config.dataset_name,
        data_dir=data_dir or data.data_dir,
        split=data.split,
        split_seed=data.split_seed,
        imbalance_ratio=data.imbalance_ratio,
        fingerprint=fingerprint,
    )
    check_is_of_run(dataset.name, dataset.fingerprint, fingerprint)
    return dataset


def check_is_of_run(name: str, found: str, fingerprint: str) -> None:
    """Refuse other data than a run was trained with.

    Args:
        name: Name of the dataset.
        found: The fingerprint of the data at hand.
        fingerprint: What the run recorded of its data.

    Raises:
        UserError: If they are others.
    """
    if found != fingerprint:
        raise UserError(
            f"The images, intensity range, labels or split of {name} are not those that the run "
            "was trained with; give the --data-dir that holds them."
        )


class OpenedSplit(NamedTuple):
    """A split of a dataset.

    Attributes:
        rows: Sorted row numbers of every part.
        fingerprint: SHA-256, in hex, over the dataset and these rows.
        version: Version of the method that made it.
    """

    rows: Rows
    fingerprint: str
    version: int


def open_split(
    prepared: Prepared,
    split: str,
    split_seed: int,
    imbalance_ratio: float | None = None,
    fingerprint: str | None = None,
) -> OpenedSplit:
    """Return the rows of every part, and their fingerprint; the first time it makes them.

    Args:
        prepared: The dataset.
        split: "paper", "grouped" or "official".
        split_seed: Decides the split alone; the official one has no seed.
        imbalance_ratio: What training and validation rows are thinned to; None leaves them.
        fingerprint: What a run recorded: the version of the split's method that gives it is taken.
            None, or one that no version gives, takes the present version.

    Raises:
        UserError: If the dataset cannot be split so.
    """
    versions = split_versions(split)
    present = _open_version(prepared, split, split_seed, imbalance_ratio, versions[0])
    if fingerprint in (None, present.fingerprint):
        return present
    earlier = (
        _open_version(prepared, split, split_seed, imbalance_ratio, version)
        for version in versions[1:]
    )
    return next((opened for opened in earlier if opened.fingerprint == fingerprint), present)


def _open_version(
    prepared: Prepared, split: str, split_seed: int, imbalance_ratio: float | None, version: int
) -> OpenedSplit:
    def make() -> Rows:
        rows = make_split(prepared, split, split_seed, version)
        if imbalance_ratio is not None:
            for part in ("train", "validation"):
                rows[part] = long_tail(rows[part], prepared.labels, imbalance_ratio, split_seed)
        return rows

    method = split if version == 1 else f"{split}-v{version}"
    is_fixed = split == "official" and not lacks_validation(prepared)
    seeded = method if is_fixed else f"{method}-seed{split_seed}"
    thinned = "" if imbalance_ratio is None else f"-ratio{imbalance_ratio!r}"
    rows, fingerprint = stored_split(seeded + thinned, prepared, make, version)
    return OpenedSplit(rows, fingerprint, version)


def _check_parts(prepared: Prepared, rows: Rows, split: str) -> None:
    """Refuse a split that nothing can be trained or tested on."""
    for part in PARTS:
        if not len(rows[part]):
            raise UserError(
                f"No image is in the {part} part by --split {split}; give more images (the paper's "
                "split holds out none of a class with fewer than four), or another --split."
            )
    counts = np.bincount(prepared.labels[rows["train"]], minlength=len(prepared.class_names))
    if not counts.all():
        missing = [n for n, count in zip(prepared.class_names, counts, strict=True) if not count]
        raise UserError(
            f"No image of the class {', '.join(missing)} is trained on by --split {split}; choose "
            "another --split or --split-seed, or leave the class out."
        )


def _imbalance_ratio(name: str, imbalance_ratio: float | None) -> float | None:
    """Return the ratio to thin to, or None for a dataset that stays as it comes."""
    defaults = default_settings(name)
    if imbalance_ratio is None:
        return defaults.get("imbalance_ratio")
    if "imbalance_ratio" not in defaults:
        raise UserError(f"{name} is imbalanced as it comes; leave --imbalance-ratio out.")
    if not 1 <= imbalance_ratio < np.inf:
        raise UserError(f"--imbalance-ratio must be a number from 1, got {imbalance_ratio}.")
    return imbalance_ratio
