"""Metadata of a dataset that was prepared before metadata were stored."""

import numpy as np

from data.formats.metadata import METADATA_FILE, write_metadata
from data.names import RawFolder, parse_name
from data.prepared.images import Prepared
from data.storage import build_lock
from lmf_jax.errors import UserError


def record_missing_metadata(prepared: Prepared, name: str, raw: RawFolder) -> None:
    """Write the metadata of a prepared dataset if its folder lacks them.

    Args:
        prepared: The dataset.
        name: Name of the dataset, as given on the command line.
        raw: Location of the raw data that it was prepared from.

    Raises:
        UserError: If the label files cannot be read or lack an image of the dataset, or the folder
            cannot be written.
    """
    path = prepared.folder / METADATA_FILE
    if path.exists():
        return
    labels = parse_name(name).spec.labels_module().read_labels(raw)
    row_of = {image: row for row, image in enumerate(labels.ids.tolist())}
    missing = [image for image in prepared.ids.tolist() if image not in row_of]
    if missing:
        raise UserError(
            f"The label files in {raw} lack {len(missing)} of the images in {prepared.folder}, "
            f"such as {missing[0]}; give the data that {name} was prepared from."
        )
    rows = np.array([row_of[image] for image in prepared.ids.tolist()], np.int64)
    with build_lock(path):
        write_metadata(prepared.folder, labels.only(rows).metadata)
