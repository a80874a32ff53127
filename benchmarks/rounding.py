"""The effect of rounding on a short run: ``python -m benchmarks.rounding``.

The default classifier is trained for two epochs: from the initial weights of a seed, from copies
perturbed by one float32 rounding, and from the weights of other seeds. Run it with two versions of
JAX to compare their initial bits, and whether their results differ by more than rounding explains.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tyro
from jaxtyping import PyTree

from benchmarks.record import record
from data.inputs.classification import load_for_classification, open_classification
from data.shard import Shard
from lmf_jax.config import DEFAULT_DATA_DIR, Config
from lmf_jax.distributed.devices import shard_batch
from lmf_jax.evaluation.classification.metrics import (
    classification_metrics,
    confusion_matrix,
    predicted_classes,
)
from lmf_jax.inference.predict import predict
from lmf_jax.training.classification import make_classification
from lmf_jax.training.state import TrainState

ROUNDING = 2.0**-23
"""The distance from 1 to the next float32."""


@dataclass(frozen=True)
class Options:
    """Train perturbed copies of a run, and runs of other seeds."""

    copies: int = 4
    """Perturbed copies of the run of seed 0."""
    seeds: int = 5
    """Seeds, from 0."""
    epochs: int = 2
    """Epochs of each run."""
    data_dir: str = DEFAULT_DATA_DIR
    """The folder of prepared datasets and image caches."""


def main() -> None:
    """Print one row per run."""
    record("rounding", runs(tyro.cli(Options)))


def runs(options: Options) -> Iterator[dict[str, Any]]:
    """Train every run and yield its row."""
    for seed in range(options.seeds):
        settings = Config.of(beta=0.5, seed=seed, epochs=options.epochs, data_dir=options.data_dir)
        dataset = load_for_classification(settings)
        config = settings.resolve(dataset.defaults)
        inputs = open_classification(dataset, config, Shard())
        program = make_classification(config, dataset.class_counts("train"))
        for copy in range(options.copies + 1 if seed == 0 else 1):
            state = perturbed(program.initial_state(), copy)
            row = {"seed": seed, "copy": copy, "weights": digest(state.params)}
            stream, batches = inputs.training(), []
            for step in range(program.settings.total_steps):
                batches.append(next(stream))
                state = program.train_step(state, shard_batch(batches[-1]))
                if step == 0:
                    row |= {"first loss": repr(float(state.loss_sum))}
            loss = float(state.loss_sum) / program.settings.steps_per_epoch
            row |= {"batches": digest(batches), "last epoch's loss": f"{loss:.3f}"}
            for part in ("validation", "test"):
                variables = state.evaluation_variables
                logits, labels = predict(program.predict_step, variables, inputs.batches(part))
                row[f"{part} macro F1"] = f"{macro_f1(logits, labels):.3f}"
            yield row


def perturbed(state: TrainState, copy: int) -> TrainState:
    """Return the state with weights that differ by up to one rounding; copy 0 is exact."""
    random = np.random.default_rng(copy)

    def perturb(weights: jax.Array) -> jax.Array:
        factors = 1 + ROUNDING * random.integers(-1, 2, weights.shape)
        return jax.device_put(np.asarray(weights) * factors.astype(np.float32), weights.sharding)

    return state.replace(params=jax.tree.map(perturb, state.params)) if copy else state


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the macro F1 of the predicted classes."""
    confusion = confusion_matrix(labels, predicted_classes(logits), num_classes=logits.shape[1])
    return float(classification_metrics(np.asarray(confusion)).macro_f1)


def digest(tree: PyTree) -> str:
    """Return eight hexadecimal digits of a hash of all arrays of a tree."""
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        hashed.update(np.ascontiguousarray(leaf).tobytes())
    return hashed.hexdigest()[:8]


if __name__ == "__main__":
    main()
