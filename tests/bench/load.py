"""Sends requests to one server on loopback, so many at once and for so long, and measures the time of each answer.

It shares the machine with what it measures, so it does little itself: requests are encoded once, an answer is parsed in
C, and a connection asks again from within the callback that has the answer.
"""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from time import monotonic, thread_time
from urllib.parse import urlsplit

import uvloop
from httptools import HttpParserError, HttpResponseParser

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
    """The answers of a slice; `cpu_seconds` is the processor time that the load itself has used for them."""

    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.milliseconds) / self.seconds

    def percentile(self, hundredth: float) -> float:
        return percentile(self.milliseconds, hundredth)

    def add(self, other: "Answers") -> None:
        self.seconds += other.seconds
        self.milliseconds += other.milliseconds
        self.failures += other.failures
        self.cpu_seconds += other.cpu_seconds


@dataclass(frozen=True)
class _Request:
    encoded: bytes
    expected: bytes


class Load:
    """Loads the server at `url`; each slice opens its own connections and warms them up before it begins."""

    def __init__(self, url: str, trust: ssl.SSLContext, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "localhost", parts.port or 443
        self._trust = trust
        self._fields = {"host": parts.netloc, **(headers or {})}

    def slice(self, asks: Iterator[Ask], connections: int, seconds: float, rate: float | None = None) -> Answers:
        """Sends requests for so many seconds and returns the answers.

        Without a `rate` each connection asks again as soon as it has an answer. With one, each asks when it is due, and
        the time of an answer counts from then, even if the request was sent late.
        """
        return uvloop.run(self._slice(asks, connections, seconds, rate))

    async def _slice(self, asks: Iterator[Ask], connections: int, seconds: float, rate: float | None) -> Answers:
        loop, answers, requests = asyncio.get_running_loop(), Answers(seconds), map(cache(self._encode), asks)
        every = connections / rate if rate else 0.0

        async with asyncio.timeout(seconds + 2 * REQUEST_TIMEOUT_SECONDS):
            async with asyncio.TaskGroup() as group:
                connecting = [
                    group.create_task(
                        loop.create_connection(
                            lambda: _Connection(requests, answers, loop), self._host, self._port, ssl=self._trust
                        )
                    )
                    for _ in range(connections)
                ]
            opened = [task.result()[1] for task in connecting]
            await asyncio.wait([connection.warm for connection in opened])

            before = thread_time()
            for number, connection in enumerate(opened):
                connection.begin(every, every * number / connections)
            await asyncio.wait([connection.done for connection in opened])
            answers.cpu_seconds = thread_time() - before

            await asyncio.wait([connection.closed for connection in opened])

        return answers

    def _encode(self, ask: Ask) -> _Request:
        fields = {**self._fields, "content-type": ask.content_type, "content-length": str(len(ask.body))}
        lines = [f"{ask.method} {ask.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return _Request("\r\n".join([*lines, "", ""]).encode() + ask.body, ask.expected)


class _Connection(asyncio.Protocol):
    """Sends one request to warm up, then one after the other until the slice ends."""

    def __init__(self, requests: Iterator[_Request], answers: Answers, loop: asyncio.AbstractEventLoop) -> None:
        self._requests, self._answers, self._loop = requests, answers, loop
        self.warm: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._parser = HttpResponseParser(self)
        self._begun = self._every = self._due = 0.0

    def begin(self, every: float, first: float) -> None:
        """Asks from now on: every so many seconds, or without a pause if that is 0."""
        self._begun, self._every, self._due = monotonic(), every, first
        self._ask_when_due()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed: {exc}")
        self.closed.set_result(None)

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        now, status = monotonic(), self._parser.get_status_code()
        # Where it makes no difference, servers may put spaces into JSON.
        expected = self._request.expected in self._body or self._request.expected in self._body.replace(b" ", b"")
        failure = None if status < 300 and expected else f"{status} {self._body[:300].decode(errors='replace')}"

        if not self.warm.done():
            self.warm.set_result(None)
            return

        self._answers.milliseconds.append((now - self._asked) * 1000)
        if failure:
            self._answers.failures.append(failure)
        self._due = self._due + self._every if self._every else now - self._begun
        self._ask_when_due()

    def _ask_when_due(self) -> None:
        if self._due >= self._answers.seconds:
            self.done.set_result(None)
            self._transport.close()
        elif (wait := self._begun + self._due - monotonic()) > 0:
            self._loop.call_later(wait, self._ask)
        else:
            self._ask()

    def _ask(self) -> None:
        """Sends the next request; its time counts from when it was due, unless the timer was early."""
        now = monotonic()
        self._asked = min(now, self._begun + self._due) if self._every else now
        self._request, self._body = next(self._requests), b""
        self._transport.write(self._request.encoded)

    def _fail(self, why: str) -> None:
        """Ends the connection with a failure, unless its part is done."""
        if self.done.done():
            return

        self._answers.failures.append(why)
        self._transport.close()
        for future in (self.warm, self.done):
            if not future.done():
                future.set_result(None)
