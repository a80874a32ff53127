"""Prepared datasets of images: examples that TensorFlow Datasets stored as ArrayRecord.

TensorFlow is never imported. Every example has the features ``image`` (encoded bytes), ``id`` and
``label``; or, if its pixels have classes, ``mask`` (encoded bytes); or, if it may have several
labels, ``labels`` and ``missing_labels``. If known, it also has ``group``, the patient or lesion,
and ``part`` of the official split. The order of the examples does not depend on the file system.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from data.builders.dicom_files import DicomSummary, read_summary
from data.file_names import on_disk
from data.formats.intensity import FULL_RANGE, Intensities, IntensityRange, read_intensities
from data.formats.metadata import read_metadata
from data.labels import MISSING_LABEL, PARTS, WHOLE_IMAGE, Labels, check_class_names
from data.names import DatasetName, readable
from data.sources import EncodedImages, ImageSource, error_name
from data.storage import build_lock, replacing
from lmf_jax.errors import UserError
from lmf_jax.json_text import parse_json
from lmf_jax.npz import read_arrays

VERSION = "1.0.0"
INDEX_FILE = "index.npz"
LARGEST_INDEX = 2**32
"""Maximum bytes of the index: a million images with names and groups of 500 characters."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared(Labels):
    """All examples of a dataset, before any split.

    Attributes:
        source: Encoded images.
        fingerprint: SHA-256, in hex, over the labels and the encoded images and masks.
        folder: Folder of the dataset.
        masks: Encoded masks; None if images have a class instead.
        mask_classes: Name of every class of pixels, by class id, the background first.
        intensities: Intensity range of images of more than 8 bits; None if there are none.
        dicom: Counts of DICOM files; None if there are none.
    """

    source: ImageSource
    fingerprint: str
    folder: Path
    masks: ImageSource | None = None
    mask_classes: tuple[str, ...] = ()
    intensities: Intensities | None = None
    dicom: DicomSummary | None = None

    @property
    def intensity_range(self) -> IntensityRange:
        """Values that map to 0 and 255 in images of more than 8 bits."""
        return FULL_RANGE if self.intensities is None else self.intensities.range


def prepared_folder(name: DatasetName, data_dir: Path) -> Path:
    """Return the folder of a prepared dataset.

    For files of the user it depends on their names, sizes and modification times: changed files
    are another dataset.

    Args:
        name: Parsed name of the dataset.
        data_dir: Folder of prepared datasets.

    Raises:
        UserError: If the user's files contradict themselves.
    """
    if name.path is None:
        return data_dir / name.kind / VERSION
    return own_folder(name, name.spec.labels_module().raw_files(name.raw), data_dir)


def own_folder(name: DatasetName, files: Iterable[Path], data_dir: Path) -> Path:
    """Return the folder of a prepared dataset of the user, unique to the state of the files.

    Args:
        name: Parsed name of the dataset, with paths.
        files: Every file of the dataset.
        data_dir: Folder of prepared datasets.
    """
    bases = [path if path.is_dir() else path.parent for path in name.paths]
    digest = hashlib.sha256()
    for path in files:
        base = next(base for base in bases if path.absolute().is_relative_to(base))
        relative = path.absolute().relative_to(base).as_posix()
        _hash_fields(digest, relative.encode(), _state(on_disk(path)))
    state = f"{readable(name.paths[0])}-{digest.hexdigest()[:16]}"
    return data_dir / "own" / state / name.kind / VERSION


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared dataset.

    Several processes may call this at the same time: one builds the index, the others wait for it.

    Args:
        folder: Folder of the dataset.

    Raises:
        UserError: If the folder has no complete dataset, or cannot be written.
    """
    try:
        _check_features(folder)
        opened = _open_examples(folder)
        check_class_names(folder, opened.names)
        index = _read_index(folder / INDEX_FILE, opened)
        intensities, dicom = read_intensities(folder), read_summary(folder)
        metadata = read_metadata(folder, len(opened.examples))
    except UserError:
        raise
    except Exception as error:  # TFDS, protobuf and ArrayRecord share no base exception
        raise UserError(
            f"{folder} has no complete dataset ({error_name(error)}); remove it and prepare the "
            "dataset again."
        ) from error
    has_masks = bool(opened.mask_classes)
    return Prepared(
        class_names=opened.class_names,
        ids=index["ids"],
        labels=index["labels"],
        groups=index.get("groups"),
        parts=index.get("parts"),
        metadata=metadata,
        label_names=opened.label_names,
        label_vectors=index.get("label_vectors"),
        source=EncodedImages(opened.examples, index["ids"], folder),
        fingerprint=str(index["fingerprint"]),
        folder=folder,
        masks=EncodedImages(opened.examples, index["ids"], folder, "mask") if has_masks else None,
        mask_classes=opened.mask_classes,
        intensities=intensities,
        dicom=dicom,
    )


class _Opened(NamedTuple):
    """The TFDS data source of all examples, with the classes of images or pixels, or the labels."""

    examples: Any
    class_names: tuple[str, ...] = WHOLE_IMAGE
    mask_classes: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what is predicted."""
        return self.mask_classes or self.label_names or self.class_names


def _open_examples(folder: Path) -> _Opened:
    import tensorflow_datasets as tfds

    dataset = tfds.builder_from_directory(folder)
    files = [Path(file) for split in dataset.info.splits.values() for file in split.filepaths]
    if any(file.parent.resolve() != folder.resolve() for file in files):
        raise ValueError("its examples are in another folder")
    features = dataset.info.features
    encoded = [name for name in ("image", "mask") if name in features]
    examples = dataset.as_data_source(
        "all", decoders={name: tfds.decode.SkipDecoding() for name in encoded}
    )
    if "mask" in features:
        return _Opened(examples, mask_classes=tuple(features["mask"].names))
    if "labels" in features:
        return _Opened(examples, label_names=tuple(features["labels"].feature.names))
    return _Opened(examples, class_names=tuple(features["label"].names))


def _check_features(folder: Path) -> None:
    """Reject features of other packages: TFDS imports any module named in ``features.json``."""
    kinds = list(_feature_kinds(parse_json((folder / "features.json").read_bytes())))
    ours = re.compile(r"tensorflow_datasets\.core\.features\.[\w.]+")
    if not all(ours.fullmatch(kind) for kind in kinds):
        raise ValueError(f"it has a feature outside of TFDS: {', '.join(kinds)}")


def _feature_kinds(value: Any) -> Iterator[str]:
    """Yield the class names in ``features.json``, in its present and older forms."""
    for key, item in value.items() if isinstance(value, dict) else ():
        if key in ("pythonClassName", "python_class_name", "type"):
            yield str(item)
        yield from _feature_kinds(item)
    for item in value if isinstance(value, list) else ():
        yield from _feature_kinds(item)


def _read_index(path: Path, opened: _Opened) -> Mapping[str, Any]:
    """Return names and labels of all examples; read every image only the first time."""
    if (index := _stored_index(path, opened)) is not None:
        return index
    with build_lock(path):
        if (index := _stored_index(path, opened)) is None:
            index = _make_index(opened)
            if not _fits(index, opened):
                raise ValueError("an example has no class, or an unknown part")
            with replacing(path) as file:
                np.savez(file, **index)
    return index


def _stored_index(path: Path, opened: _Opened) -> Mapping[str, Any] | None:
    """Return the index if it is complete and fits the examples, else None."""
    names = ("ids", "labels", "fingerprint", *(("label_vectors",) if opened.label_names else ()))
    try:
        index = read_arrays(path, largest=LARGEST_INDEX, names=names, optional=("groups", "parts"))
    except UserError:
        return None
    return index if _fits(index, opened) else None


def _fits(index: Mapping[str, np.ndarray], opened: _Opened) -> bool:
    num_examples, num_classes = len(opened.examples), len(opened.class_names)
    columns = {name: index[name] for name in index if name != "label_vectors"}
    labels, texts = columns["labels"], [columns[name] for name in columns if name != "labels"]
    shapes = [columns[name].shape for name in columns if name != "fingerprint"]
    vectors = index.get("label_vectors", np.zeros((num_examples, 0), np.int32))
    return (
        vectors.dtype == np.int32
        and vectors.shape == (num_examples, len(opened.label_names))
        and bool(np.isin(vectors, (0, 1, MISSING_LABEL)).all())
        and labels.dtype == np.int32
        and all(text.dtype.kind == "U" for text in texts)
        and all(shape == (num_examples,) for shape in shapes)
        and len(set(index["ids"].tolist())) == num_examples
        and index["fingerprint"].shape == ()
        and bool(np.all((labels >= 0) & (labels < num_classes)))
        and set(index.get("parts", np.array(PARTS)).tolist()) <= set(PARTS)
    )


def _make_index(opened: _Opened) -> dict[str, Any]:
    """Collect the names and labels of all examples, and hash them with the encoded bytes."""
    labels: list[int] = []
    vectors: list[np.ndarray] = []
    ids: list[str] = []
    groups: list[str] = []
    parts: list[str] = []
    digest = hashlib.sha256()
    for class_name in opened.names:
        _hash_fields(digest, class_name.encode())
    for example in opened.examples:
        texts = example["id"], example.get("group", b""), example.get("part", b"")
        label, masks = example.get("label", 0), [example["mask"]] if "mask" in example else []
        _hash_fields(digest, *texts, b"%d" % label, example["image"], *masks)
        if opened.label_names:
            vectors.append(_label_vector(example, len(opened.label_names)))
            _hash_fields(digest, vectors[-1].astype("<i4").tobytes())
        labels.append(label)
        for column, text in zip((ids, groups, parts), texts, strict=True):
            column.append(text.decode())
    index = {
        "ids": np.array(ids),
        "labels": np.array(labels, np.int32),
        "fingerprint": np.array(digest.hexdigest()),
    }
    if vectors:
        index["label_vectors"] = np.stack(vectors)
    optional = {"groups": np.array(groups), "parts": np.array(parts)}
    return index | {name: column for name, column in optional.items() if np.any(column != "")}


def _label_vector(example: Mapping[str, Any], num_labels: int) -> Int32[np.ndarray, " labels"]:
    vector = np.zeros(num_labels, np.int32)
    vector[example["labels"]] = 1
    vector[example["missing_labels"]] = MISSING_LABEL
    return vector


def _state(path: Path) -> bytes:
    """Return size and modification time of a file."""
    try:
        stat = path.stat()
    except OSError:
        return b"missing"  # reported by name when the images are checked
    return b"%d %d" % (stat.st_size, stat.st_mtime_ns)


def _hash_fields(digest: Any, *fields: bytes) -> None:
    """Hash each field with its length, so that different lists of fields never collide."""
    for field in fields:
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
