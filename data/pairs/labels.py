"""Images in one folder and their masks in another, matched by name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from data.image_folder import folders_in, images_in
from data.labels import (
    PART_NAMES,
    PARTS,
    WHOLE_IMAGE,
    Labels,
    check_class_names,
    make_labels,
    read_csv,
)
from data.mask_decoding import MOST_CLASSES, listed
from data.names import FolderPair
from lmf_jax.errors import UserError

CLASSES_FILE = "classes.txt"
"""Names of the classes by class id, a line each; in the folder of the masks, if anywhere."""

GROUPS_FILE = "groups.csv"
"""The patient or lesion (``group``) of every image (``image``); where the other file may lie."""

ENDINGS = ("", "_segmentation", "_mask")
"""What may stand between the name of an image and the ``.png`` of its mask."""

MOST_UNNAMED = 32
"""Classes that masks may have without a file that names them; more are likely a picture."""


def read_labels(raw: FolderPair) -> Labels:
    """Lists the images: right in their folder, or in train, val and test there.

    The name of an image is its path below the folder.

    Args:
        raw: The two folders.

    Raises:
        UserError: If there is no image, a part is missing or there twice, or the file of groups
            cannot be read or names another image.
    """
    ids, in_parts = [], []
    parts = _parts(raw.images)
    for part in parts:
        names = images_in(raw.images / part)
        ids += [(PurePosixPath(part) / name).as_posix() for name in names]
        in_parts += [PART_NAMES.get(part.lower(), "")] * len(names)
    return make_labels(
        raw.images,
        WHOLE_IMAGE,
        ids,
        WHOLE_IMAGE * len(ids),
        groups=_groups(raw.masks / GROUPS_FILE, ids),
        parts=in_parts if parts != [""] else None,
    )


def image_path(raw: FolderPair, name: str) -> Path:
    """Returns where the image of this name lies."""
    return raw.images / name


def raw_files(raw: FolderPair) -> Iterator[Path]:
    """Yields every file that the labels and masks come from."""
    ids = read_labels(raw).ids.tolist()
    for name in ids:
        yield raw.images / name
    yield from find_masks(raw, ids).values()
    for file in (CLASSES_FILE, GROUPS_FILE):
        if (raw.masks / file).exists():
            yield raw.masks / file


def find_masks(raw: FolderPair, ids: Sequence[str]) -> dict[str, Path]:
    """Returns the mask of every image that has one.

    Args:
        raw: The two folders.
        ids: Names of the images.

    Raises:
        UserError: If an image has two masks, or two images have the same one.
    """
    masks = {part: _by_stem(raw.masks / part) for part in _parts(raw.masks)}
    found: dict[str, Path] = {}
    image_of: dict[Path, str] = {}
    for name in ids:
        path = PurePosixPath(name)
        part = str(path.parent) if str(path.parent) in masks else ""
        by_stem = masks.get(part, {})
        fitting = [file for ending in ENDINGS for file in by_stem.get(path.stem + ending, ())]
        if len(fitting) > 1:
            raise UserError(
                f"{name} in {raw.images} has {len(fitting)} masks in {raw.masks / part} "
                f"({', '.join(sorted(fitting))}); expected one."
            )
        for file in fitting:
            found[name] = raw.masks / part / file
            other = image_of.setdefault(found[name], name)
            if other != name:
                raise UserError(
                    f"{other} and {name} in {raw.images} have the same mask, {found[name]}; "
                    "expected one for each."
                )
    return found


def mask_classes(raw: FolderPair, values: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Returns the name of every class of pixels, the background first.

    Args:
        raw: The two folders.
        values: The values in every mask, by the name of its image; none if no mask is whole.

    Raises:
        UserError: If the values can be no class ids, or may be meant in two ways, or the file of
            names cannot be read.
    """
    used = sorted({value for of_mask in values.values() for value in of_mask})
    path = raw.masks / CLASSES_FILE
    named = _read_names(path) if path.exists() else None
    if named is not None:
        expected = f"0 to {len(named) - 1}, the classes in {CLASSES_FILE}"
        fits = not used or used[-1] < len(named)
        count = len(named)
    else:
        expected = "0 to C - 1 for C classes"
        fits = not used or (1 <= used[-1] < MOST_UNNAMED and used == list(range(used[-1] + 1)))
        count = max(2, len(used))
    if 255 in used and {0, 255}.issuperset(used):
        fits, count = named is None or len(named) == 2, 2
    if not fits:
        most = max(values, key=lambda name: len(values[name]))
        raise UserError(
            f"The masks in {raw.masks} hold the values {listed(used)}, and the one of {most} alone "
            f"{listed(values[most])}; expected {expected}, or 0 and 255 of two."
        )
    return named or ("background", *(f"class-{i}" for i in range(1, count)))


def check_jpeg(encoded: bytes, values: Sequence[int]) -> None:
    """Refuses what JPEG makes of class ids: it changes values by a little.

    Args:
        encoded: The bytes of a mask.
        values: Its values.

    Raises:
        ValueError: If it is a JPEG of other values than 0 and 255.
    """
    if encoded.startswith(b"\xff\xd8") and not {0, 255}.issuperset(values):
        raise ValueError(
            f"it is a JPEG, which changes class ids, and holds the values {listed(values)}; "
            "save masks as PNG"
        )


def _parts(folder: Path) -> list[str]:
    """Returns the folders of the parts, training first; a single "" if there are none."""
    parts = [name for name in folders_in(folder) if name.lower() in PART_NAMES]
    if len({PART_NAMES[part.lower()] for part in parts}) < len(parts):
        raise UserError(f"{folder} holds a part twice: {', '.join(parts)}; expected {_EXPECTED}.")
    return sorted(parts, key=lambda part: PARTS.index(PART_NAMES[part.lower()])) or [""]


_EXPECTED = "train, val and test, or files alone"


def _by_stem(folder: Path) -> dict[str, list[str]]:
    """Returns the images in a folder by their name without the ending."""
    by_stem: dict[str, list[str]] = {}
    for name in images_in(folder):
        by_stem.setdefault(PurePosixPath(name).stem, []).append(name)
    return by_stem


def _groups(path: Path, ids: Sequence[str]) -> list[str] | None:
    """Returns the group of every image, "" where none is given; None without a file of groups."""
    if not path.exists():
        return None
    rows = read_csv(path, ("image", "group"))
    groups = {row["image"].strip(): row["group"].strip() for row in rows}
    if len(groups) < len(rows):
        raise UserError(f"{path} names an image twice; every image has one group.")
    if unknown := set(groups).difference(ids):
        raise UserError(
            f"{path} names {min(unknown)}, which is no image; expected names such as {ids[0]}."
        )
    return [groups.get(name, "") for name in ids]


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        names = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error}).") from error
    if not 2 <= len(names) <= MOST_CLASSES or "" in names:
        raise UserError(
            f"{path} has {len(names)} lines{' and an empty one' if '' in names else ''}; expected "
            f"the name of a class in each, 2 to {MOST_CLASSES}, the background first."
        )
    check_class_names(path, names)
    return tuple(names)
