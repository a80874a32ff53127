"""One of several processes that train the tiny model, started by ``test_processes``."""

import sys
from pathlib import Path

import numpy as np

from data.batches.pipeline import evaluation_batches, train_batches
from lmf_jax.cli.command_line import parse_config
from lmf_jax.distributed.initialize import initialize
from lmf_jax.inference.classifier import TrainedClassifier, explain_mistakes
from lmf_jax.training import classification, loop
from tests.helpers.tiny_training import NUM_CLASSES, random_batch, tiny_model


def main(folder: Path, arguments: list[str]) -> None:
    """Train and test; the first process writes what it found and explains it."""
    config = parse_config([*arguments, "--run-dir", str(folder)]).resolve({})
    initialize(config.run)
    import jax  # after the processes have met

    classification.create_model = lambda name, **settings: tiny_model(**settings)
    examples = random_batch(0, 48)
    images = examples["image"].repeat(2, 1).repeat(2, 2)  # settings ask for 32 pixels or more
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    rows = np.arange(48)
    training = train_batches(
        images, examples["label"], rows[:40], batch_size=config.training.batch_size, seed=0, **share
    )
    validation = evaluation_batches(
        images, examples["label"], rows[37:], batch_size=config.training.batch_size, **share
    )
    counts = np.bincount(examples["label"][:40], minlength=NUM_CLASSES)
    program = classification.make_classification(config, counts)
    variables = loop.fit(config.training, config.run, program, folder, training, validation)
    logits, labels = classification.predict(program.predict_step, variables, validation)
    if jax.process_index() == 0:
        np.save(folder / "logits.npy", logits)
        # As train.py does, while the other processes may be gone.
        normalization = program.settings.normalization
        trained = TrainedClassifier(config, {}, program.model, variables, normalization)
        explain_mistakes(folder, trained, images, rows[37:], labels, logits)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
