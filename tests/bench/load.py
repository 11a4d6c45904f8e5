"""Sends requests to one server on loopback, so many at once and for so long, and measures the time of each answer."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic

import aiohttp
import uvloop

from tests.bench.figures import percentile

REQUEST_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Ask:
    """One request; `expected` is in the body of every correct answer."""

    method: str
    path: str
    body: bytes
    content_type: str = "application/json"
    expected: bytes = b""


@dataclass
class Answers:
    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.milliseconds) / self.seconds

    def percentile(self, hundredth: float) -> float:
        return percentile(self.milliseconds, hundredth)

    def add(self, other: "Answers") -> None:
        self.seconds += other.seconds
        self.milliseconds += other.milliseconds
        self.failures += other.failures


class Load:
    """Loads the server at `url`; each slice opens its own connections and warms them up before it begins."""

    def __init__(self, url: str, trust: ssl.SSLContext, headers: Mapping[str, str] | None = None) -> None:
        self._url = url
        self._trust = trust
        self._headers = dict(headers or {})

    def slice(self, asks: Iterator[Ask], connections: int, seconds: float, rate: float | None = None) -> Answers:
        """Sends requests for so many seconds and returns the answers.

        Without a `rate` each connection asks again as soon as it has an answer. With one, each asks when it is due, and
        the time of an answer counts from then, even if the request was sent late.
        """
        return uvloop.run(self._slice(asks, connections, seconds, rate))

    async def _slice(self, asks: Iterator[Ask], connections: int, seconds: float, rate: float | None) -> Answers:
        answers = Answers(seconds)
        warm = asyncio.Barrier(connections)

        async with (
            aiohttp.ClientSession(
                self._url,
                connector=aiohttp.TCPConnector(limit=connections, ssl=self._trust),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for number in range(connections):
                pace = _Pace(number, connections, rate)
                group.create_task(self._connection(session, asks, warm, pace, answers))

        return answers

    async def _connection(
        self,
        session: aiohttp.ClientSession,
        asks: Iterator[Ask],
        warm: asyncio.Barrier,
        pace: "_Pace",
        answers: Answers,
    ) -> None:
        await _send(session, next(asks))
        await warm.wait()

        begun = monotonic()
        while (due := await pace.wait_until_due(begun)) < begun + answers.seconds:
            failure = await _send(session, next(asks))
            answers.milliseconds.append((monotonic() - due) * 1000)
            if failure:
                answers.failures.append(failure)


class _Pace:
    """Decides when a connection asks again: at once, or in turn with the others so that all together keep the rate."""

    def __init__(self, number: int, connections: int, rate: float | None) -> None:
        self._every = connections / rate if rate else 0.0
        self._next = self._every * number / connections

    async def wait_until_due(self, begun: float) -> float:
        if not self._every:
            return monotonic()

        due = begun + self._next
        self._next += self._every
        await asyncio.sleep(max(0.0, due - monotonic()))
        return due


async def _send(session: aiohttp.ClientSession, ask: Ask) -> str | None:
    """Sends one request; returns what is wrong with the answer, or None."""
    headers = {"Content-Type": ask.content_type}
    async with session.request(ask.method, ask.path, data=ask.body, headers=headers) as response:
        body = await response.read()

    if response.ok and ask.expected in body:
        return None
    return f"{response.status} {body[:300].decode(errors='replace')}"
