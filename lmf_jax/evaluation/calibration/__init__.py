"""Calibrated probabilities: fitted on the validation logits of a run, measured on its test.

Importing this package does not load matplotlib.
"""

from lmf_jax.evaluation.calibration.calibrator import METHODS as METHODS
from lmf_jax.evaluation.calibration.calibrator import Calibrator as Calibrator
from lmf_jax.evaluation.calibration.calibrator import Method as Method
from lmf_jax.evaluation.calibration.file import calibrator_of as calibrator_of
from lmf_jax.evaluation.calibration.file import read_calibration as read_calibration
from lmf_jax.evaluation.calibration.file import read_calibrator as read_calibrator
from lmf_jax.evaluation.calibration.file import write_calibration as write_calibration
from lmf_jax.evaluation.calibration.formatting import calibration_lines as calibration_lines
from lmf_jax.evaluation.calibration.formatting import describe_calibrator as describe_calibrator
from lmf_jax.evaluation.calibration.formatting import format_loss as format_loss
from lmf_jax.evaluation.calibration.prior_shift import prior_ratios as prior_ratios
from lmf_jax.evaluation.calibration.prior_shift import shift_priors as shift_priors
from lmf_jax.evaluation.calibration.reliability import accuracy_intervals as accuracy_intervals
from lmf_jax.evaluation.calibration.scaling import fit_temperature as fit_temperature
from lmf_jax.evaluation.calibration.scaling import fit_vector as fit_vector
from lmf_jax.evaluation.calibration.scaling import log_loss as log_loss
from lmf_jax.evaluation.calibration.summary import fit_calibrator as fit_calibrator
from lmf_jax.evaluation.calibration.summary import probability_metrics as probability_metrics
from lmf_jax.evaluation.calibration.summary import summarize_calibration as summarize_calibration
