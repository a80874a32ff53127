"""From raw data to a prepared dataset: every image looked at, nothing half-done left behind."""

import contextlib
import io
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from data.labels import PARTS, Labels
from data.names import DOWNLOADS, DatasetName, parse_name
from data.prepared import Prepared, open_prepared, prepared_folder
from data.splits import make_split, possible_splits
from data.storage import building
from lmf_jax.errors import UserError


def open_dataset(name: str, data_dir: Path) -> Prepared:
    """Opens a dataset; prepares it first if it needs no download.

    Args:
        name: Name of the dataset, as typed.
        data_dir: The folder of prepared datasets.

    Raises:
        UserError: If there is no such dataset, it has to be downloaded by hand, an image is broken,
            or ``data_dir`` cannot be written.
    """
    parsed = parse_name(name)
    folder = prepared_folder(parsed, data_dir)
    if folder.exists():
        return open_prepared(folder)
    if name in DOWNLOADS:
        raise UserError(
            f"{name} is not prepared in {data_dir}; download it and run: "
            f"python -m data prepare {name} --raw-dir DIR"
        )
    return prepare(name, None, data_dir)


def prepare(
    name: str, raw_dir: Path | None, data_dir: Path, *, skip_broken: bool = False
) -> Prepared:
    """Prepares a dataset, unless that is done already.

    Any number of processes may call this at once: one prepares, the others wait for it.

    Args:
        name: Name of the dataset, as typed.
        raw_dir: The folder of the download; None for a dataset that is not downloaded by hand.
        data_dir: The folder of prepared datasets.
        skip_broken: Whether to leave out images that are missing or cannot be decoded.

    Raises:
        UserError: If the raw data contradict themselves, an image is missing or broken and may not
            be left out, or ``data_dir`` cannot be written.
    """
    parsed = parse_name(name)
    folder = prepared_folder(parsed, data_dir)
    with building(folder):
        if not folder.exists():
            raw = parsed.path or raw_dir
            builder = _make_builder(parsed.kind, raw, folder)
            if raw is not None:
                builder.skipped = _to_skip(builder, skip_broken)
            _build(builder)
    return open_prepared(folder)


def _make_builder(kind: str, raw: Path | None, folder: Path) -> Any:
    """Returns the TFDS builder of ``data/<kind>/``, which puts the dataset into this folder."""
    module = import_module(f"data.{kind}.{kind}_dataset_builder")
    options = {"data_dir": folder.parents[1], "file_format": "array_record"}
    return module.Builder(**options) if raw is None else module.Builder(raw=raw, **options)


def _to_skip(builder: Any, skip_broken: bool) -> list[str]:
    """Returns the names of the images to leave out; raises UserError if there may be none."""
    broken, total = builder.broken_images(), len(builder.labels.ids)
    if not broken:
        return []
    named = f"{len(broken)} of {total} images in {builder.raw} are missing or cannot be decoded"
    named += f" ({', '.join(broken[:5])}{', ...' if len(broken) > 5 else ''})"
    if len(broken) == total:
        raise UserError(f"{named}; nothing is left to prepare.")
    if not skip_broken:
        raise UserError(
            f"{named}; mend them, or leave them out by python -m data prepare ... --skip-broken."
        )
    return broken


def _build(builder: Any) -> None:
    """Writes the dataset's files; they take their place in one step."""
    import tensorflow_datasets as tfds

    tfds.display_progress_bar(sys.stderr.isatty())
    # tfds announces itself on standard output, which belongs to the command that runs.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            builder.download_and_prepare()
        except OSError:
            # On a disk without locks another process may have put the same files there first.
            if not Path(builder.data_dir).exists():
                raise


def differences(name: str, prepared: Prepared) -> list[str]:
    """Says, part by part, whether a dataset is as large as published.

    Args:
        name: Name of the dataset, as typed.
        prepared: The dataset.

    Returns:
        Lines to print; none for a dataset of which nothing is published.
    """
    expected, source = _published_counts(parse_name(name))
    if expected is None:
        return []
    rows = make_split(prepared, possible_splits(prepared)[0], seed=0)
    return [
        f"{part}: {len(rows[part])} images, {expected[part]} in {source}"
        for part in PARTS
        if len(rows[part]) != expected[part]
    ] or [f"as many images as in {source}"]


def _published_counts(name: DatasetName) -> tuple[Mapping[str, int] | None, str]:
    """Returns the published images per part, None if there are none, and who says so."""
    if name.kind not in (*DOWNLOADS, "medmnist"):
        return None, ""
    labels = import_module(f"data.{name.kind}.labels")
    if name.path is not None:
        return labels.EXPECTED_COUNTS.get(labels.flag_of(name.path)), "MedMNIST"
    return labels.PAPER_COUNTS, "the paper"


def overlaps(name: str, labels: Labels, data_dir: Path) -> list[str]:
    """Says which other prepared datasets hold some of the same images, under the same names.

    Args:
        name: Name of the dataset, as typed.
        labels: Its labels.
        data_dir: The folder of prepared datasets.

    Returns:
        Lines to print.
    """
    lines = []
    for other in DOWNLOADS if name in DOWNLOADS else ():
        folder = prepared_folder(DatasetName(other), data_dir)
        if other == name or not folder.exists():
            continue
        shared = np.isin(labels.ids, open_prepared(folder).ids).sum()
        if shared:
            lines.append(
                f"{shared} images of {name} are also in {other}, which is prepared here: do not "
                "train on one and test on the other"
            )
    return lines


def class_table(prepared: Prepared) -> str:
    """Returns the number of images of each class, a line each."""
    counts = np.bincount(prepared.labels, minlength=len(prepared.class_names))
    width = max(map(len, prepared.class_names))
    return "\n".join(
        f"{name:{width}}{count:8d}"
        for name, count in zip(prepared.class_names, counts, strict=True)
    )
