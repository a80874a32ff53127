"""The branch of a classifier for metadata, such as age and sex, beside the image."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from lmf_jax.models.layers import example_keys

NUM_FEATURES = 256
"""Features of the branch, which join the pooled features of the image.

The branch starts from random weights. With few features, it would hardly change the logits in the
few steps of fine-tuning with a small learning rate.
"""

DROP_RATE = 0.1
"""Probability that a column of a training image is made missing."""


class MetadataBranch(nn.Module):
    """A dense layer with ReLU over encoded metadata.

    In training, each column of each image is made missing at random: a model that never saw a
    missing value would answer it with the random weights of its indicator. The draws depend on the
    key and on the position of the image in the batch over all devices.

    Attributes:
        widths: Number of features of each column. The last feature of a column is 1 where its value
            is missing, and the others are 0 then; see
            :class:`lmf_jax.metadata_encoding.MetadataEncoding`.
        dtype: Dtype of the computation and of the parameters.
        axis_name: The mapped axis over whose devices the batch is spread, or None.

    Source: features of the metadata that are concatenated to those of the image, as in Gessert et
    al., "Skin lesion classification using ensembles of multi-resolution EfficientNets with meta
    data", 2020, arXiv 1910.03910.
    """

    widths: tuple[int, ...]
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, metadata: Float[Array, "batch columns"], train: bool = False
    ) -> Float[Array, "batch features"]:
        """Return the features of the metadata.

        Args:
            metadata: Encoded columns ``[batch, sum of widths]``.
            train: Whether to make columns missing at random, which needs the random stream
                ``"dropout"``.

        Raises:
            ValueError: If the metadata do not have the widths.
        """
        if metadata.shape[-1] != sum(self.widths):
            raise ValueError(
                f"Metadata have shape {metadata.shape}; expected {sum(self.widths)} features."
            )
        metadata = metadata.astype(self.dtype)
        if train and not self.is_initializing():
            metadata = self._drop_columns(metadata)
        shape = (sum(self.widths), NUM_FEATURES)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (NUM_FEATURES,), self.dtype)
        product = jnp.dot(metadata, kernel, precision=lax.Precision.HIGHEST)
        return nn.relu(product + bias[None])

    def _drop_columns(self, metadata: Float[Array, "batch columns"]) -> Array:
        keys = example_keys(self.make_rng("dropout"), len(metadata), self.axis_name)
        num_columns = len(self.widths)
        drop = jax.vmap(lambda key: jax.random.bernoulli(key, DROP_RATE, (num_columns,)))(keys)
        columns = [column for column, width in enumerate(self.widths) for _ in range(width)]
        is_last = [i == width - 1 for width in self.widths for i in range(width)]
        missing = jnp.asarray(is_last, metadata.dtype)[None]
        return jnp.where(drop[:, jnp.asarray(columns)], missing, metadata)
