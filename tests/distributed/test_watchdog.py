import time

from lmf_jax.distributed.watchdog import Watchdog


def wait_here(seconds):
    time.sleep(seconds)


def test_what_takes_too_long_is_named_with_the_place_in_the_code(capsys):
    watchdog = Watchdog(minutes=0.2 / 60)
    watchdog.start("the images of step 7")
    wait_here(0.5)
    watchdog.close()
    said = capsys.readouterr().err
    assert said.startswith("Process 0 of 1 has waited 0.0 minutes for the images of step 7;")
    assert "in wait_here" in said


def test_many_quick_things_are_not_a_slow_one(capsys):
    watchdog = Watchdog(minutes=0.5 / 60)
    for step in range(8):
        watchdog.start(f"step {step}")
        wait_here(0.1)
    watchdog.close()
    wait_here(0.7)
    assert capsys.readouterr().err == ""


def test_it_can_be_off(capsys):
    watchdog = Watchdog(minutes=0.0)
    watchdog.start("step 1")
    wait_here(0.1)
    watchdog.close()
    assert capsys.readouterr().err == ""
