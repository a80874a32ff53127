"""What is known of a dataset from elsewhere: how large it is published to be, what it shares."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np

from data.labels import PARTS, Labels
from data.names import DOWNLOADS, DatasetName, parse_name
from data.prepared.images import Prepared, open_prepared, prepared_folder
from data.splits.methods import make_split, possible_splits


def differences(name: str, prepared: Prepared) -> list[str]:
    """Say, part by part, whether a dataset is as large as published.

    Args:
        name: Name of the dataset, as typed.
        prepared: The dataset.

    Returns:
        Lines to print; none for a dataset of which nothing is published.
    """
    expected, source = _published_counts(parse_name(name))
    if expected is None:
        return []
    rows = make_split(prepared, possible_splits(prepared)[0], seed=0)
    return [
        f"{part}: {len(rows[part])} images, {expected[part]} in {source}"
        for part in PARTS
        if len(rows[part]) != expected[part]
    ] or [f"as many images as in {source}"]


def _published_counts(name: DatasetName) -> tuple[Mapping[str, int] | None, str]:
    """Return the published images per part, None if there are none, and who says so."""
    if name.kind not in (*DOWNLOADS, "medmnist"):
        return None, ""
    labels = import_module(f"data.datasets.{name.kind}.labels")
    if name.has_masks:
        return getattr(labels, "CHALLENGE_COUNTS", None), "the challenge"
    if name.path is not None:
        return labels.EXPECTED_COUNTS.get(labels.flag_of(name.path)), "MedMNIST"
    return labels.PAPER_COUNTS, "the paper"


def overlaps(name: str, labels: Labels, data_dir: Path) -> list[str]:
    """Say which other prepared datasets to learn the same hold some of the same images.

    Args:
        name: Name of the dataset, as typed.
        labels: Its labels.
        data_dir: The folder of prepared datasets.

    Returns:
        Lines to print.
    """
    lines = []
    has_masks = parse_name(name).has_masks
    for other in DOWNLOADS if name in DOWNLOADS else ():
        folder = prepared_folder(DatasetName(other), data_dir)
        if other == name or DatasetName(other).has_masks != has_masks or not folder.exists():
            continue
        shared = np.isin(labels.ids, open_prepared(folder).ids).sum()
        if shared:
            lines.append(
                f"{shared} images of {name} are also in {other}, which is prepared here: do not "
                "train on one and test on the other"
            )
    return lines
