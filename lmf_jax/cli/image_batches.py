"""Batches of image files for ``predict`` and ``explain``, and messages on skipped files."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmf_jax.config import ResolvedConfig
from lmf_jax.distributed.devices import divisible_batch_size
from lmf_jax.errors import UserError

if TYPE_CHECKING:
    from data.inputs.image_files import InferenceImages


def open_batches(
    files: Sequence[Path], config: ResolvedConfig, dataset: Mapping[str, Any]
) -> "InferenceImages":
    """Return batches of image files, scaled like the training images of a run."""
    from data.formats.intensity import recorded_range
    from data.inputs.image_files import InferenceImages

    batch_size = divisible_batch_size(config.training.batch_size)
    recorded = recorded_range(dataset.get("intensity_range"))
    return InferenceImages(files, config.data.image_spec, batch_size, recorded)


def check_stems(files: Sequence[Path]) -> None:
    """Refuse an empty list of files, and files with the same stem, which names the output."""
    if not files:
        raise UserError("No image was given; name images or folders of images.")
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
