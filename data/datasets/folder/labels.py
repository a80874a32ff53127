"""Labels of a folder of images: the names of its sub-folders."""

from collections.abc import Iterator
from pathlib import Path

from data.builders.image_folder import (
    folders_in,
    has_part_twice,
    images_in,
    is_image,
    part_folders,
)
from data.builders.unused_files import files_below, non_image_lines, unused_line
from data.file_names import to_nfc
from data.labels import PART_NAMES, Labels, make_labels
from lmf_jax.errors import UserError


def read_labels(raw: Path) -> Labels:
    """Read a folder per class, or a folder per part with a folder per class in each.

    Classes are in alphabetical order. The name of an image is its path relative to the folder.

    Args:
        raw: The folder.

    Raises:
        UserError: If there are fewer than two classes, a class folder has no image or has
            sub-folders, or a part has a class that the training part lacks.
    """
    parts = _parts(raw)
    folders = [(part, name, raw / part / name) for part in parts for name in _classes(raw / part)]
    ids, labels, in_parts = [], [], []
    classes = _classes(raw / parts[0])
    spelled = {to_nfc(name): name for name in classes}
    for part, class_name, folder in folders:
        for image in images_in(folder):
            ids.append((folder / image).relative_to(raw).as_posix())
            labels.append(spelled.get(to_nfc(class_name), class_name))
            in_parts.append(PART_NAMES.get(part.lower(), ""))
    return make_labels(raw, classes, ids, labels, parts=in_parts if parts != [""] else None)


def image_path(raw: Path, name: str) -> Path:
    """Return the path of an image."""
    return raw / name


def raw_files(raw: Path) -> Iterator[Path]:
    """Yield every file of the dataset."""
    for name in read_labels(raw).ids.tolist():
        yield raw / name


def unused_file_lines(raw: Path) -> list[str]:
    """Return a line for each type of file in the folder that is not used.

    Args:
        raw: The folder.
    """
    used = set(raw_files(raw))
    unused = [file for file in files_below(raw) if file not in used]
    lines = non_image_lines(raw, unused)
    if images := [file for file in unused if is_image(file)]:
        lines.append(
            unused_line(raw, images, "image", "move images into the folder of their class")
        )
    return lines


def _parts(raw: Path) -> list[str]:
    """Return the folders of the parts, training first, or a single "" without parts."""
    names = folders_in(raw)
    parts = part_folders(names)
    if not parts:
        return [""]
    if len(parts) < len(names) or has_part_twice(parts):
        raise UserError(
            f"{raw} holds the folders {', '.join(names)}; expected either a folder per class, or "
            "train, val and test with a folder per class in each."
        )
    return parts


def _classes(folder: Path) -> list[str]:
    classes = folders_in(folder)
    if len(classes) < 2:
        raise UserError(
            f"{folder} holds {len(classes)} folders; expected one for each class, at least two."
        )
    for name in classes:
        if deeper := folders_in(folder / name):
            raise UserError(
                f"The class folder {folder / name} holds the folder {deeper[0]}; expected images "
                "alone. For another layout, list the images in a file: manifest:FILE.csv."
            )
    return classes
