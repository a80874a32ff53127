"""Synthetic finished runs of the tables of the paper."""

import functools
import json
from importlib import import_module

import numpy as np

from benchmarks.paper import printed
from lmf_jax.cli.command_line import parse_config
from lmf_jax.evaluation.classification.summary import summarize_test

IMAGES_PER_CLASS = 20


def make_predictions(num_classes, noise_seed, signal):
    """Predictions of a model, the better the larger the signal."""
    random = np.random.default_rng(noise_seed)
    labels = np.repeat(np.arange(num_classes), IMAGES_PER_CLASS)
    logits = random.normal(size=(len(labels), num_classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += signal
    ids = np.array([f"image_{number}" for number in range(len(labels))])
    return {"ids": ids, "labels": labels, "logits": logits}


@functools.cache
def make_test(class_names, noise_seed, signal):
    made = make_predictions(len(class_names), noise_seed, signal)
    return summarize_test(made["labels"], made["logits"], class_names)


def write_run(run, *, noise_seed=0, signal=2.0, validation=0.5):
    """Write the folder of a :class:`benchmarks.paper.runs.Run`; return its ``test.json``."""
    config = parse_config(run.flags).resolve({"split": "paper"})
    names = import_module(f"data.datasets.{config.data.dataset}.labels").CLASSES
    train = [printed.class_f1()[config.data.dataset][name].train for name in names]
    held_out = [IMAGES_PER_CLASS] * len(names)
    record = {
        "config": config.record() | {"run_dir": str(run.folder)},
        "dataset": {
            "name": config.data.dataset,
            "fingerprint": "sha256:0123abcd",
            "class_names": names,
            "class_counts": {"train": train, "validation": held_out, "test": held_out},
        },
        "versions": {"jax": "0.10.2"},
        "git_commit": None,
        "device": {"platform": "gpu", "kind": "made-up", "count": 1, "process_count": 1},
    }
    epoch = dict.fromkeys(("train_loss", "val_loss", "val_accuracy", "learning_rate"), 0.5)
    history = [epoch | {"epoch": 1, "val_macro_f1": validation}]
    history.append(epoch | {"epoch": 2, "val_macro_f1": validation - 0.1})
    test = make_test(names, noise_seed, signal)
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text(json.dumps(record))
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in history))
    np.savez(run.folder / "predictions.npz", **make_predictions(len(names), noise_seed, signal))
    (run.folder / "test.json").write_text(json.dumps(test))
    return test
