import asyncio
import gzip
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from app.dittofs.client import MAX_ANSWER_BYTES, MAX_HEALTH_BYTES, AdminSession, ServerClient
from app.dittofs.errors import Rejected, ServerError, ServerUnreachable, UnexpectedAnswer
from app.storage.server_health import Family, ServerHealth
from tests.harness.endpoints import address, listening
from tests.harness.raw_server import Received, Reply, raw_server, reply
from tests.harness.recorded_health import (
    S3_DOWN,
    S3_FORBIDDEN,
    STARTED_AT,
    Answers,
    current_answers,
    health,
    legacy_answers,
)

PASSWORD, TOKEN, KEY = "pass-word-marker", "tok.en.marker", "secret-key-marker"
LOGIN = reply(200, {"access_token": TOKEN, "refresh_token": "other", "expires_in": 900})


async def health_of(answer: Callable[[Received], Reply], *, metrics: bool = False) -> ServerHealth:
    async with raw_server(answer) as url:
        return await ServerClient().get_health(url, url if metrics else None)


async def admin(answer: Callable[[Received], Reply], do: Callable[[AdminSession], Awaitable[Any]]) -> Any:
    """Logs in, and has everything else answered by `answer`."""

    def answer_any(request: Received) -> Reply:
        return LOGIN if request.line == "POST /api/v1/auth/login" else answer(request)

    async with raw_server(answer_any) as url:
        return await do(await ServerClient().login(url, "admin", PASSWORD))


async def failure(answer: Callable[[Received], Reply], seconds: float = 5.0) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await admin(
            answer, lambda session: session.send("PUT", ("shares",), {"key": KEY}, secrets=[KEY], seconds=seconds)
        )
    return caught.value


@pytest.mark.anyio
async def test_a_server_up_to_0_8_reports_its_stores() -> None:
    fine = await health_of(Answers(legacy_answers(shares=2)))
    refused = await health_of(Answers(legacy_answers(s3_error=S3_FORBIDDEN)))
    down = await health_of(Answers(legacy_answers(s3_error=S3_DOWN)))
    empty = await health_of(Answers(legacy_answers(shares=0)))

    assert fine == ServerHealth(Family.LEGACY, STARTED_AT, 2)
    assert refused == ServerHealth(Family.LEGACY, STARTED_AT, 1, ("S3 rejects the credentials: 403",))
    assert down == ServerHealth(Family.LEGACY, STARTED_AT, 1, ("S3 cannot be reached: connection refused",))
    assert empty == ServerHealth(Family.LEGACY, STARTED_AT, 0)


@pytest.mark.anyio
async def test_a_newer_server_reports_what_its_metrics_say() -> None:
    answers = Answers(current_answers(shares=3, down="/rw"))
    error = 'share "/rw": its remote store is unreachable'

    assert await health_of(answers) == ServerHealth(Family.CURRENT, STARTED_AT, 3, reports_stores=False)
    assert await health_of(answers, metrics=True) == ServerHealth(Family.CURRENT, STARTED_AT, 3, (error,), "0.29.0")


@pytest.mark.anyio
async def test_a_server_without_metrics_is_healthy_all_the_same() -> None:
    answers = current_answers()
    del answers["GET /metrics"]

    expected = ServerHealth(Family.CURRENT, STARTED_AT, 1, reports_stores=False)
    assert await health_of(Answers(answers), metrics=True) == expected
    answers["GET /metrics"] = reply(200, b"go_goroutines 7\n", "text/plain")
    assert await health_of(Answers(answers), metrics=True) == expected


@pytest.mark.anyio
async def test_nothing_but_the_request_is_sent() -> None:
    """No proxy, credential or cookie of the environment gets to a server."""
    answers = Answers(current_answers())
    await health_of(answers)

    assert [request.line for request in answers.received] == ["GET /health", "GET /health/ready"]
    assert set(answers.received[0].headers) == {"host", "accept-encoding", "connection", "user-agent"}
    assert answers.received[0].headers["accept-encoding"] == "identity"


@pytest.mark.anyio
async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert (await health_of(Answers(current_answers()))).family == Family.CURRENT


@pytest.mark.anyio
async def test_a_cookie_is_not_sent_back() -> None:
    answers = Answers({line: _with(answer, "Set-Cookie: a=b") for line, answer in current_answers().items()})
    await health_of(answers)

    assert not [request for request in answers.received if "cookie" in request.headers]


@pytest.mark.anyio
async def test_a_session_sends_its_token_and_json() -> None:
    received: list[Received] = []

    def answer(request: Received) -> bytes:
        received.append(request)
        return reply(201, {"name": "s"})

    assert await admin(answer, lambda session: session.send("POST", ("shares",), {"name": "s"})) == {"name": "s"}

    [request] = received
    assert request.line == "POST /api/v1/shares"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.json == {"name": "s"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("/media", "GET /api/v1/shares/%2Fmedia"),
        ("/deep/../er", "GET /api/v1/shares/%2Fdeep%2F..%2Fer"),
        ("a?b#c%2F", "GET /api/v1/shares/a%3Fb%23c%252F"),
        ("a b\r\nX: y", "GET /api/v1/shares/a%20b%0D%0AX%3A%20y"),
        ("ü\ud800", "GET /api/v1/shares/%C3%BC%3F"),
    ],
)
async def test_a_name_stays_one_segment_of_a_path(name: str, line: str) -> None:
    received: list[Received] = []

    def answer(request: Received) -> bytes:
        received.append(request)
        return reply(204, b"")

    assert await admin(answer, lambda session: session.send("GET", ("shares", name))) is None
    assert _same(received[0].line, line)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_would_ask_for_something_else_is_not_sent(name: str) -> None:
    received: list[Received] = []

    def answer(request: Received) -> bytes:
        received.append(request)
        return reply(200, [])

    with pytest.raises(ServerError, match="a name that is empty"):
        await admin(answer, lambda session: session.send("GET", ("shares", name)))
    assert received == []


@pytest.mark.anyio
async def test_text_that_is_no_unicode_is_not_sent() -> None:
    with pytest.raises(ServerError, match="cannot be sent") as caught:
        await admin(lambda _: reply(200, {}), lambda session: session.send("PUT", ("x",), {"key": f"{KEY}\ud800"}))

    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (
            reply(409, {"title": "Conflict", "status": 409, "detail": "Share already exists"}),
            409,
            "Share already exists",
        ),
        (reply(401, b"Invalid or expired token\n", "text/plain"), 401, "Invalid or expired token"),
        (reply(405, b""), 405, ""),
        (reply(500, {"detail": 7, "title": "Oops"}), 500, "Oops"),
        (reply(500, b"\x00\xff\x1b[31mred\r\n" * 1000, "text/plain"), 500, None),
        (reply(400, {"detail": "x" * 100_000}), 400, f"{'x' * 500}…"),
        (reply(307, b""), 307, ""),
    ],
)
async def test_a_rejection_is_quoted_in_one_line(answer: bytes, status: int, detail: str | None) -> None:
    error = await failure(lambda _: answer)

    assert isinstance(error, Rejected)
    assert error.status == status
    assert detail is None or error.detail == detail
    assert str(error).isprintable()
    assert len(str(error)) < 700


@pytest.mark.anyio
async def test_no_error_contains_a_secret() -> None:
    echoes: list[Callable[[Received], Reply]] = [
        lambda request: reply(400, {"detail": f"bad: {request.body.decode()} {request.headers}"}),
        lambda request: reply(500, request.body + repr(request.headers).encode(), "text/plain"),
        lambda request: reply(200, request.body + b"}"),
        lambda request: b"HTTP/1.1 " + request.body + request.headers["authorization"].encode() + b"\r\n\r\n",
        lambda request: _with(reply(307, b""), f"Location: http://{KEY}.example/{request.headers['authorization']}"),
    ]

    for echo in echoes:
        error = await failure(echo)
        text = "".join(traceback.format_exception(error))
        assert KEY not in text
        assert TOKEN not in text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ("Invalid username or password", "Invalid username or password"),
        ("User account is disabled", "User account is disabled"),
        (f"Invalid password {PASSWORD}", "for no reason that a DittoFS server gives"),
        ("what another service says", "for no reason that a DittoFS server gives"),
    ],
)
async def test_a_login_quotes_only_what_a_server_says(said: str, detail: str) -> None:
    """Another service may be at the address, and what it says is not for those who look at the DittoServer."""
    async with raw_server(lambda _: reply(401, {"detail": said})) as url:
        with pytest.raises(Rejected) as caught:
            await ServerClient().login(url, "admin", PASSWORD)

    assert (caught.value.status, caught.value.detail) == (401, detail)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.anyio
async def test_no_answer_of_another_service_is_quoted() -> None:
    secret = "internal-service-marker"
    answers: list[object] = [{"detail": secret}, {"data": {"service": secret}}, [secret], secret]

    for status in (200, 404, 500, 503):
        for body in answers:
            answer = dict.fromkeys(("GET /health", "GET /health/ready"), reply(status, body))
            with pytest.raises(ServerError) as caught:
                await health_of(Answers(answer))
            assert secret not in "".join(traceback.format_exception(caught.value))


@pytest.mark.anyio
async def test_a_session_keeps_its_token_and_no_password() -> None:
    async def look(session: AdminSession) -> str:
        return repr(vars(session))

    seen = await admin(lambda _: reply(200, {}), look)

    assert TOKEN in seen
    assert PASSWORD not in seen


@pytest.mark.anyio
@pytest.mark.parametrize("token", [None, 7, "", "a\r\nHost: b", "ä", "x" * 10_000, ["a"]])
async def test_a_token_that_is_none_is_not_used(token: Any) -> None:
    async with raw_server(lambda _: reply(200, {"access_token": token})) as url:
        with pytest.raises(UnexpectedAnswer, match="no usable token"):
            await ServerClient().login(url, "admin", PASSWORD)


# What a hostile server can do.


@pytest.mark.anyio
async def test_a_redirect_is_not_followed() -> None:
    elsewhere: list[Received] = []

    def answer_elsewhere(request: Received) -> bytes:
        elsewhere.append(request)
        return reply(200, health())

    async with raw_server(answer_elsewhere) as target:
        for status in (301, 302, 303, 307, 308):
            redirect = _with(reply(status, b""), f"Location: {target}/health")
            with pytest.raises(Rejected):
                await health_of(lambda _, redirect=redirect: redirect)  # type: ignore[misc]
            await failure(lambda _, redirect=redirect: redirect)  # type: ignore[misc]

    assert elsewhere == []


async def silence(_: Received) -> AsyncIterator[bytes]:
    await asyncio.sleep(60)
    yield b""


@pytest.mark.anyio
async def test_no_caller_waits_longer_than_the_longest_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.dittofs.client.LONGEST_TIMEOUT_SECONDS", 0.2)

    assert str(await failure(silence, seconds=3600.0)).endswith("within 0.2 s")


@pytest.mark.anyio
async def test_nothing_is_unpacked() -> None:
    bomb = _with(reply(200, gzip.compress(b"[" * 50_000_000)), "Content-Encoding: gzip")

    assert str(await failure(lambda _: bomb)) == "the answer to PUT /api/v1/shares is not JSON"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "the answer to PUT /api/v1/shares is not JSON"),
        (b"1" + b"0" * 400, "the answer to PUT /api/v1/shares is not JSON"),
        (b"NaN", "the answer to PUT /api/v1/shares is not JSON"),
        (b'"\\ud800"', "the answer to PUT /api/v1/shares is not JSON"),
        (b"[" * 100_000, "the answer to PUT /api/v1/shares has more than 50000 values"),
        (b"[" + b"0," * 60_000 + b"0]", "the answer to PUT /api/v1/shares has more than 50000 values"),
        (b"[" * 40 + b"]" * 40, "the answer to PUT /api/v1/shares is nested more than 32 levels deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "the answer to PUT /api/v1/shares is nested more than 32 levels deep"),
        (b"0" * MAX_ANSWER_BYTES + b"0", "the answer to PUT /api/v1/shares has more than 1048576 bytes"),
    ],
)
async def test_an_answer_has_limits(body: bytes, message: str) -> None:
    error = await failure(lambda _: reply(200, body))

    assert isinstance(error, UnexpectedAnswer)
    assert str(error) == message


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        reply(200, {}),
        reply(200, []),
        reply(200, health(data={"service": "nginx"})),
        reply(200, health(data={"service": "dittofs", "started_at": 7})),
        reply(200, b" " * MAX_HEALTH_BYTES + b"{}"),
        reply(200, b"ok", "text/plain"),
        reply(500, b"broken", "text/plain"),
    ],
)
async def test_what_is_no_dittofs_server_has_no_health(answer: bytes) -> None:
    with pytest.raises((UnexpectedAnswer, Rejected)):
        await health_of(lambda _: answer)


@pytest.mark.anyio
async def test_a_port_that_is_closed_is_unreachable() -> None:
    with listening() as server:
        gone = address(server)

    with pytest.raises(ServerUnreachable, match="no answer to GET /health: connection refused"):
        await ServerClient().get_health(f"http://{gone}")


def _with(answer: bytes, header: str) -> bytes:
    head, separator, body = answer.partition(b"\r\n\r\n")
    return head + b"\r\n" + header.encode("latin-1") + separator + body


def _same(line: str, other: str) -> bool:
    """Compares as a server does, which may get some characters either way."""
    return line.replace("%3A", ":") == other.replace("%3A", ":")
