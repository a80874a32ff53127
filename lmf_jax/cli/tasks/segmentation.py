"""The segmentation task: one class per pixel or voxel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from lmf_jax.cli.predict_masks import predict_masks
from lmf_jax.cli.tasks.task import Task
from lmf_jax.config import Config, ResolvedConfig
from lmf_jax.distributed.devices import Variables
from lmf_jax.errors import UserError
from lmf_jax.evaluation.calibration import Method, read_calibration
from lmf_jax.evaluation.external import make_folder
from lmf_jax.evaluation.segmentation.comparison import compare_runs, format_comparison
from lmf_jax.evaluation.segmentation.external import format_external, write_comparison
from lmf_jax.evaluation.segmentation.folds import format_folds, join_folds
from lmf_jax.evaluation.segmentation.report import format_test_table
from lmf_jax.evaluation.segmentation.run import read_run, read_tested
from lmf_jax.evaluation.segmentation.subgroups import (
    SUBGROUP_METRICS,
    summarize_case_subgroups,
)
from lmf_jax.evaluation.subgroup_results import write_subgroups
from lmf_jax.inference.pixel_calibration import calibrate_segmenter, measure_calibration
from lmf_jax.inference.segmenter import (
    TrainedSegmenter,
    evaluate_segmenter,
    load_segmenter,
    summarize_cases,
)
from lmf_jax.inference.segmenter_ensemble import SegmenterEnsemble
from lmf_jax.training.program import Program
from lmf_jax.training.segmentation import make_segmentation


def _load_dataset(config: Config, recorded: Mapping[str, Any] | None) -> Any:
    from data.inputs.segmentation import load_for_segmentation

    return load_for_segmentation(config, recorded["fingerprint"] if recorded else None)


def _open_inputs(dataset: Any, config: ResolvedConfig, shard: Any) -> Any:
    from data.inputs.segmentation import open_segmentation

    return open_segmentation(dataset, config, shard)


def _make_program(config: ResolvedConfig, inputs: Any) -> Program:
    return make_segmentation(
        config,
        inputs.description["class_counts"]["train"],
        num_examples=inputs.num_examples,
        num_channels=inputs.num_channels,
        intensity=inputs.description.get("intensity"),
    )


def _trained_model(
    config: ResolvedConfig, inputs: Any, program: Program, variables: Variables
) -> TrainedSegmenter:
    normalization = program.settings.normalization
    return TrainedSegmenter(config, inputs.description, program.model, variables, normalization)


def _calibrate(
    model: TrainedSegmenter, run_dir: Path, inputs: Any, method: Method | None
) -> TrainedSegmenter:
    stored = read_calibration(run_dir, len(model.class_names))
    method = method or (stored["method"] if stored else "temperature")
    return calibrate_segmenter(model, run_dir, inputs.cases("validation"), method)


def _test(model: TrainedSegmenter, run_dir: Path, inputs: Any) -> dict[str, Any]:
    results = evaluate_segmenter(model, run_dir, inputs.cases("test"))
    if jax.process_index() == 0:
        cases, _ = read_tested(run_dir, model.class_names)
        metadata = _test_metadata(inputs)
        write_subgroups(run_dir, summarize_case_subgroups(cases.counts, metadata, cases.groups))
    calibration = measure_calibration(model, run_dir, inputs.cases("test"))
    return results if calibration is None else {**results, "calibration": calibration}


def _test_metadata(inputs: Any) -> Mapping[str, Any]:
    """Return the metadata of the test images by column; none of volumes."""
    dataset = inputs.dataset
    return dataset.metadata_of("test") if hasattr(dataset, "metadata") else {}


def _summarize(
    model: TrainedSegmenter | SegmenterEnsemble, inputs: Any, part: str
) -> dict[str, Any]:
    return summarize_cases(model, inputs.cases(part))


def _format_table(results: dict[str, Any], inputs: Any, part: str) -> str:
    return format_test_table(results, part, results.get("calibration"))


def _open_external(
    model: SegmenterEnsemble, name: str, class_map: Mapping[str, str], data_dir: str | None
) -> Any:
    from data.formats.intensity import recorded_range
    from data.inputs.external import open_external_masks

    if class_map:
        raise UserError("--map is for images with classes; masks must have the classes of the run.")
    scale = recorded_range(model.dataset.get("intensity_range"))
    return open_external_masks(name, model.class_names, model.config, scale, data_dir)


def _test_external(
    model: SegmenterEnsemble, run_dir: Path, folder: Path, inputs: Any, facts: Mapping[str, Any]
) -> str:
    run = read_run(run_dir)
    make_folder(folder)
    test = evaluate_segmenter(model, folder, inputs.cases("test"))
    cases, _ = read_tested(folder, model.class_names)
    external = write_comparison(folder, run, cases, test, facts, _test_metadata(inputs))
    return f"{format_test_table(test)}\n\n{format_external(external)}"


def _compare(run_dirs: Sequence[str]) -> str:
    return format_comparison(compare_runs(run_dirs))


SEGMENTATION = Task(
    name="segmentation",
    read_run=read_run,
    load_dataset=_load_dataset,
    open_inputs=_open_inputs,
    make_program=_make_program,
    trained_model=_trained_model,
    load_model=load_segmenter,
    ensemble=SegmenterEnsemble,
    open_external=_open_external,
    test_external=_test_external,
    calibrate=_calibrate,
    test=_test,
    summarize=_summarize,
    format_table=_format_table,
    compare=_compare,
    join_folds=join_folds,
    format_folds=format_folds,
    explain=None,
    predict=predict_masks,
    class_parts=None,
    format_subgroups=SUBGROUP_METRICS.format,
)
