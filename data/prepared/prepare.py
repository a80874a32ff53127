"""Preparation of datasets of images: every image is checked, and written in one step."""

import contextlib
import io
import shlex
import sys
from pathlib import Path
from typing import Any

from data.formats.intensity import IntensityRange, with_range
from data.names import DatasetName, RawFolder, parse_name
from data.prepared.images import Prepared, open_prepared, prepared_folder
from data.storage import build_lock
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError


def open_dataset(name: str, data_dir: Path) -> Prepared:
    """Open a dataset; prepare it first if it needs no download.

    Args:
        name: Name of the dataset, as given on the command line.
        data_dir: Folder of prepared datasets.

    Raises:
        UserError: If there is no such dataset, it has to be downloaded first, an image is broken,
            or ``data_dir`` cannot be written.
    """
    if parse_name(name).spec.kind == "download" and not is_prepared(name, data_dir):
        raise UserError(
            f"{name} is not prepared in {data_dir}; download it and run: "
            f"{prepare_command(name, 'DIR', data_dir)}"
        )
    return prepare(name, None, data_dir)


def is_prepared(name: str, data_dir: Path) -> bool:
    """Return whether a dataset is prepared; for the user's files, from their present state.

    Args:
        name: Name of the dataset, as given on the command line.
        data_dir: Folder of prepared datasets.

    Raises:
        UserError: If there is no such dataset.
    """
    return prepared_folder(parse_name(name), data_dir).exists()


def prepare(
    name: str,
    raw_dir: Path | None,
    data_dir: Path,
    *,
    skip_broken: bool = False,
    intensity_range: IntensityRange | None = None,
) -> Prepared:
    """Prepare a dataset, unless it is already prepared.

    Several processes may call this at the same time: one prepares, the others wait for it.

    Args:
        name: Name of the dataset, as given on the command line.
        raw_dir: Folder of the download; None for a dataset that is not downloaded.
        data_dir: Folder of prepared datasets.
        skip_broken: Whether to leave out images that are missing or cannot be decoded.
        intensity_range: Range that maps to black and white in images of more than 8 bits; None
            finds it from the images.

    Raises:
        UserError: If the raw data contradict themselves, an image is missing or broken and
            ``skip_broken`` is False, or ``data_dir`` cannot be written.
    """
    parsed = parse_name(name)
    folder = prepared_folder(parsed, data_dir)
    if folder.exists():  # it may be read-only
        return open_prepared(folder)
    with build_lock(folder):
        if not folder.exists():
            raw = parsed.raw or raw_dir
            builder = _make_builder(parsed, raw, folder)
            if raw is not None:
                command = prepare_command(name, raw_dir, data_dir)
                builder.skipped = _to_skip(builder, skip_broken, command)
                found = builder.find_intensities()
                builder.intensities = with_range(found, intensity_range, name)
            elif intensity_range is not None:
                with_range(None, intensity_range, name)
            _build(builder)
    return open_prepared(folder)


def _make_builder(name: DatasetName, raw: RawFolder | None, folder: Path) -> Any:
    """Return the TFDS builder of a dataset, which writes into this folder."""
    from data.builders.generic import builder_class  # loads TFDS

    options = {"data_dir": folder.parents[1], "file_format": "array_record"}
    options |= {} if raw is None else {"raw": raw}
    return builder_class(name.spec)(**options)


def _to_skip(builder: Any, skip_broken: bool, command: str) -> list[str]:
    """Return the names of the images to leave out; raise ``UserError`` if none may be."""
    broken, total = builder.broken_images(), len(builder.labels.ids)
    if not broken:
        return []
    described = ", ".join(map(builder.describe_broken, broken[:5]))
    named = f"{len(broken)} of {total} images in {builder.raw} {builder.FAULTS}"
    named += f" ({described}{', ...' if len(broken) > 5 else ''})"
    if len(broken) == total:
        raise UserError(f"{named}; nothing is left to prepare.")
    if not skip_broken:
        raise UserError(f"{named}; repair them, or leave them out with {command} --skip-broken")
    return broken


def prepare_command(name: str, raw_dir: Path | str | None, data_dir: Path) -> str:
    """Return the command that prepares a dataset, ready to copy.

    Args:
        name: Name of the dataset, as given on the command line.
        raw_dir: Folder of the download, if there is one.
        data_dir: Folder of prepared datasets.
    """
    words = ["python", "-m", "data", "prepare", name]
    words += [] if raw_dir is None else ["--raw-dir", str(raw_dir)]
    words += (
        [] if data_dir == Path(DEFAULT_DATA_DIR).expanduser() else ["--data-dir", str(data_dir)]
    )
    return shlex.join(words)


def _build(builder: Any) -> None:
    """Write the files of the dataset; TFDS moves them into place in one step."""
    import tensorflow_datasets as tfds

    tfds.display_progress_bar(sys.stderr.isatty())
    # TFDS prints to standard output, which is reserved for the results of the command.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            builder.download_and_prepare()
        except OSError:
            # On a disk without locks, another process may have written the same files first.
            if not Path(builder.data_dir).exists():
                raise
