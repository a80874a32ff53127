"""KiTS19: CT of the abdomen with kidneys and kidney tumors."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="kits19",
    summary="CT of kidneys and kidney tumors",
    task="segmentation",
    kind="volumes",
    defaults={"patch_size": (80, 160, 160), "batch_size": 2},
)
