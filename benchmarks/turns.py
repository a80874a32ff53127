"""Timing of calls in turns, so that other load of the machine affects all of them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Turns:
    """Options of every comparison."""

    peer: Literal["torch", "none"] = "none"
    """The library to compare with; torch needs torch and torchvision installed."""
    seconds: float = 1.0
    """Length of a turn."""
    rounds: int = 7
    """Turns of each; medians are printed."""


def calls_per_second(
    calls: Mapping[str, Callable[[], Any]], *, seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Run the calls in turns and return the rates of each, turn by turn.

    Args:
        calls: The calls by name; each waits until its work is done.
        seconds: Length of a turn, of at least one call.
        rounds: Number of turns, after a first one that compiles and does not count.
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
