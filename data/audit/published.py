"""Comparison of a dataset with its published sizes and with other prepared datasets."""

from pathlib import Path

import numpy as np

from data.labels import PARTS, Labels
from data.names import DatasetName, parse_name
from data.prepared.images import Prepared, open_prepared, prepared_folder
from data.registry import datasets_of_kind
from data.splits.methods import make_split, possible_splits


def count_difference_lines(name: str, prepared: Prepared) -> list[str]:
    """Return where the sizes of the parts differ from the published ones.

    Args:
        name: Name of the dataset, as given on the command line.
        prepared: The dataset.

    Returns:
        Lines to print; none if no sizes are published.
    """
    parsed = parse_name(name)
    published = parsed.spec.published_counts(parsed.path)
    if published is None:
        return []
    expected = published.by_part
    rows = make_split(prepared, possible_splits(prepared)[0], seed=0)
    return [
        f"{part}: {len(rows[part])} images, {expected[part]} in {published.source}"
        for part in PARTS
        if len(rows[part]) != expected[part]
    ] or [f"as many images as in {published.source}"]


def shared_image_lines(name: str, labels: Labels, data_dir: Path) -> list[str]:
    """Return which other prepared datasets of the same task contain some of the same images.

    Args:
        name: Name of the dataset, as given on the command line.
        labels: Its labels.
        data_dir: Folder of prepared datasets.

    Returns:
        Lines to print.
    """
    lines = []
    spec, downloads = parse_name(name).spec, datasets_of_kind("download")
    for other in map(DatasetName, downloads if spec.kind == "download" else ()):
        folder = prepared_folder(other, data_dir)
        if other.kind == name or other.spec.task != spec.task or not folder.exists():
            continue
        shared = np.isin(labels.ids, open_prepared(folder).ids).sum()
        if shared:
            lines.append(
                f"{shared} images of {name} are also in {other.kind}, which is prepared here: do "
                "not train on one and test on the other"
            )
    return lines
