"""The training recipe of the paper: each setting, where it is stated, and how a run differs.

"Text" is Sadi et al., arXiv 2212.12741, final version, by section. "Code" is their release at
https://github.com/Adnan-Sadi/LMFLOSS, commit 25b880e, by file. They agree wherever both state a
setting. The normalization and the absence of augmentation are stated in the code only.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmf_jax.config import with_defaults

DIFFERS = "How these runs differ from the paper's"
"""The heading of the list from :func:`differences_from_paper`."""

RELEASED_RECIPE = ("--augment", "none", "--normalization", "unit", "--optimizer", "adam-l2")
"""The flags of ``train.py`` that give the recipe, with --pretrained and the defaults."""

SWEEP_EPOCHS = 60
"""Epochs of each run of the sweep: text, Analysis of LMF loss hyperparameters."""


@dataclass(frozen=True)
class Stated:
    """A setting of the paper.

    Attributes:
        value: The value of the flag of ``train.py``.
        source: The place where it is stated.
        meaning: A description shown in place of the value; empty if the value is clear.
    """

    value: Any
    source: str
    meaning: str = ""


_TRAINING = "text, Training parameters; code, config.ini"
_TRANSFORMS = "code, train.py: Resize and ToTensor alone"

RECIPE: Mapping[str, Stated] = {
    "split": Stated("paper", "text, Datasets", "70:15:15 of each class, image by image"),
    "image_size": Stated(224, "text, Datasets; code, config.ini"),
    "resize": Stated("stretch", _TRANSFORMS, "to a square"),
    "channels": Stated(3, "text, Models; code, dl_models.py", "RGB"),
    "pretrained": Stated("imagenet", "text, Models; code, dl_models.py", "torchvision's ImageNet"),
    "freeze_backbone": Stated(False, "code, config.ini"),
    "head": Stated("linear", "text, LMF loss; code, dl_models.py"),
    "normalisation": Stated("unit", _TRANSFORMS, "pixels in [0, 1], no mean and deviation"),
    "augment": Stated("none", _TRANSFORMS),
    "mixup": Stated(0.0, _TRANSFORMS),
    "cutmix": Stated(0.0, _TRANSFORMS),
    "sampling": Stated("uniform", "code, train.py: shuffle=True"),
    "epochs": Stated(100, _TRAINING),
    "batch_size": Stated(32, _TRAINING),
    "accumulate": Stated(1, "code, train.py: one forward pass a batch"),
    "optimizer": Stated("adam-l2", "text, Training parameters; code, train.py", "Adam, coupled L2"),
    "learning_rate": Stated(1e-4, _TRAINING),
    "weight_decay": Stated(5e-4, _TRAINING),
    "schedule": Stated("step", "text, Training parameters; code, train.py: StepLR"),
    "decay_epochs": Stated(30, _TRAINING),
    "decay_factor": Stated(0.1, _TRAINING),
    "early_stopping": Stated(0, "code, train.py: all epochs are trained"),
    "ema_decay": Stated(0.0, "code, train.py: the weights of the best epoch"),
    "precision": Stated("float32", "code, train.py: no mixed precision"),
    "form": Stated("released", "code, loss_functions.py"),
    "gamma": Stated(1.5, "text, Focal loss; code, config.ini"),
    "scale": Stated(30.0, "code, config.ini"),
    "max_margin": Stated(0.5, "code, config.ini"),
}
"""The settings of the paper, by their keys in ``config.json``."""

ALWAYS = (
    "split: the paper publishes the sizes of the parts and not which images are in them; here "
    "--split-seed draws them.",
    "batches: all are full, and an epoch has floor(images / batch size) of them; the last batch of "
    "an epoch of the released code is smaller.",
    "margins: each class has that of its own count; the released code assigns the counts in the "
    "order in which the operating system lists the folders.",
    "random numbers: the initial head, the order of the images and dropout are drawn by NumPy and "
    "JAX; in the released code by PyTorch 1.12.1 with seed 23.",
)
"""Differences of every run, which no flag of ``train.py`` removes."""

OTHER_ARCHITECTURES = {"resnet50_v1": "Keras' first ResNet-50, with stride in the 1x1 convolution"}
"""Models that the paper does not have."""


def differences_from_paper(
    config: Mapping[str, Any],
    *,
    seeds: Collection[int],
    weights: Sequence[tuple[float, float]] = (),
    printed_weights: tuple[float, float] | None = None,
    epochs: int = 100,
) -> list[str]:
    """Return every way in which runs differ from those of the paper, one sentence each.

    Args:
        config: The resolved settings that the runs share.
        seeds: Seeds of the training.
        weights: Alpha and beta of each run of lmf; none for a sweep of them.
        printed_weights: Alpha and beta of the printed result, from Table 6.
        epochs: Epochs of these runs in the paper.
    """
    found = []
    if config["model"] in OTHER_ARCHITECTURES:
        architecture = OTHER_ARCHITECTURES[config["model"]]
        found.append(f"model: {architecture} (paper: torchvision's ResNet-50).")
    settings = with_defaults(config)
    for name, stated in {**RECIPE, "epochs": Stated(epochs, "text")}.items():
        value = settings[name]
        # None becomes the paper's value when the loss is made.
        if value is not None and value != stated.value:
            shown = Path(value).name if name == "pretrained" else value
            found.append(f"{name}: {shown} (paper: {stated.meaning or stated.value}).")
    others = [pair for pair in weights if pair != printed_weights]
    if others and printed_weights is not None:
        pairs, paper = " or ".join(map(_pair, others)), _pair(printed_weights)
        found.append(f"alpha, beta: {pairs}, which has no printed result (paper: {paper}).")
    numbers = ", ".join(map(str, sorted(seeds)))
    found.append(f"seeds: {numbers} (paper: one run of each loss).")
    return [*found, *ALWAYS]


def bullets(sentences: Sequence[str]) -> str:
    """Return sentences as a Markdown list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _pair(weights: tuple[float, float]) -> str:
    return "{:g}, {:g}".format(*weights)
