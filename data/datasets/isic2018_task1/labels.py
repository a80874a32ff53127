"""Images and masks of ISIC 2018 task 1, in the folders of the challenge or of a copy."""

from pathlib import Path

from data.builders.image_folder import images_in
from data.labels import PARTS, WHOLE_IMAGE, Labels, make_labels
from lmf_jax.errors import UserError

MASK_CLASSES: tuple[str, ...] = ("background", "lesion")
"""Name of every class of pixels."""

_LAYOUTS = (
    [
        (f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth")
        for part in ("Training", "Validation", "Test")
    ],
    [(f"images/{part}", "masks") for part in ("train", "val", "test")],
)
"""Folders of the images and masks of every part, in the challenge and in a copy."""


def read_labels(raw_dir: Path) -> Labels:
    """Read the images of every part.

    Args:
        raw_dir: Folder of the download.

    Raises:
        UserError: If it has neither layout, a part has no image, or two parts have the same image.
    """
    ids, parts = [], []
    for part, (images, _) in zip(PARTS, _folders(raw_dir), strict=True):
        names = [Path(name).stem for name in images_in(images) if name.endswith(".jpg")]
        ids += names
        parts += [part] * len(names)
    return make_labels(raw_dir, WHOLE_IMAGE, ids, WHOLE_IMAGE * len(ids), parts=parts)


def image_path(raw_dir: Path, name: str) -> Path:
    """Return the path of an image."""
    return _of_part(raw_dir, name)[0]


def mask_path(raw_dir: Path, name: str) -> Path:
    """Return the path of the mask of an image."""
    return _of_part(raw_dir, name)[1]


def _of_part(raw_dir: Path, name: str) -> tuple[Path, Path]:
    """Return the paths of an image and its mask, in the part that has the image."""
    paths = [
        (images / f"{name}.jpg", masks / f"{name}_segmentation.png")
        for images, masks in _folders(raw_dir)
    ]
    return next((both for both in paths if both[0].exists()), paths[0])


def _folders(raw_dir: Path) -> list[tuple[Path, Path]]:
    """Return the folders of the images and the masks of every part."""
    for layout in _LAYOUTS:
        if (raw_dir / layout[0][0]).is_dir():
            return [(raw_dir / images, raw_dir / masks) for images, masks in layout]
    raise UserError(
        f"{raw_dir} holds neither {_LAYOUTS[0][0][0]} nor {_LAYOUTS[1][0][0]}; check the folder of "
        "the download."
    )
