"""Evaluation: metrics of a test with intervals, figures, reports and comparisons of runs.

The ``classification`` and ``segmentation`` subpackages have the same functions under the same
names: ``write_test``, ``read_run``, ``summarize_test``, ``format_test_table``, ``write_report``,
``compare_runs`` and ``format_comparison``. The names below without a task are those of
classification, except for ``write_report``, which accepts a run of any task.

Importing this package loads neither matplotlib nor jinja2; they load when a report is written.
"""

from lmf_jax.evaluation import classification as classification
from lmf_jax.evaluation import segmentation as segmentation
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
from lmf_jax.evaluation.classification.run import FinishedRun as FinishedRun
from lmf_jax.evaluation.classification.run import read_run as read_run
from lmf_jax.evaluation.classification.summary import summarize_test as summarize_test
from lmf_jax.evaluation.permutation import paired_test as paired_test
from lmf_jax.evaluation.posterior import macro_f1_interval as macro_f1_interval
from lmf_jax.evaluation.report import write_report as write_report
from lmf_jax.evaluation.segmentation.comparison import (
    SegmentationComparison as SegmentationComparison,
)
from lmf_jax.evaluation.segmentation.metrics import case_counts as case_counts
from lmf_jax.evaluation.segmentation.metrics import hausdorff_95 as hausdorff_95
from lmf_jax.evaluation.segmentation.metrics import overlap_metrics as overlap_metrics
from lmf_jax.evaluation.segmentation.run import FinishedSegmentation as FinishedSegmentation

test_summary = summarize_test
read_segmentation_run = segmentation.read_run
segmentation_summary = segmentation.summarize_test
format_segmentation_table = segmentation.format_test_table
compare_segmentation_runs = segmentation.compare_runs
format_segmentation_comparison = segmentation.format_comparison
