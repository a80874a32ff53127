"""ISIC 2018 task 1: dermoscopy images with lesion masks."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="isic2018_task1",
    summary="3,694 dermoscopy images with lesion masks",
    task="segmentation",
    kind="download",
    published_counts={"train": 2594, "validation": 100, "test": 1000},
    published_by="the challenge",
)
