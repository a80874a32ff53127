"""Metrics, summary, report and comparison of classification runs.

Every task has the functions below, under the same names.
"""

from lmf_jax.evaluation.classification.comparison import compare_runs as compare_runs
from lmf_jax.evaluation.classification.comparison import format_comparison as format_comparison
from lmf_jax.evaluation.classification.report import format_test_table as format_test_table
from lmf_jax.evaluation.classification.report import write_report as write_report
from lmf_jax.evaluation.classification.run import read_run as read_run
from lmf_jax.evaluation.classification.run import write_test as write_test
from lmf_jax.evaluation.classification.summary import summarize_test as summarize_test
