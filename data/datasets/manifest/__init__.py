"""Images of the user listed in a CSV file."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="manifest",
    summary="your images, listed in a CSV file",
    kind="own",
    paths=("file",),
    usage="manifest:FILE.csv",
    settings_by_size=True,
)
