"""An error is one printable line, whatever a file contains."""

import errno
import io
import pickle
import sys

import pytest

from lmf_jax.errors import TrainingStopped, UserError, run_command


def test_a_message_cannot_steer_the_terminal():
    message = str(UserError("a.csv holds \x1b[2J\nand \udcff and \u202e; expected é."))
    assert message == r"a.csv holds \x1b[2J\nand \udcff and \u202e; expected é."


def test_of_an_endless_message_the_middle_is_left_out():
    message = str(UserError(f"a.csv holds {'x' * 10**6}; expected less."))
    assert len(message) < 2100
    assert message.startswith("a.csv holds xxx")
    assert message.endswith("xxx; expected less.")


def test_an_error_comes_back_whole_from_another_process():
    error = pickle.loads(pickle.dumps(TrainingStopped("No\nroom.")))
    assert (type(error), str(error)) == (TrainingStopped, r"No\nroom.")


def test_the_name_of_a_file_may_be_no_text(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    run_command("lmf_jax", lambda: print(b"bad\xff.png".decode(errors="surrogateescape")))
    stream.flush()
    assert stream.buffer.getvalue() == b"bad\\udcff.png\n"


def test_a_name_that_is_too_long_for_the_disk_is_one_line(capsys):
    def fail():
        raise OSError(errno.ENAMETOOLONG, "File name too long", "x\n")

    with pytest.raises(SystemExit) as stop:
        run_command("lmf_jax", fail)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "lmf_jax: The disk refuses x\\n: File name too long.\n"
