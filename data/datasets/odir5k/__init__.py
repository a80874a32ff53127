"""ODIR-5K: fundus photographs in eight classes."""

from data.registry import DatasetSpec, PublishedCounts

DATASET = DatasetSpec(
    name="odir5k",
    summary="6,392 fundus photographs in eight classes",
    kind="download",
    # Table 1 of Sadi et al.
    published=PublishedCounts("the paper", {"train": 4474, "validation": 959, "test": 959}),
)
