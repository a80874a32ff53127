"""Calibration of the probabilities of pixels or voxels, fitted on a sample of each case."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped

from lmf_jax.distributed.gather import gather_rows
from lmf_jax.errors import UserError
from lmf_jax.evaluation.calibration import (
    Method,
    fit_calibrator,
    summarize_calibration,
    write_calibration,
)
from lmf_jax.inference.segmenter import Cases, TrainedSegmenter
from lmf_jax.npz import read_arrays
from lmf_jax.runs.atomic_files import write_arrays
from lmf_jax.runs.files import check

PIXELS_PER_CASE = 1000
"""Number of pixels or voxels that are drawn from each case, with replacement."""

VALIDATION_FILE = "validation_pixels.npz"
MAX_SAMPLE_BYTES = 2**34
"""Maximum size of ``validation_pixels.npz``: ten thousand cases of twenty classes."""

_SEED = 0


class PixelSample(NamedTuple):
    """Pixels or voxels of all cases of a part.

    Attributes:
        labels: Class ids ``[m]``.
        logits: Uncalibrated scores ``[m, C]``.
        groups: The independent unit of each: its patient, lesion or case ``[m]``.
    """

    labels: Int[np.ndarray, " m"]
    logits: Float[np.ndarray, "m classes"]
    groups: Shaped[np.ndarray, " m"]


def calibrate_segmenter(
    segmenter: TrainedSegmenter, run_dir: Path, validation: Cases, method: Method
) -> TrainedSegmenter:
    """Fit the calibration of a segmenter; the first process writes ``validation_pixels.npz``.

    Args:
        segmenter: The model.
        run_dir: The folder of the run.
        validation: This process's cases of the validation part.
        method: The method that the calibrator uses.

    Returns:
        The model with its calibrator.

    Raises:
        UserError: If a logit is NaN or infinite.
    """
    sample = sample_pixels(segmenter, validation)
    _check_finite(sample, "validation")
    if jax.process_index() == 0:
        arrays = {"labels": sample.labels, "logits": sample.logits}
        write_arrays(run_dir / VALIDATION_FILE, arrays, sample.groups)
    # Every process fits, so that none has to wait for the file of the first.
    calibrator = fit_calibrator(sample.labels, sample.logits, method)
    return replace(segmenter, calibrator=calibrator)


def measure_calibration(
    segmenter: TrainedSegmenter, run_dir: Path, test: Cases
) -> dict[str, Any] | None:
    """Measure the calibration on test cases; the first process writes ``calibration.json``.

    Args:
        segmenter: The calibrated model.
        run_dir: The folder of the run, which has ``validation_pixels.npz``.
        test: This process's cases of the test part.

    Returns:
        The contents of ``calibration.json``; None in all processes but the first.

    Raises:
        UserError: If a logit is NaN or infinite.
    """
    sample = sample_pixels(segmenter, test)
    _check_finite(sample, "test")
    if jax.process_index() > 0:
        return None
    assert segmenter.calibrator is not None
    validation = _read_sample(run_dir / VALIDATION_FILE, len(segmenter.class_names))
    record = summarize_calibration(
        segmenter.calibrator,
        segmenter.class_names,
        validation=(validation.labels, validation.logits, validation.groups),
        test=(sample.labels, sample.logits, sample.groups),
    )
    record["validation"]["images"] = len(validation.labels) // PIXELS_PER_CASE
    write_calibration(run_dir, record)
    return record


def _check_finite(sample: PixelSample, part: str) -> None:
    if not np.isfinite(sample.logits).all():
        raise UserError(
            f"The model gives NaN or infinity for {part} images; train again with a lower "
            "--learning-rate or in float32."
        )


def _read_sample(path: Path, num_classes: int) -> PixelSample:
    names = ("labels", "logits", "groups")
    arrays = read_arrays(path, largest=MAX_SAMPLE_BYTES, names=names)
    shapes = [arrays[name].shape for name in names]
    n = arrays["labels"].size
    check(path, shapes == [(n,), (n, num_classes), (n,)], "its arrays do not match each other")
    return PixelSample(*(arrays[name] for name in names))


def sample_pixels(segmenter: TrainedSegmenter, cases: Cases) -> PixelSample:
    """Predict every case in one of the processes, and draw pixels or voxels of each.

    The draw depends only on the position of the case in its part.

    Args:
        segmenter: The model.
        cases: This process's cases of a part of the data.
    """
    indices: list[int] = []
    drawn: dict[str, list[np.ndarray]] = {"labels": [], "logits": []}
    for batch_indices, images, labels in cases:
        logits = segmenter.logits(images)
        for i in np.flatnonzero(batch_indices >= 0):
            index = int(batch_indices[i])
            pixels = np.random.default_rng([_SEED, index]).integers(
                labels[i].size, size=PIXELS_PER_CASE
            )
            indices.append(index)
            drawn["labels"].append(labels[i].reshape(-1)[pixels].astype(np.int64))
            drawn["logits"].append(logits[i].reshape(-1, logits.shape[-1])[pixels])
    shapes = {"labels": (PIXELS_PER_CASE,), "logits": (PIXELS_PER_CASE, len(segmenter.class_names))}
    values = {
        name: np.array(arrays, np.int64 if name == "labels" else np.float32).reshape(
            -1, *shapes[name]
        )
        for name, arrays in drawn.items()
    }
    gathered = gather_rows(np.array(indices, np.int64), values, len(cases.ids))
    return PixelSample(
        labels=gathered["labels"].reshape(-1),
        logits=gathered["logits"].reshape(-1, len(segmenter.class_names)),
        groups=np.repeat(_units(cases), PIXELS_PER_CASE),
    )


def _units(cases: Cases) -> Shaped[np.ndarray, " n"]:
    """Return the patient or lesion of each case; a case without one is a unit."""
    alone = np.array([f"case {name}" for name in cases.ids.tolist()])
    return alone if cases.groups is None else np.where(cases.groups == "", alone, cases.groups)
