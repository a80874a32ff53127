"""Images of an external test that a run was trained or selected on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from data.audit.duplicates import ImageHashes, Pair, find_duplicate_pairs, hash_images
from data.splits.dataset import SplitDataset

SEEN_PARTS = ("train", "validation")
"""Parts that weights or the best epoch depend on."""


@dataclass(frozen=True, eq=False)
class Leakage:
    """Images of another dataset that are related to the training or validation part of a run.

    Attributes:
        same_group: Number of images whose lesion or patient has the name of one in these parts.
        identical: Number of images that are in these parts byte for byte.
        near_identical: Number of further images with a near-identical picture in these parts.
        rows: Rows of all of them in the other dataset.
    """

    same_group: int
    identical: int
    near_identical: int
    rows: Int64[np.ndarray, " leaked"]

    @property
    def record(self) -> dict[str, Any]:
        """The counts, JSON-serializable."""
        return {k: v for k, v in asdict(self).items() if k != "rows"} | {"images": len(self.rows)}


def find_leakage(own: Sequence[SplitDataset], other: SplitDataset) -> Leakage:
    """Compare the test images of another dataset with the images that a model has seen.

    Args:
        own: The dataset of each run; the folds of one dataset are read once.
        other: The other dataset.
    """
    tested = other.rows["test"]
    seen = _seen_rows(own)
    same_group = np.zeros(len(tested), bool)
    identical: set[int] = set()
    near: set[int] = set()
    images, example_of = other.images_of(tested)
    tested_hashes = hash_images(_Rows(other.source, images), other.intensity_range)
    for dataset, rows in seen:
        if dataset.groups is not None and other.groups is not None:
            same_group |= np.isin(other.groups[tested], dataset.groups[rows])
        seen_images, _ = dataset.images_of(rows)
        seen_hashes = hash_images(_Rows(dataset.source, seen_images), dataset.intensity_range)
        for pair in _pairs(seen_hashes, tested_hashes):
            example = int(example_of[pair.rows[1] - len(seen_images)])
            (identical if pair.identical else near).add(example)
    leaked = same_group.copy()
    leaked[sorted(identical | near)] = True
    return Leakage(
        same_group=int(same_group.sum()),
        identical=len(identical),
        near_identical=len(near - identical),
        rows=tested[leaked].astype(np.int64),
    )


def _seen_rows(own: Sequence[SplitDataset]) -> list[tuple[SplitDataset, Int64[np.ndarray, " n"]]]:
    """Return each dataset with the rows that any run on it has seen."""
    seen: dict[str, tuple[SplitDataset, list[np.ndarray]]] = {}
    for dataset in own:
        _, rows = seen.setdefault(dataset.content_fingerprint, (dataset, []))
        rows += [dataset.rows[part] for part in SEEN_PARTS]
    return [(dataset, np.unique(np.concatenate(rows))) for dataset, rows in seen.values()]


def _pairs(seen: ImageHashes, tested: ImageHashes) -> list[Pair]:
    arrays = zip(vars(seen).values(), vars(tested).values(), strict=True)
    both = ImageHashes(*(np.concatenate(pair) for pair in arrays))
    num_seen, num_tested = len(seen.digests), len(tested.digests)
    rows = {
        "train": np.arange(num_seen, dtype=np.int64),
        "validation": np.zeros(0, np.int64),
        "test": num_seen + np.arange(num_tested, dtype=np.int64),
    }
    return find_duplicate_pairs(both, rows)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows of a source of encoded images."""

    source: Any
    rows: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> bytes:
        encoded: bytes = self.source[int(self.rows[row])]
        return encoded
