"""The sections of the settings; the docstring of a field is the help of its flag.

None stands for the default of the recipe, the task, the model, the dataset or, if none of them has
one, the paper, see :meth:`lmf_jax.config.Config.resolve`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from lmf_jax.config.image_spec import ImageSize, Resize, simplify_size
from lmf_jax.losses.loss_config import HeadName

DEFAULT_DATA_DIR = "~/.cache/lmf-jax/data"

Task = Literal["classification", "segmentation", "multilabel"]
IMAGE_TASKS: tuple[Task, ...] = ("classification", "multilabel")
"""The tasks with an output for the whole image."""

Split = Literal["paper", "grouped", "official"]
Augmentation = Literal["none", "shift", "flip", "dihedral", "mirror"]
Optimizer = Literal["adamw", "adam-l2", "sgd"]
PatchSize = tuple[int, int, int]
NormalizationName = Literal["imagenet", "unit", "inception", "caffe"]


def setting(
    default: Any, *, run_only: bool = False, common: bool = False, tasks: tuple[Task, ...] = ()
) -> Any:
    """Return a dataclass field with marks for the command line and for resumed runs.

    Args:
        default: The default.
        run_only: The setting does not affect the results: a resumed run may change it, and two runs
            that differ in it are the same experiment.
        common: ``--help`` shows the flag; ``--help-all`` shows every flag.
        tasks: The tasks in which the setting has an effect; all if empty.
    """
    return field(default=default, metadata={"run_only": run_only, "common": common, "tasks": tasks})


@dataclass(frozen=True)
class DataConfig:
    """The dataset, its split, and the size of the images."""

    task: Task = setting("classification", common=True)
    """Classification: one class per image. Segmentation: one class per pixel or voxel. Multilabel:
    any number of labels per image."""
    dataset: str | None = setting(None, run_only=True, common=True)  # the fingerprint identifies it
    """The dataset: a name, or a kind and the path of your own files. Prepare a download first with
    python -m data prepare."""
    data_dir: str = setting(DEFAULT_DATA_DIR, run_only=True, common=True)
    """The folder of prepared datasets and image caches."""
    split: Split | None = setting(None, common=True)
    """How images are split. paper: by class, as in the paper (with masks: at random). grouped: no
    lesion or patient in two parts. official: the split published with the dataset, if there is
    one."""
    split_seed: int = setting(0)
    """The seed of the split; --seed does not change the split."""
    where: str | None = setting(None)
    """Split and use only images with this metadata: COLUMN=VALUE or COLUMN=VALUE,VALUE, with ;
    between conditions (default: all images)."""
    metadata: str | None = setting(None, common=True, tasks=IMAGE_TASKS)
    """Columns of the metadata that the model gets beside the image, with commas between, such as
    age,sex,site (default: the image alone)."""
    pair_by: str | None = setting(None, tasks=("multilabel",))
    """Column of the metadata that tells the two images of a patient or lesion apart, such as side:
    both are one example (default: an example is one image)."""
    folds: int | None = setting(None, common=True)
    """Cross-validation: train this many runs, of which each tests another part of the images. Of
    --split it takes grouped (the default where lesions or patients are known) or paper (default: a
    single run)."""
    fold: int | None = setting(None)
    """Train this fold only, from 1, in --run-dir with the others (default: every fold)."""
    imbalance_ratio: float | None = setting(None, tasks=("classification",))
    """Balanced datasets: size of the largest training class over that of the smallest."""
    image_size: ImageSize | None = setting(None, common=True)
    """Size of the images in pixels: the side of a square, or height and width, such as 512,384;
    of volumes, the side of a cube, or depth, height and width, such as 32,64,64 (paper: 224)."""
    resize: Resize = setting("stretch", common=True)
    """How images of another aspect ratio are resized. stretch: to the size, whatever their aspect
    ratio. pad: they keep it, and the rest is black. crop: they keep it, and what does not fit is
    cut off on both sides."""
    channels: int = setting(3, common=True)
    """Channels of the images for the model. 3: RGB. 1: gray, to which colors are converted.
    Volumes always have one."""
    patch_size: PatchSize | None = setting(None, common=True, tasks=("segmentation",))
    """Volumes: voxels of a patch along each axis (default: from the dataset)."""
    overlap: float = setting(0.5, tasks=("segmentation",))
    """Volumes: overlap of neighboring windows in a test, as a fraction of the patch."""
    foreground_share: float = setting(1 / 3, tasks=("segmentation",))
    """Volumes: fraction of the patches that are centered on a foreground voxel."""
    cache: Literal["disk", "none"] = setting("disk", run_only=True)
    """disk: decode every image once, into a file in --data-dir. none: decode an image whenever it
    is read, for datasets larger than the disk."""

    def __post_init__(self) -> None:
        """Record a square by its side."""
        object.__setattr__(self, "image_size", simplify_size(self.image_size))


@dataclass(frozen=True)
class ModelConfig:
    """The architecture and its initial weights."""

    model: str | None = setting(None, common=True)
    """The architecture, by its name in the registry."""
    pretrained: str | None = setting(None, common=True, tasks=IMAGE_TASKS)
    """Initial weights: none (random), imagenet (torchvision's, downloaded once), or a file or its
    address https://: .safetensors (names of torchvision or timm), .npz or .h5 (names of Keras), or
    .pth (paper: imagenet)."""
    freeze_backbone: bool = setting(False, common=True, tasks=IMAGE_TASKS)
    """Train the head only, on the features of the pretrained backbone."""
    normalization: NormalizationName | None = setting(None)
    """How images are normalized. imagenet: by ImageNet's mean and standard deviation. unit: to
    [0, 1]. inception: to [-1, 1]. caffe: as in Caffe (default: that of the model's ImageNet
    weights; paper: unit)."""
    head: HeadName = setting("linear", tasks=IMAGE_TASKS)
    """The classifier. linear: as in the LMF paper. cosine: with normalized features and weights, as
    in the LDAM paper (for ldam, ldam-drw and lmf)."""
    precision: Literal["float32", "bfloat16"] = setting("float32", common=True)
    """Type of the computation. Parameters and batch statistics are always float32."""
    remat: bool = setting(False)
    """Recompute the blocks in the backward pass: less memory, more time, the same result."""


@dataclass(frozen=True)
class TrainingConfig:
    """Optimization, sampling and augmentation."""

    recipe: str = setting("auto", run_only=True, common=True)  # the resolved settings identify it
    """Where the settings that are not given come from."""
    epochs: int | None = setting(None, common=True)
    """Passes over the training part (paper: 100)."""
    batch_size: int | None = setting(None, common=True)
    """Images per step, over all devices (paper: 32)."""
    sampling: Literal["uniform", "class-balanced", "effective-number"] = setting(
        "uniform", common=True, tasks=IMAGE_TASKS
    )
    """How training images are drawn. uniform: each once per epoch. class-balanced: all classes or
    labels equally likely. effective-number: weighted by the effective number of images of each."""
    optimizer: Optimizer | None = setting(None, common=True)
    """adamw: AdamW. adam-l2: Adam with coupled L2, as in the paper. sgd: SGD with Nesterov
    momentum."""
    momentum: float = setting(0.9)
    """sgd: momentum."""
    learning_rate: float | None = setting(None, common=True)
    """Initial learning rate (paper: 1e-4)."""
    schedule: Literal["step", "plateau"] = setting("step")
    """step: decay the learning rate every --decay-epochs. plateau: decay it after --decay-epochs
    without a lower validation loss."""
    decay_epochs: int | None = setting(None, common=True)
    """Epochs after which the learning rate is multiplied by --decay-factor (paper: 30)."""
    decay_factor: float = setting(0.1)
    """Factor of a decay of the learning rate."""
    weight_decay: float = setting(5e-4, common=True)
    """Weight decay on all parameters, as in PyTorch and the paper."""
    accumulate: int = setting(1)
    """Micro-batches per step, to save memory."""
    augment: Augmentation | None = setting(None, common=True)
    """Random augmentation on the device. shift: by up to 1/8 of the side. flip: mirror left to
    right. dihedral: mirror images and quarter turns, not for volumes. mirror: along every axis
    (paper: none)."""
    mixup: float = setting(0.0, common=True, tasks=IMAGE_TASKS)
    """Mixup with a coefficient from Beta(mixup, mixup); 0: off."""
    cutmix: float = setting(0.0, tasks=IMAGE_TASKS)
    """CutMix with an area from Beta(cutmix, cutmix); 0: off."""
    ema_decay: float | None = setting(None)
    """Validate, test and keep an exponential moving average of the weights; 0: off (paper: off).
    The decay grows to this value over the first steps, min(decay, (1 + step) / (10 + step))."""
    early_stopping: int = setting(0, common=True)
    """Stop after this many epochs without a better validation score; 0: off."""
    seed: int = setting(0, common=True)
    """Seed of the initial weights, the order of the images and every random draw."""
    deterministic: bool = setting(False)
    """Bit-for-bit reproducible results on a GPU, at lower speed; on a CPU they always are."""


@dataclass(frozen=True)
class RunConfig:
    """The run folder, checkpoints and processes."""

    run_dir: str = setting("", run_only=True, common=True)
    """The folder of the run (default: runs/<dataset>-<model>-<loss>-<seed>)."""
    resume: bool = setting(False, run_only=True, common=True)
    """Continue the run in --run-dir where it stopped, or past its end with more --epochs."""
    checkpoint_steps: int = setting(0, run_only=True)
    """Save every this many steps, in addition to every epoch; 0: off."""
    watchdog_minutes: float = setting(10.0, run_only=True)
    """Report where the run waits if a step, a batch or a save takes longer than this; 0: off."""
    distributed: Literal["auto", "off"] = setting("off", run_only=True, common=True)
    """auto: this process is one of several that train together (TPU pod, Slurm, or by hand)."""
    coordinator_address: str | None = setting(None, run_only=True)
    """Host and port of the first process (default: from the cluster)."""
    num_processes: int | None = setting(None, run_only=True)
    """Number of processes (default: from the cluster)."""
    process_id: int | None = setting(None, run_only=True)
    """Index of this process, from 0 (default: from the cluster)."""
