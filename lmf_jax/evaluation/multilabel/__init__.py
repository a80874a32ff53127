"""Metrics, thresholds, calibration and statistics of multi-label classification.

Labels are 0 or 1 for each example and label, and -1 where a label is missing; such a label counts
in no metric.
"""

from lmf_jax.evaluation.multilabel.calibration import LabelCalibrator as LabelCalibrator
from lmf_jax.evaluation.multilabel.calibration import fit_label_calibrator as fit_label_calibrator
from lmf_jax.evaluation.multilabel.calibration import (
    label_probability_metrics as label_probability_metrics,
)
from lmf_jax.evaluation.multilabel.calibration import read_label_calibrator as read_label_calibrator
from lmf_jax.evaluation.multilabel.calibration import (
    summarize_label_calibration as summarize_label_calibration,
)
from lmf_jax.evaluation.multilabel.metrics import label_f1 as label_f1
from lmf_jax.evaluation.multilabel.metrics import odir_figures as odir_figures
from lmf_jax.evaluation.multilabel.scores import score_labels as score_labels
from lmf_jax.evaluation.multilabel.scores import sigmoid as sigmoid
from lmf_jax.evaluation.multilabel.statistics import (
    compare_mean_average_precision as compare_mean_average_precision,
)
from lmf_jax.evaluation.multilabel.statistics import (
    mean_average_precision_test as mean_average_precision_test,
)
from lmf_jax.evaluation.multilabel.statistics import ranking_intervals as ranking_intervals
from lmf_jax.evaluation.multilabel.summary import summarize_test as summarize_test
from lmf_jax.evaluation.multilabel.thresholds import f1_thresholds as f1_thresholds
from lmf_jax.evaluation.multilabel.thresholds import read_thresholds as read_thresholds
from lmf_jax.evaluation.multilabel.thresholds import write_thresholds as write_thresholds
