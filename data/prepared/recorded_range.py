"""Records the intensity range of a dataset that was prepared before."""

from data.builders.intensity_search import count_intensities
from data.formats.intensity import INTENSITY_FILE, IntensityRange, with_range, write_intensities
from data.prepared.images import Prepared
from data.storage import build_lock


def update_recorded_range(prepared: Prepared, name: str, given: IntensityRange | None) -> None:
    """Record the range of a dataset that was prepared before, if none is or another is given.

    Args:
        prepared: The dataset.
        name: Its name, for the error.
        given: The range; None for the one that is found.

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
