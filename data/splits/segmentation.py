"""Datasets of images with masks and a split."""

from dataclasses import dataclass
from pathlib import Path

from data.names import parse_name
from data.registry import registered_datasets
from data.sources import ImageSource
from data.splits.dataset import SplitDataset, open_parts
from data.splits.folds import Fold
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationDataset(SplitDataset):
    """Dataset whose pixels have classes, with a split.

    Attributes:
        masks: Encoded mask of every example.
    """

    masks: ImageSource


def load_segmentation_dataset(
    name: str,
    *,
    data_dir: str | Path = DEFAULT_DATA_DIR,
    split: str | None = None,
    split_seed: int = 0,
    fingerprint: str | None = None,
    fold: Fold | None = None,
    where: str | None = None,
) -> SegmentationDataset:
    """Open a dataset with masks and split it; prepare it on first use if it needs no download.

    Args:
        name: Name of the dataset: one that was prepared from a download, or pairs:IMAGES,MASKS.
        data_dir: Folder of prepared datasets; "~" is the home folder.
        split: "paper" (70 : 15 : 15 at random), "grouped" (the same, with no patient or lesion in
            two parts) or "official" (the split of the dataset). None takes "official" if the
            dataset has one, else "paper".
        split_seed: Seed of the split; any whole number from 0.
        fingerprint: Fingerprint recorded by a run, to find rows of an earlier version of the split
            method; None takes the present version.
        fold: The fold of a cross-validation that is the test part. Its split is "grouped" or
            "paper"; None takes "grouped" if patients or lesions are known.
        where: Conditions on the metadata, see :func:`data.splits.selection.select_rows`; the other
            images are in no part. None keeps all images.

    Returns:
        The dataset. It depends only on these arguments and the files they name.

    Raises:
        UserError: If a name is unknown or the dataset has no masks, an argument does not fit the
            dataset, an image or a mask is broken, or ``data_dir`` cannot be written.
    """
    if not parse_name(name).has_masks:
        choices = (
            spec.form
            for spec in registered_datasets().values()
            if spec.task == "segmentation" and not spec.has_volumes
        )
        raise UserError(
            f"The images of {name} have classes and no masks; choose one of {', '.join(choices)}."
        )
    prepared, parts = open_parts(
        name, data_dir, split, split_seed, fingerprint=fingerprint, fold=fold, where=where
    )
    assert prepared.masks is not None
    return SegmentationDataset(**parts, class_names=prepared.mask_classes, masks=prepared.masks)
