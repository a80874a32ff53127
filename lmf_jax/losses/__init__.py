"""Losses for imbalanced classes: per-example and per-sample functions, and their objectives."""

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
from lmf_jax.losses.segmentation import SEGMENTATION_LOSSES as SEGMENTATION_LOSSES
from lmf_jax.losses.segmentation import asymmetric_focal_loss as asymmetric_focal_loss
from lmf_jax.losses.segmentation import (
    asymmetric_focal_tversky_loss as asymmetric_focal_tversky_loss,
)
from lmf_jax.losses.segmentation import (
    asymmetric_unified_focal_loss as asymmetric_unified_focal_loss,
)
from lmf_jax.losses.segmentation import combo_loss as combo_loss
from lmf_jax.losses.segmentation import cosine_tversky_loss as cosine_tversky_loss
from lmf_jax.losses.segmentation import dice_loss as dice_loss
from lmf_jax.losses.segmentation import focal_tversky_loss as focal_tversky_loss
from lmf_jax.losses.segmentation import mixed_focal_loss as mixed_focal_loss
from lmf_jax.losses.segmentation import modified_focal_dice_loss as modified_focal_dice_loss
from lmf_jax.losses.segmentation import modified_focal_loss as modified_focal_loss
from lmf_jax.losses.segmentation import segmentation_focal_loss as segmentation_focal_loss
from lmf_jax.losses.segmentation import symmetric_focal_loss as symmetric_focal_loss
from lmf_jax.losses.segmentation import symmetric_focal_tversky_loss as symmetric_focal_tversky_loss
from lmf_jax.losses.segmentation import symmetric_unified_focal_loss as symmetric_unified_focal_loss
from lmf_jax.losses.segmentation import tversky_loss as tversky_loss
from lmf_jax.losses.training_progress import TrainingProgress as TrainingProgress
