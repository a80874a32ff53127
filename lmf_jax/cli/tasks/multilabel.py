"""The multi-label task: any number of labels per image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from lmf_jax.cli.predict_labels import predict_labels
from lmf_jax.cli.supported_tasks import refuse_flag
from lmf_jax.cli.tasks.images import (
    append_members,
    metadata_widths,
    open_inputs,
    predict_ensemble,
    predict_part,
)
from lmf_jax.cli.tasks.task import Task
from lmf_jax.config import Config, ResolvedConfig
from lmf_jax.distributed.devices import Batch, Variables
from lmf_jax.evaluation.calibration import Method
from lmf_jax.evaluation.multilabel.calibration import (
    LabelCalibrator,
    LabelMethod,
    fit_label_calibrator,
    read_label_calibrator,
)
from lmf_jax.evaluation.multilabel.comparison import compare_runs, format_comparison
from lmf_jax.evaluation.multilabel.external import format_external, write_external
from lmf_jax.evaluation.multilabel.folds import format_folds, join_folds
from lmf_jax.evaluation.multilabel.members import METRIC, TITLE, compare_members
from lmf_jax.evaluation.multilabel.report import format_test_table
from lmf_jax.evaluation.multilabel.run import (
    label_parts,
    read_run,
    summarize,
    write_test,
)
from lmf_jax.evaluation.multilabel.scores import logits_of
from lmf_jax.evaluation.multilabel.subgroups import (
    SUBGROUP_METRICS,
    summarize_test_subgroups,
)
from lmf_jax.evaluation.multilabel.thresholds import (
    DEFAULT_THRESHOLD,
    f1_thresholds,
    write_thresholds,
)
from lmf_jax.evaluation.predictions import Predictions, check_finite, write_validation
from lmf_jax.evaluation.subgroup_results import write_subgroups
from lmf_jax.inference.labeler import TrainedLabeler, load_labeler
from lmf_jax.inference.labeler_ensemble import LabelerEnsemble
from lmf_jax.runs.files import MULTILABEL
from lmf_jax.training.multilabel import Multilabel, make_multilabel
from lmf_jax.training.program import Program

METHODS: dict[Method, LabelMethod] = {"none": "none", "temperature": "temperature"}
"""Method of calibration by the value of ``--calibration``."""


def _load_dataset(config: Config, recorded: Mapping[str, Any] | None) -> Any:
    from data.inputs.classification import load_for_multilabel

    return load_for_multilabel(config, recorded)


def _make_program(config: ResolvedConfig, inputs: Any) -> Program:
    dataset = inputs.dataset
    counts, num_images = dataset.label_counts("train"), len(dataset.rows["train"])
    return make_multilabel(config, counts, num_images, metadata_widths=metadata_widths(inputs))


def _trained_model(
    config: ResolvedConfig, inputs: Any, program: Program, variables: Variables
) -> TrainedLabeler:
    assert isinstance(program, Multilabel)
    return TrainedLabeler(
        config,
        inputs.description,
        program.model,
        variables,
        program.normalization,
        compiled_step=program.predict_step,
    )


def _calibrate(
    model: TrainedLabeler, run_dir: Path, inputs: Any, method: Method | None
) -> TrainedLabeler:
    if method is not None and method not in METHODS:
        raise refuse_flag(f"--calibration {method}", MULTILABEL)
    validation = predict_part(model, inputs, "validation")
    check_finite(validation.logits, "validation")
    names = model.class_names
    chosen = _stored_method(run_dir, names) if method is None else METHODS[method]
    # Every process fits, so that none has to wait for the files of the first.
    calibrator = fit_label_calibrator(validation.labels, validation.logits, chosen)
    thresholds = f1_thresholds(validation.labels, calibrator.probabilities(validation.logits))
    if jax.process_index() == 0:
        write_validation(run_dir, validation)
        write_thresholds(run_dir, names, thresholds)
    return replace(model, calibrator=calibrator, thresholds=thresholds)


def _stored_method(run_dir: Path, names: Sequence[str]) -> LabelMethod:
    """Return the method of a run that was tested before, at first temperature scaling."""
    is_tested = (run_dir / "calibration.json").exists()
    return read_label_calibrator(run_dir, names).method if is_tested else "temperature"


def _test(model: TrainedLabeler, run_dir: Path, inputs: Any) -> dict[str, Any]:
    test = predict_part(model, inputs, "test")
    if jax.process_index() > 0:
        return {}
    assert model.calibrator is not None and model.thresholds is not None
    calibrator, thresholds = model.calibrator, model.thresholds
    results = write_test(run_dir, test, model.class_names, calibrator, thresholds)
    metadata, logits = inputs.dataset.metadata_of("test"), calibrator.calibrate(test.logits)
    of_test = test.labels, logits, thresholds
    write_subgroups(run_dir, summarize_test_subgroups(*of_test, metadata, test.groups))
    return results


def _summarize(model: TrainedLabeler | LabelerEnsemble, inputs: Any, part: str) -> dict[str, Any]:
    if isinstance(model, LabelerEnsemble):
        predictions, members = _predict_ensemble(model, inputs, part)
    else:
        predictions, members = predict_part(model, inputs, part), {}
    check_finite(predictions.logits, part)
    names = model.class_names
    # A run has none before the end of its training, as of thresholds.
    calibrator = model.calibrator or LabelCalibrator.identity(len(names))
    return {**summarize(predictions, names, calibrator, _thresholds(model)), **members}


def _thresholds(model: TrainedLabeler | LabelerEnsemble) -> Float[np.ndarray, " labels"]:
    """Return the threshold of each label, 0.5 without chosen ones."""
    if model.thresholds is None:
        return np.full(len(model.class_names), DEFAULT_THRESHOLD)
    return model.thresholds


def _predict_ensemble(
    model: LabelerEnsemble, inputs: Any, part: str
) -> tuple[Predictions, dict[str, Any]]:
    return predict_ensemble(model, inputs, part, logits_of, compare_members)


def _format_table(results: dict[str, Any], inputs: Any, part: str) -> str:
    return _format_results(results, inputs.description["class_counts"]["train"], part)


def _format_results(results: dict[str, Any], positives: Sequence[int], part: str) -> str:
    table = format_test_table(results, positives, part, results.get("calibration"))
    return append_members(table, results, METRIC, TITLE)


def _explain(
    model: TrainedLabeler | LabelerEnsemble, batch: Batch
) -> list[list[tuple[int, float, Any]]]:
    return model.explain_labels(batch["image"], batch.get("metadata"))


def _compare(run_dirs: Sequence[str]) -> str:
    return format_comparison(compare_runs(run_dirs))


def _open_external(
    model: LabelerEnsemble, name: str, class_map: Mapping[str, str], data_dir: str | None
) -> Any:
    from data.formats.intensity import recorded_range
    from data.inputs.external import open_external_labels

    scale = recorded_range(model.dataset.get("intensity_range"))
    parts = name, model.class_names, class_map, model.config, scale, data_dir
    return open_external_labels(*parts, model.encoding)


def _test_external(
    model: LabelerEnsemble, run_dir: Path, folder: Path, inputs: Any, facts: Mapping[str, Any]
) -> str:
    run = read_run(run_dir)
    predictions, members = _predict_ensemble(model, inputs, "test")
    metadata = inputs.dataset.metadata_of("test")
    facts = {**facts, **members}
    external = write_external(folder, run, predictions, _thresholds(model), facts, metadata)
    results = {**external.test, **members}
    table = _format_results(results, run.dataset["class_counts"]["train"], "test")
    return f"{table}\n\n{format_external(external)}"


MULTILABEL_TASK = Task(
    name=MULTILABEL,
    read_run=read_run,
    load_dataset=_load_dataset,
    open_inputs=open_inputs,
    make_program=_make_program,
    trained_model=_trained_model,
    load_model=load_labeler,
    ensemble=LabelerEnsemble,
    calibrate=_calibrate,
    test=_test,
    summarize=_summarize,
    format_table=_format_table,
    open_external=_open_external,
    test_external=_test_external,
    compare=_compare,
    join_folds=join_folds,
    format_folds=format_folds,
    explain=_explain,
    predict=predict_labels,
    class_parts=label_parts,
    format_subgroups=SUBGROUP_METRICS.format,
)
