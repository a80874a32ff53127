"""The report of a run of any task."""

from collections.abc import Callable, Mapping
from pathlib import Path

from lmf_jax.evaluation.classification.report import write_report as write_classification_report
from lmf_jax.evaluation.multilabel.report import write_report as write_multilabel_report
from lmf_jax.evaluation.segmentation.report import write_report as write_segmentation_report
from lmf_jax.extras import extra_packages
from lmf_jax.runs.files import CLASSIFICATION, MULTILABEL, SEGMENTATION, read_record, task_of

REPORT_WRITERS: Mapping[str, Callable[[Path], Path]] = {
    CLASSIFICATION: write_classification_report,
    SEGMENTATION: write_segmentation_report,
    MULTILABEL: write_multilabel_report,
}


def write_report(run_dir: str | Path) -> Path:
    """Write ``figures/*.png`` and ``report.html`` into the folder of a finished run.

    The report is a single file with the figures and the style embedded; it loads nothing from
    elsewhere. It is made from the files of the folder and can be rewritten at any time.

    Args:
        run_dir: The folder that ``train.py`` wrote, of any task.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: If the folder or one of its files is missing or broken; the message names the
            file, or the package of the extra ``train`` that is not installed.
    """
    run_dir = Path(run_dir)
    write = REPORT_WRITERS[task_of(read_record(run_dir))]
    with extra_packages("train", needed_by="write_report"):
        return write(run_dir)
