"""Asks DittoFS servers over HTTP. A server may be anything: no answer is followed, unpacked, or read for long."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote as percent_encode

import aiohttp
import orjson

from app.dittofs.errors import Rejected, ServerError, ServerUnreachable, UnexpectedAnswer, redact
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

Answer = TypeVar("Answer")


class ServerClient:
    """Sends requests to servers by URLs such as `http://10.0.0.9:8080`, each in a connection of its own.

    It never repeats a request. Whatever goes wrong is a ServerError.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, connector: aiohttp.BaseConnector | None = None) -> AsyncIterator["ServerClient"]:
        """Opens a client that connects by TCP, unless the connector has another way. It sends no request."""
        async with aiohttp.ClientSession(
            # Each server is asked so rarely that a connection would be closed, or stale, when it is needed again.
            connector=connector or aiohttp.TCPConnector(limit=0, force_close=True),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "dittofs-operator"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=16 * 1024,
            max_headers=64,
        ) as session:
            yield cls(session)

    async def get_health(self, url: str, metrics_url: str | None = None) -> ServerHealth:
        """Asks a server, without a login, what it is, how many shares it has loaded, and which stores fail.

        A server from 0.10 on reports its version and its stores in its metrics alone, which it need not have.
        """
        family, started_at = await self._ask(url, "/health", read_identity, (200,))
        shares = await self._ask(url, "/health/ready", read_shares, _HEALTH)
        if family is Family.LEGACY:
            errors = await self._ask(url, "/health/stores", read_store_errors, _HEALTH, STORES_TIMEOUT_SECONDS)
            return ServerHealth(family, started_at, shares, errors)

        version, errors = None, ()
        if metrics_url:
            with suppress(ServerError):
                status, metrics = await self._exchange("GET", metrics_url, "/metrics")
                if status == 200:
                    version, errors = read_metrics(metrics.decode(errors="replace"))
        return ServerHealth(family, started_at, shares, errors, version)

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
            raise UnexpectedAnswer("the server accepted the login, but returned no token that can be sent")
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

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            try:
                content = orjson.dumps(body)
            except orjson.JSONEncodeError:
                raise ServerError(f"{method} {location} cannot be sent: a value of it is no text") from None

        status, answer = await self._exchange(method, url, location, content, headers, seconds)
        if status not in _SUCCESS:
            raise Rejected(f"{method} {location}", status, redact(_detail(answer), [*secrets, token]))
        return _parse(f"{method} {location}", answer) if answer else None

    async def _ask(
        self,
        url: str,
        path: str,
        read: Callable[[Any], Answer],
        statuses: Collection[int],
        seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Answer:
        status, answer = await self._exchange("GET", url, path, seconds=seconds, limit=MAX_HEALTH_BYTES)
        if status not in statuses:
            # Without a detail: whoever made this address lead to another service would read its answer in the status.
            raise Rejected(f"GET {path}", status, "")
        try:
            return read(_parse(f"GET {path}", answer))
        except NotDittoFS as error:
            raise UnexpectedAnswer(f"GET {path} was not answered by a DittoFS server: {error}") from error

    async def _exchange(
        self,
        method: str,
        url: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = REQUEST_TIMEOUT_SECONDS,
        limit: int = MAX_ANSWER_BYTES,
    ) -> tuple[int, bytes]:
        """Returns the status and the body. No error quotes anything that was received."""
        request, seconds = f"{method} {path}", min(seconds, LONGEST_TIMEOUT_SECONDS)
        body = bytearray()
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(
                    method, f"{url}{path}", data=content, headers=headers, allow_redirects=False
                ) as response,
            ):
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        raise UnexpectedAnswer(f"the answer to {request} has more than {limit} bytes")
                return response.status, bytes(body)
        except TimeoutError:
            raise ServerUnreachable(f"no answer to {request} within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ServerUnreachable(f"no answer to {request}: {_explain(error)}") from None


class AdminSession:
    """Speaks the REST API of one server as its admin, below /api/v1. It keeps the token, and nothing else."""

    def __init__(self, client: ServerClient, url: str, token: str) -> None:
        self._client = client
        self._url = url
        self._token = token

    async def get(self, path: Sequence[str], *, seconds: float = REQUEST_TIMEOUT_SECONDS) -> Any:
        """Returns the JSON of the answer. `path` is in segments, such as a share's name, which may contain slashes."""
        return await self._send("GET", path, None, (), seconds)

    async def post(
        self,
        path: Sequence[str],
        body: Mapping[str, Any],
        *,
        secrets: Iterable[str] = (),
        seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Any:
        """Returns the JSON of the answer, None where there is none. No error contains one of the secrets."""
        return await self._send("POST", path, body, secrets, seconds)

    async def put(
        self,
        path: Sequence[str],
        body: Mapping[str, Any],
        *,
        secrets: Iterable[str] = (),
        seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Any:
        """Returns as `post` does."""
        return await self._send("PUT", path, body, secrets, seconds)

    async def patch(
        self,
        path: Sequence[str],
        body: Mapping[str, Any],
        *,
        secrets: Iterable[str] = (),
        seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Any:
        """Returns as `post` does."""
        return await self._send("PATCH", path, body, secrets, seconds)

    async def _send(self, method: str, path: Sequence[str], body: Any, secrets: Iterable[str], seconds: float) -> Any:
        return await self._client.send(
            method, self._url, (*_API, *path), body, token=self._token, secrets=secrets, seconds=seconds
        )


def _parse(request: str, body: bytes) -> Any:
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


def _explain(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    if isinstance(error, aiohttp.ClientResponseError):
        return "what came back is not HTTP"
    return "the connection was closed too early"
