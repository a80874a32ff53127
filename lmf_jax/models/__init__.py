"""Image classifiers and the U-Net in Flax Linen."""

from lmf_jax.models.registry import create_model as create_model
