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
    """Return batches of image files, or of pairs of them, scaled like the training images of a run.

    Its ``files`` are the names of the examples.

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
    from data.inputs.pair_files import InferencePairs, metadata_of_pairs, pair_files

    batch_size = divisible_batch_size(config.training.batch_size)
    settings = config.data.image_spec, batch_size, recorded_range(dataset.get("intensity_range"))
    names, known = files, metadata or {}
    pairs = pair_files(files, dataset["pair_sides"]) if "pair_sides" in dataset else None
    if pairs is not None:
        names, known = list(pairs), metadata_of_pairs(known, files, pairs)
    features, note = None, None
    if encoding is not None:
        features = encoding.encode(known, len(names))
        note = unknown_line(encoding, known, len(names))
    if pairs is None:
        return InferenceImages(names, *settings, features, note)
    return InferencePairs(names, *settings, features, note, pairs=list(pairs.values()))


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
