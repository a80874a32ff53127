"""Training of image classifiers on imbalanced medical data in pure JAX."""

from lmf_jax.losses import class_margins as class_margins
from lmf_jax.losses import cross_entropy_loss as cross_entropy_loss
from lmf_jax.losses import focal_loss as focal_loss
from lmf_jax.losses import ldam_loss as ldam_loss
from lmf_jax.losses import lmf_loss as lmf_loss

__version__ = "0.1.0"
