"""``python -m lmf_jax evaluate RUN``: test the best epoch of a run again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmf_jax.cli.run_folder import RunDir, batch_size_here
from lmf_jax.evaluation.classification.report import format_test_table
from lmf_jax.evaluation.classification.run import write_test
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.evaluation.report import write_report
from lmf_jax.evaluation.segmentation.report import format_test_table as format_segmentation_table
from lmf_jax.inference.classifier import explain_mistakes, load_trained
from lmf_jax.inference.segmenter import load_segmenter, summarise_cases, test_segmenter
from lmf_jax.runs.files import CLASSIFICATION, SEGMENTATION, common_task


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the best epoch of a run on a part of its data; every metric has an interval."""

    run: RunDir
    split: Literal["test", "validation", "train"] = "test"
    """The part of the data; test also rewrites test.json, predictions.npz and the report."""
    data_dir: str | None = None
    """The folder of prepared datasets and image caches (default: that of the run)."""


def run_evaluate(options: Evaluate) -> None:
    """Predict a part of the data and print its table."""
    evaluate = {CLASSIFICATION: _evaluate_classifier, SEGMENTATION: _evaluate_segmenter}
    evaluate[common_task([options.run])](options)
    if options.split != "test":
        print(f"The best epoch was chosen on the validation images; {options.split} is no test.")


def _evaluate_classifier(options: Evaluate) -> None:
    from data.batches.image_cache import open_images
    from data.batches.pipeline import evaluation_batches
    from data.splits.dataset import dataset_of_run

    trained = load_trained(options.run)
    config, part = trained.config, options.split
    dataset = dataset_of_run(config, trained.dataset["fingerprint"], options.data_dir)
    data_dir = options.data_dir or config.data_dir
    images = open_images(dataset, config.image_size, cache=config.cache, data_dir=data_dir)
    rows, batch_size = dataset.rows[part], batch_size_here(config)
    logits, labels = trained.predict(
        evaluation_batches(images, dataset.labels, rows, batch_size=batch_size)
    )
    train_counts = dataset.class_counts("train").tolist()
    groups = dataset.groups_of(part)
    if part == "test":
        run_dir = Path(options.run)
        names = dataset.class_names
        results = write_test(run_dir, dataset.ids[rows], labels, logits, names, groups)
        explain_mistakes(run_dir, trained, images, rows, labels, logits)
        print(format_test_table(results, train_counts))
        print(f"report: {write_report(run_dir)}")
    else:
        summary = summarize_test(labels, logits, dataset.class_names, groups)
        print(format_test_table(summary, train_counts, part))


def _evaluate_segmenter(options: Evaluate) -> None:
    from data.inputs.segmentation import inputs_of_run

    trained = load_segmenter(options.run)
    batch_size = batch_size_here(trained.config)
    fingerprint = trained.dataset["fingerprint"]
    inputs = inputs_of_run(trained.config, fingerprint, batch_size, options.data_dir)
    cases = inputs.cases(options.split)
    if options.split == "test":
        print(format_segmentation_table(test_segmenter(trained, Path(options.run), cases)))
        print(f"report: {write_report(options.run)}")
    else:
        print(format_segmentation_table(summarise_cases(trained, cases), options.split))
