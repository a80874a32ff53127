"""``python -m lmf_jax predict RUN IMAGE|FOLDER --output PATH``: classes, masks or label maps."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from lmf_jax.cli.image_batches import (
    batches_of,
    check_stems,
    first_names,
    print_lines,
    refuse_broken,
)
from lmf_jax.cli.run_folder import RunDir
from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.scores import softmax
from lmf_jax.inference.classifier import load_trained
from lmf_jax.inference.segmenter import TrainedSegmenter, load_segmenter
from lmf_jax.output_files import check_outputs, plan_outputs
from lmf_jax.runs.files import CLASSIFICATION, common_task


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


def _predict_classes(options: Predict) -> None:
    from data.inputs.image_files import image_files, skipped_lines

    output = Path(options.output).expanduser()
    if output.suffix.lower() != ".csv" or output.is_dir():
        raise UserError(f"--output {output} is no CSV file; give one that ends in .csv.")
    if not output.parent.is_dir():
        raise UserError(f"There is no folder {output.parent} to write {output.name} into.")
    files = image_files(options.images)
    check_outputs([output], inputs=files, overwrite=options.overwrite)
    trained = load_trained(options.run)
    batches = batches_of(files, trained.config, trained.dataset)
    logits, places = trained.predict(batches)
    _write_predictions(output, [files[place] for place in places], logits, trained.class_names)
    print(f"{len(places):,} of {len(files):,} images predicted: {output}")
    print_lines(skipped_lines(options.images, output))
    print_lines(batches.remarks())
    refuse_broken(files, batches.broken)


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


def _predict_masks(options: Predict, trained: TrainedSegmenter) -> None:
    from data.formats.images import open_rgb, read_encoded
    from data.formats.mask_encoding import save_mask
    from data.inputs.image_files import image_files, skipped_lines

    files = image_files(options.images)
    check_stems(files)
    stems = [file.stem for file in files]
    paths = _plan(stems, ".png", options.output, files, options.overwrite)
    batches = batches_of(files, trained.config, trained.dataset)
    for batch in batches:
        predictions = trained.segment(batch["image"])
        for i in np.flatnonzero(batch["mask"]):
            place = batch["label"][i]
            size = open_rgb(read_encoded(files[place])).size
            save_mask(predictions[i], size, paths[place])
    num_predicted = len(files) - len(batches.broken)
    print(f"{num_predicted:,} of {len(files):,} images segmented: {options.output}")
    print_lines(skipped_lines(options.images, Path(options.output).expanduser()))
    print_lines(batches.remarks())
    refuse_broken(files, batches.broken)


def _predict_label_maps(options: Predict, trained: TrainedSegmenter) -> None:
    from data.inputs.volume_files import find_inference_cases, read_inference_volume, skipped_lines
    from data.volume_spec import volume_spec

    spec = volume_spec(trained.dataset["name"])
    cases = find_inference_cases(spec, options.images)
    inputs = [file for case in cases for file in case.existing_paths()]
    stems = [case.id for case in cases]
    paths = _plan(stems, ".nii.gz", options.output, inputs, options.overwrite)
    broken = []
    for case, path in zip(cases, paths, strict=True):
        try:
            volume = read_inference_volume(spec, case)
        except UserError as error:
            broken.append(f"{case.id} ({str(error).rstrip('.')})")
            continue
        volume.save_labels(trained.probabilities(volume.image), path)
    print(f"{len(cases) - len(broken):,} of {len(cases):,} cases segmented: {options.output}")
    print_lines(skipped_lines(options.images, cases, Path(options.output).expanduser()))
    if broken:
        raise UserError(f"Cannot segment {first_names(broken)}; all other cases are done.")


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
