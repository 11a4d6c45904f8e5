"""Accounts for the time of a review from socket to response, layer by layer: `python -m tests.bench.profile`.

The layers take turns, each under the same load, which runs on another processor. What a layer costs is what its webhook
takes more than the one before, so the costs add up to those of the whole. Samples are no basis for that: perf sees no
frames of Python 3.11, and py-spy stops the process most often where the kernel lets another one run.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread
from time import sleep

import click

from tests.bench.admission import reviews
from tests.bench.command import WebhookCommand
from tests.bench.figures import YES_ROUTE, Layer, machine, table_of_layers, table_of_libraries
from tests.bench.layers import LAYERS, NAMESPACE, command
from tests.bench.load import Ask, Load
from tests.bench.processors import apart, cpu_seconds_of_tree
from tests.bench.yes import COMMAND
from tests.harness.fleet import namespaced_server
from tests.harness.operator_process import Operator
from tests.harness.server_table import s3

CONNECTIONS = 16
# Handshakes and first reviews cancel out between a long and a short slice.
FEW_SECONDS, MANY_SECONDS, REVIEWS_A_SECOND = 1, 5, 20
PERF_SECONDS = 5
# On a busy machine.
CALLGRIND_START_SECONDS = 120.0

COMMANDS = {YES_ROUTE: COMMAND, **{layer: command(layer) for layer in LAYERS}}


@click.command()
@click.option("--rounds", default=10, show_default=True, help="How often the layers take turns.")
@click.option("--seconds", default=2.0, show_default=True, help="How long each of them is measured in a round.")
@click.option("--instructions", is_flag=True, help="Count instructions with callgrind, too; takes some minutes.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file, too.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the layers into this file.")
def main(*, rounds: int, seconds: float, instructions: bool, file: Path | None, plot: Path | None) -> None:
    """Account for the processor time of a review, layer by layer; progress goes to standard error."""
    with TemporaryDirectory(prefix="profile-") as directory:
        folder = Path(directory)
        trust = Operator(folder).trust  # This writes the certificates.

        with _running(folder) as webhooks:
            loads = {name: Load(webhook.url, trust) for name, webhook in webhooks.items()}
            costs: dict[str, list[float]] = {name: [] for name in webhooks}
            for number in range(rounds):
                _say(f"round {number + 1} of {rounds}")
                for webhook, running in webhooks.items():
                    costs[webhook].append(_microseconds(running.pid, loads[webhook], seconds))
            libraries = _shares_of_libraries(webhooks[LAYERS[-1]].pid, loads[LAYERS[-1]])

        counts: dict[str, float] = {}
        for name in COMMANDS if instructions else ():
            _say(f"instructions: {name}")
            counts[name] = _count_instructions(name, folder, lambda url: Load(url, trust))

    layers = list(_layers(costs, counts))
    yes = Layer(YES_ROUTE, min(costs[YES_ROUTE]), median(costs[YES_ROUTE]), counts.get(YES_ROUTE))
    print(table_of_layers(layers, yes))
    print("\n" + table_of_libraries(libraries, min(costs[LAYERS[-1]])))
    print("\n" + ", ".join(f"{name}: {value}" for name, value in machine().items()))

    if file:
        file.write_text(json.dumps({"layers": [*map(asdict, layers)], "rounds": costs, "libraries": libraries}))
    if plot:
        from tests.bench.plot import draw_layers  # noqa: PLC0415 - only `make bench` installs what draws

        draw_layers({layer.name: layer.least for layer in layers}, yes.least, plot)


def _layers(costs: Mapping[str, Sequence[float]], counts: Mapping[str, float]) -> Iterator[Layer]:
    low, mid, count = 0.0, 0.0, 0.0
    for name in LAYERS:
        more = counts[name] - count if counts else None
        yield Layer(name, min(costs[name]) - low, median(costs[name]) - mid, more)
        low, mid, count = min(costs[name]), median(costs[name]), counts.get(name, 0.0)


@contextmanager
def _running(folder: Path) -> Iterator[dict[str, WebhookCommand]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(WebhookCommand(words, folder)) for name, words in COMMANDS.items()}


def _microseconds(process: int, load: Load, seconds: float) -> float:
    with apart(process):
        before = cpu_seconds_of_tree(process)
        answers = load.slice(_asks(), CONNECTIONS, seconds)
        taken = cpu_seconds_of_tree(process) - before

    if answers.failures:
        raise click.ClickException(f"{len(answers.failures)} wrong answers: {answers.failures[0]}")
    return 1e6 * taken / len(answers.milliseconds)


def _asks() -> Iterator[Ask]:
    return cycle(reviews(namespaced_server("files", NAMESPACE, **s3())))


def _shares_of_libraries(process: int, load: Load) -> dict[str, float]:
    """Returns the share of the time in the kernel and in each library, or nothing where perf is missing or may not."""
    perf = shutil.which("perf")
    if perf is None:
        return {}

    loading = Thread(target=load.slice, args=(_asks(), CONNECTIONS, PERF_SECONDS + 2))
    loading.start()
    with TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        record = (perf, "record", "--event=cpu-clock", "--freq=999", f"--pid={process}", f"--output={data}")
        subprocess.run([*record, "--", "sleep", str(PERF_SECONDS)], check=False, capture_output=True)
        report = (perf, "report", f"--input={data}", "--sort=dso", "--stdio")
        lines = subprocess.run(report, check=False, capture_output=True, text=True).stdout
    loading.join()

    shares = re.findall(r"^ +([\d.]+)% +(\S+)", lines, re.MULTILINE)
    return {name.partition(".cpython")[0].strip("[]"): float(percent) / 100 for percent, name in shares}


def _count_instructions(name: str, folder: Path, load_on: Callable[[str], Load]) -> float:
    """Returns the instructions of a review outside of the kernel; they hardly differ from run to run."""
    valgrind = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/callgrind")
    slow = WebhookCommand(f"{shlex.join(valgrind)} {COMMANDS[name]}", folder, start_seconds=CALLGRIND_START_SECONDS)
    totals, reviewed = [], []

    with slow as webhook:
        load = load_on(webhook.url)
        load.slice(_asks(), 1, FEW_SECONDS, REVIEWS_A_SECOND)
        _control(webhook.pid, "--instr=on")
        for seconds in (FEW_SECONDS, MANY_SECONDS):
            reviewed.append(len(load.slice(_asks(), 1, seconds, REVIEWS_A_SECOND).milliseconds))
            sleep(0.5)
            _control(webhook.pid, "--dump")
            totals.append(_total(folder))

    [few, many], [few_reviews, many_reviews] = totals, reviewed
    return (many - few) / (many_reviews - few_reviews)


def _control(process: int, command: str) -> None:
    subprocess.run(["callgrind_control", command, str(process)], check=True, capture_output=True)


def _total(folder: Path) -> int:
    """Returns the instructions of the newest dump."""
    newest = max(folder.glob("callgrind.*"), key=lambda file: file.stat().st_mtime_ns)
    return int(re.findall(r"^(?:summary|totals): (\d+)", newest.read_text(), re.MULTILINE)[0])


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
