"""Labels of a manifest: a CSV file with one line per image."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from data.file_names import below
from data.formats.csv_files import Row, check_values, read_csv
from data.formats.metadata import read_columns
from data.labels import PART_NAMES, Labels, make_labels
from data.volume_spec import is_volume
from lmf_jax.errors import UserError

COLUMNS: tuple[str, ...] = ("path", "label", "group", "split")
"""Columns with a meaning; all others are metadata."""


def read_labels(raw: Path) -> Labels:
    """Read the columns ``path`` and ``label``, ``group`` and ``split`` if they exist, and metadata.

    Classes are in alphabetical order. The name of an image is its path relative to the folder of
    the manifest; an absolute path is accepted if it leads there. An image with an empty group is a
    separate group.

    Args:
        raw: The CSV file.

    Raises:
        UserError: If the file cannot be read or contradicts itself, a label is missing, a path
            leads out of its folder, a split is not train, val or test, there are fewer than two
            classes, or volumes (NIfTI files) and images.
    """
    rows = read_csv(raw, ("path", "label"))
    check_values(raw, rows, "label", may_be_empty=False)
    labels = [row["label"].strip() for row in rows]
    classes = sorted(set(labels))
    if rows and len(classes) < 2:
        raise UserError(f"{raw} names one class, {classes[0]}; expected at least two.")
    columns: Mapping[str, str] = rows[0] if rows else {}
    if "group" in columns:
        check_values(raw, rows, "group", may_be_empty=True)
    names = [image_name(raw, row["path"].strip()) for row in rows]
    volumes = [name for name in names if is_volume(name)]
    if 0 < len(volumes) < len(names):
        image = next(name for name in names if not is_volume(name))
        raise UserError(
            f"{raw} lists the volume {volumes[0]} and the image {image}; expected volumes alone or "
            "images alone, so make a manifest of each."
        )
    return make_labels(
        raw,
        classes,
        names,
        labels,
        groups=[row["group"].strip() for row in rows] if "group" in columns else None,
        parts=[part_of(raw, row) for row in rows] if "split" in columns else None,
        metadata=read_columns(rows, [column for column in columns if column not in COLUMNS]),
    )


def image_path(raw: Path, name: str) -> Path:
    """Return the path of an image."""
    return raw.parent / name


def raw_files(raw: Path) -> Iterator[Path]:
    """Yield every file of the dataset."""
    yield raw
    for name in read_labels(raw).ids.tolist():
        yield image_path(raw, name)


def image_name(raw: Path, path: str) -> str:
    """Return a path relative to the folder of the manifest if it leads there."""
    return below(raw.parent, path) if path else path


def part_of(path: Path, row: Row) -> str:
    """Return the part of the image of a row, from its column ``split``."""
    part = PART_NAMES.get(row["split"].strip().lower())
    if part is None:
        raise UserError(
            f"Line {row.line} of {path} puts {row['path']} into the split {row['split']!r}; "
            f"expected one of {', '.join(PART_NAMES)}."
        )
    return part
