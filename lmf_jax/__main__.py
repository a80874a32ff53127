"""``python -m lmf_jax evaluate|predict|explain|compare``: what comes after training.

The commands that need images import ``data``, which lies in the checkout beside this package.
"""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from lmf_jax.config import Config
from lmf_jax.errors import UserError, parse_in_one_line, run_command
from lmf_jax.evaluation.comparison import compare_runs, format_comparison
from lmf_jax.evaluation.gradcam import resize_heat
from lmf_jax.evaluation.report import format_test_table, write_report
from lmf_jax.evaluation.scores import softmax
from lmf_jax.evaluation.summary import test_summary
from lmf_jax.training.loop import predict
from lmf_jax.training.run_folder import write_test
from lmf_jax.training.start_up import start_up
from lmf_jax.training.trained import Trained, explain_mistakes, load_trained

if TYPE_CHECKING:
    from data.datasets import Dataset

RunDir = Annotated[
    str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="The folder of a run.")
]


@dataclass(frozen=True)
class Evaluate:
    """Score the best epoch of a run on a part of its data, each figure with its interval."""

    run: RunDir
    split: Literal["test", "validation", "train"] = "test"
    """The part; test also writes test.json, predictions.npz and the report anew."""
    data_dir: str | None = None
    """The folder of prepared datasets and image caches (by itself: that of the run)."""


@dataclass(frozen=True)
class Predict:
    """Ask the best epoch of a run what it sees in images, and write a line of CSV for each."""

    run: RunDir
    images: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE|FOLDER", help="What to look at.")
    ]
    output: str
    """The CSV file: path, predicted class, its probability, and the probability of each class."""


@dataclass(frozen=True)
class Explain:
    """Show by Grad-CAM where in images a run finds its reasons for the class that it predicts."""

    run: RunDir
    images: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="IMAGE", help="Images, or folders of them."),
    ]
    output: str
    """The folder for the pictures, one PNG an image, named after it and the class."""


@dataclass(frozen=True)
class Compare:
    """Say which differences between runs on the same test images hold, and how surely."""

    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="The folders of two or more runs."),
    ]


def run_evaluate(options: Evaluate) -> None:
    """Predict a part of the data and print its table."""
    from data.image_cache import open_images
    from data.pipeline import evaluation_batches

    trained = load_trained(options.run)
    dataset = _dataset_of(trained, options.data_dir)
    config = trained.config
    data_dir = options.data_dir or config.data_dir
    images = open_images(dataset, config.image_size, cache=config.cache, data_dir=data_dir)
    rows = dataset.rows[options.split]
    batches = evaluation_batches(images, dataset.labels, rows, batch_size=_batch_size(config))
    scale = trained.config.logit_scale
    logits, labels = predict(trained.predict_step, trained.variables, batches, scale=scale)
    if options.split == "test":
        run_dir = Path(options.run)
        results = write_test(run_dir, dataset.ids[rows], labels, logits, dataset.class_names)
        explain_mistakes(run_dir, trained, images, rows, labels, logits)
    else:
        results = test_summary(labels, logits, dataset.class_names)
    print(format_test_table(results, dataset.class_counts("train").tolist()))
    if options.split == "test":
        print(f"report: {write_report(options.run)}")


def run_predict(options: Predict) -> None:
    """Predict every image and write the file; name what could not be decoded."""
    from data.loose_images import LooseImages, image_files

    output = Path(options.output).expanduser()
    if not output.parent.is_dir():
        raise UserError(f"There is no folder {output.parent} to write {output.name} into.")
    files = image_files(options.images)
    trained = load_trained(options.run)
    batches = LooseImages(files, trained.config.image_size, _batch_size(trained.config))
    scale = trained.config.logit_scale
    logits, places = predict(trained.predict_step, trained.variables, batches, scale=scale)
    _write_predictions(output, [files[place] for place in places], logits, trained.class_names)
    print(f"{len(places):,} of {len(files):,} images predicted: {output}")
    _name_broken(files, batches.broken)


def run_explain(options: Explain) -> None:
    """Write a picture for each image and print what was predicted."""
    from PIL import Image

    from data.decoding import open_rgb
    from data.loose_images import LooseImages, image_files
    from lmf_jax.evaluation.explanation_figures import overlay

    files = [file for path in options.images for file in image_files(path)]
    trained = load_trained(options.run)
    output = Path(options.output).expanduser()
    output.mkdir(parents=True, exist_ok=True)
    batches = LooseImages(files, trained.config.image_size, min(len(files), 32))
    apply = jax.jit(trained.model.apply)
    for batch in batches:
        logits = apply(trained.variables, trained.normalise(jnp.asarray(batch["image"])))
        probabilities = softmax(trained.config.logit_scale * np.asarray(logits))
        class_ids = probabilities.argmax(-1)
        heats = trained.heat(batch["image"], class_ids)
        for i in np.flatnonzero(batch["mask"]):
            file, name = files[batch["label"][i]], trained.class_names[class_ids[i]]
            image = np.asarray(open_rgb(file.read_bytes()))
            heat = np.asarray(resize_heat(heats[i : i + 1], *image.shape[:2]))[0]
            path = output / f"{file.stem}-{name.replace('/', '-')}.png"
            Image.fromarray(overlay(image, heat)).save(path)
            print(f"{file}: {name} ({probabilities[i, class_ids[i]]:.3f}), {path}")
    _name_broken(files, batches.broken)


def run_compare(options: Compare) -> None:
    """Print the tables of a comparison."""
    print(format_comparison(compare_runs(options.runs)))


def _dataset_of(trained: Trained, data_dir: str | None) -> "Dataset":
    """Open the data of a run; refuse others, on which its figures would mean something else."""
    from data.datasets import load_dataset

    config = trained.config
    dataset = load_dataset(
        config.dataset,
        data_dir=data_dir or config.data_dir,
        split=config.split,
        split_seed=config.split_seed,
        imbalance_ratio=config.imbalance_ratio,
    )
    if dataset.fingerprint != trained.dataset["fingerprint"]:
        raise UserError(
            f"The images, labels or split of {config.dataset} are not those that the run was "
            "trained with; give the --data-dir that holds them."
        )
    return dataset


def _batch_size(config: Config) -> int:
    """Return the batch size of the run, rounded up to what these devices can share."""
    devices = jax.device_count()
    return math.ceil(config.batch_size / devices) * devices


def _write_predictions(
    output: Path, files: Sequence[Path], logits: np.ndarray, class_names: Sequence[str]
) -> None:
    probabilities = softmax(logits)
    temporary = output.with_name(output.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "prediction", "probability", *(f"p({n})" for n in class_names)])
        for path, row in zip(files, probabilities, strict=True):
            best = int(row.argmax())
            shares = [f"{share:.6f}" for share in row]
            writer.writerow([path, class_names[best], shares[best], *shares])
    temporary.replace(output)


def _name_broken(files: Sequence[Path], broken: dict[int, str]) -> None:
    """End with a line and exit code 1 if a file could not be decoded; the others are done."""
    if broken:
        named = ", ".join(f"{files[place]} ({broken[place]})" for place in sorted(broken)[:3])
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise UserError(f"Cannot decode {named}{more}; all other images are done.")


COMMANDS: dict[type, Callable[..., None]] = {
    Evaluate: run_evaluate,
    Predict: run_predict,
    Explain: run_explain,
    Compare: run_compare,
}


def main() -> None:
    """Run the command that the command line names."""
    options = parse_in_one_line(
        lambda: tyro.extras.subcommand_cli_from_dict(
            {kind.__name__.lower(): kind for kind in COMMANDS},
            prog="python -m lmf_jax",
            description="What comes after training.",
        )
    )
    start_up(Config())
    COMMANDS[type(options)](options)


if __name__ == "__main__":
    run_command("lmf_jax", main)
