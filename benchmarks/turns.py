"""Calls that take turns, so that whatever else the machine does meets all of them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Turns:
    """What every comparison is asked."""

    peer: Literal["torch", "none"] = "none"
    """Who else runs in turn; torch needs torch and torchvision installed."""
    seconds: float = 1.0
    """Length of a turn."""
    rounds: int = 7
    """Turns of each; medians are printed."""


def calls_per_second(
    calls: Mapping[str, Callable[[], Any]], *, seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Let every call have its turn, round after round, and return the rate of each of its turns.

    Args:
        calls: By name; a call waits until its work is done.
        seconds: Length of a turn, which has one call at least.
        rounds: Turns of each that count; one before them, which compiles, does not.
    """
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            rate = _rate(call, seconds)
            if turn:
                rates[name].append(rate)
    return rates


def _rate(call: Callable[[], Any], seconds: float) -> float:
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - started)
