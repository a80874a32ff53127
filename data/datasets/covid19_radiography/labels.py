"""Labels of the COVID-19 Radiography Database, from the folders of the Kaggle download."""

from pathlib import Path

from data.builders.image_folder import images_in
from data.labels import Labels, make_labels
from lmf_jax.errors import UserError

CLASSES: tuple[str, ...] = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
"""Class names by class id: the folders of the download."""


def read_labels(raw: Path) -> Labels:
    """Read the folder of every class, without the masks.

    The download does not name the patients.

    Args:
        raw: Folder of the download, or the folder in it with the class folders.

    Raises:
        UserError: If a class folder is missing or has no image.
    """
    ids, labels = [], []
    for class_name in CLASSES:
        images = images_in(_class_folder(raw, class_name))
        ids += [f"{class_name}/{image}" for image in images]
        labels += [class_name] * len(images)
    return make_labels(raw, CLASSES, ids, labels)


def image_path(raw: Path, name: str) -> Path:
    """Return the path of an image."""
    class_name, _, image = name.partition("/")
    return _class_folder(raw, class_name) / image


def _class_folder(raw: Path, class_name: str) -> Path:
    """Return the folder of the images of a class; older releases have no separate mask folder."""
    inner = raw / "COVID-19_Radiography_Dataset"
    folder = (inner if inner.is_dir() else raw) / class_name
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing; expected a folder for each of {', '.join(CLASSES)}. Check the "
            "folder of the download."
        )
    images = folder / "images"
    return images if images.is_dir() else folder
