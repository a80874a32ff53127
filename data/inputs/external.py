"""Inputs of an external test: another dataset whose classes are those of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int32, Int64

from data.batches.image_cache import open_images
from data.formats.intensity import FULL_RANGE, IntensityRange, fingerprint_with_range
from data.inputs.classification import ClassificationInputs
from data.inputs.metadata_columns import unknown_line
from data.inputs.segmentation import ImageInputs, VolumeInputs, open_segmentation
from data.labels import MISSING_LABEL, PARTS
from data.names import multilabel_name, parse_name
from data.prepared.images import Prepared
from data.prepared.prepare import open_dataset
from data.shard import Shard
from data.splits.dataset import Dataset
from data.splits.image_pairs import pair_images
from data.splits.multilabel import MultilabelDataset
from data.splits.segmentation import SegmentationDataset
from lmf_jax.config import ResolvedConfig
from lmf_jax.errors import UserError
from lmf_jax.metadata_encoding import MetadataEncoding

Inputs = TypeVar("Inputs", ClassificationInputs, ImageInputs)

LEFT_OUT = -1
"""Class id of images whose class is mapped to nothing."""


class Terms(NamedTuple):
    """Terms for the errors: a class or label, several, and what is left out with one."""

    noun: str
    plural: str
    left_out: str


CLASS_TERMS = Terms("class", "classes", "its images")
LABEL_TERMS = Terms("label", "labels", "the label")


def parse_class_map(text: str) -> dict[str, str]:
    """Parse ``--map``: ``OTHER=CLASS`` pairs with commas between; ``OTHER=`` leaves a class out.

    Raises:
        UserError: If a pair has no equals sign, or a class is given twice.
    """
    class_map: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        other, equals, own = (part.strip() for part in pair.partition("="))
        if not equals or not other or other in class_map:
            raise UserError(
                f"--map has {pair!r}; expected OTHER=CLASS for each class of the other dataset "
                "with another name in the run, separated by commas, and each once."
            )
        class_map[other] = own
    return class_map


def open_external(
    name: str,
    class_names: Sequence[str],
    class_map: Mapping[str, str],
    config: ResolvedConfig,
    intensity_range: IntensityRange | None,
    data_dir: str | Path | None = None,
    encoding: MetadataEncoding | None = None,
) -> ClassificationInputs:
    """Open all images of another dataset as a test part with the classes of a run.

    Args:
        name: Name of the dataset, as for ``--dataset``.
        class_names: The classes of the run, by class id.
        class_map: Class of the run by class of the dataset, where the names differ; "" leaves the
            images of a class out.
        config: The settings of the run; the images get its size.
        intensity_range: The recorded range of the training images of more than 8 bits.
        data_dir: Folder of prepared datasets (default: that of the run).
        encoding: The encoding of the metadata that the run gets beside the images. A column that
            the dataset lacks is unknown for all images.

    Raises:
        UserError: If there is no such dataset, a class fits no class of the run, or no image is
            left.
    """
    if parse_name(name).spec.task != "classification":
        raise UserError(
            f"The images of {name} have masks or several labels and no classes; give images with "
            "classes."
        )
    data_dir = Path(data_dir or config.data.data_dir).expanduser()
    prepared = open_dataset(name, data_dir)
    class_ids = _class_ids(name, prepared.class_names, class_names, class_map)
    labels = class_ids[prepared.labels]
    rows = np.flatnonzero(labels != LEFT_OUT)
    if not len(rows):
        raise UserError(f"--map leaves no image of {name}; map at least one class to the run's.")
    parts = _attributes(name, prepared, rows, intensity_range)
    parts |= _metadata_attributes(prepared, rows, encoding)
    dataset = Dataset(**parts, class_names=tuple(class_names), labels=labels)
    spec, cache = config.data.image_spec, config.data.cache
    images = open_images(dataset, spec, cache=cache, data_dir=data_dir)
    return ClassificationInputs(dataset, config, Shard(), images)


def open_external_labels(
    name: str,
    label_names: Sequence[str],
    label_map: Mapping[str, str],
    config: ResolvedConfig,
    intensity_range: IntensityRange | None,
    data_dir: str | Path | None = None,
    encoding: MetadataEncoding | None = None,
) -> ClassificationInputs:
    """Open all images of another dataset as a test part with the labels of a run.

    A label of the run that the dataset lacks is missing for every image. If several labels of the
    dataset are mapped to one of the run, an image has it if it has one of them.

    Args:
        name: Name of the dataset, as for ``--dataset``.
        label_names: The labels of the run.
        label_map: Label of the run by label of the dataset, where the names differ; "" leaves a
            label out.
        config: The settings of the run; the images get its size.
        intensity_range: The recorded range of the training images of more than 8 bits.
        data_dir: Folder of prepared datasets (default: that of the run).
        encoding: The encoding of the metadata that the run gets beside the images. A column that
            the dataset lacks is unknown for all images.

    Raises:
        UserError: If there is no such dataset, a label fits no label of the run, or no image is
            left.
    """
    name = multilabel_name(name)
    if not parse_name(name).has_label_vectors:
        raise UserError(
            f"The images of {name} do not have several labels; give images with labels."
        )
    data_dir = Path(data_dir or config.data.data_dir).expanduser()
    prepared, pairs = open_dataset(name, data_dir), None
    if config.data.pair_by is not None:
        prepared, pairs = pair_images(prepared, config.data.pair_by, name)
    assert prepared.label_vectors is not None
    ids = _class_ids(name, prepared.label_names, label_names, label_map, LABEL_TERMS)
    labels = np.full((len(prepared.ids), len(label_names)), MISSING_LABEL, np.int32)
    for label in set(ids.tolist()) - {LEFT_OUT}:
        columns = prepared.label_vectors[:, ids == label]
        is_missing = (columns == MISSING_LABEL).any(axis=1)
        absent = np.where(is_missing, MISSING_LABEL, 0)
        labels[:, label] = np.where((columns == 1).any(axis=1), 1, absent)
    rows = np.flatnonzero((labels != MISSING_LABEL).any(axis=1))
    if not len(rows):
        raise UserError(
            f"No image of {name} has a known label of the run; map at least one label with --map."
        )
    parts = _attributes(name, prepared, rows, intensity_range)
    parts |= _metadata_attributes(prepared, rows, encoding)
    dataset = MultilabelDataset(**parts, class_names=tuple(label_names), labels=labels, pairs=pairs)
    spec, cache = config.data.image_spec, config.data.cache
    images = open_images(dataset, spec, cache=cache, data_dir=data_dir)
    return ClassificationInputs(dataset, config, Shard(), images)


def open_external_masks(
    name: str,
    class_names: Sequence[str],
    config: ResolvedConfig,
    intensity_range: IntensityRange | None,
    data_dir: str | Path | None = None,
) -> ImageInputs | VolumeInputs:
    """Open all images of another dataset with masks as a test part.

    Args:
        name: Name of the dataset, as for ``--dataset``.
        class_names: The classes of the run, by class id, the background first.
        config: The settings of the run; the images get its size.
        intensity_range: The recorded range of the training images of more than 8 bits.
        data_dir: Folder of prepared datasets (default: that of the run).

    Raises:
        UserError: If there is no such dataset, or it has other classes.
    """
    if config.data.patch_size is not None:
        raise UserError(
            "Runs on volumes are not tested on other datasets: each dataset of volumes has its own "
            "modalities and spacing."
        )
    if not parse_name(name).has_masks:
        raise UserError(f"The images of {name} have classes and no masks; give images with masks.")
    data_dir = Path(data_dir or config.data.data_dir).expanduser()
    prepared = open_dataset(name, data_dir)
    assert prepared.masks is not None
    if prepared.mask_classes != tuple(class_names):
        raise UserError(
            f"The masks of {name} have the classes {', '.join(prepared.mask_classes)}; expected "
            f"those of the run, {', '.join(class_names)}."
        )
    parts = _attributes(name, prepared, np.arange(len(prepared.ids)), intensity_range)
    dataset = SegmentationDataset(**parts, class_names=tuple(class_names), masks=prepared.masks)
    return open_segmentation(dataset, config.replace(data_dir=str(data_dir)))


def _attributes(
    name: str,
    prepared: Prepared,
    rows: Int64[np.ndarray, " _"],
    intensity_range: IntensityRange | None,
) -> dict[str, Any]:
    """Return the attributes of a dataset with a test part of these rows and nothing else."""
    scale = intensity_range or FULL_RANGE
    return {
        "name": name,
        "ids": prepared.ids,
        "groups": prepared.groups,
        "source": prepared.source,
        "rows": {part: np.zeros(0, np.int64) for part in PARTS} | {"test": rows},
        "defaults": {},
        "content_fingerprint": fingerprint_with_range(prepared.fingerprint, scale),
        "fingerprint": prepared.fingerprint,
        "intensity_range": scale,
        "metadata": prepared.metadata,
    }


def _metadata_attributes(
    prepared: Prepared, rows: Int64[np.ndarray, " _"], encoding: MetadataEncoding | None
) -> dict[str, Any]:
    """Return the encoding of the metadata, and a note on what it does not know."""
    if encoding is None:
        return {}
    tested = {column: values[rows] for column, values in prepared.metadata.items()}
    note = unknown_line(encoding, tested, len(rows))
    return {"encoding": encoding, "metadata_notes": () if note is None else (note,)}


def without_rows(inputs: Inputs, rows: Int64[np.ndarray, " _"]) -> Inputs:
    """Return the inputs of an external test without some rows.

    Raises:
        UserError: If no image is left.
    """
    dataset = inputs.dataset
    kept = np.setdiff1d(dataset.rows["test"], rows)
    if not len(kept):
        raise UserError(
            f"Every image of {dataset.name} leaks: its lesion, patient or picture is in the "
            "training or validation part of the run. If two datasets only number their lesions or "
            "patients alike, give the second one other names."
        )
    return replace(inputs, dataset=replace(dataset, rows=dataset.rows | {"test": kept}))


def _class_ids(
    name: str,
    other_names: Sequence[str],
    class_names: Sequence[str],
    class_map: Mapping[str, str],
    terms: Terms = CLASS_TERMS,
) -> Int32[np.ndarray, " other"]:
    """Return the class id of the run for every class of the other dataset."""
    unknown = [other for other in class_map if other not in other_names]
    if unknown:
        raise UserError(
            f"--map names {', '.join(unknown)}, which {name} does not have; its {terms.plural} are "
            f"{', '.join(other_names)}."
        )
    ids = {own: class_id for class_id, own in enumerate(class_names)} | {"": LEFT_OUT}
    unmatched = [other for other in other_names if class_map.get(other, other) not in ids]
    if unmatched:
        first = unmatched[0]
        raise UserError(
            f"The run has no {terms.noun} {', '.join(class_map.get(u, u) for u in unmatched)}; its "
            f"{terms.plural} are {', '.join(class_names)}. Give --map {first}="
            f"{terms.noun.upper()}, or --map {first}= to leave {terms.left_out} out."
        )
    return np.array([ids[class_map.get(other, other)] for other in other_names], np.int32)
