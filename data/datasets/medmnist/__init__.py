"""MedMNIST: any file whose images are 2D and have one class each."""

from pathlib import Path

from data.registry import DatasetSpec, PartCounts


def _published_counts(path: Path) -> PartCounts | None:
    from data.datasets.medmnist.labels import EXPECTED_COUNTS, flag_of

    return EXPECTED_COUNTS.get(flag_of(path))


DATASET = DatasetSpec(
    name="medmnist",
    summary="a file of MedMNIST with 2D images and one class each",
    task="classification",
    kind="own",
    paths=("file",),
    usage="medmnist:FILE.npz",
    published_counts=_published_counts,
    published_by="MedMNIST",
)
