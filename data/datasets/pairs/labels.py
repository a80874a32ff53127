"""Images in one folder and their masks in another, matched by name."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from data.builders.image_folder import (
    folders_in,
    has_part_twice,
    images_in,
    is_image,
    part_folders,
    stem_of,
)
from data.builders.unused_files import counted, files_below, named, non_image_lines, unused_line
from data.file_names import to_nfc
from data.formats.csv_files import check_values, read_csv
from data.formats.masks import MOST_CLASSES, format_values
from data.labels import (
    PART_NAMES,
    WHOLE_IMAGE,
    Labels,
    check_class_names,
    make_labels,
)
from data.names import FolderPair
from lmf_jax.errors import UserError

CLASSES_FILE = "classes.txt"
"""Optional file in the folder of the masks: names of the classes by class id, one per line."""

GROUPS_FILE = "groups.csv"
"""Optional file in the folder of the masks: columns ``image`` and ``group`` (patient or lesion)."""

ENDINGS = ("", "_segmentation", "_mask")
"""Endings of the stem of a mask after that of its image.

A number may follow the last two: ``_mask_1`` is one of several masks of an image.
"""

MOST_UNNAMED = 32
"""Maximum number of classes without a file of names; more values indicate a photograph."""


def read_labels(raw: FolderPair) -> Labels:
    """Read the images directly in their folder, or in train, val and test in it.

    The name of an image is its path relative to the folder.

    Args:
        raw: The two folders.

    Raises:
        UserError: If there is no image, images are in other sub-folders, a part is missing or
            occurs twice, or the file of groups cannot be read or names an unknown image.
    """
    ids, in_parts = [], []
    parts = _parts(raw.images)
    _refuse_deeper_images(raw, parts)
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
    """Return the path of an image."""
    return raw.images / name


def raw_files(raw: FolderPair) -> Iterator[Path]:
    """Yield every file of the dataset."""
    ids = read_labels(raw).ids.tolist()
    for name in ids:
        yield raw.images / name
    for files in find_masks(raw, ids).values():
        yield from files
    for file in (CLASSES_FILE, GROUPS_FILE):
        if (raw.masks / file).exists():
            yield raw.masks / file


def unused_file_lines(raw: FolderPair) -> list[str]:
    """Return a line for each type of file that is not used, and for joined masks.

    Args:
        raw: The two folders.
    """
    ids = read_labels(raw).ids.tolist()
    masks = find_masks(raw, ids)
    used = {raw.images / name for name in ids}.union(*masks.values())
    used |= {raw.masks / CLASSES_FILE, raw.masks / GROUPS_FILE}
    unused_images = [file for file in files_below(raw.images, [raw.masks]) if file not in used]
    unused_masks = [file for file in files_below(raw.masks, [raw.images]) if file not in used]
    lines = non_image_lines(raw.images, unused_images) + non_image_lines(raw.masks, unused_masks)
    if images := [file for file in unused_images if is_image(file)]:
        advice = "move images into train, val or test"
        lines.append(unused_line(raw.images, images, "image", advice))
    if of_none := [file for file in unused_masks if is_image(file)]:
        advice = "a mask is called as its image, or that and _mask or _segmentation, or _mask_1"
        lines.append(unused_line(raw.masks, of_none, "mask", advice))
    if joined := [files for files in masks.values() if len(files) > 1]:
        files = [file for several in joined for file in several]
        lines.append(
            f"{counted(len(joined), 'image')} with several masks each, which are joined: "
            f"{named(raw.masks, files)}"
        )
    return lines


def find_masks(raw: FolderPair, ids: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Return the masks of every image that has one, or several with numbers.

    Args:
        raw: The two folders.
        ids: Names of the images.

    Raises:
        UserError: If an image has two masks without different numbers, or two images have the same
            mask.
    """
    masks = {part: _by_stem(raw.masks / part) for part in _parts(raw.masks)}
    found: dict[str, tuple[Path, ...]] = {}
    image_of: dict[Path, str] = {}
    for name in ids:
        path = PurePosixPath(name)
        part = str(path.parent) if str(path.parent) in masks else ""
        by_stem = masks.get(part, {})
        by_ending = [by_stem.get(to_nfc(stem_of(path)) + ending, {}) for ending in ENDINGS]
        by_number = [files for numbers in by_ending for files in numbers.values()]
        fitting = [file for files in by_number for file in files]
        if sum(map(bool, by_ending)) > 1 or len(fitting) > len(by_number):
            raise UserError(
                f"{name} in {raw.images} has {len(fitting)} masks in {raw.masks / part} "
                f"({', '.join(sorted(fitting))}); expected one, or several such as "
                f"{stem_of(path)}_mask_1.png."
            )
        for mask in (raw.masks / part / file for file in fitting):
            found[name] = (*found.get(name, ()), mask)
            other = image_of.setdefault(mask, name)
            if other != name:
                raise UserError(
                    f"{other} and {name} in {raw.images} have the same mask, {mask}; "
                    "expected one for each."
                )
    return found


def mask_classes(raw: FolderPair, values: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Return the name of every class of pixels, the background first.

    Args:
        raw: The two folders.
        values: Values in every mask, by the name of its image; empty if all masks are broken.

    Raises:
        UserError: If the values are not class ids or are ambiguous, or the file of names cannot be
            read.
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
        wrong = _wrong_mask(values, named)
        raise UserError(
            f"The masks in {raw.masks} hold the values {format_values(used)}, and the one of "
            f"{wrong} alone {format_values(values[wrong])}; expected {expected}, or 0 and 255 of "
            "two."
        )
    return named or ("background", *(f"class-{i}" for i in range(1, count)))


def _wrong_mask(values: Mapping[str, Sequence[int]], named: Sequence[str] | None) -> str:
    """Return the name of a mask that does not fit to the others.

    If some masks are black and white and others have class ids, the smaller group is taken to be
    wrong; masks of background alone belong to either.

    Args:
        values: Values in every mask, in ascending order, by the name of its image.
        named: Names of the classes; None without a file of names.
    """
    limit = MOST_UNNAMED if named is None else len(named)
    black_and_white, of_ids, wrong = [], [], []
    for name, of_mask in values.items():
        if of_mask[-1] == 255 and {0, 255}.issuperset(of_mask) and (named is None or limit == 2):
            black_and_white.append(name)
        elif of_mask[-1] >= limit:
            wrong.append(name)
        elif of_mask[-1] > 0:
            of_ids.append(name)
    used = {value for of_mask in values.values() for value in of_mask}
    gap = next(value for value in range(257) if value not in used)
    if not wrong and black_and_white and of_ids:
        wrong = min(black_and_white, of_ids, key=len)
    elif not wrong:  # class ids with a gap
        wrong = [name for name in of_ids if values[name][-1] > gap]
    return wrong[0] if wrong else next(iter(values))


def check_jpeg(encoded: bytes, values: Sequence[int]) -> None:
    """Reject masks of class ids saved as JPEG, which changes values slightly.

    Args:
        encoded: Bytes of a mask.
        values: Values of the mask.

    Raises:
        ValueError: If it is a JPEG with other values than 0 and 255.
    """
    if encoded.startswith(b"\xff\xd8") and not {0, 255}.issuperset(values):
        raise ValueError(
            f"it is a JPEG, which changes class ids, and holds the values {format_values(values)}; "
            "save masks as PNG"
        )


def _parts(folder: Path) -> list[str]:
    """Return the folders of the parts, training first, or a single "" without parts."""
    parts = part_folders(folders_in(folder))
    if has_part_twice(parts):
        raise UserError(f"{folder} holds a part twice: {', '.join(parts)}; expected {_EXPECTED}.")
    return parts or [""]


_EXPECTED = "train, val and test, or files alone"


def _by_stem(folder: Path) -> dict[str, dict[int, list[str]]]:
    """Return the masks in a folder by stem and number.

    A mask with a number is also listed under its whole stem and -1, since that may be the name of
    an image.
    """
    by_stem: dict[str, dict[int, list[str]]] = {}
    for name in images_in(folder):
        stem = to_nfc(stem_of(PurePosixPath(name)))
        by_stem.setdefault(stem, {}).setdefault(-1, []).append(name)
        if match := re.fullmatch(r"(.+_(?:mask|segmentation))_([0-9]{1,9})", stem):
            by_stem.setdefault(match[1], {}).setdefault(int(match[2]), []).append(name)
    return {stem: dict(sorted(numbers.items())) for stem, numbers in by_stem.items()}


def _refuse_deeper_images(raw: FolderPair, parts: Sequence[str]) -> None:
    """Reject images in other folders than those of the parts."""
    folders = [raw.images / part for part in parts if part]
    for folder in [raw.images, *folders]:
        below = files_below(folder, [raw.masks, *folders])
        if deeper := [file for file in below if is_image(file) and file.parent != folder]:
            raise UserError(
                f"{folder} holds {counted(len(deeper), 'image')} in further folders "
                f"({named(folder, deeper)}); expected images right in it, or in train, val and "
                "test."
            )


def _groups(path: Path, ids: Sequence[str]) -> list[str] | None:
    """Return the group of every image, or "" if it has none; None without a file of groups."""
    if not path.exists():
        return None
    rows = read_csv(path, ("image", "group"))
    check_values(path, rows, "group", may_be_empty=True)
    spelled = {to_nfc(name): name for name in ids}
    images = [spelled.get(to_nfc(row["image"].strip()), row["image"].strip()) for row in rows]
    groups = dict(zip(images, (row["group"].strip() for row in rows), strict=True))
    if len(groups) < len(rows):
        raise UserError(f"{path} names an image twice; every image has one group.")
    if unknown := set(groups).difference(ids):
        raise UserError(
            f"{path} names {min(unknown)}, which is not an image; expected names such as {ids[0]}."
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
