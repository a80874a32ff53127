"""Predictions of a classifier for image files, as a CSV file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lmf_jax.cli.image_batches import open_batches, print_lines, refuse_broken
from lmf_jax.cli.predict_options import Predict
from lmf_jax.cli.prediction_table import table_path, write_table
from lmf_jax.cli.prevalence import ratios_of_run
from lmf_jax.cli.supported_tasks import one_model_needed
from lmf_jax.errors import UserError, printable
from lmf_jax.evaluation.calibration import Calibrator, describe_calibrator, shift_priors
from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.scores import softmax
from lmf_jax.evaluation.conformal.file import read_thresholds
from lmf_jax.evaluation.conformal.set_names import join_names
from lmf_jax.evaluation.conformal.thresholds import SetThresholds
from lmf_jax.evaluation.operating.file import decisions, read_point
from lmf_jax.inference.classifier import TrainedClassifier
from lmf_jax.inference.classifier_ensemble import ClassifierEnsemble
from lmf_jax.output_files import check_outputs
from lmf_jax.runs.folds import member_dirs


def predict_classes(model: TrainedClassifier | ClassifierEnsemble, options: Predict) -> None:
    """Write a line of CSV per image: path, predicted class and all calibrated probabilities.

    Args:
        model: The model of a run, or an ensemble.
        options: The command line.

    Raises:
        UserError: If a path does not fit, or images cannot be decoded; the others are predicted.
    """
    from data.inputs.image_files import given_images, skipped_lines

    table = table_path(options.output)
    spec = model.config.data.image_spec
    files, metadata = given_images([options.images], spec)
    read = [*files, Path(options.images).expanduser()]
    check_outputs([table], inputs=read, overwrite=options.overwrite)
    names = model.class_names
    calibrator = model.calibrator or Calibrator.identity(len(names))
    thresholds = None
    if options.sets:
        _check_one_model(model, options.run, "--sets")
        thresholds = read_thresholds(options.run, names, calibrator)
    point = None
    if options.operating_point is not None:
        _check_one_model(model, options.run, "--operating-point")
        point = read_point(options.run, options.operating_point, names, calibrator)
    ratios = np.ones(len(names))
    if options.prevalence is not None:
        counts = np.array(model.dataset["class_counts"]["validation"])
        member = member_dirs(options.run_dirs)[0]  # all are calibrated, or none
        ratios = ratios_of_run(options.prevalence, member, names, counts)
    batches = open_batches(files, model.config, model.dataset, model.encoding, metadata)
    logits, indices = model.predict(batches)
    paths = [files[index] for index in indices]
    _check_defined(paths, logits)
    # Sets and operating points hold per class, at every prevalence: their thresholds are those of
    # the run.
    probabilities = calibrator.probabilities(logits)
    columns: dict[str, list[str]] = {}
    if options.operating_point is not None and point is not None:
        columns[options.operating_point] = decisions(point, probabilities, names)
    if thresholds is not None:
        contained = thresholds.contains(probabilities)
        columns["set"] = [_join_members(members, names) for members in contained]
    shifted = shift_priors(calibrator.calibrate(logits), ratios)
    _write_predictions(table, paths, shifted, names, columns)
    print(f"{len(indices):,} of {len(files):,} images predicted: {table}")
    print(f"calibration: {_describe(model, calibrator)}")
    if thresholds is not None:
        print(_sets_line(thresholds, names))
    print_lines(skipped_lines(options.images, table, spec))
    print_lines(batches.remarks())
    refuse_broken(files, batches.broken)


def _check_one_model(
    model: TrainedClassifier | ClassifierEnsemble, run_dir: str, flag: str
) -> None:
    """Refuse a flag whose thresholds were chosen for the probabilities of one model."""
    if isinstance(model, ClassifierEnsemble):
        raise one_model_needed(flag, run_dir)


def _describe(model: TrainedClassifier | ClassifierEnsemble, calibrator: Calibrator) -> str:
    if isinstance(model, ClassifierEnsemble):
        return "that of each run, before averaging"
    return describe_calibrator(calibrator)


def _check_defined(files: Sequence[Path], logits: np.ndarray) -> None:
    undefined = np.isnan(logits).any(axis=1)
    if undefined.any():
        raise UserError(f"The logits of {files[undefined.argmax()]} are NaN; its run diverged.")


def _write_predictions(
    output: Path,
    files: Sequence[Path],
    logits: np.ndarray,
    class_names: Sequence[str],
    columns: Mapping[str, Sequence[str]],
) -> None:
    """Write the CSV file; ``columns`` are more columns by their titles."""
    of_classes = [f"p({n})" for n in class_names]
    best_classes = predicted_classes(logits).tolist()
    rows = []
    for index, (path, row) in enumerate(zip(files, softmax(logits), strict=True)):
        best = best_classes[index]
        texts = [f"{value:.6f}" for value in row]
        more = [values[index] for values in columns.values()]
        rows.append([path, class_names[best], texts[best], *texts, *more])
    write_table(output, ["path", "prediction", "probability", *of_classes, *columns], rows)


def _join_members(members: np.ndarray, class_names: Sequence[str]) -> str:
    return join_names([n for n, is_member in zip(class_names, members, strict=True) if is_member])


def _sets_line(thresholds: SetThresholds, class_names: Sequence[str]) -> str:
    refused = [
        printable(name)
        for name, threshold in zip(class_names, thresholds.classes, strict=True)
        if not threshold.promised
    ]
    line = f"set: the classes that cannot be excluded at the level {thresholds.level:g}"
    return f"{line}; no promise for {', '.join(refused)}" if refused else line
