"""A trained segmenter: prediction and evaluation of whole cases with the best epoch of a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int, Integer, Shaped, UInt8

from lmf_jax.config import ResolvedConfig
from lmf_jax.distributed.devices import MappedStep, Variables, replicate, shard_batch
from lmf_jax.distributed.gather import gather_rows
from lmf_jax.evaluation.calibration import Calibrator, read_calibrator
from lmf_jax.evaluation.classification.scores import log_probabilities
from lmf_jax.evaluation.segmentation.metrics import case_counts, hausdorff_95
from lmf_jax.evaluation.segmentation.overlays import Overlays, shown_cases, write_overlays
from lmf_jax.evaluation.segmentation.run import write_test
from lmf_jax.evaluation.segmentation.summary import Hd95Unit, summarize_test
from lmf_jax.evaluation.shown_images import as_rgb
from lmf_jax.inference.sliding_window import segment_volume, volume_probabilities
from lmf_jax.inference.steps import make_predict_step
from lmf_jax.models import create_model
from lmf_jax.models.normalization import AnyNormalization
from lmf_jax.runs.best_checkpoint import read_best
from lmf_jax.runs.files import SEGMENTATION, read_record_of
from lmf_jax.runs.folder import read_config
from lmf_jax.runs.folds import require_single_run

Images = Shaped[np.ndarray, "batch *space channels"]
LabelMaps = Integer[np.ndarray, "batch *space"]


@runtime_checkable
class Cases(Protocol):
    """The cases of a part of the data."""

    @property
    def ids(self) -> Shaped[np.ndarray, " n"]:
        """Names of all cases."""

    @property
    def groups(self) -> Shaped[np.ndarray, " n"] | None:
        """Patients or lesions of all cases; None if unknown."""

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Edges of a voxel in mm; None for images, whose spacing is unknown."""

    def __iter__(self) -> Iterator[tuple[Int[np.ndarray, " batch"], Images, LabelMaps]]:
        """Yield batches of this process's cases: indices in the part (-1: padding), images, labels.

        Every batch can be sharded over the devices of the process.
        """

    def read(
        self, index: int
    ) -> tuple[Shaped[np.ndarray, "*space channels"], Integer[np.ndarray, "*space"]]:
        """Return the image and the labels of one case."""


@runtime_checkable
class Segmenter(Protocol):
    """A model, or an ensemble of models, that segments images or volumes."""

    @property
    def config(self) -> ResolvedConfig:
        """The settings of the run, for an ensemble those of the first."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, by class id, the background first."""

    def segment(self, images: Images) -> LabelMaps:
        """Return the class of every pixel or voxel."""


@dataclass(frozen=True)
class TrainedSegmenter:
    """The model of the best epoch of a run.

    Attributes:
        config: The settings of the run; a patch size means volumes.
        dataset: The recorded description of the data: ``name``, ``fingerprint``, ``class_names``
            and more.
        model: The segmenter.
        variables: ``{"params", "batch_stats"}``, on the devices.
        normalization: Normalization of the images; None for volumes, which come normalized.
        calibrator: Calibration of the probabilities; None if they are not calibrated.
    """

    config: ResolvedConfig
    dataset: Mapping[str, Any]
    model: nn.Module
    variables: Variables
    normalization: AnyNormalization | None
    calibrator: Calibrator | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, by class id, the background first."""
        return tuple(self.dataset["class_names"])

    @cached_property
    def _segment_step(self) -> MappedStep:
        return self._make_step("classes")

    @cached_property
    def _predict_step(self) -> MappedStep:
        return self._make_step("logits")

    def _make_step(self, output: Literal["logits", "classes"]) -> MappedStep:
        devices = jax.local_devices()
        return make_predict_step(
            self.model, self.normalization, self._dtype, devices, output=output
        )

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.dtype(self.config.model.precision)

    def segment(self, images: Images) -> LabelMaps:
        """Return the class of every pixel or voxel; volumes are segmented by sliding windows.

        Args:
            images: A batch of images, whose size the devices of this process divide, or any number
                of volumes.
        """
        if self.config.data.patch_size is not None:
            return np.stack([segment_volume(**self._windows(image)) for image in images])
        sharded = shard_batch({"image": images})
        predictions = np.asarray(self._segment_step(self.variables, sharded))
        return predictions.reshape(images.shape[:-1])

    def probabilities(
        self, volume: Float[np.ndarray, "d h w modalities"]
    ) -> Float[np.ndarray, "d h w classes"]:
        """Return the probability of each class in every voxel of a normalized volume."""
        return volume_probabilities(**self._windows(volume))

    def calibrated_probabilities(
        self, images: Images
    ) -> Float32[np.ndarray, "batch *space classes"]:
        """Return the calibrated probability of each class in every pixel or voxel.

        Args:
            images: As for :meth:`segment`.
        """
        num_classes = len(self.class_names)
        logits = self.logits(images).reshape(-1, num_classes)
        calibrator = self.calibrator or Calibrator.identity(num_classes)
        probabilities = calibrator.probabilities(logits).astype(np.float32)
        return probabilities.reshape(*images.shape[:-1], num_classes)

    def logits(self, images: Images) -> Float[np.ndarray, "batch *space classes"]:
        """Return scores whose softmax is the uncalibrated probability of each class.

        Those of volumes are the logarithms of the probabilities averaged over windows.

        Args:
            images: As for :meth:`segment`.
        """
        if self.config.data.patch_size is not None:
            return log_probabilities(np.stack([self.probabilities(volume) for volume in images]))
        sharded = shard_batch({"image": images})
        logits = np.asarray(self._predict_step(self.variables, sharded), np.float32)
        return logits.reshape(*images.shape[:-1], -1)

    def _windows(self, volume: Float[np.ndarray, "d h w modalities"]) -> dict[str, Any]:
        """Return the arguments of the sliding-window functions."""
        devices = jax.local_device_count()
        return {
            "predict": self._predict_windows,
            "volume": volume,
            "patch_size": self.config.data.patch_size,
            "num_classes": len(self.class_names),
            "batch_size": devices * max(1, self.config.training.batch_size // devices),
            "overlap": self.config.data.overlap,
            "padding": self.dataset["padding"],
        }

    def _predict_windows(
        self, windows: Float[np.ndarray, "batch d h w modalities"]
    ) -> Float[np.ndarray, "batch d h w classes"]:
        sharded = shard_batch({"image": windows})
        logits = np.asarray(self._predict_step(self.variables, sharded))
        return logits.reshape(*windows.shape[:-1], -1)


def load_segmenter(run_dir: str | Path) -> TrainedSegmenter:
    """Read the model of the best epoch of a segmentation run.

    Raises:
        UserError: If there is no such run, or it has not finished an epoch.
    """
    record = read_record_of(run_dir, SEGMENTATION)
    require_single_run(run_dir)
    config = read_config(run_dir)
    variables, normalization = read_best(Path(run_dir) / "checkpoints")
    return TrainedSegmenter(
        config=config,
        dataset=record["dataset"],
        model=create_model(
            config.model.model,
            num_classes=len(record["dataset"]["class_names"]),
            dtype=jnp.dtype(config.model.precision),
            spatial_dims=3 if config.data.patch_size else 2,
        ),
        variables=replicate(variables),
        normalization=normalization,
        calibrator=read_calibrator(run_dir, len(record["dataset"]["class_names"])),
    )


@dataclass(frozen=True)
class CaseMeasurements:
    """Confusion counts and distances of all cases of a part, in its order.

    Attributes:
        counts: True positives, false positives and false negatives ``[n, C, 3]``.
        hd95: 95 % Hausdorff distances ``[n, C]``, in mm or, without a spacing, in pixels.
    """

    counts: Int[np.ndarray, "n classes 3"]
    hd95: Float[np.ndarray, "n classes"]


def measure_cases(segmenter: Segmenter, cases: Cases) -> CaseMeasurements:
    """Segment every case in one of the processes and compare it with its labels.

    Args:
        segmenter: The model.
        cases: This process's cases of a part of the data.
    """
    num_classes = len(segmenter.class_names)
    spacing = cases.spacing or (1.0, 1.0)
    indices: list[int] = []
    counts: list[np.ndarray] = []
    distances: list[np.ndarray] = []
    for batch_indices, images, labels in cases:
        predictions = segmenter.segment(images)
        for index, truth, prediction in zip(batch_indices, labels, predictions, strict=True):
            if index < 0:
                continue
            indices.append(index)
            counts.append(case_counts(truth, prediction, num_classes))
            distances.append(hausdorff_95(truth, prediction, num_classes, spacing))
    shape = (len(indices), num_classes)
    metrics = {
        "counts": np.array(counts, np.int64).reshape(*shape, 3),
        "hd95": np.array(distances, np.float64).reshape(shape),
    }
    return CaseMeasurements(**gather_rows(np.array(indices, np.int64), metrics, len(cases.ids)))


def summarize_cases(segmenter: Segmenter, cases: Cases) -> dict[str, Any]:
    """Return the metrics of a part of the data, see :func:`summarize_test`."""
    measured = measure_cases(segmenter, cases)
    return summarize_test(
        cases.ids, measured.counts, measured.hd95, segmenter.class_names, cases.groups, _unit(cases)
    )


def evaluate_segmenter(segmenter: Segmenter, run_dir: Path, cases: Cases) -> dict[str, Any]:
    """Test the model; the first process writes ``cases.npz``, ``test.json`` and ``overlays.npz``.

    Args:
        segmenter: The model.
        run_dir: The folder of the run.
        cases: This process's cases of the test part.

    Returns:
        The contents of ``test.json``; empty in all processes but the first.
    """
    measured = measure_cases(segmenter, cases)
    if jax.process_index() > 0:
        return {}
    results = write_test(
        run_dir,
        cases.ids,
        measured.counts,
        measured.hd95,
        segmenter.class_names,
        cases.groups,
        _unit(cases),
    )
    dsc = np.array([case["dsc"] for case in results["per_case"].values()])
    write_overlays(run_dir, _overlays(segmenter, cases, shown_cases(dsc)))
    return results


def _unit(cases: Cases) -> Hd95Unit:
    return "pixels" if cases.spacing is None else "mm"


def _overlays(segmenter: Segmenter, cases: Cases, indices: Int[np.ndarray, " k"]) -> Overlays:
    """Segment a few cases again for the figures."""
    is_volumes = segmenter.config.data.patch_size is not None
    shown = []
    for index in indices.tolist():
        image, labels = cases.read(index)
        batch = np.stack([image] * jax.local_device_count())
        prediction = segmenter.segment(batch[:1] if is_volumes else batch)[0]
        shown.append((image, labels.astype(np.uint8), prediction))
    if is_volumes:
        shown = [_main_slice(*case) for case in shown]
    else:
        shown = [(as_rgb(image), *maps) for image, *maps in shown]
    sides = np.max([labels.shape for _, labels, _ in shown], axis=0)
    images, labels, predictions = zip(
        *(tuple(_padded(x, sides) for x in case) for case in shown), strict=True
    )
    return Overlays(indices, np.stack(images), np.stack(labels), np.stack(predictions))


def _main_slice(
    image: Float[np.ndarray, "d h w modalities"],
    labels: UInt8[np.ndarray, "d h w"],
    prediction: UInt8[np.ndarray, "d h w"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the slice with the most foreground as it is displayed, its first modality in gray."""
    z = int((labels > 0).sum((1, 2)).argmax())
    values = image[z, ..., 0]
    low, high = np.percentile(values, (1, 99))
    gray = (255 * np.clip((values - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    picture = np.repeat(gray[..., None], 3, axis=-1)
    return picture[::-1], labels[z, ::-1], prediction[z, ::-1]


def _padded(values: np.ndarray, sides: Int[np.ndarray, "2"]) -> np.ndarray:
    """Return an image or a label map, padded with zeros at the bottom and right."""
    missing = [(0, int(side) - length) for side, length in zip(sides, values.shape, strict=False)]
    return np.pad(values, [*missing, *[(0, 0)] * (values.ndim - 2)])
