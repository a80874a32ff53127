"""Drawings of one to three handwritten digits, whose digits are the labels, with a long tail."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="digits_multilabel",
    summary="800 drawn images of one to three digits, ten labels with a long tail",
    task="multilabel",
    kind="embedded",
    defaults={
        "image_size": 48,
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "decay_epochs": 20,
        "augment": "shift",
        "ema_decay": 0.95,  # the best epoch is picked on about 120 images
    },
)
