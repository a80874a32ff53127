"""The labels of the COVID-19 Radiography Database, as the Kaggle download holds them."""

from pathlib import Path

from data.builders.image_folder import images_in
from data.labels import Labels, make_labels
from lmf_jax.errors import UserError

CLASSES: tuple[str, ...] = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
"""Class names by class id: the folders of the download."""


def read_labels(raw: Path) -> Labels:
    """Read the folder of every class; the masks beside the images are left alone.

    Nothing in the download tells which images are of one patient.

    Args:
        raw: The folder of the download, or the one in it that holds the class folders.

    Raises:
        UserError: If a class folder is missing or holds no image.
    """
    ids, labels = [], []
    for class_name in CLASSES:
        images = images_in(_class_folder(raw, class_name))
        ids += [f"{class_name}/{image}" for image in images]
        labels += [class_name] * len(images)
    return make_labels(raw, CLASSES, ids, labels)


def image_path(raw: Path, name: str) -> Path:
    """Return where the image of this name lies."""
    class_name, _, image = name.partition("/")
    return _class_folder(raw, class_name) / image


def _class_folder(raw: Path, class_name: str) -> Path:
    """Return the folder of a class's images; older releases have no folder of masks beside it."""
    inner = raw / "COVID-19_Radiography_Dataset"
    folder = (inner if inner.is_dir() else raw) / class_name
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing; expected a folder for each of {', '.join(CLASSES)}. Check the "
            "folder of the download."
        )
    images = folder / "images"
    return images if images.is_dir() else folder
