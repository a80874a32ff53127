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


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "x\n"), r"x\n: File name too long."),
        (
            OSError(errno.ENOSPC, "No space left on device", "run/report.html"),
            "run/report.html: No space left on device.",
        ),
    ],
)
def test_a_disk_that_refuses_is_one_line(error, message, capsys):
    def fail():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_command("lmf_jax", fail)
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"lmf_jax: The disk refuses {message}\n"
