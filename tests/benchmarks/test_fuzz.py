"""Every reader of untrusted files is fuzzed; ``python -m benchmarks.fuzz`` has more inputs."""

import gc
import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from benchmarks.fuzzing import harness
from benchmarks.fuzzing.harness import Target, explore
from benchmarks.fuzzing.targets import TARGETS, shares
from lmf_jax.errors import UserError

INPUTS = 2000
SHARES = dict(zip(TARGETS, shares(list(TARGETS.values()), INPUTS), strict=True))


# Orbax calls a closed event loop after a read that failed, which nobody but pytest hears of.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_or_refuses(name: str, tmp_path: Path) -> None:
    outcome = explore(TARGETS[name], SHARES[name], 0, tmp_path / name)
    gc.collect()  # so that it is this test that hears of it
    if outcome.failure is not None:
        raise outcome.failure
    assert outcome.values + outcome.refusals >= SHARES[name] * 0.9


def test_there_are_enough_inputs() -> None:
    assert sum(SHARES.values()) >= INPUTS


def out_of_memory(folder: Path) -> None:
    try:
        bytearray(2**40)
    except MemoryError as error:
        raise UserError("It is too large.") from error


def slow(folder: Path) -> None:
    time.sleep(2 * harness.SLOW)


def trips_over_a_word(folder: Path) -> None:
    if b"x" in (folder / "file").read_bytes():
        raise KeyError("x")


@pytest.mark.parametrize(
    ("read", "failure"),
    [
        (trips_over_a_word, KeyError),
        (out_of_memory, AssertionError),
        (slow, AssertionError),
    ],
)
def test_a_bad_reader_is_caught_and_its_input_reduced(read, failure, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(harness, "SLOW", 0.01)
    files = st.text("axyz").map(lambda text: {"file": text.encode()})
    target = Target("bad", lambda: files, read)
    outcome = explore(target, 200, 0, tmp_path / "bad")
    assert type(outcome.failure) is failure
    kept = (tmp_path / "bad" / "file").read_bytes()
    assert kept == (b"x" if read is trips_over_a_word else b"")
