"""Asks DittoFS servers for their health, and speaks their REST API. A server may be anything: it trusts no answer."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote as percent_encode

import orjson

from app.dittofs.errors import Rejected, ServerError, UnexpectedAnswer
from app.dittofs.exchange import Connect, HttpRequest, connect_by_tcp, exchange
from app.storage.dialogue import Answer, ServerRequest
from app.storage.redaction import redact
from app.storage.server_health import (
    Family,
    NotDittoFS,
    ServerHealth,
    read_identity,
    read_metrics,
    read_shares,
    read_store_errors,
)

REQUEST_TIMEOUT_SECONDS = 5.0
# A server up to 0.9 asks S3 first, for up to 5 s.
STORES_TIMEOUT_SECONDS = 10.0
LONGEST_TIMEOUT_SECONDS = 15.0

MAX_ANSWER_BYTES = 1024 * 1024
MAX_HEALTH_BYTES = 64 * 1024
# What is small in JSON may be large in memory, and take long to parse.
MAX_JSON_VALUES = 50_000
MAX_JSON_DEPTH = 32

_API = ("api", "v1")
_SUCCESS = range(200, 300)
# A server up to 0.9 answers 503 while something is wrong, and says what.
_HEALTH = (200, 503)
_LOGIN_DETAILS = ("Invalid username or password", "User account is disabled")
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")

Reading = TypeVar("Reading")


class ServerClient:
    """Sends requests to servers by URLs such as `http://10.0.0.9:8080`, each in a connection of its own.

    It never repeats a request. Whatever goes wrong is a ServerError.
    """

    def __init__(self, connect: Connect = connect_by_tcp) -> None:
        """`connect` opens a connection to a host and port; it is another one in tests."""
        self._connect = connect

    async def get_health(self, url: str, metrics_url: str | None = None) -> ServerHealth:
        """Asks a server, without a login, what it is, how many shares it has loaded, and which stores fail.

        A server from 0.10 on reports its version and its stores in its metrics alone, which it need not have.
        """
        family, started_at = await self._ask(url, "/health", read_identity, (200,))
        shares = await self._ask(url, "/health/ready", read_shares, _HEALTH)
        if family is Family.LEGACY:
            errors = await self._ask(url, "/health/stores", read_store_errors, _HEALTH, STORES_TIMEOUT_SECONDS)
            return ServerHealth(family, started_at, shares, errors)

        metrics = await self._read_metrics(metrics_url) if metrics_url else None
        version, errors = metrics or (None, ())
        return ServerHealth(family, started_at, shares, errors, version, reports_stores=metrics is not None)

    async def _read_metrics(self, url: str) -> tuple[str | None, tuple[str, ...]] | None:
        """Returns None for a server that does not serve them: having no metrics is no failure."""
        try:
            status, metrics = await self._exchange(HttpRequest("GET", url, "/metrics"))
        except ServerError:
            return None
        return read_metrics(metrics.decode(errors="replace")) if status == 200 else None

    async def login(self, url: str, username: str, password: str) -> "AdminSession":
        """Logs in. The password is sent once, and not kept. Raises Rejected with status 401 when it is wrong."""
        body = {"username": username, "password": password}
        try:
            answer = await self.send("POST", url, (*_API, "auth", "login"), body)
        except Rejected as error:
            # Only a server that accepts the login is quoted, as another service may be at this address.
            detail = error.detail if error.detail in _LOGIN_DETAILS else "for no reason that a DittoFS server gives"
            raise Rejected(error.request, error.status, detail) from None

        token = answer.get("access_token") if isinstance(answer, Mapping) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise UnexpectedAnswer("the server accepted the login, but returned no usable token")
        return AdminSession(self, url, token)

    async def send(
        self,
        method: str,
        url: str,
        path: Sequence[str],
        body: Any = None,
        *,
        token: str = "",
        secrets: Iterable[str] = (),
        seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Any:
        """Returns the JSON of the answer, None for an empty one; `path` is in segments, and `body` becomes JSON.

        No error contains the token, or one of the secrets.
        """
        if not all(path) or not {".", ".."}.isdisjoint(path):
            raise ServerError("nothing on a server has a name that is empty, . or ..")
        location = "".join(f"/{percent_encode(segment, safe='', errors='replace')}" for segment in path)

        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"

        content = b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            try:
                content = orjson.dumps(body)
            except orjson.JSONEncodeError:
                raise ServerError(f"{method} {location} cannot be sent: one of its values is not text") from None

        request = HttpRequest(method, url, location, headers, content)
        status, answer = await self._exchange(request, seconds)
        if status not in _SUCCESS:
            raise Rejected(str(request), status, redact(_detail(answer), [*secrets, token]))

        return _parse(request, answer) if answer else None

    async def _ask(
        self,
        url: str,
        path: str,
        read: Callable[[Any], Reading],
        statuses: Collection[int],
        seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Reading:
        request = HttpRequest("GET", url, path)
        status, answer = await self._exchange(request, seconds, MAX_HEALTH_BYTES)
        if status not in statuses:
            # Without a detail: whoever made this address lead to another service would read its answer in the status.
            raise Rejected(str(request), status, "")

        try:
            return read(_parse(request, answer))
        except NotDittoFS as error:
            raise UnexpectedAnswer(f"{request} was not answered by a DittoFS server: {error}") from error

    async def _exchange(
        self, request: HttpRequest, seconds: float = REQUEST_TIMEOUT_SECONDS, limit: int = MAX_ANSWER_BYTES
    ) -> tuple[int, bytes]:
        return await exchange(request, self._connect, min(seconds, LONGEST_TIMEOUT_SECONDS), limit)


class AdminSession:
    """Speaks the REST API of one server as its admin, below /api/v1. It keeps the token, and nothing else."""

    def __init__(self, client: ServerClient, url: str, token: str) -> None:
        self._client = client
        self._url = url
        self._token = token

    async def send(
        self,
        method: str,
        path: Sequence[str],
        body: Mapping[str, Any] | None = None,
        *,
        secrets: Iterable[str] = (),
        seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Any:
        """Returns the JSON of the answer, None where there is none. No error contains one of the secrets.

        `path` is in segments, such as a share's name, which may contain slashes.
        """
        return await self._client.send(
            method, self._url, (*_API, *path), body, token=self._token, secrets=secrets, seconds=seconds
        )

    async def ask(self, request: ServerRequest, secrets: Collection[str]) -> Answer:
        """Sends a request of a dialogue. That there is no answer, or none that is a success, is an answer as well."""
        try:
            body = await self.send(
                request.method, request.path, request.body, secrets=secrets, seconds=LONGEST_TIMEOUT_SECONDS
            )
        except Rejected as error:
            return Answer(error.status, detail=redact(error.detail or error, secrets))
        except ServerError as error:
            return Answer(None, detail=str(error))
        return Answer(200, body)


def _parse(request: HttpRequest | str, body: bytes) -> Any:
    """Raises UnexpectedAnswer for what is no JSON, or holds more than any answer of a server does."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise UnexpectedAnswer(f"the answer to {request} has more than {MAX_JSON_VALUES} values")

    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        # The error has the body in it, and with it perhaps a secret.
        raise UnexpectedAnswer(f"the answer to {request} is not JSON") from None

    level = [answer]
    for _ in range(MAX_JSON_DEPTH):
        parts = [
            value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list)
        ]
        level = [value for part in parts for value in part]
        if not level:
            return answer

    raise UnexpectedAnswer(f"the answer to {request} is nested more than {MAX_JSON_DEPTH} levels deep")


def _detail(body: bytes) -> str:
    """Returns what an answer says about an error: its problem (RFC 9457), its health, or a line of text."""
    with suppress(UnexpectedAnswer):
        answer = _parse("", body)
        texts = [answer.get(name) for name in ("detail", "error", "title")] if isinstance(answer, dict) else []
        return next((text for text in texts if isinstance(text, str) and text), "")

    return body.decode(errors="replace")
