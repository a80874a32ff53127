"""Image classifiers and the U-Net in Flax Linen."""

from lmf_jax.extras import extra_packages

with extra_packages("train", needed_by="lmf_jax.models"):
    from lmf_jax.models import architectures as architectures  # registers the models
    from lmf_jax.models.registry import create_model as create_model
    from lmf_jax.models.registry import register_model as register_model
