"""The settings of a run: the only place where a flag, its default and its help text are written.

The options of losses are in :mod:`lmf_jax.losses.loss_config`; the losses and models are in their
registries.

A section is a group of flags; :class:`Config` is all of them, flat. What the command line leaves
open, the model or the dataset fill with a value of their own, or else the paper does
(:meth:`Config.resolve`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro

from lmf_jax.errors import UserError
from lmf_jax.losses.loss_config import HeadName, LossConfig
from lmf_jax.losses.registry import cosine_losses, get_loss, loss_names, registered_losses
from lmf_jax.setting_kinds import fits, shown

DEFAULT_DATA_DIR = "~/.cache/lmf-jax/data"

PAPER_DEFAULTS: dict[str, Any] = {
    "image_size": 224,
    "epochs": 100,
    "batch_size": 32,
    "learning_rate": 1e-4,
    "decay_epochs": 30,
    "augment": "none",
    "ema_decay": 0.0,
    "split": "paper",
}
"""Settings of Sadi et al., for datasets without defaults.

Their optimizer, normalization and pretrained weights are not defaults: --optimizer adam-l2,
--normalisation unit and --pretrained imagenet.
"""

TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "classification": {"dataset": "digits_lt", "model": "resnet50"},
    "segmentation": {"dataset": "digits_masks", "model": "unet"},
}
"""What is trained on what where the command line does not say; no dataset has a say in it."""

Task = Literal["classification", "segmentation"]
Split = Literal["paper", "grouped", "official"]
Augmentation = Literal["none", "shift", "flip", "dihedral", "mirror"]
PatchSize = tuple[int, int, int]
NormalisationName = Literal["imagenet", "unit", "caffe"]
OPEN: Any = None
"""Left to the dataset or, where it says nothing, to the paper."""
if TYPE_CHECKING:  # a run reads resolved settings, in which nothing is open any more
    from lmf_jax.models.registry import ModelSpec

    OpenInt, OpenFloat = int, float
    OpenStr = str
    OpenAugmentation, OpenSplit, OpenNormalisation = Augmentation, Split, NormalisationName
else:
    OpenInt, OpenFloat, OpenStr = int | None, float | None, str | None
    OpenAugmentation, OpenSplit = Augmentation | None, Split | None
    OpenNormalisation = NormalisationName | None


def _from_registry(make_argument: Callable[[], Any]) -> Any:
    """Return a marker of a flag whose choices and help are read when a command line is parsed.

    Losses and models may be registered until then, and importing the models would load Flax.
    """

    def constructor() -> Any:
        return Annotated[str, make_argument()]

    return tyro.conf.arg(
        constructor_factory=constructor,
        # Such a flag's default comes as a list of one word.
        help_behavior_hint=lambda default: f"(default: {default.strip(_BRACKETS)})",
    )


_BRACKETS = "[']"


RUN_ONLY = {"run_only": True}
"""Marks a field that says where and how to run, not what: a resumed run may change it."""


@dataclass(frozen=True)
class Data:
    """What is learnt from."""

    task: Task = "classification"
    """One class for an image, or one for each of its pixels."""
    dataset: OpenStr = field(default=OPEN, metadata=RUN_ONLY)  # the fingerprint says what it is
    """The dataset: digits_lt; ham10000, isic2019, odir5k or covid19_radiography once prepared by
    python -m data prepare; or your own: folder:PATH, manifest:FILE.csv, medmnist:FILE.npz.
    For segmentation: digits_masks; isic2018_task1, ham10000_masks, kits19 or brats20 once prepared;
    or your own: pairs:IMAGES,MASKS."""
    data_dir: str = field(default=DEFAULT_DATA_DIR, metadata=RUN_ONLY)
    """The folder of prepared datasets and image caches."""
    split: OpenSplit = OPEN
    """How images are divided: by class as in the paper (with masks: at random), so that no lesion
    or patient is on two sides, or as the dataset comes (by itself: official where there is such a
    split, else paper)."""
    split_seed: int = 0
    """The seed of the split; --seed never moves it."""
    imbalance_ratio: float | None = None
    """digits_lt: the largest over the smallest training class (its own: 20)."""
    image_size: OpenInt = OPEN
    """Side of the square image in pixels (paper: 224)."""
    patch_size: PatchSize | None = None
    """kits19, brats20: voxels of a patch along each axis (by itself: the dataset's own)."""
    overlap: float = 0.5
    """kits19, brats20: how far the windows that a case is tested through overlap, as a share of the
    patch."""
    foreground_share: float = 1 / 3
    """kits19, brats20: share of the patches that are centred on a voxel of the foreground."""
    cache: Literal["disk", "none"] = field(default="disk", metadata=RUN_ONLY)
    """disk: decode every image once, into one file in --data-dir; none: decode anew whenever an
    image is read, for sets larger than the disk."""


def _model_flag() -> Any:
    from lmf_jax.models.registry import registered_models  # loads Flax

    names = ",".join(spec.name for spec in registered_models())
    lines = ["The architecture (default: resnet50, or unet for segmentation):"]
    lines += [f"{spec.name}: {spec.summary}, as in {spec.source}." for spec in registered_models()]
    return tyro.conf.arg(help="\n".join(lines), metavar=f"{{{names}}}")


@dataclass(frozen=True)
class Model:
    """What is trained."""

    model: Annotated[OpenStr, _from_registry(_model_flag)] = OPEN
    pretrained: str = "none"
    """What the weights start from: none, imagenet (torchvision's, downloaded once), or a file:
    .safetensors (torchvision's or timm's names), .npz or .h5 (Keras' names), or .pth (paper:
    imagenet)."""
    freeze_backbone: bool = False
    """Train the head alone, on the features of the pretrained backbone."""
    normalisation: OpenNormalisation = OPEN
    """How images are normalised: by ImageNet's mean and deviation, to [0, 1] alone, or as Caffe did
    (default: as the model's ImageNet weights need it, caffe for resnet50_v1, else imagenet; paper:
    unit)."""
    head: HeadName = "linear"
    """The classifier: linear as in the LMF paper, or the normalised one that LDAM was published
    with (for ldam, ldam-drw and lmf)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The type of the computation; parameters and batch statistics are always float32."""
    remat: bool = False
    """Compute the blocks again in the backward pass: less memory, more time, the same result."""


def _loss_flag() -> Any:
    names = ",".join(loss_names())
    lines = ["The loss:"]
    for spec in registered_losses():
        task = " (--task segmentation)" if spec.task == "segmentation" else ""
        lines.append(f"{spec.name}: {spec.summary} ({spec.paper}){task}.")
    return tyro.conf.arg(help="\n".join(lines), metavar=f"{{{names}}}")


@dataclass(frozen=True)
class Loss(LossConfig):
    """What is minimized."""

    loss: Annotated[str, _from_registry(_loss_flag)] = "lmf"


@dataclass(frozen=True)
class Training:
    """How it is trained."""

    epochs: OpenInt = OPEN
    """Passes over the training part (paper: 100)."""
    batch_size: OpenInt = OPEN
    """Images per step, over all devices (paper: 32)."""
    sampling: Literal["uniform", "class-balanced", "effective-number"] = "uniform"
    """Which images a batch is made of: each one once an epoch, or drawn at random so that classes
    are equally likely, or weighted by effective number."""
    optimizer: Literal["adamw", "adam-l2", "sgd"] = "adamw"
    """AdamW, the paper's Adam with coupled L2, or SGD with Nesterov's momentum."""
    momentum: float = 0.9
    """sgd: momentum."""
    learning_rate: OpenFloat = OPEN
    """Learning rate of the first epochs (paper: 1e-4)."""
    schedule: Literal["step", "plateau"] = "step"
    """When the learning rate decays: every so many epochs, or after so many in which the validation
    loss did not fall."""
    decay_epochs: OpenInt = OPEN
    """The learning rate is multiplied by --decay-factor after so many epochs (paper: 30)."""
    decay_factor: float = 0.1
    """See --decay-epochs."""
    weight_decay: float = 5e-4
    """Weight decay on all parameters, as in PyTorch and the paper."""
    accumulate: int = 1
    """Micro-batches that a batch is computed in, to save memory."""
    augment: OpenAugmentation = OPEN
    """Random augmentation on the device: shifts by up to 1/8 of the side; mirror images; mirror
    images and quarter turns; or mirror images along every axis, for volumes too (paper: none)."""
    mixup: float = 0.0
    """Mix pairs of images by a share drawn from Beta(mixup, mixup); 0: off."""
    cutmix: float = 0.0
    """Paste a box of one image into another, its area drawn from Beta(cutmix, cutmix); 0: off."""
    ema_decay: OpenFloat = OPEN
    """Validate, test and keep an exponential moving average of the weights; 0: off (paper: off).
    The decay grows to this value over the first steps, min(decay, (1 + step) / (10 + step))."""
    early_stopping: int = 0
    """Stop after so many epochs without a better validation macro F1; 0: off."""
    seed: int = 0
    """Fixes the initial weights, the order of the images and every random draw."""
    deterministic: bool = False
    """On a GPU, compute the same bits in every run, which takes longer; a CPU does so anyway."""


@dataclass(frozen=True)
class Run:
    """Where it runs."""

    run_dir: str = field(default="", metadata=RUN_ONLY)
    """The folder of the run (by itself: runs/<dataset>-<model>-<loss>-<seed>)."""
    resume: bool = field(default=False, metadata=RUN_ONLY)
    """Go on with the run in --run-dir where it stopped, or with more --epochs past its end."""
    checkpoint_steps: int = field(default=0, metadata=RUN_ONLY)
    """Save every so many steps too, besides after every epoch; 0: off."""
    watchdog_minutes: float = field(default=10.0, metadata=RUN_ONLY)
    """Say where the run waits if a step, a batch or a save takes longer than this; 0: off."""
    distributed: Literal["auto", "off"] = field(default="off", metadata=RUN_ONLY)
    """auto: this process is one of several that train together (TPU pod, Slurm, or by hand)."""
    coordinator_address: str | None = field(default=None, metadata=RUN_ONLY)
    """Host and port of the first process, where the cluster does not say."""
    num_processes: int | None = field(default=None, metadata=RUN_ONLY)
    """Number of processes, where the cluster does not say."""
    process_id: int | None = field(default=None, metadata=RUN_ONLY)
    """Number of this process from 0, where the cluster does not say."""


@dataclass(frozen=True)
class Config(Run, Training, Loss, Model, Data):  # a dataclass lists the last base's fields first
    """All settings of a run."""

    def resolve(self, dataset_defaults: Mapping[str, Any]) -> "Config":
        """Return the settings with what is open filled in: by model, dataset or else the paper."""
        normalisation = self._model_spec.normalisation
        values = {"normalisation": normalisation, **PAPER_DEFAULTS, **dataset_defaults}
        missing = {name: value for name, value in values.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    @property
    def logit_scale(self) -> float:
        """The factor of the model's logits in the softmax that its loss trains."""
        logit_scale = get_loss(self.loss).logit_scale
        return 1.0 if logit_scale is None else logit_scale(self, self.head)

    def __post_init__(self) -> None:
        """Fill in what the task decides, and refuse values that no run can have, by flag."""
        for name, value in TASK_DEFAULTS.get(self.task, {}).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        from lmf_jax.models.registry import model_names  # loads Flax

        kinds = _kinds() | {"model": Literal[model_names()] | None}
        for name, kind in kinds.items():
            _check(self, name, fits(getattr(self, name), kind), shown(kind))
        # Label maps are trained by the losses of both tasks.
        losses = loss_names("classification" if self.task == "classification" else None)
        _check(self, "loss", self.loss in losses, f"one of {', '.join(losses)}")
        _check(self, "gamma", self.gamma is None or 0 <= self.gamma < math.inf, "at least 0")
        at_least_0 = ("alpha", "beta", "tau", "weight_decay", "mixup", "cutmix")
        for name in (*at_least_0, "watchdog_minutes"):
            _check(self, name, 0 <= getattr(self, name) < math.inf, "a number of at least 0")
        for name in ("scale", "max_margin", "learning_rate"):
            value = getattr(self, name)
            _check(self, name, value is None or 0 < value < math.inf, "a number above 0")
        for name in ("epochs", "batch_size", "accumulate", "decay_epochs", "num_processes"):
            value = getattr(self, name)
            _check(self, name, value is None or value >= 1, "a whole number of at least 1")
        for name in ("early_stopping", "checkpoint_steps", "process_id"):
            value = getattr(self, name)
            _check(self, name, value is None or value >= 0, "a whole number of at least 0")
        for name in ("split_seed", "seed"):  # JAX drops the bits above
            _check(self, name, 0 <= getattr(self, name) < 2**32, "a whole number in [0, 2**32)")
        for name in ("ema_decay", "effective_number_beta", "momentum"):
            value = getattr(self, name)
            _check(self, name, value is None or 0 <= value < 1, "a number in [0, 1)")
        for name in (
            "drw_start",
            "decay_factor",
            "delta",
            "weight",
            "background_weight",
            "foreground_share",
        ):
            value = getattr(self, name)
            _check(self, name, value is None or 0 <= value <= 1, "a number in [0, 1]")
        _check(self, "overlap", 0 <= self.overlap < 1, "a number in [0, 1)")
        ratio, size = self.imbalance_ratio, self.image_size
        _check(self, "imbalance_ratio", ratio is None or 1 <= ratio < math.inf, "at least 1")
        _check(self, "image_size", size is None or size >= 32, "at least 32 pixels")
        for name, value in vars(self).items():
            # Python reads other bytes of a path as half characters, which config.json cannot hold.
            whole = not isinstance(value, str) or _is_utf8(value)
            _check(self, name, whole, "a name in UTF-8")
        for name in ("run_dir", "data_dir"):
            expected = "a folder of a disk; a bucket has to be mounted first"
            _check(self, name, "://" not in getattr(self, name), expected)
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.task == "segmentation":
            self._check_segmentation()
        elif self._model_spec.task == "segmentation":
            raise UserError(
                f"--model {self.model} is for --task segmentation; choose another model."
            )
        if self.head == "cosine" and self.loss not in cosine_losses():
            raise UserError(
                f"--head cosine does not go with --loss {self.loss}; "
                f"use one of {', '.join(cosine_losses())}, or --head linear."
            )
        if self.freeze_backbone and self.pretrained == "none":
            raise UserError(
                "--freeze-backbone would keep random weights; give --pretrained with it."
            )
        if self.mixup and self.cutmix:
            raise UserError("--mixup and --cutmix were both given; choose one.")
        if self.batch_size is not OPEN and self.batch_size % self.accumulate:
            raise UserError(
                f"--accumulate {self.accumulate} does not divide --batch-size {self.batch_size}; "
                "choose a divisor."
            )
        if self._model_spec.has_batch_norm and (self.batch_size or math.inf) < 2 * self.accumulate:
            raise UserError(
                f"--batch-size {self.batch_size} in {self.accumulate} micro-batches leaves one "
                "image, and batch norm needs two; choose a larger batch or fewer micro-batches."
            )
        if self.resume and not self.run_dir:
            raise UserError("--resume needs --run-dir, the folder of the run to go on with.")
        self._check_processes()

    @property
    def _model_spec(self) -> "ModelSpec":
        from lmf_jax.models.registry import get_model  # loads Flax

        return get_model(self.model)

    def _check_segmentation(self) -> None:
        """Refuse settings of images that have one class."""
        from lmf_jax.models.registry import model_names  # loads Flax

        only: dict[str, tuple[Any, ...]] = {
            "model": model_names("segmentation"),
            "head": ("linear",),
            "pretrained": ("none",),
            "sampling": ("uniform",),
            "mixup": (0.0,),
            "cutmix": (0.0,),
            "augment": (OPEN, "none", "flip", "dihedral", "mirror"),
        }
        for name, values in only.items():
            expected = " or ".join(str(value) for value in values if value is not OPEN)
            expected += " with --task segmentation"
            _check(self, name, getattr(self, name) in values, expected)

    def _check_processes(self) -> None:
        number, count = self.process_id, self.num_processes
        placed = (self.coordinator_address, number, count)
        if self.distributed == "off" and any(value is not None for value in placed):
            raise UserError(
                "--coordinator-address, --num-processes and --process-id say how processes meet; "
                "give --distributed auto with them."
            )
        if number is not None and count is not None and number >= count:
            raise UserError(
                f"--process-id is {number} and --num-processes {count}; expected numbers from 0 to "
                f"{count - 1}."
            )


@functools.cache
def _kinds() -> dict[str, Any]:
    """Return what each setting may be: the command line knows, a file may hold anything."""
    return get_type_hints(Config)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(config: Config, name: str, holds: bool, expected: str) -> None:
    if not holds:
        flag = "--" + name.replace("_", "-")
        raise UserError(f"{flag} is {getattr(config, name)}; expected {expected}.")
