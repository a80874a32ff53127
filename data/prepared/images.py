"""Opens a dataset that TensorFlow Datasets prepared as ArrayRecord.

TensorFlow itself is never imported. Every example has the features ``image`` (encoded bytes),
``id`` and either ``label`` or, where its pixels have classes, ``mask`` (encoded bytes); where the
raw data say so, ``group``, the patient or lesion, and ``part`` of the official split. The order of
the examples does not depend on the file system.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.file_names import on_disk
from data.formats.intensity import FULL_RANGE, Intensities, IntensityRange, read_intensities
from data.labels import PARTS, WHOLE_IMAGE, Labels, check_class_names
from data.names import DatasetName, readable
from data.sources import EncodedImages, ImageSource, error_name
from data.storage import build_lock, replacing
from lmf_jax.errors import UserError
from lmf_jax.json_text import parse_json
from lmf_jax.npz import read_arrays

VERSION = "1.0.0"
INDEX_FILE = "index.npz"
LARGEST_INDEX = 2**32
"""Bytes of the index: a million images with names of 500 characters and groups of as many."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared(Labels):
    """All examples of a dataset, before any split.

    Attributes:
        source: The encoded images.
        fingerprint: SHA-256, in hex, over the labels and the encoded images and masks.
        folder: Where it lies.
        masks: The encoded masks; None where images have a class instead.
        mask_classes: Name of every class of pixels, by class id, the background first.
        intensities: The intensity range of images of more than 8 bits; None where there are none.
    """

    source: ImageSource
    fingerprint: str
    folder: Path
    masks: ImageSource | None = None
    mask_classes: tuple[str, ...] = ()
    intensities: Intensities | None = None

    @property
    def intensity_range(self) -> IntensityRange:
        """Values that map to 0 and 255 in images of more than 8 bits."""
        return FULL_RANGE if self.intensities is None else self.intensities.range


def prepared_folder(name: DatasetName, data_dir: Path) -> Path:
    """Return where a dataset lies, once it is prepared.

    A dataset that is named by its files has a folder that depends on their names, sizes and times
    of change: changed files are another dataset.

    Args:
        name: The dataset.
        data_dir: The folder of prepared datasets.

    Raises:
        UserError: If the dataset is named by files that contradict themselves.
    """
    root = data_dir if name.path is None else data_dir / "own" / _state_of_files(name)
    return root / name.kind / VERSION


def _state_of_files(name: DatasetName) -> str:
    """Return a name for the files as they are now: short, readable and theirs alone."""
    bases = [path if path.is_dir() else path.parent for path in name.paths]
    digest = hashlib.sha256()
    for path in name.spec.labels_module().raw_files(name.raw):
        base = next(base for base in bases if path.absolute().is_relative_to(base))
        relative = path.absolute().relative_to(base).as_posix()
        _hash_fields(digest, relative.encode(), _state(on_disk(path)))
    return f"{readable(name.paths[0])}-{digest.hexdigest()[:16]}"


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared dataset.

    Any number of processes may call this at once: one makes the index, the others wait for it.

    Args:
        folder: Where it lies.

    Raises:
        UserError: If the folder holds no complete dataset, or cannot be written.
    """
    try:
        _check_features(folder)
        class_names, mask_classes, examples = _open_examples(folder)
        check_class_names(folder, mask_classes or class_names)
        index = _read_index(folder / INDEX_FILE, examples, class_names, mask_classes)
        intensities = read_intensities(folder)
    except UserError:
        raise
    except Exception as error:  # TFDS, protobuf and ArrayRecord have no error in common
        raise UserError(
            f"{folder} holds no complete dataset ({error_name(error)}); remove it, and prepare it "
            "again."
        ) from error
    return Prepared(
        class_names=class_names,
        ids=index["ids"],
        labels=index["labels"],
        groups=index.get("groups"),
        parts=index.get("parts"),
        source=EncodedImages(examples, index["ids"], folder),
        fingerprint=str(index["fingerprint"]),
        folder=folder,
        masks=EncodedImages(examples, index["ids"], folder, "mask") if mask_classes else None,
        mask_classes=mask_classes,
        intensities=intensities,
    )


def _open_examples(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...], Any]:
    """Return the classes of images and of pixels, and TFDS's data source of all examples."""
    import tensorflow_datasets as tfds

    dataset = tfds.builder_from_directory(folder)
    files = [Path(file) for split in dataset.info.splits.values() for file in split.filepaths]
    if any(file.parent.resolve() != folder.resolve() for file in files):
        raise ValueError("its examples lie elsewhere")
    features = dataset.info.features
    encoded = [name for name in ("image", "mask") if name in features]
    examples = dataset.as_data_source(
        "all", decoders={name: tfds.decode.SkipDecoding() for name in encoded}
    )
    if "mask" in features:
        return WHOLE_IMAGE, tuple(features["mask"].names), examples
    return tuple(features["label"].names), (), examples


def _check_features(folder: Path) -> None:
    """Refuse what would make TFDS import any module: it does as ``features.json`` says."""
    kinds = list(_feature_kinds(parse_json((folder / "features.json").read_bytes())))
    ours = re.compile(r"tensorflow_datasets\.core\.features\.[\w.]+")
    if not all(ours.fullmatch(kind) for kind in kinds):
        raise ValueError(f"a feature of it is none of TFDS: {', '.join(kinds)}")


def _feature_kinds(value: Any) -> Iterator[str]:
    """Yield what TFDS takes for the name of a class, in today's form of the file and in older."""
    for key, item in value.items() if isinstance(value, dict) else ():
        if key in ("pythonClassName", "python_class_name", "type"):
            yield str(item)
        yield from _feature_kinds(item)
    for item in value if isinstance(value, list) else ():
        yield from _feature_kinds(item)


def _read_index(
    path: Path, examples: Any, class_names: tuple[str, ...], mask_classes: tuple[str, ...]
) -> Mapping[str, Any]:
    """Return what is needed of all examples at once; reads every image only the first time."""
    sizes = len(examples), len(class_names)
    if (index := _stored_index(path, *sizes)) is not None:
        return index
    with build_lock(path):
        if (index := _stored_index(path, *sizes)) is None:
            index = _make_index(examples, mask_classes or class_names)
            if not _fits(index, *sizes):
                raise ValueError("an example has no class, or another part than train, ...")
            with replacing(path) as file:
                np.savez(file, **index)
    return index


def _stored_index(path: Path, num_examples: int, num_classes: int) -> Mapping[str, Any] | None:
    """Return the index if it is there, whole, and of so many examples."""
    names = ("ids", "labels", "fingerprint")
    try:
        index = read_arrays(path, largest=LARGEST_INDEX, names=names, optional=("groups", "parts"))
    except UserError:
        return None
    return index if _fits(index, num_examples, num_classes) else None


def _fits(index: Mapping[str, np.ndarray], num_examples: int, num_classes: int) -> bool:
    labels, texts = index["labels"], [index[name] for name in index if name != "labels"]
    shapes = [index[name].shape for name in index if name != "fingerprint"]
    return (
        labels.dtype == np.int32
        and all(text.dtype.kind == "U" for text in texts)
        and all(shape == (num_examples,) for shape in shapes)
        and len(set(index["ids"].tolist())) == num_examples
        and index["fingerprint"].shape == ()
        and bool(np.all((labels >= 0) & (labels < num_classes)))
        and set(index.get("parts", np.array(PARTS)).tolist()) <= set(PARTS)
    )


def _make_index(examples: Any, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Collect what is known of every example, and hash it together with the encoded bytes."""
    labels: list[int] = []
    ids: list[str] = []
    groups: list[str] = []
    parts: list[str] = []
    digest = hashlib.sha256()
    for class_name in class_names:
        _hash_fields(digest, class_name.encode())
    for example in examples:
        texts = example["id"], example.get("group", b""), example.get("part", b"")
        label, masks = example.get("label", 0), [example["mask"]] if "mask" in example else []
        _hash_fields(digest, *texts, b"%d" % label, example["image"], *masks)
        labels.append(label)
        for column, text in zip((ids, groups, parts), texts, strict=True):
            column.append(text.decode())
    index = {
        "ids": np.array(ids),
        "labels": np.array(labels, np.int32),
        "fingerprint": np.array(digest.hexdigest()),
    }
    optional = {"groups": np.array(groups), "parts": np.array(parts)}
    return index | {name: column for name, column in optional.items() if np.any(column != "")}


def _state(path: Path) -> bytes:
    """Return what changes when a file does, without reading it."""
    try:
        stat = path.stat()
    except OSError:
        return b"missing"  # said by name when the images are checked
    return b"%d %d" % (stat.st_size, stat.st_mtime_ns)


def _hash_fields(digest: Any, *fields: bytes) -> None:
    """Add each field with its length, so that no two lists of fields hash alike."""
    for field in fields:
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
