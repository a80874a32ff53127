"""Grad-CAM against lesion masks: ``python -m benchmarks.gradcam_masks RUN --masks-dir DIR``.

Grad-CAM of the predicted class of every test image is compared with the mask of the lesion: the
fraction of the heat inside the mask ("energy"), and how often its maximum is inside ("hit", the
pointing game without tolerance). The baselines do not depend on the image: "chance" is uniform
heat, that is, the area of the mask; "cell chance" is the hit rate of a random cell of the map. On a
map of 2x2 cells all maxima are near the corners, so compare hits with "cell chance", and use images
large enough for a map of 7x7. The intervals are of the mean, from resampled images.

``--figure`` draws a figure like Fig. 3 of Sadi et al.: a row per image, a column per run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Array, Bool, Float, Int, Shaped
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.record import record
from data.batches.image_cache import Images
from data.formats.images import read_encoded, reason
from data.formats.masks import decode_mask
from lmf_jax.cli.tasks import TASKS
from lmf_jax.config import ImageSpec
from lmf_jax.distributed.initialize import initialize
from lmf_jax.errors import UserError, run_command
from lmf_jax.evaluation.classification.explanations import (
    ExplainedImage,
    Explanation,
    draw_explanations,
)
from lmf_jax.evaluation.classification.gradcam import energy_inside, pointing_game, resize_heat
from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.run import FinishedRun, read_run
from lmf_jax.evaluation.classification.scores import softmax
from lmf_jax.evaluation.figures import save_figure
from lmf_jax.evaluation.resampling import NUM_RESAMPLES, Groups, percentile_interval, resample
from lmf_jax.evaluation.shown_images import as_rgb
from lmf_jax.inference.classifier import TrainedClassifier, load_classifier

BATCH_SIZE = 32


@dataclass(frozen=True)
class Options:
    """Compare the Grad-CAM maps of runs with lesion masks."""

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of finished runs."""
    masks_dir: str
    """The folder of the masks: <image>_segmentation.png for every image."""
    data_dir: str | None = None
    """The folder of prepared datasets and image caches (default: that of each run)."""
    figure: str | None = None
    """A PNG file to draw examples to, with a column for each run."""
    images: Annotated[int, tyro.conf.arg(metavar="N")] = 7
    """Examples in the figure: one of each class in turn, in the order of the test part."""

    def __post_init__(self) -> None:
        """Refuse options without a run or an image."""
        if not self.runs:
            raise UserError("No run was given; expected the folders of one or more finished runs.")
        if self.images < 1:
            raise UserError(f"--images is {self.images}; expected a whole number of at least 1.")


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A run with its model, its test images and their predictions.

    Attributes:
        name: Its name in the table and the figure.
        trained: The model.
        finished: Ids, labels and logits of the test part.
        images: All images of the dataset, before normalization.
        rows: Rows of the test part, ``[n]``.
    """

    name: str
    trained: TrainedClassifier
    finished: FinishedRun
    images: Images
    rows: Int[np.ndarray, " n"]

    @property
    def predictions(self) -> Int[np.ndarray, " n"]:
        """The predicted class of every test image."""
        return predicted_classes(self.finished.logits)

    @property
    def probabilities(self) -> Float[np.ndarray, "n classes"]:
        """The probabilities of the classes."""
        return softmax(self.finished.logits)


def main() -> None:
    """Print a row for each run and class, and draw the examples."""
    options = tyro.cli(Options)
    initialize()
    names = names_of(options.runs)
    runs = [load_run(path, name, options.data_dir) for path, name in names.items()]
    masks_dir = Path(options.masks_dir).expanduser()
    rows = [row for run in runs for row in rows_of(run, scores_of(run, masks_dir))]
    record("gradcam_masks", rows, resamples=NUM_RESAMPLES)
    if options.figure is not None:
        path = Path(options.figure).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(draw_examples(runs, masks_dir, options.images), path)
        print(f"drawn to {path}")


def names_of(paths: Sequence[str]) -> dict[str, str]:
    """Return the name of each run: its loss, or its path if losses are not unique."""
    losses = [read_run(path).config["loss"] for path in paths]
    return dict(zip(paths, losses if len(set(losses)) == len(paths) else paths, strict=True))


def load_run(path: str, name: str, data_dir: str | None) -> OpenedRun:
    """Open a finished run and its test images.

    Raises:
        UserError: If the run is not finished, or its dataset has changed.
    """
    trained, finished = load_classifier(path), read_run(path)
    inputs = TASKS["classification"].inputs_of_run(trained, data_dir)
    return OpenedRun(name, trained, finished, inputs.images, inputs.dataset.rows["test"])


def heat_of(run: OpenedRun, tests: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m rows columns"]:
    """Return the Grad-CAM maps of the predicted class of test images, given by index."""
    # The last batch is filled with its last image: another shape would compile again.
    padded = np.pad(tests, (0, -len(tests) % BATCH_SIZE), mode="edge")
    batches = padded.reshape(-1, BATCH_SIZE)
    heat = [
        run.trained.heat(run.images[run.rows[batch]], run.predictions[batch])
        for batch in tqdm(batches, desc=f"Grad-CAM {run.name}", leave=False, disable=None)
    ]
    return np.concatenate(heat)[: len(tests)]


def scores_of(run: OpenedRun, masks_dir: Path) -> dict[str, Float[np.ndarray, " n"]]:
    """Return energy, hit and both chances of every test image; NaN without a score."""
    spec = run.trained.config.data.image_spec
    heat = heat_of(run, np.arange(len(run.rows)))
    cells = maximum_of_random_cell(heat.shape[1:], spec)
    scores = []
    for start in range(0, len(heat), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        masks = read_masks(masks_dir, run.finished.ids[batch], spec)
        large = resize_heat(heat[batch], *spec.size)
        game = pointing_game(large, masks)
        cell_chance = np.where(masks, cells, 0).sum((1, 2))
        scores.append((energy_inside(large, masks), game.hit, game.chance, cell_chance))
    names = ("energy", "hit", "chance", "cell chance")
    return {
        name: np.concatenate(values)
        for name, values in zip(names, zip(*scores, strict=True), strict=True)
    }


def maximum_of_random_cell(
    map_shape: tuple[int, int], spec: ImageSpec
) -> Float[np.ndarray, "height width"]:
    """Return the probability of each pixel to be the maximum of an enlarged random cell."""
    rows, columns = map_shape
    cells = np.eye(rows * columns, dtype=np.float32).reshape(-1, rows, columns)
    large = np.asarray(resize_heat(cells, *spec.size))
    at_maximum = large == large.max((1, 2), keepdims=True)
    return (at_maximum / at_maximum.sum((1, 2), keepdims=True)).mean(0)


def read_masks(
    folder: Path, ids: Shaped[np.ndarray, " n"], spec: ImageSpec
) -> Bool[np.ndarray, "n height width"]:
    """Read the masks of these images, resized to a square like the images.

    Raises:
        UserError: If a mask is missing or cannot be decoded.
    """
    masks = np.empty((len(ids), *spec.size), bool)
    for mask, name in zip(masks, ids.tolist(), strict=True):
        path = folder / f"{name}_segmentation.png"
        try:
            mask[:] = decode_mask(read_encoded(path), spec, num_classes=2)
        except FileNotFoundError:
            raise UserError(
                f"There is no mask {path}; expected <image>_segmentation.png in --masks-dir for "
                "every test image."
            ) from None
        except Exception as error:  # Pillow's formats raise nearly everything
            raise UserError(f"The mask {path} cannot be decoded ({reason(error)}).") from error
    return masks


def rows_of(run: OpenedRun, scores: Mapping[str, Float[np.ndarray, " n"]]) -> list[dict[str, Any]]:
    """Return a row for all test images and one for each class, by the true class."""
    labels = run.finished.labels
    classes = {name: labels == i for i, name in enumerate(run.trained.class_names)}
    parts = {"all": np.ones(len(labels), bool)} | classes
    return [
        {"run": run.name, "class": name, **summarize(run.finished, scores, part)}
        for name, part in parts.items()
        if part.any()
    ]


def summarize(
    finished: FinishedRun,
    scores: Mapping[str, Float[np.ndarray, " n"]],
    part: Bool[np.ndarray, " n"],
) -> dict[str, Any]:
    """Return the means over a part of the images, with their intervals.

    Images without a score (an empty mask, or no heat for the predicted class) are counted and left
    out of all columns, so the baselines cover the same images.
    """
    scored = part & ~np.isnan(scores["hit"])
    labels, groups = finished.labels[scored], finished.groups
    row: dict[str, Any] = {"images": int(part.sum()), "scored": int(scored.sum())}
    row["drawn"] = "images" if groups is None else "groups"
    for name in ("energy", "hit"):
        values = scores[name][scored]
        low, high = interval_of_mean(values, labels, None if groups is None else groups[scored])
        row |= {name: mean_of(values), f"{name} low": low, f"{name} high": high}
    return row | {name: mean_of(scores[name][scored]) for name in ("chance", "cell chance")}


def mean_of(values: Float[np.ndarray, " n"]) -> float | None:
    """Return the mean; None without values, since JSON has no NaN."""
    return float(values.mean(dtype=np.float64)) if len(values) else None


def interval_of_mean(
    values: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"], groups: Groups | None
) -> tuple[float | None, float | None]:
    """Return the 2.5th and 97.5th percentile of the means of resamples; None without values.

    Args:
        values: The score of each image.
        labels: Class ids, by which the resamples are stratified.
        groups: Lesion of each image, see :func:`lmf_jax.evaluation.resampling.resample`.
    """
    if not len(values):
        return None, None
    means = resample(
        _weighted_mean,
        values,
        labels,
        int(labels.max()) + 1,
        groups=groups,
        num_resamples=NUM_RESAMPLES,
        seed=0,
    )
    low, high = percentile_interval(means)
    return float(low), float(high)


def _weighted_mean(
    values: Float[Array, " n"], weights: Float[Array, " n"], num_classes: int
) -> Float[Array, ""]:
    return (weights * values).sum() / weights.sum()


def draw_examples(runs: Sequence[OpenedRun], masks_dir: Path, count: int) -> Figure:
    """Draw test images with the outline of the lesion, and the Grad-CAM map of each run."""
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.finished.ids, first.finished.ids):
            raise UserError(
                f"The runs {first.name} and {run.name} were tested on different images; a figure "
                "needs runs of one dataset and split."
            )
    tests = of_each_class_in_turn(first.finished.labels, count)
    spec = first.trained.config.data.image_spec
    masks = read_masks(masks_dir, first.finished.ids[tests], spec)
    columns = {run.name: explanations_of(run, tests, spec) for run in runs}
    names = first.trained.class_names
    examples = [
        ExplainedImage(
            name=str(first.finished.ids[test]),
            image=as_rgb(first.images[first.rows[[test]]][0]),
            explanations={name: column[i] for name, column in columns.items()},
            true_class=names[first.finished.labels[test]],
            mask=masks[i],
        )
        for i, test in enumerate(tests.tolist())
    ]
    return draw_explanations(examples)


def of_each_class_in_turn(labels: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " m"]:
    """Return the first image of each class, then the second, and so on, whatever the results."""
    turn = np.zeros(len(labels), int)
    for class_id in np.unique(labels):
        members = labels == class_id
        turn[members] = np.arange(members.sum())
    return np.lexsort((labels, turn))[:count]


def explanations_of(
    run: OpenedRun, tests: Int[np.ndarray, " m"], spec: ImageSpec
) -> list[Explanation]:
    """Return the explanations of a run for its predicted classes of these test images."""
    heats = np.asarray(resize_heat(heat_of(run, tests), *spec.size))
    return [
        Explanation(heat, run.trained.class_names[class_id], float(probabilities[class_id]))
        for heat, class_id, probabilities in zip(
            heats, run.predictions[tests].tolist(), run.probabilities[tests], strict=True
        )
    ]


if __name__ == "__main__":
    run_command("benchmarks.gradcam_masks", main)
