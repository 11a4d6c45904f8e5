"""Measures the operator against a real control plane on this machine: `make bench`."""

import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from time import monotonic

import click

from tests.bench import admission, reconciling
from tests.bench.figures import Figure, document, machine, table
from tests.bench.plot import draw
from tests.bench.reconciling import Cost
from tests.bench.sizes import FULL, QUICK, Sizes

# Yields what it has measured, and says meanwhile how far it is.
Measure = Callable[[Sizes, Callable[[str], None]], Iterable[Figure | Cost]]
ADMISSION, RECONCILING = "admission", "reconciling"


@click.command()
@click.option("--quick", is_flag=True, help="In a few minutes, to see that it works.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file, too.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw how cost grows with the number of servers.")
@click.option("--only", type=click.Choice([ADMISSION, RECONCILING]), help="Measure this part alone.")
@click.option("--against", metavar="COMMAND", help="Measure admission by another webhook as well.")
def main(*, quick: bool, file: Path | None, plot: Path | None, only: str | None, against: str | None) -> None:
    """Measure the operator against a real control plane on this machine; progress goes to standard error.

    No shell runs COMMAND. In its words, {port} stands for the port on loopback that it has to listen on, {folder} for
    the folder with its tls.crt and tls.key, {mutate_path} and {validate_path} for the paths that are asked, and
    {kubeconfig} for a kubeconfig.
    """
    parts: dict[str, Measure] = {
        ADMISSION: partial(admission.measure, against=against),
        RECONCILING: reconciling.measure,
    }
    measured = parts.values() if only is None else [parts[only]]
    figures, costs = measure_parts(QUICK if quick else FULL, measured)
    conditions = {**machine(), "quick": quick}

    print(table(figures))
    print("\n" + ", ".join(f"{name}: {value}" for name, value in conditions.items()))

    if file:
        file.write_text(json.dumps(document(figures, conditions), indent=2) + "\n")
    if plot and costs:
        draw(costs, plot)


def measure_parts(sizes: Sizes, parts: Iterable[Measure]) -> tuple[list[Figure], list[Cost]]:
    begun = monotonic()

    def say(what: str) -> None:
        print(f"{monotonic() - begun:7.0f} s  {what}", file=sys.stderr, flush=True)

    results = [result for measure in parts for result in measure(sizes, say)]
    figures = [result for result in results if isinstance(result, Figure)]
    return figures, [result for result in results if isinstance(result, Cost)]


if __name__ == "__main__":
    main()
