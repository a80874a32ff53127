"""Predictions of a segmenter for image files or cases, as masks or label maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmf_jax.cli.image_batches import (
    check_stems,
    first_names,
    image_stems,
    open_batches,
    print_lines,
    refuse_broken,
)
from lmf_jax.cli.predict_options import Predict
from lmf_jax.errors import UserError
from lmf_jax.inference.segmenter import TrainedSegmenter
from lmf_jax.inference.segmenter_ensemble import SegmenterEnsemble
from lmf_jax.output_files import plan_outputs


def predict_masks(model: TrainedSegmenter | SegmenterEnsemble, options: Predict) -> None:
    """Write a mask per image, or a label map per case of a run of volumes.

    Args:
        model: The model of a run, or an ensemble.
        options: The command line.

    Raises:
        UserError: If a path or a flag does not fit, or images cannot be decoded; the others are
            predicted.
    """
    if options.sets:
        raise UserError(
            f"--sets is for classification, and the run in {options.run} is a segmentation; leave "
            "it out."
        )
    if options.prevalence is not None:
        raise UserError("--prevalence is for classification runs; leave it out.")
    if options.operating_point is not None:
        raise UserError("--operating-point is for classification runs; leave it out.")
    is_volumes = model.config.data.patch_size is not None
    predict = _predict_volumes if is_volumes else _predict_images
    predict(model, options.images, options.output, overwrite=options.overwrite)


def _predict_images(
    segmenter: TrainedSegmenter | SegmenterEnsemble, images: str, output: str, *, overwrite: bool
) -> None:
    """Write a PNG of class ids per image, in the size of the image.

    What was padded is removed, and what was cut off is the background.
    """
    from data.formats.image_file import read_image_file
    from data.formats.images import open_rgb
    from data.formats.placement import place
    from data.formats.png import save_mask
    from data.inputs.image_files import image_files, skipped_lines

    files = image_files(images)
    check_stems(files)
    paths = _plan(image_stems(files), ".png", output, files, overwrite)
    batches = open_batches(files, segmenter.config, segmenter.dataset)
    for batch in batches:
        predictions = segmenter.segment(batch["image"])
        for i in np.flatnonzero(batch["mask"]):
            index = batch["label"][i]  # of files without labels, their index in the list
            size = open_rgb(read_image_file(files[index])).size
            placement = place(segmenter.config.data.image_spec, size)
            save_mask(placement.restore_mask(predictions[i]), paths[index])
    num_predicted = len(files) - len(batches.broken)
    print(f"{num_predicted:,} of {len(files):,} images segmented: {output}")
    print_lines(skipped_lines(images, Path(output).expanduser()))
    print_lines(batches.remarks())
    refuse_broken(files, batches.broken)


def _predict_volumes(
    segmenter: TrainedSegmenter | SegmenterEnsemble, images: str, output: str, *, overwrite: bool
) -> None:
    """Write a NIfTI label map per case, on the grid of the files of the case."""
    from data.inputs.volume_files import (
        find_inference_cases,
        read_inference_volume,
        skipped_lines,
        spec_of_run,
    )

    spec = spec_of_run(segmenter.dataset)
    cases = find_inference_cases(spec, images)
    inputs = [file for case in cases for file in case.existing_paths()]
    stems = [case.id for case in cases]
    paths = _plan(stems, ".nii.gz", output, inputs, overwrite)
    broken = []
    for case, path in zip(cases, paths, strict=True):
        try:
            volume = read_inference_volume(spec, case)
        except UserError as error:
            broken.append(f"{case.id} ({str(error).rstrip('.')})")
            continue
        volume.save_labels(segmenter.probabilities(volume.image), path)
    print(f"{len(cases) - len(broken):,} of {len(cases):,} cases segmented: {output}")
    print_lines(skipped_lines(images, cases, Path(output).expanduser()))
    if broken:
        raise UserError(f"Cannot segment {first_names(broken)}; all other cases are done.")


def _plan(
    stems: Sequence[str], suffix: str, output: str, inputs: Sequence[Path], overwrite: bool
) -> list[Path]:
    """Return the file to write for each stem; print those with another name than the stem."""
    folder = Path(output).expanduser()
    paths = plan_outputs(stems, suffix, folder, inputs=inputs, overwrite=overwrite)
    for stem, path in zip(stems, paths, strict=True):
        if path.name != stem + suffix:
            print(f"{stem}: written as {path.name}")
    return paths
