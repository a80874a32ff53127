"""ODIR-5K: fundus photographs in eight classes."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="odir5k",
    summary="6,392 fundus photographs in eight classes",
    task="classification",
    kind="download",
    # Table 1 of Sadi et al.
    published_counts={"train": 4474, "validation": 959, "test": 959},
    published_by="the paper",
)
