"""Images of the user listed in a CSV file, with any number of labels each."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="manifest_multilabel",
    summary="your images, listed in a CSV file, with any number of labels each",
    task="multilabel",
    kind="own",
    paths=("file",),
    usage="manifest_multilabel:FILE.csv",
    settings_by_size=True,
)
