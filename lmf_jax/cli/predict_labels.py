"""Predictions of a model of several labels for image files, as a CSV file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lmf_jax.cli.image_batches import open_batches, print_lines, refuse_broken
from lmf_jax.cli.predict_options import Predict
from lmf_jax.cli.prediction_table import table_path, write_table
from lmf_jax.cli.supported_tasks import one_model_needed, refuse_flag
from lmf_jax.errors import UserError
from lmf_jax.evaluation.multilabel.calibration import LabelCalibrator
from lmf_jax.evaluation.multilabel.report import describe_label_calibrator
from lmf_jax.evaluation.operating.file import decisions, read_point
from lmf_jax.inference.labeler import TrainedLabeler, decide
from lmf_jax.inference.labeler_ensemble import LabelerEnsemble
from lmf_jax.output_files import check_outputs
from lmf_jax.runs.files import MULTILABEL

SEPARATOR = "|"
"""Text between the labels of an image."""


def predict_labels(model: TrainedLabeler | LabelerEnsemble, options: Predict) -> None:
    """Write a line of CSV per image: path, predicted labels and all calibrated probabilities.

    Args:
        model: The model of a run, or an ensemble.
        options: The command line.

    Raises:
        UserError: If a flag or a path does not fit, or images cannot be decoded; the others are
            predicted.
    """
    from data.inputs.image_files import given_images, skipped_lines

    _refuse_flags(options)
    table = table_path(options.output)
    files, metadata = given_images([options.images])
    read = [*files, Path(options.images).expanduser()]
    check_outputs([table], inputs=read, overwrite=options.overwrite)
    point = None
    if options.operating_point is not None:
        calibrator = _one_calibrator(model, options)
        point = read_point(options.run, options.operating_point, model.class_names, calibrator)
    batches = open_batches(files, model.config, model.dataset, model.encoding, metadata)
    logits, indices = model.predict(batches)
    paths = [batches.files[index] for index in indices]
    undefined = np.isnan(logits).any(axis=1)
    if undefined.any():
        raise UserError(f"The logits of {paths[undefined.argmax()]} are NaN; its run diverged.")
    probabilities = model.label_probabilities(logits)
    names = model.class_names
    columns: dict[str, list[str]] = {}
    if options.operating_point is not None and point is not None:
        columns[options.operating_point] = decisions(point, probabilities, names)
    _write_predictions(table, paths, probabilities, model, columns)
    print(f"{len(indices):,} of {len(batches.files):,} images predicted: {table}")
    print(f"calibration: {_describe(model)}")
    print("labels: those with a probability from their threshold on, chosen on validation")
    print_lines(skipped_lines(options.images, table))
    print_lines(batches.remarks())
    refuse_broken(batches.files, batches.broken)


def _write_predictions(
    table: Path,
    files: Sequence[Path],
    probabilities: Float[np.ndarray, "n labels"],
    model: TrainedLabeler | LabelerEnsemble,
    columns: Mapping[str, Sequence[str]],
) -> None:
    """Write the CSV file; ``columns`` are more columns by their titles."""
    names = np.array(model.class_names)
    decided = decide(probabilities, model.thresholds)
    rows = []
    for index, (path, predicted, row) in enumerate(zip(files, decided, probabilities, strict=True)):
        texts = [f"{value:.6f}" for value in row]
        more = [values[index] for values in columns.values()]
        rows.append([path, SEPARATOR.join(names[predicted]), *texts, *more])
    header = ["path", "labels", *(f"p({name})" for name in model.class_names), *columns]
    write_table(table, header, rows)


def _one_calibrator(model: TrainedLabeler | LabelerEnsemble, options: Predict) -> LabelCalibrator:
    """Return the calibrator of one run, whose probabilities an operating point was chosen for."""
    if isinstance(model, LabelerEnsemble):
        raise one_model_needed("--operating-point", options.run)
    return model.calibrator or LabelCalibrator.identity(len(model.class_names))


def _describe(model: TrainedLabeler | LabelerEnsemble) -> str:
    if isinstance(model, LabelerEnsemble):
        return "that of each run, before averaging"
    return describe_label_calibrator(model.calibrator)


def _refuse_flags(options: Predict) -> None:
    given = {
        "--sets": options.sets,
        "--prevalence": options.prevalence is not None,
    }
    for flag, is_given in given.items():
        if is_given:
            raise refuse_flag(flag, MULTILABEL)
