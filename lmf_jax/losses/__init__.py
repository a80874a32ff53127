"""Losses for imbalanced classification: per-example functions and the objectives made of them."""

from lmf_jax.losses.class_weights import balanced_weights as balanced_weights
from lmf_jax.losses.class_weights import class_margins as class_margins
from lmf_jax.losses.class_weights import effective_number_weights as effective_number_weights
from lmf_jax.losses.class_weights import inverse_frequency_weights as inverse_frequency_weights
from lmf_jax.losses.classification import balanced_softmax_loss as balanced_softmax_loss
from lmf_jax.losses.classification import cross_entropy_loss as cross_entropy_loss
from lmf_jax.losses.classification import focal_loss as focal_loss
from lmf_jax.losses.classification import ldam_loss as ldam_loss
from lmf_jax.losses.classification import lmf_loss as lmf_loss
from lmf_jax.losses.classification import logit_adjusted_loss as logit_adjusted_loss
from lmf_jax.losses.objective import LOSSES as LOSSES
from lmf_jax.losses.objective import Objective as Objective
from lmf_jax.losses.objective import make_objective as make_objective
