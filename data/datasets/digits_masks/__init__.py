"""Handwritten digits and small spots on a noisy background, with masks of both."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="digits_masks",
    summary="800 drawn images of digits and small spots with masks",
    task="segmentation",
    kind="embedded",
    defaults={
        "image_size": 64,
        "epochs": 6,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "decay_epochs": 5,
        "augment": "mirror",
    },
)
