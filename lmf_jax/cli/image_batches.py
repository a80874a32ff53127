"""Batches of image files for ``predict`` and ``explain``, and messages on skipped files."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmf_jax.config import ResolvedConfig
from lmf_jax.distributed.devices import divisible_batch_size
from lmf_jax.errors import UserError
from lmf_jax.metadata_encoding import MetadataEncoding

if TYPE_CHECKING:
    from data.formats.metadata import Metadata
    from data.inputs.image_files import InferenceImages


def open_batches(
    files: Sequence[Path],
    config: ResolvedConfig,
    dataset: Mapping[str, Any],
    encoding: MetadataEncoding | None = None,
    metadata: "Metadata | None" = None,
) -> "InferenceImages":
    """Return batches of image files, scaled like the training images of a run.

    Args:
        files: The image files.
        config: The settings of the run.
        dataset: Its description of the data.
        encoding: The encoding of the metadata that the model gets; None for images alone.
        metadata: Value of each file by column; columns may be missing.
    """
    from data.formats.intensity import recorded_range
    from data.inputs.image_files import InferenceImages
    from data.inputs.metadata_columns import unknown_line

    batch_size = divisible_batch_size(config.training.batch_size)
    recorded = recorded_range(dataset.get("intensity_range"))
    spec = config.data.image_spec
    if encoding is None:
        return InferenceImages(files, spec, batch_size, recorded)
    known = metadata or {}
    features = encoding.encode(known, len(files))
    note = unknown_line(encoding, known, len(files))
    return InferenceImages(files, spec, batch_size, recorded, features, note)


def check_stems(files: Sequence[Path]) -> None:
    """Refuse files with the same stem, which names the output."""
    stems = image_stems(files)
    duplicate = next((stem for stem, count in Counter(stems).items() if count > 1), None)
    if duplicate is not None:
        raise UserError(
            f"Several images are called {duplicate}, so their output files would have the "
            "same name; run the command on each with another --output."
        )


def image_stems(files: Iterable[Path]) -> list[str]:
    """Return the name of each file without its suffix, which begins the name of its output."""
    from data.builders.image_folder import stem_of

    return [stem_of(file) for file in files]


def print_lines(lines: Iterable[str]) -> None:
    """Print each line."""
    for line in lines:
        print(line)


def refuse_broken(files: Sequence[Path], broken: dict[int, str]) -> None:
    """Raise if a file could not be decoded, after the others are done."""
    if broken:
        named = [f"{files[index]} ({broken[index]})" for index in sorted(broken)]
        raise UserError(f"Cannot decode {first_names(named)}; all other images are done.")


def first_names(names: Sequence[str]) -> str:
    """Return the first three names and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
