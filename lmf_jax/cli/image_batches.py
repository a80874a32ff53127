"""Batches of loose image files for ``predict`` and ``explain``, and messages on those left out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmf_jax.config import ResolvedConfig
from lmf_jax.distributed.devices import divisible_batch_size
from lmf_jax.errors import UserError

if TYPE_CHECKING:
    from data.inputs.image_files import InferenceImages


def batches_of(
    files: Sequence[Path], config: ResolvedConfig, dataset: Mapping[str, Any]
) -> "InferenceImages":
    """Return batches of image files, scaled as the images that a run was trained on."""
    from data.formats.intensity import recorded_range
    from data.inputs.image_files import InferenceImages

    batch_size = divisible_batch_size(config.training.batch_size)
    recorded = recorded_range(dataset.get("intensity_range"))
    return InferenceImages(files, config.data.image_size, batch_size, recorded)


def check_stems(files: Sequence[Path]) -> None:
    """Refuse no file at all, and files whose results could not be told apart by name."""
    if not files:
        raise UserError("No image was given; name images or folders of them.")
    stems = Counter(file.stem for file in files)
    twice = next((file for file in files if stems[file.stem] > 1), None)
    if twice is not None:
        raise UserError(
            f"Several images are called {twice.stem}, and so would be what is written of them; "
            "give each an --output of its own."
        )


def print_lines(lines: Iterable[str]) -> None:
    """Print each line."""
    for line in lines:
        print(line)


def refuse_broken(files: Sequence[Path], broken: dict[int, str]) -> None:
    """End with a line and an exit code if a file could not be decoded; the others are done."""
    if broken:
        named = [f"{files[place]} ({broken[place]})" for place in sorted(broken)]
        raise UserError(f"Cannot decode {first_names(named)}; all other images are done.")


def first_names(names: Sequence[str]) -> str:
    """Return the first three names and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
