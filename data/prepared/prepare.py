"""From raw data to a prepared dataset: every image looked at, nothing half-done left behind."""

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
    """Open a dataset; prepares it first if it needs no download.

    Args:
        name: Name of the dataset, as typed.
        data_dir: The folder of prepared datasets.

    Raises:
        UserError: If there is no such dataset, it has to be downloaded by hand, an image is broken,
            or ``data_dir`` cannot be written.
    """
    if parse_name(name).spec.kind == "download" and not is_prepared(name, data_dir):
        raise UserError(
            f"{name} is not prepared in {data_dir}; download it and run: "
            f"{prepare_command(name, 'DIR', data_dir)}"
        )
    return prepare(name, None, data_dir)


def is_prepared(name: str, data_dir: Path) -> bool:
    """Tell whether a dataset is prepared, with its files as they are now if it is named by them.

    Args:
        name: Name of the dataset, as typed.
        data_dir: The folder of prepared datasets.

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
    """Prepare a dataset, unless that is done already.

    Any number of processes may call this at once: one prepares, the others wait for it.

    Args:
        name: Name of the dataset, as typed.
        raw_dir: The folder of the download; None for a dataset that is not downloaded by hand.
        data_dir: The folder of prepared datasets.
        skip_broken: Whether to leave out images that are missing or cannot be decoded.
        intensity_range: What becomes black and white of images of more than 8 bits; None finds it
            in them.

    Raises:
        UserError: If the raw data contradict themselves, an image is missing or broken and may not
            be left out, or ``data_dir`` cannot be written.
    """
    parsed = parse_name(name)
    folder = prepared_folder(parsed, data_dir)
    if folder.exists():  # perhaps where nothing can be written
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
    """Return the names of the images to leave out; raises UserError if there may be none."""
    broken, total = builder.broken_images(), len(builder.labels.ids)
    if not broken:
        return []
    described = ", ".join(map(builder.describe_broken, broken[:5]))
    named = f"{len(broken)} of {total} images in {builder.raw} {builder.FAULTS}"
    named += f" ({described}{', ...' if len(broken) > 5 else ''})"
    if len(broken) == total:
        raise UserError(f"{named}; nothing is left to prepare.")
    if not skip_broken:
        raise UserError(f"{named}; mend them, or leave them out by {command} --skip-broken")
    return broken


def prepare_command(name: str, raw_dir: Path | str | None, data_dir: Path) -> str:
    """Return the command that prepares a dataset, to be copied.

    Args:
        name: Name of the dataset, as typed.
        raw_dir: The folder of the download, if it has one.
        data_dir: The folder of prepared datasets.
    """
    words = ["python", "-m", "data", "prepare", name]
    words += [] if raw_dir is None else ["--raw-dir", str(raw_dir)]
    words += (
        [] if data_dir == Path(DEFAULT_DATA_DIR).expanduser() else ["--data-dir", str(data_dir)]
    )
    return shlex.join(words)


def _build(builder: Any) -> None:
    """Write the dataset's files; they take their place in one step."""
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
