"""Losses for imbalanced classes: per-example and per-sample functions, and their objectives."""

import importlib
import pkgutil

from lmf_jax.losses.class_weights import balanced_weights as balanced_weights
from lmf_jax.losses.class_weights import class_margins as class_margins
from lmf_jax.losses.class_weights import effective_number_weights as effective_number_weights
from lmf_jax.losses.class_weights import inverse_frequency_weights as inverse_frequency_weights
from lmf_jax.losses.compound_losses import (
    asymmetric_unified_focal_loss as asymmetric_unified_focal_loss,
)
from lmf_jax.losses.compound_losses import combo_loss as combo_loss
from lmf_jax.losses.compound_losses import mixed_focal_loss as mixed_focal_loss
from lmf_jax.losses.compound_losses import (
    symmetric_unified_focal_loss as symmetric_unified_focal_loss,
)
from lmf_jax.losses.cross_entropy_losses import balanced_softmax_loss as balanced_softmax_loss
from lmf_jax.losses.cross_entropy_losses import cross_entropy_loss as cross_entropy_loss
from lmf_jax.losses.cross_entropy_losses import logit_adjusted_loss as logit_adjusted_loss
from lmf_jax.losses.label_vectors import LabelTerm as LabelTerm
from lmf_jax.losses.label_vectors import map_label_vectors as map_label_vectors
from lmf_jax.losses.label_weights import (
    label_effective_number_weights as label_effective_number_weights,
)
from lmf_jax.losses.label_weights import label_margins as label_margins
from lmf_jax.losses.label_weights import positive_weights as positive_weights
from lmf_jax.losses.log_odds import map_examples as map_examples
from lmf_jax.losses.loss_config import LossConfig as LossConfig
from lmf_jax.losses.margin_losses import focal_loss as focal_loss
from lmf_jax.losses.margin_losses import ldam_loss as ldam_loss
from lmf_jax.losses.margin_losses import lmf_loss as lmf_loss
from lmf_jax.losses.multilabel_asymmetric_losses import asymmetric_loss as asymmetric_loss
from lmf_jax.losses.multilabel_asymmetric_losses import (
    distribution_balanced_loss as distribution_balanced_loss,
)
from lmf_jax.losses.multilabel_asymmetric_losses import (
    robust_asymmetric_loss as robust_asymmetric_loss,
)
from lmf_jax.losses.multilabel_cross_entropy_losses import (
    sigmoid_cross_entropy_loss as sigmoid_cross_entropy_loss,
)
from lmf_jax.losses.multilabel_cross_entropy_losses import (
    sigmoid_logit_adjusted_loss as sigmoid_logit_adjusted_loss,
)
from lmf_jax.losses.multilabel_margin_losses import sigmoid_focal_loss as sigmoid_focal_loss
from lmf_jax.losses.multilabel_margin_losses import sigmoid_ldam_loss as sigmoid_ldam_loss
from lmf_jax.losses.multilabel_margin_losses import sigmoid_lmf_loss as sigmoid_lmf_loss
from lmf_jax.losses.multilabel_objective import MultilabelObjective as MultilabelObjective
from lmf_jax.losses.multilabel_objective import (
    build_multilabel_objective as build_multilabel_objective,
)
from lmf_jax.losses.multilabel_objective import (
    make_multilabel_objective as make_multilabel_objective,
)
from lmf_jax.losses.objective import Objective as Objective
from lmf_jax.losses.objective import build_objective as build_objective
from lmf_jax.losses.objective import make_objective as make_objective
from lmf_jax.losses.overlap_losses import (
    asymmetric_focal_tversky_loss as asymmetric_focal_tversky_loss,
)
from lmf_jax.losses.overlap_losses import cosine_tversky_loss as cosine_tversky_loss
from lmf_jax.losses.overlap_losses import dice_loss as dice_loss
from lmf_jax.losses.overlap_losses import focal_tversky_loss as focal_tversky_loss
from lmf_jax.losses.overlap_losses import modified_focal_dice_loss as modified_focal_dice_loss
from lmf_jax.losses.overlap_losses import (
    symmetric_focal_tversky_loss as symmetric_focal_tversky_loss,
)
from lmf_jax.losses.overlap_losses import tversky_loss as tversky_loss
from lmf_jax.losses.registry import get_loss as get_loss
from lmf_jax.losses.registry import loss_names as loss_names
from lmf_jax.losses.registry import register_loss as register_loss
from lmf_jax.losses.registry import register_segmentation_loss as register_segmentation_loss
from lmf_jax.losses.term import Term as Term
from lmf_jax.losses.training_progress import TrainingProgress as TrainingProgress
from lmf_jax.losses.voxel_losses import asymmetric_focal_loss as asymmetric_focal_loss
from lmf_jax.losses.voxel_losses import modified_focal_loss as modified_focal_loss
from lmf_jax.losses.voxel_losses import segmentation_focal_loss as segmentation_focal_loss
from lmf_jax.losses.voxel_losses import symmetric_focal_loss as symmetric_focal_loss

for _module in pkgutil.iter_modules(__path__):  # a new file of losses needs no line here
    importlib.import_module(f"{__name__}.{_module.name}")
