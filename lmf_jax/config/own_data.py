"""Settings for images of the user, by the size of the training part.

Fine-tuning needs a number of steps, not of epochs: the epochs follow from the steps, within
limits. The constants were chosen with ResNet-50 on 210 training images of three classes of skin
lesions, other ones than those of ``benchmarks/own_images.py``, which measures the result.
"""

from dataclasses import dataclass
from typing import Any

from lmf_jax.config.image_spec import ImageSize

IMAGE_SIZE = 96
"""Default side in pixels, at which a few hundred images train in minutes on two cores."""

FEW_IMAGES = 1000
"""Training images below which a batch has 16 images instead of 32, for more steps per epoch."""


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a training.

    Attributes:
        learning_rate: Initial learning rate of AdamW.
        min_steps: Smallest total number of steps, reached by more epochs.
        steps_per_class: Steps for each class, if these are more.
        min_epochs: Smallest number of epochs, for large training parts.
        max_epochs: Largest number of epochs, for tiny training parts.
    """

    learning_rate: float
    min_steps: int
    steps_per_class: int
    min_epochs: int
    max_epochs: int


FINE_TUNING = Schedule(1e-4, min_steps=150, steps_per_class=30, min_epochs=10, max_epochs=40)
"""From ImageNet weights."""

FROM_RANDOM = Schedule(1e-3, min_steps=600, steps_per_class=120, min_epochs=30, max_epochs=100)
"""From random weights, which need more steps and larger ones."""


def own_data_settings(
    num_images: int, num_classes: int, image_size: ImageSize | None = None, *, pretrained: bool
) -> dict[str, Any]:
    """Return the settings for a dataset of the user.

    - Steps: ``max(min_steps, steps_per_class * num_classes)`` in all, within the limits of the
      epochs.
    - Learning rate: one decay, by ``--decay-factor``, after two thirds of the epochs. There is no
      warm-up, and no early stopping, which could come before the decay; the best epoch is kept.
    - Augmentation: mirror images. These are valid unless a class is a side, left or right. Quarter
      turns (``dihedral``) are not valid for images with an upright direction, such as X-rays.
    - Moving average of the weights: off, since it lags behind in so few steps.

    Args:
        num_images: Images of the training part.
        num_classes: Classes.
        image_size: Size of the images; None takes ``IMAGE_SIZE``.
        pretrained: Whether training starts from pretrained weights.

    Returns:
        Values of ``image_size``, ``batch_size``, ``epochs``, ``learning_rate``, ``decay_epochs``,
        ``augment`` and ``ema_decay``.

    Raises:
        ValueError: If there is no image or no class.
    """
    if num_images < 1 or num_classes < 1:
        raise ValueError(
            f"There are {num_images} training images of {num_classes} classes; expected at least "
            "one of each."
        )
    schedule = FINE_TUNING if pretrained else FROM_RANDOM
    batch_size = 16 if num_images < FEW_IMAGES else 32
    steps = max(schedule.min_steps, schedule.steps_per_class * num_classes)
    steps_per_epoch = max(1, num_images // batch_size)
    epochs = -(-steps // steps_per_epoch)
    epochs = min(max(epochs, schedule.min_epochs), schedule.max_epochs)
    return {
        "image_size": image_size or IMAGE_SIZE,
        "batch_size": batch_size,
        "epochs": epochs,
        "learning_rate": schedule.learning_rate,
        "decay_epochs": -(-2 * epochs // 3),
        "augment": "flip",
        "ema_decay": 0.0,
    }
