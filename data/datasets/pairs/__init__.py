"""Images and masks of the user in two folders."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="pairs",
    summary="your images and masks in two folders",
    task="segmentation",
    kind="own",
    paths=("folder", "folder"),
    usage="pairs:IMAGES,MASKS",
)
