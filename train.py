"""Train, test and report: ``python train.py --loss lmf --alpha 1 --beta 0.5``."""

from typing import Any

import jax

from data.datasets import load_dataset
from data.image_cache import open_images
from data.pipeline import evaluation_batches, train_batches
from data.segmentation_inputs import Share, describe, load_for_segmentation, open_segmentation
from lmf_jax.config import Config, parse_config
from lmf_jax.errors import run_command
from lmf_jax.evaluation.report import format_test_table, write_report
from lmf_jax.evaluation.segmentation_report import format_segmentation_table
from lmf_jax.training.classification import make_classification, predict
from lmf_jax.training.loop import fit
from lmf_jax.training.program import Program
from lmf_jax.training.run_folder import open_run, read_config, write_test
from lmf_jax.training.segmentation import make_segmentation
from lmf_jax.training.start_up import start_up
from lmf_jax.training.trained import Trained, explain_mistakes
from lmf_jax.training.trained_segmenter import TrainedSegmenter, test_segmenter


def main() -> None:
    """Run what the command line asks for, from the dataset to the report."""
    config = parse_config()
    if config.resume:
        config = parse_config(defaults=read_config(config.run_dir))
    start_up(config)
    {"classification": classify, "segmentation": segment}[config.task](config)


def classify(config: Config) -> None:
    """Train a classifier, test it and report."""
    dataset = load_dataset(
        config.dataset,
        data_dir=config.data_dir,
        split=config.split,
        split_seed=config.split_seed,
        imbalance_ratio=config.imbalance_ratio,
    )
    config = config.resolve(dataset.defaults)
    program = make_classification(config, dataset.class_counts("train"))
    run_dir = open_run(config, dataset.description)
    announce(config, program, dataset, run_dir)

    images = open_images(dataset, config.image_size, cache=config.cache, data_dir=config.data_dir)
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    training = train_batches(
        images,
        dataset.labels,
        dataset.rows["train"],
        batch_size=config.batch_size,
        seed=config.seed,
        sampling=config.sampling,
        effective_number_beta=config.effective_number_beta,
        **share,
    )
    validation, test = (
        evaluation_batches(
            images, dataset.labels, dataset.rows[part], batch_size=config.batch_size, **share
        )
        for part in ("validation", "test")
    )
    variables = fit(config, program, run_dir, training, validation)

    logits, labels = predict(program.predict_step, variables, test, scale=config.logit_scale)
    if jax.process_index() == 0:
        rows = dataset.rows["test"]
        of_test = (labels, logits, dataset.class_names, dataset.groups_of("test"))
        results = write_test(run_dir, dataset.ids[rows], *of_test)
        trained = Trained(
            config=config,
            dataset=dataset.description,
            model=program.model,
            variables=variables,
            normalisation=program.normalisation,
        )
        explain_mistakes(run_dir, trained, images, rows, labels, logits)
        print(format_test_table(results, dataset.class_counts("train").tolist()))
        print(f"report: {write_report(run_dir)}")


def segment(config: Config) -> None:
    """Train a segmenter, test it on whole cases and report."""
    dataset = load_for_segmentation(config)
    config = config.resolve(dataset.defaults)
    share = Share(jax.process_index(), jax.process_count())
    inputs = open_segmentation(dataset, config, share)
    description = describe(inputs)
    program = make_segmentation(
        config,
        description["class_counts"]["train"],
        num_examples=inputs.num_examples,
        num_channels=inputs.num_channels,
    )
    run_dir = open_run(config, description)
    announce(config, program, dataset, run_dir)
    variables = fit(config, program, run_dir, inputs.training(), inputs.validation())

    trained = TrainedSegmenter(
        config=config,
        dataset=description,
        model=program.model,
        variables=variables,
        normalisation=program.settings.normalisation,
    )
    results = test_segmenter(trained, run_dir, inputs.cases("test"))
    if jax.process_index() == 0:
        print(format_segmentation_table(results))
        print(f"report: {write_report(run_dir)}")


def announce(config: Config, program: Program, dataset: Any, run_dir: Any) -> None:
    """Print what is trained on what."""
    if jax.process_index() == 0:
        sizes = ", ".join(f"{part} {len(rows):,}" for part, rows in dataset.rows.items())
        print(f"{config.model} with loss {config.loss} on {config.dataset}; run folder {run_dir}")
        print(f"starts from {program.start}")
        print(f"{len(dataset.class_names)} classes; images by split {config.split}: {sizes}")


if __name__ == "__main__":
    run_command("train.py", main)
