"""Every number of a document comes from a key of a file of the run."""

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise

import pytest

from lmf_jax.documents.checklist import AUTHOR, OVERVIEW
from lmf_jax.documents.claim import CLAIM
from lmf_jax.documents.facts import Sentence, Table, facts_of
from lmf_jax.documents.model_card import SECTIONS
from lmf_jax.documents.run_files import read_documented_run
from lmf_jax.documents.topics import TOPICS, collect
from lmf_jax.documents.tripod import TRIPOD
from lmf_jax.documents.write import render_documents
from tests.helpers.changed_runs import change
from tests.helpers.degenerate import nonsense_in

KINDS = ("lesions", "hostile", "absent class", "masks", "volumes", "folds")
each_run = pytest.mark.parametrize("kind", KINDS)

LETTERS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef"}
LETTERS |= {20: "abc", 23: "ab", 27: "abc"}
"""Items of TRIPOD+AI that have sub-items."""
TRIPOD_NUMBERS = [f"{n}{letter}" for n in range(1, 28) for letter in LETTERS.get(n, [""])]
NUMBERS = {
    "claim_2024.md": [str(number) for number in range(1, 45)],
    "tripod_ai.md": TRIPOD_NUMBERS,
}
TOPICS_OF = {
    "model_card.md": {name for section in SECTIONS for name in section.topics},
    "claim_2024.md": {name for item in CLAIM.items for name in item.topics},
    "tripod_ai.md": {name for item in TRIPOD.items for name in item.topics},
}
ALONE = ("config.json", "test.json", "metrics.jsonl", "calibration.json")
"""Files in which most values can be changed without the others."""
TOGETHER = (("dataset", "class_names"), ("folds", "each"))
"""The keys of these files whose change needs that of another."""


def topics_of(run_dir):
    return collect(read_documented_run(run_dir))


def texts(facts):
    """Return the texts of the facts by topic, file and key."""
    found = {}
    for name, fact in facts:
        place = (name, fact.file, fact.key)
        found[place] = (*found.get(place, ()), fact.text)
    return found


def is_related(place, file, key):
    """Return whether a key is the other, a part of it, or decides its default."""
    depth = min(len(key), len(place[1]))
    is_part = place[0] == file and place[1][:depth] == key[:depth]
    return is_part or (key, place[1]) == (("config", "form"), ("config", "scale"))


def without_texts(topics):
    """Return the topics with the text of every fact replaced by a letter."""

    def strip(block):
        if isinstance(block, Sentence):
            return replace(block, facts=tuple(replace(f, text="x") for f in block.facts))
        if isinstance(block, Table):
            return replace(block, rows=tuple(tuple(map(strip, row)) for row in block.rows))
        return block

    return {name: tuple(map(strip, blocks)) for name, blocks in topics.items()}


@pytest.mark.slow  # hundreds of keys, each with all documents
@each_run
def test_a_change_of_any_key_changes_the_facts_that_name_it_and_no_others(runs, kind, tmp_path):
    topics = topics_of(runs[kind])
    before = list(facts_of(topics))
    documents = render_documents(topics)
    task = read_documented_run(runs[kind]).task
    sources = dict.fromkeys((fact.file, fact.key) for _, fact in before)
    assert len(sources) > 60
    for file, key in sources:
        folder = shutil.copytree(runs[kind], tmp_path / "run")
        change(folder, next(f for _, f in before if (f.file, f.key) == (file, key)), task)
        changed = topics_of(folder)
        shutil.rmtree(folder)
        old = {(name, f.text) for name, f in before if (f.file, f.key) == (file, key)}
        new = {(name, f.text) for name, f in facts_of(changed) if (f.file, f.key) == (file, key)}
        kept = old & new if not file.endswith(".npz") else old == new and old
        assert not kept, f"{file}: {key} was changed, but not {kept}"
        others = texts(before).items() - texts(facts_of(changed)).items()
        others = {place for place, _ in others if place in texts(facts_of(changed))}
        if file in ALONE and key[:2] not in TOGETHER:
            assert not [p for p in others if not is_related(p[1:], file, key)]
        in_topics = {name for name, fact in before if (fact.file, fact.key) == (file, key)}
        for name, text in render_documents(changed).items():
            assert in_topics.isdisjoint(TOPICS_OF[name]) or text != documents[name]


def test_the_checklists_have_their_published_numbers_of_items():
    assert len(list(CLAIM.items)) == 44
    assert len(TRIPOD_NUMBERS) == 52


def test_every_fact_is_in_a_document():
    assert set(TOPICS) == set.union(*TOPICS_OF.values())


@each_run
def test_every_number_is_that_of_a_fact_or_of_an_item(runs, kind):
    for name, text in render_documents(without_texts(topics_of(runs[kind]))).items():
        text = re.sub(r"(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", text)
        for checklist in (CLAIM, TRIPOD):
            text = text.replace(checklist.reference, "").replace(f"# {checklist.title}", "")
        text = re.sub(rf"^### \w+\. |^- ({'|'.join(OVERVIEW)}): .*", "", text, flags=re.M)
        found = re.findall(r".{,30}(?<![A-Za-z0-9])\d.{,30}", text)
        assert not found, f"{name}: {found}"


@each_run
def test_no_item_is_missing_or_blank(runs, kind):
    documents = render_documents(topics_of(runs[kind]))
    for name, numbers in NUMBERS.items():
        found = re.findall(r"^### (\w+)\. .+$", documents[name], flags=re.M)
        assert found == numbers
        heads = [match.end() for match in re.finditer(r"^### .*$", documents[name], flags=re.M)]
        for start, end in pairwise([*heads, len(documents[name])]):
            body = re.sub(r"^##.*$", "", documents[name][start:end], flags=re.M).strip()
            assert re.search(r"\w{3}", body.replace(AUTHOR, "")), documents[name][start - 80 : end]


@each_run
def test_documents_show_no_undefined_value(runs, kind):
    for text in render_documents(topics_of(runs[kind])).values():
        assert nonsense_in(text) == []


@each_run
def test_no_sentence_begins_with_a_text_from_a_file(runs, kind):
    blocks = [block for blocks in topics_of(runs[kind]).values() for block in blocks]
    assert not [b for b in blocks if isinstance(b, Sentence) and b.words.startswith("{")]


def test_names_from_a_file_are_shown_as_they_are(runs):
    markdown_it = pytest.importorskip("markdown_it")
    names = json.loads((runs["hostile"] / "config.json").read_text())["dataset"]["class_names"]
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    for text in render_documents(topics_of(runs["hostile"])).values():
        html = parser.render(text)
        assert "<script" not in html and "<a " not in html and "<strong>" not in html
        plain = re.sub(r"<[^>]+>", "", html)
        for entity, character in {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&"}.items():
            plain = plain.replace(entity, character)
        for name in names:
            assert name in plain
