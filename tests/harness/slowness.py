"""Measures how slow this machine is at the moment, for limits of milliseconds that are meant for a certain machine."""

import statistics
import subprocess
import sys

# What the loop took on the machine that such limits were measured on: two cores of an AMD EPYC, in November 2026.
USUAL_SECONDS = 11e-6
_LOOP = "import timeit; print(*timeit.repeat('sum(range(1000))', number=100, repeat=200))"


def slowness() -> float:
    """Returns how many times longer a loop of Python takes now than on that machine, and 1 where it takes less."""
    printed = subprocess.run([sys.executable, "-c", _LOOP], check=True, capture_output=True, text=True).stdout
    seconds = statistics.median(map(float, printed.split())) / 100
    return max(1.0, seconds / USUAL_SECONDS)
