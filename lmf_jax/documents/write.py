"""Write the documents of a run."""

from pathlib import Path

from lmf_jax.documents.checklist import render_checklist
from lmf_jax.documents.claim import CLAIM
from lmf_jax.documents.facts import Topics
from lmf_jax.documents.model_card import render_model_card
from lmf_jax.documents.run_files import read_documented_run
from lmf_jax.documents.topics import collect
from lmf_jax.documents.tripod import TRIPOD
from lmf_jax.output_files import check_outputs, make_folder
from lmf_jax.runs.atomic_files import write_atomically

MODEL_CARD, CLAIM_DRAFT, TRIPOD_DRAFT = "model_card.md", "claim_2024.md", "tripod_ai.md"


def write_documents(
    run_dir: str | Path, output: str | Path | None = None, *, overwrite: bool = False
) -> list[Path]:
    """Write the model card and the drafts of the checklists of a run.

    Args:
        run_dir: The folder that ``train.py`` wrote.
        output: The folder of the documents (default: ``card`` in the folder of the run).
        overwrite: Whether existing files may be replaced: an author may have edited them.

    Returns:
        The paths of the documents.

    Raises:
        UserError: If a file of the run is missing or broken, or a document exists.
    """
    run_dir = Path(run_dir)
    documents = render_documents(collect(read_documented_run(run_dir)))
    folder = Path(output) if output is not None else run_dir / "card"
    paths = [folder / name for name in documents]
    make_folder(folder)
    check_outputs(paths, inputs=(), overwrite=overwrite)
    for path, text in zip(paths, documents.values(), strict=True):
        write_atomically(path, text)
    return paths


def render_documents(topics: Topics) -> dict[str, str]:
    """Return the text of each document by its file name.

    Args:
        topics: The facts of the run.
    """
    return {
        MODEL_CARD: render_model_card(topics),
        CLAIM_DRAFT: render_checklist(CLAIM, topics),
        TRIPOD_DRAFT: render_checklist(TRIPOD, topics),
    }
