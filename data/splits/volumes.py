"""Datasets of volumes with a split: cases, classes and the rows of the three parts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64, Shaped

from data.datasets.volumes.intensity import intensity_statistics
from data.datasets.volumes.layout import find_own_volumes, remark_lines
from data.datasets.volumes.plan import parse_plan
from data.labels import PARTS, WHOLE_IMAGE, Labels, Rows
from data.names import DatasetName, parse_volumes_name
from data.prepared.case_file import CaseFile, open_case
from data.prepared.case_file import Volume as Volume
from data.prepared.images import INDEX_FILE
from data.prepared.prepare import prepare_command
from data.prepared.volumes import (
    PreparedVolumes,
    case_path,
    open_prepared_volumes,
    read_foreground,
    volumes_folder,
)
from data.registry import default_settings
from data.splits.folds import Fold, default_fold_split
from data.splits.methods import check_seed, make_split, possible_splits
from data.splits.split_file import stored_split
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError

SPLITS = ("paper", "grouped")
"""Splits of volumes. Both are the same if every case is a different patient, as by default."""


@dataclass(frozen=True, eq=False)
class VolumeDataset:
    """Dataset of volumes with a split.

    Attributes:
        name: Name of the dataset, as given on the command line.
        class_names: Name of every class, by class id; the background is the first.
        modalities: Name of every modality, in the order of the image's last axis.
        spacing: Size of a voxel along z, y, x, in mm; the same in all cases.
        padding: Value of an image outside its volume; one for each modality if they differ.
        ids: Name of every case, unicode [n].
        groups: Patient of every case, unicode [n].
        shapes: Voxels of every case along z, y, x, [n, 3].
        rows: Sorted row numbers of "train", "validation" and "test".
        defaults: Values of settings that the user left open, and the split.
        content_fingerprint: SHA-256, in hex, over everything but the split.
        fingerprint: SHA-256, in hex, over everything and the rows of each part: runs with equal
            fingerprints used the same data.
        prepared: The dataset before the split.
        intensity: For each modality, the statistics of the training cases that normalize it, see
            :func:`data.datasets.volumes.intensity.intensity_statistics`; None for one that is
            normalized already. None if all are.
    """

    name: str
    class_names: tuple[str, ...]
    modalities: tuple[str, ...]
    spacing: tuple[float, float, float]
    padding: float | tuple[float, ...]
    ids: Shaped[np.ndarray, " n"]
    groups: Shaped[np.ndarray, " n"]
    shapes: Int64[np.ndarray, "n 3"]
    rows: dict[str, Int64[np.ndarray, " _"]]
    defaults: dict[str, Any]
    content_fingerprint: str
    fingerprint: str
    prepared: PreparedVolumes
    intensity: tuple[dict[str, float] | None, ...] | None = None
    _files: dict[int, CaseFile] = field(default_factory=dict)

    whole_volumes: ClassVar[bool] = False  # an example is a patch

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data, one line each: the plan of the user's volumes."""
        if self.prepared.spec.plan is None:
            return ()
        statistics = [
            f"{name} clipped to {values['low']:.4g} to {values['high']:.4g}, mean "
            f"{values['mean']:.4g}, standard deviation {values['std']:.4g}"
            for name, values in zip(self.modalities, self.intensity or (), strict=False)
            if values is not None
        ]
        cases = f"of the foreground of {len(self.rows['train'])} training cases"
        intensities = f"intensities {cases}: {'; '.join(statistics)}"
        raw = parse_volumes_name(self.name).raw
        return (
            parse_plan(self.prepared.spec.plan).line,
            *([intensities] if statistics else []),
            *self.prepared.patient_lines,
            *([] if raw is None else remark_lines(find_own_volumes(raw))),
        )

    @property
    def description(self) -> dict[str, Any]:
        """Record of the data in ``config.json``, JSON-serializable."""
        plan = self.prepared.spec.plan
        own = {} if plan is None else {"plan": dict(plan), "intensity": _listed(self.intensity)}
        if self.prepared.num_patients is not None:
            own["num_patients"] = self.prepared.num_patients
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "class_names": list(self.class_names),
            "modalities": list(self.modalities),
            "spacing": list(self.spacing),
            "padding": _listed(self.padding),
            **own,
        }

    def groups_of(self, part: str) -> Shaped[np.ndarray, " m"]:
        """Return the patient of every case of a part.

        Args:
            part: "train", "validation" or "test".
        """
        return self.groups[self.rows[part]]

    def select(self, part: str, where: str) -> "VolumeDataset":
        """Refuse to select cases by metadata, which volumes lack, with a ``UserError``."""
        raise UserError(
            f"--where is {where!r}, but {self.name} has volumes without metadata; leave it out."
        )

    def voxel_counts(self, part: str) -> Int64[np.ndarray, " classes"]:
        """Return the number of voxels of each class in a part, by class id.

        Args:
            part: "train", "validation" or "test".
        """
        counts: Int64[np.ndarray, " classes"] = self.prepared.voxel_counts[self.rows[part]].sum(0)
        return counts

    def read(self, row: int) -> Volume:
        """Read a case.

        Args:
            row: Its row number.

        Returns:
            The image float32 [depth, height, width, M], normalized, and the labels uint8 [depth,
            height, width]: z (upwards), y (to the front), x (to the right).

        Raises:
            UserError: If its file is missing or has changed.
            IndexError: If there is no such row.
        """
        return self.case(row).read(0, int(self.shapes[row, 0]))

    def case(self, row: int) -> CaseFile:
        """Return the file of a case, to read single slices.

        Args:
            row: Its row number.

        Raises:
            UserError: If the file is missing or belongs to another case.
            IndexError: If there is no such row.
        """
        if row not in self._files:
            path = case_path(self.prepared.folder, str(self.ids[row]))
            found = open_case(path, len(self.modalities), len(self.class_names))
            counts, shape = self.prepared.voxel_counts[row], self.shapes[row]
            expected = self.prepared.digests[row], *shape.tolist(), *counts.tolist()
            if (found.digest, *found.shape[:3], *found.voxel_counts.tolist()) != expected:
                raise found.damaged(f"it differs from {INDEX_FILE}")
            self._files[row] = found
        return self._files[row]


def load_volumes(
    name: str,
    *,
    data_dir: str | Path = DEFAULT_DATA_DIR,
    split: str | None = None,
    split_seed: int = 0,
    fold: Fold | None = None,
) -> VolumeDataset:
    """Open a prepared dataset of volumes, and split its cases 70 : 15 : 15.

    Args:
        name: Name of the dataset, such as kits19, or volumes:DIR, which is prepared first.
        data_dir: Folder of prepared datasets; "~" is the home folder.
        split: "paper" (by case) or "grouped" (no patient in two parts), which are the same if every
            case is a different patient. None takes "grouped" if patients are known from DICOM
            files and are enough, else "paper".
        split_seed: Seed of the split; any whole number from 0.
        fold: The fold of a cross-validation that is the test part; None makes a single split.

    Returns:
        The dataset. It depends only on these arguments and the files they name.

    Raises:
        UserError: If there is no such dataset, it is not prepared, a file of the user cannot be
            used, or the dataset does not have this split.
    """
    parsed = parse_volumes_name(name)
    check_seed(split_seed)
    if split not in (None, *SPLITS):
        raise UserError(
            f"--split {split} is not possible for volumes; choose {' or '.join(SPLITS)}."
        )
    data_dir = Path(data_dir).expanduser()
    prepared = _open(parsed, name, data_dir)
    whole = np.zeros(len(prepared.ids), np.int32)
    labels = Labels(WHOLE_IMAGE, prepared.ids, whole, prepared.groups)
    split = split or _default_split(labels, fold)
    method = "paper" if prepared.groups is None else split

    def make() -> Rows:
        return make_split(labels, method, split_seed, fold=fold)

    of_fold = "" if fold is None else fold.suffix
    rows, fingerprint = stored_split(f"{split}-seed{split_seed}{of_fold}", prepared, make)
    spec = prepared.spec
    _check_parts(prepared, rows, split)
    own_defaults = {} if spec.plan is None else parse_plan(spec.plan).defaults
    return VolumeDataset(
        name=name,
        class_names=spec.class_names,
        modalities=spec.modalities,
        spacing=spec.spacing,
        padding=spec.padding,
        ids=prepared.ids,
        groups=prepared.ids if prepared.groups is None else prepared.groups,
        shapes=prepared.shapes,
        rows=rows,
        defaults={**default_settings(name), **own_defaults, "split": split},
        content_fingerprint=prepared.fingerprint,
        fingerprint=fingerprint,
        prepared=prepared,
        intensity=None if spec.plan is None else _training_intensity(prepared, rows["train"]),
    )


def _default_split(labels: Labels, fold: Fold | None) -> str:
    if fold is not None:
        return default_fold_split(labels)
    return "grouped" if "grouped" in possible_splits(labels) else "paper"


def _open(parsed: DatasetName, name: str, data_dir: Path) -> PreparedVolumes:
    """Open a prepared dataset; prepare the user's files first."""
    if parsed.raw is not None:
        from data.prepared.own_volumes import prepare_own_volumes  # loads TFDS

        return prepare_own_volumes(name, data_dir)
    folder = volumes_folder(name, data_dir)
    if not (folder / INDEX_FILE).exists():
        raise UserError(
            f"{name} is not prepared in {data_dir}; download it and run: "
            f"{prepare_command(name, 'DIR', data_dir)}"
        )
    return open_prepared_volumes(name, folder)


def _training_intensity(
    prepared: PreparedVolumes, rows: Int64[np.ndarray, " _"]
) -> tuple[dict[str, float] | None, ...] | None:
    """Return the statistics of every CT over the training cases, None if there is no CT."""
    assert prepared.spec.plan is not None
    schemes = prepared.spec.plan["schemes"]
    if "ct" not in schemes:
        return None
    values = read_foreground(prepared)[rows]
    of_ct = iter(np.moveaxis(values[np.isfinite(values).all(axis=(1, 2))], 1, 0))
    return tuple(
        intensity_statistics(next(of_ct)) if scheme == "ct" else None for scheme in schemes
    )


def _listed(values: Any) -> Any:
    """Return a tuple as the list that JSON makes of it."""
    return list(values) if isinstance(values, tuple) else values


def _check_parts(prepared: PreparedVolumes, rows: Rows, split: str) -> None:
    """Reject a split with an empty part, or with a class without training voxels."""
    for part in PARTS:
        if not len(rows[part]):
            raise UserError(
                f"No case is in the {part} part by --split {split}; prepare four cases or more."
            )
    counts = prepared.voxel_counts[rows["train"]].sum(0)
    missing = [
        name for name, count in zip(prepared.spec.class_names, counts, strict=True) if not count
    ]
    if missing:
        raise UserError(
            f"No voxel of the class {', '.join(missing)} is trained on by --split {split}; choose "
            "another --split-seed, or prepare more cases."
        )
