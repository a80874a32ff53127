"""HAM10000 with lesion masks."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="ham10000_masks",
    summary="10,015 dermoscopy images with lesion masks",
    task="segmentation",
    kind="download",
)
