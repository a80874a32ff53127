"""Drafts of a model card and of reporting checklists, filled from the files of a run."""

from lmf_jax.documents.write import write_documents as write_documents
