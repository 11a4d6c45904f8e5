"""Has uvicorn speak HTTP to the API server: within limits that no client can exceed, and with one write an answer."""

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Outlasts the API server's own 90 seconds, so that no review meets a connection that was closed here a moment ago: the
# API server does not send such a POST again.
KEEP_ALIVE_SECONDS = 120
HEADER_BYTES = 16 * 1024
# Requests that may wait for the answers to earlier ones of their connection: the API server sends none.
MAX_WAITING_REQUESTS = 16

# What is used here of uvicorn although it does not promise to keep it.
PROTOCOL_HOOKS = ("cycle", "headers", "loop", "pipeline", "timeout_keep_alive_task", "transport")


class BoundedProtocol(HttpToolsProtocol):
    """Limits how long a client may take for headers, body and reading the answer, and how large headers may be."""

    client_seconds: float

    # What has to be complete by the deadline: "headers" or "body"; None while the client owes nothing.
    _awaited: str | None = None
    _deadline = 0.0
    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _in_headers = True
    # Of a body, all that came since its last part, such as trailers: those are headers as well.
    _header_bytes = 0
    # The first of its headers came along with the end of the request before, and are not in _header_bytes.
    _came_along = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._answers = AnswerTransport(transport, self)
        super().connection_made(self._answers)
        self._set_deadline("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._stalled, self._answers.abort_timer, self.timeout_keep_alive_task):
            if timer:
                timer.cancel()
        super().connection_lost(exc)  # This resumes writing.
        self._answers.release()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.client_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()

    def eof_received(self) -> None:
        # asyncio closes the connection as well, but would wait for ever until the client has read its answer.
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._in_headers and self._awaited is None:
            self._set_deadline("headers")

        super().data_received(data)

        if self._header_bytes > HEADER_BYTES and not self.transport.is_closing():
            self._refuse_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._awaited is None:
            self._came_along = True
            self._set_deadline("headers")

    def on_headers_complete(self) -> None:
        # What has come may also be of the body.
        if self._came_along or not 0 < self._header_bytes <= HEADER_BYTES:
            self._header_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._header_bytes > HEADER_BYTES:
            raise ValueError("headers too large")  # Ends parsing; send_400_response then says why.
        if len(self.pipeline) >= MAX_WAITING_REQUESTS:
            raise ValueError("too many requests at once")

        super().on_headers_complete()  # This raises for a URL that cannot be read.
        self._in_headers, self._header_bytes, self._came_along = False, 0, False
        self._set_deadline("body")

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._header_bytes = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_headers, self._header_bytes = True, 0
        self._awaited = None

        if self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # The answer was sent before the body had come, and the data of the body disarmed the keep-alive timer.
            self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        self._answers.flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        if self._header_bytes > HEADER_BYTES:
            self._refuse_headers()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "expected an HTTP request")

    def _refuse_headers(self) -> None:
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"expected at most {HEADER_BYTES} bytes of headers")

    def _set_deadline(self, awaited: str) -> None:
        self._awaited = awaited
        self._deadline = self.loop.time() + self.client_seconds
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        """Refuses to wait any longer; a deadline that was moved on meanwhile costs no timer of its own."""
        self._timer = None
        if self._awaited is None:
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._check_deadline)
            return

        expected = f"expected all of the {self._awaited} within {self.client_seconds:g} s"
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, expected)

    def _refuse(self, status: HTTPStatus, expected: str) -> None:
        """Closes the connection, after an answer to a request that has none yet."""
        if self._in_headers:
            is_next = self.cycle is None or self.cycle.response_complete
            awaits_answer = is_next and self._header_bytes > 0
        else:
            awaits_answer = not self.cycle.response_started

        if awaits_answer:
            body = orjson.dumps({"error": expected})
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)

        self.transport.close()


class AnswerTransport(asyncio.Transport):
    """Writes the head of an answer together with what follows it: one TLS record, and one system call.

    When a client sends requests without waiting for answers, some heads are written separately.
    """

    def __init__(self, transport: asyncio.Transport, protocol: BoundedProtocol) -> None:
        super().__init__()
        self._transport = transport
        self._protocol: BoundedProtocol | None = protocol
        self._head = b""
        # The request to which the head that was held back last is an answer.
        self._cycle: Any = None
        self.abort_timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:  # type: ignore[override]
        cycle = self._protocol.cycle if self._protocol else None
        if cycle is not None and cycle.response_started and cycle is not self._cycle:
            self.flush()
            self._cycle, self._head = cycle, data
        else:
            head, self._head = self._head, b""
            self._transport.write(head + data)

    def flush(self) -> None:
        """Writes the head of an answer that has no body."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Closes the connection; a client that does not read what was written cannot keep it open."""
        if self._protocol and not self.is_closing():
            self.flush()
            self._transport.close()
            self.abort_timer = self._protocol.loop.call_later(self._protocol.client_seconds, self.abort)

    def release(self) -> None:
        """Lets go of what refers to this transport, which would stay until the garbage collector comes by."""
        self._protocol = self._cycle = None

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
