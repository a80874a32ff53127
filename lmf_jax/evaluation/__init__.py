"""Evaluation: the metrics of a test with their intervals, its figures, and the report of a run.

Importing this package loads neither matplotlib nor jinja2; they load when a report is written.
"""

from lmf_jax.evaluation.classification.comparison import Comparison as Comparison
from lmf_jax.evaluation.classification.comparison import compare_runs as compare_runs
from lmf_jax.evaluation.classification.comparison import format_comparison as format_comparison
from lmf_jax.evaluation.classification.metrics import ClassificationMetrics as ClassificationMetrics
from lmf_jax.evaluation.classification.metrics import (
    classification_metrics as classification_metrics,
)
from lmf_jax.evaluation.classification.metrics import confusion_matrix as confusion_matrix
from lmf_jax.evaluation.classification.metrics import predicted_classes as predicted_classes
from lmf_jax.evaluation.classification.report import format_test_table as format_test_table
from lmf_jax.evaluation.classification.report import write_report as write_report
from lmf_jax.evaluation.classification.run import FinishedRun as FinishedRun
from lmf_jax.evaluation.classification.run import read_run as read_run
from lmf_jax.evaluation.classification.summary import test_summary as test_summary
from lmf_jax.evaluation.permutation import paired_test as paired_test
from lmf_jax.evaluation.posterior import macro_f1_interval as macro_f1_interval
from lmf_jax.evaluation.segmentation.comparison import (
    SegmentationComparison as SegmentationComparison,
)
from lmf_jax.evaluation.segmentation.comparison import (
    compare_segmentation_runs as compare_segmentation_runs,
)
from lmf_jax.evaluation.segmentation.comparison import (
    format_segmentation_comparison as format_segmentation_comparison,
)
from lmf_jax.evaluation.segmentation.metrics import case_counts as case_counts
from lmf_jax.evaluation.segmentation.metrics import hausdorff_95 as hausdorff_95
from lmf_jax.evaluation.segmentation.metrics import overlap_metrics as overlap_metrics
from lmf_jax.evaluation.segmentation.report import (
    format_segmentation_table as format_segmentation_table,
)
from lmf_jax.evaluation.segmentation.run import FinishedSegmentation as FinishedSegmentation
from lmf_jax.evaluation.segmentation.run import read_segmentation_run as read_segmentation_run
from lmf_jax.evaluation.segmentation.summary import segmentation_summary as segmentation_summary
