"""Update of the recorded intensity range of a prepared dataset."""

from data.builders.intensity_search import count_intensities
from data.formats.intensity import INTENSITY_FILE, IntensityRange, with_range, write_intensities
from data.prepared.images import Prepared
from data.storage import build_lock


def update_recorded_range(prepared: Prepared, name: str, given: IntensityRange | None) -> None:
    """Record the intensity range of a prepared dataset if none is recorded or one is given.

    Args:
        prepared: The dataset.
        name: Name of the dataset, for the error.
        given: Range to record; None finds it from the images.

    Raises:
        UserError: If a range is given and no image has more than 8 bits, or the folder cannot be
            written.
    """
    path = prepared.folder / INTENSITY_FILE
    if path.exists() and given is None:
        return
    with build_lock(path):
        found = prepared.intensities or count_intensities(prepared.source).find()
        write_intensities(prepared.folder, with_range(found, given, name))
