"""The classification task: one class per image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from lmf_jax.cli.predict_classes import predict_classes
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
from lmf_jax.evaluation.calibration import Method, fit_calibrator, read_calibration
from lmf_jax.evaluation.classification.comparison import compare_runs, format_comparison
from lmf_jax.evaluation.classification.external import format_external, write_external
from lmf_jax.evaluation.classification.folds import format_folds, join_folds
from lmf_jax.evaluation.classification.members import compare_members
from lmf_jax.evaluation.classification.report import format_test_table
from lmf_jax.evaluation.classification.run import (
    class_parts,
    read_run,
    write_test,
    write_test_calibration,
)
from lmf_jax.evaluation.classification.scores import log_probabilities
from lmf_jax.evaluation.classification.subgroups import (
    SUBGROUP_METRICS,
    summarize_test_subgroups,
)
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.evaluation.predictions import Predictions, check_finite, write_validation
from lmf_jax.evaluation.subgroup_results import write_subgroups
from lmf_jax.inference.classifier import TrainedClassifier, explain_mistakes, load_classifier
from lmf_jax.inference.classifier_ensemble import ClassifierEnsemble
from lmf_jax.training.classification import Classification, make_classification
from lmf_jax.training.program import Program


def _load_dataset(config: Config, recorded: Mapping[str, Any] | None) -> Any:
    from data.inputs.classification import load_for_classification

    return load_for_classification(config, recorded)


def _make_program(config: ResolvedConfig, inputs: Any) -> Program:
    counts = inputs.dataset.class_counts("train")
    return make_classification(config, counts, metadata_widths=metadata_widths(inputs))


def _trained_model(
    config: ResolvedConfig, inputs: Any, program: Program, variables: Variables
) -> TrainedClassifier:
    assert isinstance(program, Classification)
    return TrainedClassifier(
        config,
        inputs.description,
        program.model,
        variables,
        program.normalization,
        compiled_step=program.predict_step,
    )


def _calibrate(
    model: TrainedClassifier, run_dir: Path, inputs: Any, method: Method | None
) -> TrainedClassifier:
    stored = read_calibration(run_dir, len(model.class_names))
    method = method or (stored["method"] if stored else "temperature")
    validation = predict_part(model, inputs, "validation")
    check_finite(validation.logits, "validation")
    if jax.process_index() == 0:
        write_validation(run_dir, validation)
    # Every process fits, so that none has to wait for the file of the first.
    return replace(model, calibrator=fit_calibrator(validation.labels, validation.logits, method))


def _test(model: TrainedClassifier, run_dir: Path, inputs: Any) -> dict[str, Any]:
    test = predict_part(model, inputs, "test")
    if jax.process_index() > 0:
        return {}
    dataset, names = inputs.dataset, inputs.dataset.class_names
    results = write_test(run_dir, test, names)
    if model.calibrator is not None:
        calibration = write_test_calibration(run_dir, names, model.calibrator, test)
        results = {**results, "calibration": calibration}
    metadata = dataset.metadata_of("test")
    subgroups = summarize_test_subgroups(test.labels, test.logits, metadata, test.groups)
    write_subgroups(run_dir, subgroups)
    explain_mistakes(
        run_dir,
        model,
        inputs.images,
        dataset.rows["test"],
        test.labels,
        test.logits,
        inputs.further.get("metadata"),
    )
    return results


def _summarize(
    model: TrainedClassifier | ClassifierEnsemble, inputs: Any, part: str
) -> dict[str, Any]:
    if isinstance(model, ClassifierEnsemble):
        predicted, members = _predict_ensemble(model, inputs, part)
    else:
        predicted, members = predict_part(model, inputs, part), {}
    names = inputs.dataset.class_names
    results = summarize_test(predicted.labels, predicted.logits, names, predicted.groups)
    return {**results, **members}


def _predict_ensemble(
    model: ClassifierEnsemble, inputs: Any, part: str
) -> tuple[Predictions, dict[str, Any]]:
    return predict_ensemble(model, inputs, part, log_probabilities, compare_members)


def _format_table(results: dict[str, Any], inputs: Any, part: str) -> str:
    return _format_results(results, inputs.dataset.class_counts("train").tolist(), part)


def _format_results(results: dict[str, Any], train_counts: Sequence[int], part: str) -> str:
    table = format_test_table(results, train_counts, part, results.get("calibration"))
    return append_members(table, results, "macro_f1", "macro F1")


def _open_external(
    model: ClassifierEnsemble, name: str, class_map: Mapping[str, str], data_dir: str | None
) -> Any:
    from data.formats.intensity import recorded_range
    from data.inputs.external import open_external

    scale = recorded_range(model.dataset.get("intensity_range"))
    parts = name, model.class_names, class_map, model.config, scale, data_dir
    return open_external(*parts, model.encoding)


def _test_external(
    model: ClassifierEnsemble, run_dir: Path, folder: Path, inputs: Any, facts: Mapping[str, Any]
) -> str:
    run = read_run(run_dir)
    predictions, members = _predict_ensemble(model, inputs, "test")
    metadata = inputs.dataset.metadata_of("test")
    external = write_external(folder, run, predictions, {**facts, **members}, metadata)
    results = {**external.test, **members}
    table = _format_results(results, run.dataset["class_counts"]["train"], "test")
    return f"{table}\n\n{format_external(external)}"


def _explain(
    model: TrainedClassifier | ClassifierEnsemble, batch: Batch
) -> list[list[tuple[int, float, Any]]]:
    explained = zip(*model.explain(batch["image"], batch.get("metadata")), strict=True)
    return [
        [(int(class_id), float(probability), heat)] for class_id, probability, heat in explained
    ]


def _compare(run_dirs: Sequence[str]) -> str:
    return format_comparison(compare_runs(run_dirs))


CLASSIFICATION = Task(
    name="classification",
    read_run=read_run,
    load_dataset=_load_dataset,
    open_inputs=open_inputs,
    make_program=_make_program,
    trained_model=_trained_model,
    load_model=load_classifier,
    ensemble=ClassifierEnsemble,
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
    predict=predict_classes,
    class_parts=class_parts,
    format_subgroups=SUBGROUP_METRICS.format,
)
