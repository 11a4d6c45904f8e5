"""Implements `make fuzz`: sends mutated AdmissionReviews to the webhook's application until time is up or one fails.

`python -m tests.fuzz FILE` sends the review in FILE once more, to both endpoints.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from random import SystemRandom

from tests.fuzz.reviews import PATHS, Failure, Fuzzer

REPORT_SECONDS = 30.0


def main() -> int:
    arguments = _arguments()
    if arguments.file:
        return replay(arguments.file)

    seed = SystemRandom().getrandbits(32) if arguments.seed is None else arguments.seed
    return run(Fuzzer(seed), arguments.seconds, arguments.reviews)


def run(fuzzer: Fuzzer, seconds: float, reviews: int) -> int:
    """Returns 0 when nothing failed; otherwise 1, and the failed review is in a file of the current folder."""
    print(f"seed {fuzzer.seed}", flush=True)
    failure = asyncio.run(_first_failure(fuzzer, seconds, reviews))
    if failure is None:
        return 0

    file = Path(f"fuzz-failure-{fuzzer.seed}.json")
    file.write_bytes(failure.body)
    print(f"a review failed at {failure.path}; it is in {file}: {failure.why}")
    return 1


def replay(file: Path) -> int:
    body = file.read_bytes()

    failures = [failure for path in PATHS if (failure := asyncio.run(Fuzzer(0).ask(path, body)))]
    for failure in failures:
        print(f"{failure.path}: {failure.why}")

    print(f"{len(failures)} of {len(PATHS)} endpoints failed")
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a review that failed before")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on (default: %(default)g)")
    parser.add_argument("--reviews", type=int, default=10**9, help="how many reviews to send at most")
    parser.add_argument("--seed", type=int, help="repeats the run that printed this seed")
    return parser.parse_args()


async def _first_failure(fuzzer: Fuzzer, seconds: float, reviews: int) -> Failure | None:
    started, sent = time.monotonic(), 0
    report_at = started + REPORT_SECONDS

    while sent < reviews and (now := time.monotonic()) < started + seconds:
        if failure := await fuzzer.next():
            return failure

        sent += 1
        if now > report_at:
            report_at += REPORT_SECONDS
            print(_summary(fuzzer, sent, now - started), flush=True)

    print(_summary(fuzzer, sent, time.monotonic() - started))
    return None


def _summary(fuzzer: Fuzzer, sent: int, seconds: float) -> str:
    statuses = ", ".join(f"{count} with HTTP status {status}" for status, count in sorted(fuzzer.statuses.items()))
    return f"{sent} reviews without an internal error in {seconds:.0f} s, {sent / seconds:.0f} a second: {statuses}"


if __name__ == "__main__":
    sys.exit(main())
