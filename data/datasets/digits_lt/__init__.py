"""Handwritten digits of scikit-learn, thinned to a long tail."""

from data.registry import DatasetSpec

DATASET = DatasetSpec(
    name="digits_lt",
    summary="1,797 handwritten digits, thinned to a long tail",
    kind="embedded",
    defaults={
        "image_size": 32,
        "imbalance_ratio": 20.0,
        "epochs": 30,
        "learning_rate": 1e-3,
        "decay_epochs": 20,
        "augment": "shift",
        "ema_decay": 0.95,  # the best epoch is picked on 92 images: smoother than single epochs
    },
)
