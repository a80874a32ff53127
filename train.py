"""Train, test and report: ``python train.py --loss lmf --alpha 1 --beta 0.5``."""

import jax

from data.inputs.classification import load_for_classification, open_classification
from data.inputs.segmentation import describe, load_for_segmentation, open_segmentation
from data.shard import Shard
from lmf_jax.cli.command_line import parse_config
from lmf_jax.config import Config
from lmf_jax.distributed.initialize import start_up
from lmf_jax.errors import run_command
from lmf_jax.evaluation.classification.report import format_test_table
from lmf_jax.evaluation.classification.run import write_test
from lmf_jax.evaluation.report import write_report
from lmf_jax.evaluation.segmentation.report import format_test_table as format_segmentation_table
from lmf_jax.inference.classifier import Trained, explain_mistakes
from lmf_jax.inference.predict import predict
from lmf_jax.inference.segmenter import TrainedSegmenter, test_segmenter
from lmf_jax.runs.folder import open_run, read_config, read_fingerprint
from lmf_jax.training.classification import make_classification
from lmf_jax.training.loop import fit
from lmf_jax.training.segmentation import make_segmentation


def main() -> None:
    """Run what the command line asks for, from the dataset to the report."""
    config, fingerprint = parse_config(), None
    if config.resume:
        fingerprint = read_fingerprint(config.run_dir)
        config = parse_config(defaults=read_config(config.run_dir))
    start_up(config)
    shard = Shard(jax.process_index(), jax.process_count())
    {"classification": classify, "segmentation": segment}[config.task](config, shard, fingerprint)


def classify(config: Config, shard: Shard, fingerprint: str | None) -> None:
    """Train a classifier, test it and report; of a run to resume, on the data it recorded."""
    dataset = load_for_classification(config, fingerprint)
    config = config.resolve(dataset.defaults)
    program = make_classification(config, dataset.class_counts("train"))
    run_dir = open_run(config, dataset.description)
    program.announce(config, dataset.rows, run_dir, dataset.notes)
    inputs = open_classification(dataset, config, shard)
    variables = fit(config, program, run_dir, inputs.training(), inputs.batches("validation"))

    test = inputs.batches("test")
    logits, labels = predict(program.predict_step, variables, test, scale=config.logit_scale)
    if shard.process_index == 0:
        rows = dataset.rows["test"]
        names, groups = dataset.class_names, dataset.groups_of("test")
        results = write_test(run_dir, dataset.ids[rows], labels, logits, names, groups)
        trained = Trained(
            config, dataset.description, program.model, variables, program.normalisation
        )
        explain_mistakes(run_dir, trained, inputs.images, rows, labels, logits)
        print(format_test_table(results, dataset.class_counts("train").tolist()))
        print(f"report: {write_report(run_dir)}")


def segment(config: Config, shard: Shard, fingerprint: str | None) -> None:
    """Train a segmenter, test it on whole cases and report; see :func:`classify`."""
    dataset = load_for_segmentation(config, fingerprint)
    config = config.resolve(dataset.defaults)
    inputs = open_segmentation(dataset, config, shard)
    description = describe(inputs)
    program = make_segmentation(
        config,
        description["class_counts"]["train"],
        num_examples=inputs.num_examples,
        num_channels=inputs.num_channels,
    )
    run_dir = open_run(config, description)
    program.announce(config, dataset.rows, run_dir, dataset.notes)
    variables = fit(config, program, run_dir, inputs.training(), inputs.validation())

    normalisation = program.settings.normalisation
    trained = TrainedSegmenter(config, description, program.model, variables, normalisation)
    results = test_segmenter(trained, run_dir, inputs.cases("test"))
    if shard.process_index == 0:
        print(format_segmentation_table(results))
        print(f"report: {write_report(run_dir)}")


if __name__ == "__main__":
    run_command("train.py", main)
