"""``python -m lmf_jax explain RUN IMAGE --output FOLDER``: Grad-CAM overlays on images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from lmf_jax.cli.arguments import Ensemble, RunDir, TtaMode
from lmf_jax.cli.image_batches import (
    check_stems,
    image_stems,
    open_batches,
    print_lines,
    refuse_broken,
)
from lmf_jax.cli.members import load_predictor
from lmf_jax.cli.tasks import TASKS
from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.gradcam import hottest_slices, resize_heat
from lmf_jax.output_files import make_folder, plan_outputs
from lmf_jax.runs.files import common_task

if TYPE_CHECKING:
    from data.inputs.image_files import InferenceImages

TINY = np.finfo(np.float32).tiny
LARGEST_PICTURE = 2000
"""Pixels on the longer side of an explanation."""


@dataclass(frozen=True)
class Explain:
    """Draw Grad-CAM over images, for the predicted class or for each predicted label."""

    run: RunDir
    images: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="IMAGE", help="Images, folders of images, or lists of images (a CSV file)."
        ),
    ]
    output: str
    """The folder for the pictures, one PNG per image and class or label, named after both."""
    ensemble: Ensemble = ()
    tta: TtaMode = "none"
    overwrite: bool = False
    """Replace existing files; the images that are read are never replaced."""


def run_explain(options: Explain) -> None:
    """Write a picture of each image and print its predicted class or labels.

    All images are predicted first, since the names of the pictures contain the classes.
    """
    from data.inputs.image_files import given_images, skipped_lines

    if not options.images:
        raise UserError("No image was given; name images or folders of images.")
    output = Path(options.output).expanduser()
    task = TASKS[common_task((options.run, *options.ensemble))]
    if task.explain is None:
        raise UserError(
            f"The task of the run in {options.run} is {task.name}, which has no Grad-CAM; give a "
            "run with classes or labels of images."
        )
    model = load_predictor(task, (options.run, *options.ensemble), options.tta)
    spec = model.config.data.image_spec
    files, metadata = given_images(options.images, spec)
    check_stems(files)
    make_folder(output)
    batches = open_batches(files, model.config, model.dataset, model.encoding, metadata)
    explained = []
    for batch in batches:
        of_images = task.explain(model, batch)
        for i in np.flatnonzero(batch["mask"]).tolist():
            example = int(batch["label"][i])
            for index, probability, heat in of_images[i]:
                name, scaled = model.class_names[index], np.asarray(heat) / max(heat.max(), TINY)
                for file, part in batches.parts(example, scaled):
                    explained.append((file, name, probability, part))
    names = [name for _, name, *_ in explained]
    stems = image_stems(file for file, *_ in explained)
    stems = [f"{stem}-{name}" for stem, name in zip(stems, names, strict=True)]
    pictures = plan_outputs(stems, ".png", output, inputs=files, overwrite=options.overwrite)
    for (file, name, probability, heat), picture in zip(explained, pictures, strict=True):
        _draw_heat(file, heat, picture, batches)
        print(f"{file}: {name} ({probability:.3f}), {picture}")
    print_lines(line for path in options.images for line in skipped_lines(path, output, spec))
    print_lines(batches.remarks())
    refuse_broken(batches.files, batches.broken)


def _draw_heat(file: Path, heat: np.ndarray, picture: Path, batches: "InferenceImages") -> None:
    """Overlay a Grad-CAM map in [0, 1] on an image in its own size, up to that of a screen.

    Of a volume, it is the axial slice with the most heat. What the model did not see, because it
    was cut off, has no heat.
    """
    from PIL import Image

    from data.formats.image_file import read_image_file
    from data.formats.images import open_rgb
    from data.formats.intensity import FULL_RANGE
    from data.formats.placement import place
    from data.formats.volumes import axial_picture, read_volume
    from data.storage import replacing
    from lmf_jax.evaluation.classification.explanations import overlay

    encoded, intensity_range = read_image_file(file), batches.intensity_range or FULL_RANGE
    if batches.spec.depth is None:
        image = open_rgb(encoded, intensity_range)
    else:
        volume = read_volume(encoded, intensity_range)
        (index,), heats = hottest_slices(heat[None], len(volume))
        image, heat = axial_picture(volume, int(index)).convert("RGB"), np.asarray(heats)[0, ::-1]
    image.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE))
    placement = place(batches.spec, image.size)
    left, top, right, bottom = placement.frame
    framed = heat.max() * np.asarray(resize_heat(heat[None], bottom - top, right - left))[0]
    with replacing(picture) as target:
        Image.fromarray(overlay(np.asarray(image), placement.restore_map(framed))).save(
            target, format="png"
        )
