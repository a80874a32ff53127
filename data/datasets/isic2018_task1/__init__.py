"""ISIC 2018 task 1: dermoscopy images with lesion masks."""

from data.registry import DatasetSpec, PublishedCounts

DATASET = DatasetSpec(
    name="isic2018_task1",
    summary="3,694 dermoscopy images with lesion masks",
    task="segmentation",
    kind="download",
    published=PublishedCounts("the challenge", {"train": 2594, "validation": 100, "test": 1000}),
)
