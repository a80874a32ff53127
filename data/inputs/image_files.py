"""Image files that belong to no dataset: what a trained model is asked about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grain
import numpy as np
from jaxtyping import UInt8

from data.batches.pipeline import EvaluationBatch
from data.batches.stream import DECODE_OPTIONS, Stream
from data.builders.image_folder import images_in
from data.builders.unused_files import non_image_lines, unused_entries, unused_line
from data.formats.images import decode_image, is_deep, open_image, read_encoded, reason
from data.formats.intensity import FULL_RANGE, IntensityRange
from lmf_jax.errors import UserError


def image_files(path: str | Path) -> list[Path]:
    """Return an image file alone, or the image files right in a folder, by name.

    Args:
        path: The file or the folder.

    Raises:
        UserError: If there is nothing at the path, or a folder without an image.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.exists():
        raise UserError(f"There is no {path}; expected an image or a folder of images.")
    return [path / name for name in images_in(path)]


def skipped_lines(path: str | Path, output: Path) -> list[str]:
    """Return a line for each kind of files and folders that :func:`image_files` passes over.

    Args:
        path: An image file, which passes over nothing, or a folder.
        output: The file or folder of the results, which is not told.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return []
    files, folders = unused_entries(folder, [output])
    lines = non_image_lines(folder, files)
    if folders:
        lines.append(unused_line(folder, folders, "folder", "name a folder to use its images"))
    return lines


@dataclass(eq=False)
class InferenceImages:
    """Batches of image files, decoded and resized ahead by threads.

    A file that cannot be decoded stops nothing: its place in the batch is masked.

    Attributes:
        files: The image files.
        image_size: Height and width of the images, in pixels.
        batch_size: Images in a batch; the last is filled up.
        intensity_range: What becomes black and white of gray of more than 8 bits: that of the
            images which the model was trained on. None where no such image was among them.
        broken: Why a file could not be decoded, by its place among the files; complete after a
            pass over the batches.
        deep: Places of the files that are gray of more than 8 bits; complete as well.
    """

    files: Sequence[Path]
    image_size: int
    batch_size: int
    intensity_range: IntensityRange | None = None
    broken: dict[int, str] = field(default_factory=dict)
    deep: set[int] = field(default_factory=set)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """Yield ``{"image", "label", "mask"}``; the label is the place among the files."""
        starts = grain.MapDataset.range(0, len(self.files), self.batch_size)
        return Stream(starts.map(self._batch), DECODE_OPTIONS)

    def _batch(self, start: int) -> EvaluationBatch:
        places = range(start, min(start + self.batch_size, len(self.files)))
        shape = (self.image_size, self.image_size, 3)
        batch: EvaluationBatch = {
            "image": np.zeros((self.batch_size, *shape), np.uint8),
            "label": np.arange(start, start + self.batch_size, dtype=np.int32),
            "mask": np.zeros(self.batch_size, np.bool_),
        }
        for i, place in enumerate(places):
            try:
                batch["image"][i] = self._decode(place)
            except Exception as error:  # Pillow's formats raise nearly everything
                self.broken[place] = reason(error)
            else:
                batch["mask"][i] = True
        return batch

    def _decode(self, place: int) -> UInt8[np.ndarray, "height width 3"]:
        encoded = read_encoded(self.files[place])
        with open_image(encoded) as image:
            if is_deep(image):
                self.deep.add(place)
        return decode_image(encoded, self.image_size, self.intensity_range or FULL_RANGE)

    def remarks(self) -> list[str]:
        """Return a line if images were scaled without knowing how; after a pass."""
        if not self.deep or self.intensity_range is not None:
            return []
        return [
            f"{len(self.deep):,} of {len(self.files):,} images have 16 bits, and the run recorded "
            "no intensity range of its training images: 0 to 65535 became 0 to 255"
        ]
