"""Volumes of the user and their label maps: nnU-Net's layout, or two folders."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="volumes",
    summary="your volumes in NIfTI or DICOM, with label maps, also volumes:IMAGES,LABELS",
    task="segmentation",
    kind="own-volumes",
    paths=("folder", "folder"),
    optional_paths=1,
    usage="volumes:DIR",
)
