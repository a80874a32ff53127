"""Labels of a dataset: names, classes, groups and parts of its images.

Every dataset reads its own label files with the help of this module, for the builder that prepares
it and for an audit without images. Contradictions in a file are rejected here, by name, before
anything is written.
"""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from data.file_names import to_nfc
from data.formats.csv_files import Row, check_values, is_missing, read_csv, without_decimals
from data.formats.metadata import Metadata, make_metadata, read_columns
from data.volume_spec import are_volumes
from lmf_jax.errors import UserError

PARTS = ("train", "validation", "test")

Rows = dict[str, Int64[np.ndarray, " _"]]
"""Sorted row numbers of the parts "train", "validation" and "test"."""

LONGEST_NAME = 500
"""Maximum number of characters of the name of an image, a class, or a patient or lesion.

An array of names stores each at the length of the longest, so a single one could fill the memory.
"""

WHOLE_IMAGE = ("image",)
"""Class of every image in datasets whose pixels have classes, or whose images several labels."""

MISSING_LABEL = -1
"""Value of a label of which nothing is known, in a label vector."""

PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Part by each name in common use."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of a dataset, in the order of its label file.

    Attributes:
        class_names: Name of every class, by class id.
        ids: Name of every image, unicode [n], all different.
        labels: Class id of every image, [n].
        groups: Patient or lesion of every image, unicode [n]; None if unknown.
        parts: "train", "validation" or "test" for every image, unicode [n]; None if the dataset
            comes without a split.
        metadata: Value of every image, unicode [n], by column; "" is unknown.
        label_names: Name of every label, if an image may have several; its class is then
            :data:`WHOLE_IMAGE`.
        label_vectors: 1 for every label of an image, else 0, or -1 if it is missing, [n, labels];
            None if an image has one class.
    """

    class_names: tuple[str, ...]
    ids: Shaped[np.ndarray, " n"]
    labels: Int32[np.ndarray, " n"]
    groups: Shaped[np.ndarray, " n"] | None = None
    parts: Shaped[np.ndarray, " n"] | None = None
    metadata: Metadata = field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    label_vectors: Int32[np.ndarray, "n labels"] | None = None

    @property
    def whole_volumes(self) -> bool:
        """Whether the examples are volumes in NIfTI files instead of images."""
        return are_volumes(self.ids)

    def without(self, names: Collection[str]) -> "Labels":
        """Return the labels of all other images.

        Args:
            names: Names of the images to leave out.
        """
        return self.only(np.flatnonzero(~np.isin(self.ids, list(names))))

    def only(self, rows: Int64[np.ndarray, " _"]) -> "Labels":
        """Return the labels of some images.

        Args:
            rows: Their row numbers.
        """
        return Labels(
            class_names=self.class_names,
            ids=self.ids[rows],
            labels=self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
            parts=None if self.parts is None else self.parts[rows],
            metadata={column: values[rows] for column, values in self.metadata.items()},
            label_names=self.label_names,
            label_vectors=None if self.label_vectors is None else self.label_vectors[rows],
        )


def make_labels(
    path: Path,
    class_names: Sequence[str],
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
    metadata: Mapping[str, Sequence[str]] | None = None,
) -> Labels:
    """Check labels and assemble them.

    Args:
        path: Label file, for the errors.
        class_names: Name of every class, by class id.
        ids: Name of every image.
        labels: Class name of every image.
        groups: Patient or lesion of every image; an image with "" is a separate group. None, or
            all "", if unknown.
        parts: "train", "validation" or "test" for every image, where "validation" may be absent;
            None if the dataset comes without a split.
        metadata: Value of every image by column, see :func:`data.formats.metadata.make_metadata`.

    Raises:
        UserError: If there is no image, a name occurs twice, is longer than
            :data:`LONGEST_NAME` or leads out of its folder, a class is unknown or has a name that
            is not printable or stands for a missing value, or the training or test part is empty.
    """
    if not ids:
        raise UserError(f"{path} names no image; expected at least one.")
    check_class_names(path, class_names)
    check_spellings(path, class_names)
    _check_lengths(path, [*ids, *(groups or ())])
    numbers = {name: number for number, name in enumerate(class_names)}
    seen: set[str] = set()
    for name, label in zip(ids, labels, strict=True):
        if to_nfc(name) in seen:
            raise UserError(f"{path} names {name} twice; every image has one label.")
        seen.add(to_nfc(name))
        if not stays_in_folder(name):
            raise UserError(
                f"{path} names {name!r}; expected a path below one folder: relative, with / "
                "between folders, without .. and control characters."
            )
        if label not in numbers:
            raise UserError(
                f"{path} gives {name} the class {label!r}; expected one of "
                f"{', '.join(class_names)}."
            )
    for part in ("train", "test"):  # validation can be cut from training
        if parts is not None and part not in parts:
            raise UserError(
                f"{path} has no image in its {part} part; expected train, test and, if there is "
                "one, validation."
            )
    filled = fill_groups(groups, ids) if groups is not None and any(groups) else None
    return Labels(
        class_names=tuple(class_names),
        ids=np.array(ids),
        labels=np.array([numbers[label] for label in labels], np.int32),
        groups=None if filled is None else np.array(filled),
        parts=None if parts is None else np.array(parts),
        metadata=make_metadata(metadata or {}),
    )


def fill_groups(groups: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Return the groups, where each image without one is a separate group.

    Args:
        groups: Patient or lesion of every image, or "".
        ids: Name of every image.
    """
    return [group or f"only {name}" for group, name in zip(groups, ids, strict=True)]


def read_one_hot(
    path: Path,
    class_names: Sequence[str],
    *,
    unused: Sequence[str] = (),
    groups_path: Path,
    groups_column: str,
    metadata_columns: Sequence[str] = (),
) -> Labels:
    """Read a CSV file with one column per class, and lesions and metadata from another file.

    Args:
        path: File with the column ``image``.
        class_names: Columns of the classes, by class id.
        unused: Columns of classes that no image has.
        groups_path: CSV file with the column ``lesion_id``; it may be missing.
        groups_column: Column of that file with the names of the images.
        metadata_columns: Columns of that file with metadata; they may be missing.

    Raises:
        UserError: If a file cannot be read or contradicts itself.
    """
    columns = (*class_names, *unused)
    rows = read_csv(path, ("image", *columns))
    ids = [row["image"] for row in rows]
    groups, metadata = None, {}
    if groups_path.exists():
        lines = read_csv(groups_path, ("lesion_id", groups_column))
        check_values(groups_path, lines, "lesion_id", may_be_empty=True)
        lesions = {to_nfc(line[groups_column]): line["lesion_id"] for line in lines}
        groups = [lesions.get(to_nfc(name), "") for name in ids]
        names = [to_nfc(line[groups_column]) for line in lines]
        for column, values in read_columns(lines, metadata_columns).items():
            value_of = dict(zip(names, values, strict=True))
            metadata[column] = [value_of.get(to_nfc(name), "") for name in ids]
    labels = [_one_hot(path, row, row["image"], columns) for row in rows]
    return make_labels(path, class_names, ids, labels, groups, metadata=metadata)


def _one_hot(path: Path, row: Row, name: str, class_names: Sequence[str]) -> str:
    """Return the class whose column is 1; all other columns are 0."""
    values = {class_name: row[class_name].strip() for class_name in class_names}
    known = all(value in ("0", "0.0", "1", "1.0") for value in values.values())
    hot = [class_name for class_name, value in values.items() if value.startswith("1")]
    if not known or len(hot) != 1:
        raise UserError(
            f"Line {row.line} of {path} gives {name} the labels "
            f"{', '.join(f'{k}={v}' for k, v in values.items())}; expected a single 1."
        )
    return hot[0]


def _check_lengths(path: Path, names: Sequence[str]) -> None:
    longest = max(names, key=len, default="")
    if len(longest) > LONGEST_NAME:
        raise UserError(
            f"{path} holds a name of {len(longest)} characters ({longest[:60]}...); expected "
            f"{LONGEST_NAME} at most."
        )


def check_class_names(path: Path, class_names: Sequence[str]) -> None:
    """Reject names that would change when stored, or look alike when printed.

    Args:
        path: Source of the names, for the errors.
        class_names: Name of every class.

    Raises:
        UserError: If there is such a name.
    """
    _check_lengths(path, class_names)
    for name in class_names:
        if not name.isprintable() or name != name.strip():
            raise UserError(
                f"{path} names the class {name!r}; expected a name without line breaks, control "
                "characters and space around it."
            )
    if len({to_nfc(name) for name in class_names}) < len(class_names):
        raise UserError(f"{path} names two classes that print alike: {', '.join(class_names)}.")


def check_spellings(path: Path, class_names: Sequence[str]) -> None:
    """Reject a class that stands for a missing value, and two spellings of one number.

    Args:
        path: Source of the names, for the errors.
        class_names: Name of every class.

    Raises:
        UserError: If there is such a name.
    """
    for name in class_names:
        if is_missing(name):
            raise UserError(
                f"{path} names the class {name!r}, which stands for a missing value; give the "
                "class another name."
            )
    spellings: dict[str, str] = {}
    for name in class_names:
        other = spellings.setdefault(without_decimals(name), name)
        if other != name:
            raise UserError(
                f"{path} names one class as {other} and as {name}; spell it in one way."
            )


def stays_in_folder(name: str) -> bool:
    """Return whether a relative path stays in its folder and can be printed on one line."""
    path = PurePosixPath(name)
    plain = str(path) == name and not path.is_absolute() and ".." not in path.parts
    one_line = not any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name
    )
    return plain and one_line and name not in ("", ".") and "\\" not in name
