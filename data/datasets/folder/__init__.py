"""Images of the user in one folder per class."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="folder",
    summary="your images, a folder for each class",
    kind="own",
    paths=("folder",),
    usage="folder:PATH",
    settings_by_size=True,
)
