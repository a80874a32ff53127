"""MedMNIST: any file whose images are 2D and have one class each."""

from pathlib import Path

from data.registry import DatasetSpec, PublishedCounts


def _published(path: Path) -> PublishedCounts | None:
    from data.datasets.medmnist.labels import EXPECTED_COUNTS, flag_of

    counts = EXPECTED_COUNTS.get(flag_of(path))
    return None if counts is None else PublishedCounts("MedMNIST", counts)


DATASET = DatasetSpec(
    name="medmnist",
    summary="a file of MedMNIST with 2D images and one class each",
    kind="own",
    paths=("file",),
    usage="medmnist:FILE.npz",
    published=_published,
)
