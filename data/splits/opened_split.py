"""Splits of prepared datasets: computed once, stored, and found again by fingerprint."""

from typing import NamedTuple

from data.labels import Rows
from data.prepared.images import Prepared
from data.splits.folds import Fold
from data.splits.methods import make_split, split_versions
from data.splits.paper import long_tail
from data.splits.selection import Selection
from data.splits.split_file import stored_split
from data.splits.validation_cut import lacks_validation


class OpenedSplit(NamedTuple):
    """Split of a dataset.

    Attributes:
        rows: Sorted row numbers of every part.
        fingerprint: SHA-256, in hex, over the dataset and these rows.
        version: Version of the split method.
    """

    rows: Rows
    fingerprint: str
    version: int


def open_split(
    prepared: Prepared,
    split: str,
    split_seed: int,
    imbalance_ratio: float | None = None,
    fingerprint: str | None = None,
    fold: Fold | None = None,
    selection: Selection | None = None,
) -> OpenedSplit:
    """Return the rows of every part and their fingerprint; compute the split the first time.

    Args:
        prepared: The dataset.
        split: "paper", "grouped" or "official".
        split_seed: Seed of the split; the official one has none.
        imbalance_ratio: Imbalance ratio of training and validation rows; None keeps all rows.
        fingerprint: Fingerprint recorded by a run, which selects the version of the split method.
            None, or a fingerprint of no version, takes the present version.
        fold: The fold of a cross-validation that is the test part; None makes a single split.
        selection: The images to split; None takes all.

    Raises:
        UserError: If the dataset does not have this split.
    """

    def open_version(version: int) -> OpenedSplit:
        return _open_version(prepared, split, split_seed, imbalance_ratio, version, fold, selection)

    versions = split_versions(split, fold)
    present = open_version(versions[0])
    if fingerprint in (None, present.fingerprint):
        return present
    earlier = map(open_version, versions[1:])
    return next((opened for opened in earlier if opened.fingerprint == fingerprint), present)


def _open_version(
    prepared: Prepared,
    split: str,
    split_seed: int,
    imbalance_ratio: float | None,
    version: int,
    fold: Fold | None,
    selection: Selection | None,
) -> OpenedSplit:
    def make() -> Rows:
        labels = prepared if selection is None else prepared.only(selection.rows)
        rows = make_split(labels, split, split_seed, version, fold)
        if imbalance_ratio is not None:
            for part in ("train", "validation"):
                rows[part] = long_tail(rows[part], labels.labels, imbalance_ratio, split_seed)
        return rows if selection is None else selection.in_dataset(rows)

    method = split if version == 1 else f"{split}-v{version}"
    is_fixed = split == "official" and not lacks_validation(prepared)
    seeded = method if is_fixed else f"{method}-seed{split_seed}"
    thinned = "" if imbalance_ratio is None else f"-ratio{imbalance_ratio!r}"
    of_fold = "" if fold is None else fold.suffix
    selected = "" if selection is None else f"-where-{selection.key}"
    name = f"{seeded}{thinned}{of_fold}{selected}"
    rows, fingerprint = stored_split(name, prepared, make, version)
    return OpenedSplit(rows, fingerprint, version)
