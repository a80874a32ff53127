"""Settings of a run: the only place where a flag, its default and its help text are written.

:class:`Config` is what a person asks for: nested sections, in which some settings are None, left to
the task, the model, the dataset or the paper. :meth:`Config.resolve` fills them in and returns a
:class:`ResolvedConfig`, whose types have no None there. Flags and ``config.json`` are flat: every
setting has one name in all sections. The losses, their options and the models are registered in
``lmf_jax.losses`` and ``lmf_jax.models``.
"""

from lmf_jax.config.config import Config as Config
from lmf_jax.config.config import ResolvedConfig as ResolvedConfig
from lmf_jax.config.config import run_only_keys as run_only_keys
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
