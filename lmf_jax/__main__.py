"""``python -m lmf_jax evaluate|predict|explain|compare``: what comes after training.

The commands that need images import ``data``, which lies in the checkout beside this package.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import numpy as np
import tyro

from lmf_jax.config import Config
from lmf_jax.errors import UserError, parse_in_one_line, run_command
from lmf_jax.evaluation.comparison import compare_runs, format_comparison
from lmf_jax.evaluation.gradcam import resize_heat
from lmf_jax.evaluation.report import format_test_table, write_report
from lmf_jax.evaluation.run_files import CLASSIFICATION, SEGMENTATION, common_task
from lmf_jax.evaluation.scores import softmax
from lmf_jax.evaluation.segmentation_comparison import (
    compare_segmentation_runs,
    format_segmentation_comparison,
)
from lmf_jax.evaluation.segmentation_report import format_segmentation_table
from lmf_jax.evaluation.summary import test_summary
from lmf_jax.output_files import check_outputs, make_folder, plan_outputs
from lmf_jax.training.run_folder import write_test
from lmf_jax.training.start_up import start_up
from lmf_jax.training.trained import explain_mistakes, load_trained
from lmf_jax.training.trained_segmenter import (
    TrainedSegmenter,
    load_segmenter,
    summarise_cases,
    test_segmenter,
)

if TYPE_CHECKING:
    from data.formats.intensity import IntensityRange
    from data.inputs.image_files import LooseImages

LARGEST_PICTURE = 2000
"""Pixels on the longer side of an explanation."""

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
    """Ask the best epoch of a run what it sees: a line of CSV for each image, or a mask.

    A run of volumes takes the folder of a case with the files of its dataset, such as
    imaging.nii.gz, or a folder of such folders; no label map is needed.
    """

    run: RunDir
    images: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE|FOLDER", help="What to look at.")
    ]
    output: str
    """The CSV file: path, predicted class, its probability, and the probability of each class; of a
    segmentation the folder for the masks, PNGs of class ids in the size of their images; of volumes
    CASE.nii.gz, voxel by voxel over the files of the case, with the labels of the dataset."""
    overwrite: bool = False
    """Replace files of these names that exist; the images that are read are never replaced."""


@dataclass(frozen=True)
class Explain:
    """Show by Grad-CAM where in images a run finds its reasons for the class that it predicts.

    Runs of segmentation are no classifiers: their predictions show themselves.
    """

    run: RunDir
    images: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="IMAGE", help="Images, or folders of them."),
    ]
    output: str
    """The folder for the pictures, one PNG an image, named after it and the class."""
    overwrite: bool = False
    """Replace pictures of these names that exist; the images that are read are never replaced."""


@dataclass(frozen=True)
class Compare:
    """Say which differences between runs on the same test images or cases hold, and how surely."""

    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="The folders of two or more runs."),
    ]


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
    rows, batch_size = dataset.rows[part], _batch_size(config)
    logits, labels = trained.predict(
        evaluation_batches(images, dataset.labels, rows, batch_size=batch_size)
    )
    train_counts = dataset.class_counts("train").tolist()
    of = (labels, logits, dataset.class_names, dataset.groups_of(part))
    if part == "test":
        run_dir = Path(options.run)
        results = write_test(run_dir, dataset.ids[rows], *of)
        explain_mistakes(run_dir, trained, images, rows, labels, logits)
        print(format_test_table(results, train_counts))
        print(f"report: {write_report(run_dir)}")
    else:
        print(format_test_table(test_summary(*of), train_counts, part))


def _evaluate_segmenter(options: Evaluate) -> None:
    from data.inputs.segmentation import inputs_of_run

    trained = load_segmenter(options.run)
    batch_size = _batch_size(trained.config)
    fingerprint = trained.dataset["fingerprint"]
    inputs = inputs_of_run(trained.config, fingerprint, batch_size, options.data_dir)
    cases = inputs.cases(options.split)
    if options.split == "test":
        print(format_segmentation_table(test_segmenter(trained, Path(options.run), cases)))
        print(f"report: {write_report(options.run)}")
    else:
        print(format_segmentation_table(summarise_cases(trained, cases), options.split))


def run_predict(options: Predict) -> None:
    """Predict every image and write the result; name what could not be decoded."""
    if common_task([options.run]) == CLASSIFICATION:
        _predict_classes(options)
        return
    trained = load_segmenter(options.run)
    if trained.config.patch_size is None:
        _predict_masks(options, trained)
    else:
        _predict_label_maps(options, trained)


def _predict_label_maps(options: Predict, trained: TrainedSegmenter) -> None:
    from data.inputs.volume_files import loose_cases, read_loose_volume, skipped_in
    from data.volume_spec import volume_kind

    kind = volume_kind(trained.dataset["name"])
    cases = loose_cases(kind, options.images)
    inputs = [file for case in cases for file in case.existing_paths()]
    stems = [case.id for case in cases]
    paths = _plan(stems, ".nii.gz", options.output, inputs, options.overwrite)
    broken = []
    for case, path in zip(cases, paths, strict=True):
        try:
            volume = read_loose_volume(kind, case)
        except UserError as error:
            broken.append(f"{case.id} ({str(error).rstrip('.')})")
            continue
        volume.save_labels(trained.probabilities(volume.image), path)
    print(f"{len(cases) - len(broken):,} of {len(cases):,} cases segmented: {options.output}")
    _print_lines(skipped_in(options.images, cases, Path(options.output).expanduser()))
    if broken:
        raise UserError(f"Cannot segment {_first_of(broken)}; all other cases are done.")


def _predict_masks(options: Predict, trained: TrainedSegmenter) -> None:
    from data.formats.images import open_rgb, read_encoded
    from data.formats.mask_encoding import save_mask
    from data.inputs.image_files import image_files, skipped_in

    files = image_files(options.images)
    _check_stems(files)
    stems = [file.stem for file in files]
    paths = _plan(stems, ".png", options.output, files, options.overwrite)
    batches = _batches_of(files, trained.config, trained.dataset)
    for batch in batches:
        predictions = trained.segment(batch["image"])
        for i in np.flatnonzero(batch["mask"]):
            place = batch["label"][i]
            size = open_rgb(read_encoded(files[place])).size
            save_mask(predictions[i], size, paths[place])
    num_predicted = len(files) - len(batches.broken)
    print(f"{num_predicted:,} of {len(files):,} images segmented: {options.output}")
    _print_lines(skipped_in(options.images, Path(options.output).expanduser()))
    _print_lines(batches.remarks())
    _name_broken(files, batches.broken)


def _predict_classes(options: Predict) -> None:
    from data.inputs.image_files import image_files, skipped_in

    output = Path(options.output).expanduser()
    if output.suffix.lower() != ".csv" or output.is_dir():
        raise UserError(f"--output {output} is no CSV file; give one that ends in .csv.")
    if not output.parent.is_dir():
        raise UserError(f"There is no folder {output.parent} to write {output.name} into.")
    files = image_files(options.images)
    check_outputs([output], inputs=files, overwrite=options.overwrite)
    trained = load_trained(options.run)
    batches = _batches_of(files, trained.config, trained.dataset)
    logits, places = trained.predict(batches)
    _write_predictions(output, [files[place] for place in places], logits, trained.class_names)
    print(f"{len(places):,} of {len(files):,} images predicted: {output}")
    _print_lines(skipped_in(options.images, output))
    _print_lines(batches.remarks())
    _name_broken(files, batches.broken)


def run_explain(options: Explain) -> None:
    """Write a picture for each image and print what was predicted.

    All images are predicted first: only then are the names of the pictures known.
    """
    from data.inputs.image_files import image_files, skipped_in

    files = [file for path in options.images for file in image_files(path)]
    _check_stems(files)
    output = Path(options.output).expanduser()
    make_folder(output)
    trained = load_trained(options.run)
    batches = _batches_of(files, trained.config, trained.dataset)
    explained = []
    for batch in batches:
        class_ids, probabilities, heats = trained.explain(batch["image"])
        for i in np.flatnonzero(batch["mask"]):
            file, name = files[batch["label"][i]], trained.class_names[class_ids[i]]
            explained.append((file, name, probabilities[i], heats[i]))
    stems = [f"{file.stem}-{name}" for file, name, *_ in explained]
    pictures = plan_outputs(stems, ".png", output, inputs=files, overwrite=options.overwrite)
    for (file, name, probability, heat), picture in zip(explained, pictures, strict=True):
        _draw_heat(file, heat, picture, batches.intensity_range)
        print(f"{file}: {name} ({probability:.3f}), {picture}")
    _print_lines(line for path in options.images for line in skipped_in(path, output))
    _print_lines(batches.remarks())
    _name_broken(files, batches.broken)


def run_compare(options: Compare) -> None:
    """Print the tables of a comparison."""
    if options.runs and common_task(options.runs) == SEGMENTATION:
        print(format_segmentation_comparison(compare_segmentation_runs(options.runs)))
    else:
        print(format_comparison(compare_runs(options.runs)))


def _batch_size(config: Config) -> int:
    """Return the batch size of the run, rounded up to what these devices can share."""
    devices = jax.device_count()
    return math.ceil(config.batch_size / devices) * devices


def _write_predictions(
    output: Path, files: Sequence[Path], logits: np.ndarray, class_names: Sequence[str]
) -> None:
    from data.storage import replacing

    undefined = np.isnan(logits).any(axis=1)
    if undefined.any():
        raise UserError(f"The model gives NaN for {files[undefined.argmax()]}; its run diverged.")
    probabilities = softmax(logits)
    with replacing(output) as target:
        # A file name may hold bytes that are no UTF-8: they are written as they are.
        file = io.TextIOWrapper(target, "utf-8", "surrogateescape", newline="")
        writer = csv.writer(file)
        writer.writerow(["path", "prediction", "probability", *(f"p({n})" for n in class_names)])
        for path, row in zip(files, probabilities, strict=True):
            best = int(row.argmax())
            shares = [f"{share:.6f}" for share in row]
            writer.writerow([path, class_names[best], shares[best], *shares])
        file.detach()


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _check_stems(files: Sequence[Path]) -> None:
    """Refuse no file at all, and files whose results could not be told apart by name."""
    if not files:
        raise UserError("No image was given; name images or folders of them.")
    stems = Counter(file.stem for file in files)
    twice = next((file for file in files if stems[file.stem] > 1), None)
    if twice is not None:
        raise UserError(
            f"Several images are called {twice.stem}, and so would be what is written of them; "
            "give each an --output of its own."
        )


def _plan(
    stems: Sequence[str], suffix: str, output: str, inputs: Sequence[Path], overwrite: bool
) -> list[Path]:
    """Return the file to write for each stem; print those that are named otherwise."""
    folder = Path(output).expanduser()
    paths = plan_outputs(stems, suffix, folder, inputs=inputs, overwrite=overwrite)
    for stem, path in zip(stems, paths, strict=True):
        if path.name != stem + suffix:
            print(f"{stem}: written as {path.name}")
    return paths


def _draw_heat(
    file: Path, heat: np.ndarray, picture: Path, intensity_range: "IntensityRange | None"
) -> None:
    """Lay heat over an image in its own size, or in that of a screen if it is larger."""
    from PIL import Image

    from data.formats.images import open_rgb, read_encoded
    from data.formats.intensity import FULL_RANGE
    from data.storage import replacing
    from lmf_jax.evaluation.explanation_figures import overlay

    image = open_rgb(read_encoded(file), intensity_range or FULL_RANGE)
    image.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE))
    heat = np.asarray(resize_heat(heat[None], image.height, image.width))[0]
    with replacing(picture) as target:
        Image.fromarray(overlay(np.asarray(image), heat)).save(target, format="png")


def _batches_of(files: Sequence[Path], config: Config, dataset: Mapping[str, Any]) -> "LooseImages":
    """Return batches of image files, scaled as the images that a run was trained on."""
    from data.formats.intensity import recorded_range
    from data.inputs.image_files import LooseImages

    recorded = recorded_range(dataset.get("intensity_range"))
    return LooseImages(files, config.image_size, _batch_size(config), recorded)


def _name_broken(files: Sequence[Path], broken: dict[int, str]) -> None:
    """End with a line and an exit code if a file could not be decoded; the others are done."""
    if broken:
        named = [f"{files[place]} ({broken[place]})" for place in sorted(broken)]
        raise UserError(f"Cannot decode {_first_of(named)}; all other images are done.")


def _first_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


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
        ),
        COMMANDS,
    )
    start_up(Config())
    try:
        COMMANDS[type(options)](options)
    except ModuleNotFoundError as error:
        if error.name != "data":
            raise
        raise UserError(
            "This command reads images by the folder data of the checkout; run it from the "
            "checkout's root."
        ) from error


if __name__ == "__main__":
    run_command("lmf_jax", main)
