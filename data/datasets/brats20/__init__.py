"""BraTS 2020: MRI of gliomas in four modalities."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="brats20",
    summary="MRI of gliomas in four modalities",
    task="segmentation",
    kind="volumes",
    defaults={"patch_size": (128, 128, 128), "batch_size": 2},
)
