"""``python -m lmf_jax card RUN``: drafts of a model card and of reporting checklists."""

from dataclasses import dataclass

from lmf_jax.cli.arguments import RunDir
from lmf_jax.cli.supported_tasks import require_task
from lmf_jax.documents.write import write_documents
from lmf_jax.runs.files import CLASSIFICATION, SEGMENTATION
from lmf_jax.runs.folds import require_single_run


@dataclass(frozen=True)
class Card:
    """Write a model card and drafts of the checklists CLAIM 2024 and TRIPOD+AI."""

    run: RunDir
    output: str | None = None
    """The folder of the documents (default: card, in the folder of the run)."""
    overwrite: bool = False
    """Replace existing documents, with whatever was written into them."""


def run_card(options: Card) -> None:
    """Write the documents of a run and print their paths."""
    require_task("card", options.run, CLASSIFICATION, SEGMENTATION)
    require_single_run(options.run)
    for path in write_documents(options.run, options.output, overwrite=options.overwrite):
        print(path)
