"""ISIC 2019: dermoscopy images in eight classes."""

from data.registry import DatasetSpec, PublishedCounts

DATASET = DatasetSpec(
    name="isic2019",
    summary="25,331 dermoscopy images in eight classes",
    kind="download",
    # Table 1 of Sadi et al.
    published=PublishedCounts("the paper", {"train": 17733, "validation": 3799, "test": 3799}),
)
