"""Settings of a run: the only definition of each flag, its default and its help text.

:class:`Config` has the settings of the user in nested sections. A setting of None stands for a
default of the task, the model, the dataset or the paper; :meth:`Config.resolve` replaces it and
returns a :class:`ResolvedConfig`, whose types exclude None. Flags and ``config.json`` are flat: the
name of a setting is unique over all sections. Losses, their options and models are registered in
``lmf_jax.losses`` and ``lmf_jax.models``.
"""

from lmf_jax.config.config import Config as Config
from lmf_jax.config.config import ResolvedConfig as ResolvedConfig
from lmf_jax.config.config import run_only_keys as run_only_keys
from lmf_jax.config.config import with_defaults as with_defaults
from lmf_jax.config.image_spec import ImageSpec as ImageSpec
from lmf_jax.config.image_spec import format_size as format_size
from lmf_jax.config.resolved import ResolvedData as ResolvedData
from lmf_jax.config.resolved import ResolvedModel as ResolvedModel
from lmf_jax.config.resolved import ResolvedTraining as ResolvedTraining
from lmf_jax.config.sections import DEFAULT_DATA_DIR as DEFAULT_DATA_DIR
from lmf_jax.config.sections import DataConfig as DataConfig
from lmf_jax.config.sections import ModelConfig as ModelConfig
from lmf_jax.config.sections import NormalizationName as NormalizationName
from lmf_jax.config.sections import RunConfig as RunConfig
from lmf_jax.config.sections import TrainingConfig as TrainingConfig
from lmf_jax.losses.loss_config import LossConfig as LossConfig
