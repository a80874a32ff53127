"""The files of a run that documents are made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped

from lmf_jax.documents.facts import JsonFile
from lmf_jax.evaluation.calibration import read_calibration
from lmf_jax.evaluation.classification.external import read_external
from lmf_jax.evaluation.classification.metrics import confusion_matrix, predicted_classes
from lmf_jax.evaluation.classification.run import FinishedRun
from lmf_jax.evaluation.classification.run import read_run as read_classification
from lmf_jax.evaluation.classification.subgroups import SUBGROUP_METRICS
from lmf_jax.evaluation.conformal.file import fits_calibrator, read_sets
from lmf_jax.evaluation.operating.file import fits_calibrator as is_of_calibrator
from lmf_jax.evaluation.operating.file import read_points
from lmf_jax.evaluation.segmentation.external import read_external as read_external_masks
from lmf_jax.evaluation.segmentation.run import read_run as read_segmentation
from lmf_jax.runs.files import CLASSIFICATION, SEGMENTATION, RunFiles, read_record, task_of

CALIBRATION = "calibration.json"
OPERATING_POINTS = "operating_points.json"
PREDICTION_SETS = "prediction_sets.json"
SUBGROUPS = "subgroups.json"

_READERS: Mapping[str, Callable[[Path], RunFiles]] = {
    CLASSIFICATION: read_classification,
    SEGMENTATION: read_segmentation,
}


@dataclass(frozen=True)
class DocumentedRun:
    """The checked contents of a run folder, by file.

    Attributes:
        task: The task of the run.
        config: ``config.json``.
        test: ``test.json``.
        history: ``metrics.jsonl``, a list of lines.
        timing: ``timing.jsonl``, a list of lines.
        arrays: Name of the file with the predictions of the test.
        groups: Lesion or patient of each test image or case; None if unknown.
        confusion: Test images by true and predicted class; None for segmentation.
        optional: Files that not every run has, by their name.
        external_tests: ``external.json`` and ``test.json`` of each test on another dataset.
    """

    task: str
    config: JsonFile
    test: JsonFile
    history: JsonFile
    timing: JsonFile
    arrays: JsonFile
    groups: Shaped[np.ndarray, " n"] | None
    confusion: Integer[np.ndarray, "classes classes"] | None
    optional: Mapping[str, JsonFile] = field(default_factory=dict)
    external_tests: Sequence[tuple[JsonFile, JsonFile]] = ()

    @property
    def is_segmentation(self) -> bool:
        """Whether pixels or voxels have classes."""
        return self.task == SEGMENTATION

    @property
    def classified(self) -> str:
        """Noun for what has one class: image, pixel or voxel."""
        if not self.is_segmentation:
            return "image"
        return "voxel" if self.has_volumes else "pixel"

    @property
    def example(self) -> str:
        """Noun for an example of the dataset: image, or case of a segmentation."""
        return "case" if self.is_segmentation else "image"

    @property
    def class_names(self) -> list[str]:
        """Names by class id."""
        names: list[str] = self.config.get("dataset", "class_names")
        return names

    @property
    def has_volumes(self) -> bool:
        """Whether the dataset has volumes instead of images."""
        return self.config.get("dataset", "spacing") is not None

    @property
    def is_cross_validation(self) -> bool:
        """Whether the results are those of several folds."""
        return self.test.get("folds") is not None

    def setting(self, name: str) -> Any:
        """Return a setting of the run; None if it is null or the run predates it."""
        return self.config.get("config", name)


def read_documented_run(run_dir: str | Path) -> DocumentedRun:
    """Read and check the files of a run.

    Args:
        run_dir: The folder that ``train.py`` wrote.

    Raises:
        UserError: If the folder or a file is missing or broken; the message names the file.
    """
    run_dir = Path(run_dir)
    task = task_of(read_record(run_dir))
    run = _READERS[task](run_dir)
    record = {
        "config": run.config,
        "dataset": run.dataset,
        "weights": run.weights,
        "versions": run.versions,
        "git_commit": run.git_commit,
        "device": run.device,
    }
    return DocumentedRun(
        task=task,
        config=JsonFile("config.json", record),
        test=JsonFile("test.json", run.test),
        history=JsonFile("metrics.jsonl", run.history),
        timing=JsonFile("timing.jsonl", run.timing),
        arrays=JsonFile("cases.npz" if task == SEGMENTATION else "predictions.npz", {}),
        groups=run.groups,
        confusion=_confusion(run) if isinstance(run, FinishedRun) else None,
        optional=_read_optional(run_dir, run),
        external_tests=_read_external_tests(run_dir, run),
    )


def _read_optional(run_dir: Path, run: RunFiles) -> dict[str, JsonFile]:
    """Return the files that not every run has, by their path in the run folder."""
    names = run.dataset["class_names"]
    found = {CALIBRATION: read_calibration(run_dir, len(names))}
    if isinstance(run, FinishedRun):
        sets = read_sets(run_dir, names)
        is_current = sets is not None and fits_calibrator(sets, run.calibrator)
        found[PREDICTION_SETS] = sets if is_current else None  # else of other probabilities
        found[OPERATING_POINTS] = _read_points(run_dir, run)
        found[SUBGROUPS] = SUBGROUP_METRICS.read(run_dir, len(run.labels))
    return {name: JsonFile(name, value) for name, value in found.items() if value is not None}


def _read_points(run_dir: Path, run: FinishedRun) -> dict[str, Any] | None:
    points = {
        name: point
        for name, point in read_points(run_dir, run.dataset["class_names"]).items()
        if is_of_calibrator(point, run.calibrator)
    }
    return {"points": points} if points else None


def _read_external_tests(run_dir: Path, run: RunFiles) -> list[tuple[JsonFile, JsonFile]]:
    read = read_external if isinstance(run, FinishedRun) else read_external_masks
    found = []
    for external in read(run_dir, run.dataset["class_names"]):
        folder = f"external/{external.name}"
        record = JsonFile(f"{folder}/external.json", external.record)
        found.append((record, JsonFile(f"{folder}/test.json", external.test)))
    return found


def _confusion(run: FinishedRun) -> Integer[np.ndarray, "classes classes"]:
    predictions = predicted_classes(run.logits)
    matrix = confusion_matrix(run.labels, predictions, num_classes=run.logits.shape[-1])
    return np.asarray(matrix)
