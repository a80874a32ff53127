"""The argument RUN, and the batch size of a run on the devices of this machine."""

import math
from typing import Annotated

import jax
import tyro

from lmf_jax.config import Config

RunDir = Annotated[
    str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="The folder of a run.")
]


def batch_size_here(config: Config) -> int:
    """Return the batch size of the run, rounded up to a multiple of the number of devices."""
    devices = jax.device_count()
    return math.ceil(config.batch_size / devices) * devices
