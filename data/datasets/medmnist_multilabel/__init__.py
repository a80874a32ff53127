"""MedMNIST: any file whose images are 2D and have several labels each, such as ChestMNIST."""

from pathlib import Path

from data.registry import DatasetSpec, PublishedCounts


def _published(path: Path) -> PublishedCounts | None:
    from data.datasets.medmnist.labels import flag_of
    from data.datasets.medmnist_multilabel.labels import EXPECTED_COUNTS

    counts = EXPECTED_COUNTS.get(flag_of(path))
    return None if counts is None else PublishedCounts("MedMNIST", counts)


DATASET = DatasetSpec(
    name="medmnist_multilabel",
    summary="a file of MedMNIST with 2D images and several labels each",
    task="multilabel",
    kind="own",
    paths=("file",),
    usage="medmnist_multilabel:FILE.npz",
    published=_published,
)
