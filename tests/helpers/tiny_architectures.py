"""Small variants of the models, which compile in a second or two."""

from lmf_jax.models import create_model
from lmf_jax.models.architectures.efficientnet_v2 import Stage
from lmf_jax.models.classifier import Classifier

MODELS = ("resnet50", "densenet121", "efficientnet_v2_s")
NUM_CLASSES = 5

_BACKBONES = {
    "resnet50": {"stage_sizes": (1, 2), "width": 8},
    "densenet121": {"block_sizes": (1, 2), "growth_rate": 4, "width": 8},
    "efficientnet_v2_s": {
        "stages": (
            Stage(fused=True, expansion=1, stride=1, features=8, size=1),
            Stage(fused=True, expansion=2, stride=2, features=16, size=2),
            Stage(fused=False, expansion=2, stride=2, features=16, size=2),
        ),
        "width": 8,
        "num_features": 32,
        "drop_rate": 0.5,
    },
}


def create_tiny_model(name: str, **settings) -> Classifier:
    """`create_model` with a backbone of a few narrow layers."""
    model = create_model(name, num_classes=NUM_CLASSES, **settings)
    return model.clone(backbone=model.backbone.clone(**_BACKBONES[name]))
