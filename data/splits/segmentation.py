"""From the name of a dataset with masks to its examples, its classes and the rows of its parts."""

from dataclasses import dataclass
from pathlib import Path

from data.names import parse_name
from data.registry import registered_datasets
from data.sources import ImageSource
from data.splits.dataset import SplitDataset, open_parts
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationDataset(SplitDataset):
    """A dataset whose pixels have classes, with its split.

    Attributes:
        masks: The encoded mask of every example.
    """

    masks: ImageSource


def load_segmentation_dataset(
    name: str,
    *,
    data_dir: str | Path = DEFAULT_DATA_DIR,
    split: str | None = None,
    split_seed: int = 0,
    fingerprint: str | None = None,
) -> SegmentationDataset:
    """Open a dataset with masks and splits it; prepares it on first use if it needs no download.

    Args:
        name: Name of the dataset: one that was prepared from a download, or pairs:IMAGES,MASKS.
        data_dir: The folder of prepared datasets; "~" is the home folder.
        split: "paper" (70 : 15 : 15 at random), "grouped" (the same, but no patient or lesion in
            two parts) or "official" (as the dataset comes). None takes the official one where there
            is one, else "paper".
        split_seed: Decides the split alone; any whole number from 0.
        fingerprint: What a run recorded of its data, to find rows that an earlier version of the
            split's method chose; None takes the present version.

    Returns:
        The dataset. It depends on nothing but these arguments and the files they name.

    Raises:
        UserError: If a name is unknown or that of a dataset without masks, an argument does not fit
            the dataset, an image or a mask is broken, or ``data_dir`` cannot be written.
    """
    if not parse_name(name).has_masks:
        choices = (
            spec.form
            for spec in registered_datasets().values()
            if spec.task == "segmentation" and spec.kind != "volumes"
        )
        raise UserError(
            f"The images of {name} have classes and no masks, so there is nothing to segment; "
            f"choose one of {', '.join(choices)}."
        )
    prepared, parts = open_parts(name, data_dir, split, split_seed, fingerprint=fingerprint)
    assert prepared.masks is not None
    return SegmentationDataset(**parts, class_names=prepared.mask_classes, masks=prepared.masks)
