"""Maintains stores and shares inside running servers as their admin, beside the reconciles. It decides nothing.

The values of Secrets are in memory for one attempt. What to send follows from `storage.maintenance` alone.
"""

import asyncio
import base64
import hashlib
import logging
import random
import traceback
from collections import Counter as Counts
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from time import monotonic

from prometheus_client import Counter

from app.cluster.errors import ClusterError
from app.cluster.informers import Informers
from app.cluster.reader import SECRETS
from app.dittofs.client import AdminSession, ServerClient
from app.dittofs.errors import Rejected, ServerError
from app.reconcile.writer import NotLeading
from app.storage.dialogue import Answer, ServerRequest
from app.storage.maintenance import (
    Provisioned,
    Provisioning,
    explain_login,
    maintain,
    unreadable_secret,
)
from app.storage.redaction import redact
from app.storage.remote_store import RemoteStore, S3Keys, explain_failure
from app.storage.secret_references import ADMIN, SecretReference
from app.storage.unstructured import Manifest, ObjectKey

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 30.0, 300.0
# A Secret that has changed a moment ago is read again once its event has arrived.
SECRET_DELAY_SECONDS = 1.0
# For all requests to one server.
ATTEMPT_SECONDS = 120.0
FAILED = Answer(None, detail="the operator itself failed, and its log says where")
LATE = Answer(None, detail="its answers take too long in total")
MAX_CONCURRENT = 8
# Servers that answer slowly, whoever runs them, must not keep those of others waiting.
MAX_IN_NAMESPACE = 2

ATTEMPTS = Counter(
    "dittofs_operator_server_provisioning_attempts",
    "Attempts to bring stores and shares inside a server in line with its spec: complete or incomplete.",
    ["result"],
)
for _result in ("complete", "incomplete"):
    ATTEMPTS.labels(_result)

log = logging.getLogger(__name__)


class SecretChanged(Exception):
    """A Secret is not the one that the provisioning is about any more."""


class NotWanted(Exception):
    """Nothing is to be changed in the server any more, such as after its DittoServer was paused."""


@dataclass(slots=True)
class _Server:
    """Holds what a server should have, when that is tried next (None for never), and what became of it.

    `store` is how this process last left the remote store, which the status need not say yet. `context` is that of the
    reconcile that wanted it, whose ID is in the lines about it.
    """

    wanted: Provisioning | None = None
    due: float | None = None
    is_busy: bool = False
    failures: int = 0
    result: Provisioned | None = None
    store: RemoteStore | None = None
    context: Context = field(default_factory=copy_context)
    logged: set[tuple[str, ...]] = field(default_factory=set)  # What was done for it, which retries do again.

    def log_level(self, *outcome: str) -> int:
        """Returns INFO for an outcome that is new, and DEBUG for that of a retry."""
        level = logging.DEBUG if outcome in self.logged else logging.INFO
        self.logged.add(outcome)
        return level


class Provisioner:
    """Works while `run` runs, and only as long as `may_write`; `change_handlers` are called after each attempt."""

    def __init__(
        self,
        informers: Informers,
        client: ServerClient,
        may_write: Callable[[], bool],
        delays: tuple[float, float] = (FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.change_handlers: list[Callable[[ObjectKey], None]] = []
        self._informers = informers
        self._client = client
        self._may_write = may_write
        self._delays = delays
        self._jitter = jitter

        self._servers: dict[ObjectKey, _Server] = {}
        self._busy = Counts[str]()  # How many servers are being worked on, by namespace.
        self._wake = asyncio.Event()
        self._is_running = False

    def result(self, key: ObjectKey) -> Provisioned | None:
        """Returns what became of the last attempt; None before there was one."""
        server = self._servers.get(key)
        return server.result if server else None

    def want(self, key: ObjectKey, wanted: Provisioning | None) -> None:
        """Has the server brought to this, at once if it is something new; None while nothing can be asked of it."""
        if not self._is_running or (wanted is None and key not in self._servers):
            return

        server = self._servers.setdefault(key, _Server())
        before, server.wanted = server.wanted, wanted
        is_done = server.result is not None and server.result.is_complete and server.result.provisioning == wanted

        if wanted is None:
            server.due = None
        elif wanted != before and not is_done:
            server.failures, server.due, server.context = 0, monotonic(), copy_context()
            server.logged.clear()
            self._wake.set()

    def forget(self, key: ObjectKey) -> None:
        self._servers.pop(key, None)

    async def run(self) -> None:
        """Runs until cancelled, and forgets every result then: another process may change the servers."""
        self._is_running = True
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()

                    now = monotonic()
                    due = {
                        key: server.due for key, server in self._servers.items() if server.due and not server.is_busy
                    }
                    for key in sorted((key for key, at in due.items() if at <= now), key=lambda key: due[key]):
                        if self._busy.total() < MAX_CONCURRENT and self._busy[key[0]] < MAX_IN_NAMESPACE:
                            self._start(key, group)

                    # Whoever ends wakes those that could not be started.
                    later = [at for at in due.values() if at > now]
                    wait = min(later) - now if later else None
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self._wake.wait()
        finally:
            self._is_running = False
            self._servers.clear()

    def _start(self, key: ObjectKey, group: asyncio.TaskGroup) -> None:
        server = self._servers[key]
        assert server.wanted
        server.due, server.is_busy = None, True
        self._busy[key[0]] += 1
        group.create_task(self._work(key, server, server.wanted), context=server.context.copy())

    async def _work(self, key: ObjectKey, server: _Server, wanted: Provisioning) -> None:
        result: Provisioned | None = None
        known = replace(wanted, known=server.store or wanted.known)
        try:
            result = await self._attempt(key, server, known)
        except (SecretChanged, NotLeading, NotWanted):
            server.due = monotonic() + SECRET_DELAY_SECONDS if server.wanted else None
        except Exception as error:  # noqa: BLE001 - see below
            # Its image can be anything: what is wrong with one server must not keep the others from being served.
            # Logged without its message, which may have a value of a Secret in it.
            where = "".join(traceback.format_tb(error.__traceback__))
            extra = {"namespace": key[0], "server": key[1], "reason": type(error).__name__, "traceback": where}
            log.error("stores and shares not maintained", extra=extra)  # noqa: TRY400 - see above
            result = Provisioned(wanted, problem=explain_failure(FAILED))
        finally:
            server.is_busy = False
            self._busy[key[0]] -= 1
            # Counts of zero would be kept for each namespace that there ever was.
            self._busy = +self._busy
            self._wake.set()

        if result is None or self._servers.get(key) is not server:
            return

        if result.store.is_altered:
            server.store = RemoteStore(result.store.name, result.store.verified)
        is_complete = result.is_complete
        ATTEMPTS.labels("complete" if is_complete else "incomplete").inc()
        # Whoever runs by now may have been started before it was told, and not use what it was told.
        if server.wanted is None or (server.wanted.pod, server.wanted.started_at) != (wanted.pod, wanted.started_at):
            server.due = monotonic() if server.wanted else None
            return

        server.result = result
        if server.wanted != wanted:
            server.due = monotonic()
        elif is_complete:
            server.failures, server.due = 0, None
        else:
            first, longest = self._delays
            delay = min(first * 2.0 ** min(server.failures, 16), longest)
            server.failures, server.due = server.failures + 1, monotonic() + delay * (0.9 + 0.2 * self._jitter())

        for handler in self.change_handlers:
            handler(key)

    async def _attempt(self, key: ObjectKey, server: _Server, wanted: Provisioning) -> Provisioned:
        """Logs in and converses with the server. Raises SecretChanged, NotLeading and NotWanted."""
        try:
            password = await self._read(key, wanted.password, wanted)
            s3 = await self._read(key, wanted.s3, wanted) if wanted.s3 else ["", "", ""]
        except ClusterError as error:
            return Provisioned(wanted, problem=unreadable_secret(str(error)))

        keys = S3Keys(*s3) if wanted.s3 else None

        answer, session = await self._login(wanted, password[0])
        if session is None:
            return Provisioned(wanted, problem=explain_login(answer, wanted.password))

        secrets = [value for value in (*password, *s3) if value]
        dialogue, deadline = maintain(wanted, keys), monotonic() + ATTEMPT_SECONDS
        try:
            request = next(dialogue)
            while True:
                # A server that is slow for each of many requests gets no more of them, which ends the dialogue.
                is_late = monotonic() > deadline
                answer = LATE if is_late else await self._send(key, session, request, secrets)
                request = dialogue.send(answer)
        except StopIteration as end:
            # Everybody who may read the status sees these texts, and a server may repeat what only it should know.
            result: Provisioned = end.value.without_texts_that_repeat((password[0], s3[1], *s3[3:]))

        if result.store.is_altered:
            outcome = "accepted" if result.store.verified else "not accepted"
            store = redact(result.store.name, secrets)
            extra = {"namespace": key[0], "server": key[1], "store": store, "outcome": outcome}
            log.log(server.log_level(store, outcome), "server was given S3 credentials", extra=extra)
        return result

    async def _login(self, wanted: Provisioning, password: str) -> tuple[Answer, AdminSession | None]:
        try:
            return Answer(200), await self._client.login(wanted.url, ADMIN, password)
        except Rejected as error:
            return Answer(error.status, detail=error.detail), None
        except ServerError as error:
            return Answer(None, detail=str(error)), None

    async def _send(self, key: ObjectKey, session: AdminSession, request: ServerRequest, secrets: list[str]) -> Answer:
        if request.method == "GET":
            return await session.ask(request, secrets)

        server = self._servers.get(key)
        if not self._may_write():
            raise NotLeading("not the leader any more")
        if server is None or server.wanted is None:
            raise NotWanted

        started = monotonic()
        answer = await session.ask(request, secrets)
        fields = {
            "namespace": key[0],
            "server": key[1],
            "verb": request.method,
            # The server has named some of it, and may repeat what only it should know.
            "path": redact("/".join(request.path), secrets),
            "milliseconds": round((monotonic() - started) * 1000, 3),
        }

        level = server.log_level(request.method, *request.path, str(answer.status))
        if answer.is_success:
            log.log(level, "server changed", extra=fields)
        else:
            log.log(level, "server not changed", extra={**fields, "status": answer.status, "reason": answer.detail})
        return answer

    async def _read(self, key: ObjectKey, reference: SecretReference, wanted: Provisioning) -> list[str]:
        """Returns the values of the reference's keys, empty for one that is absent. Raises SecretChanged."""
        name = reference.secret or ""
        secret: Manifest = await self._informers.get(SECRETS, name, key[0])
        data = {key: base64.b64decode(value or "") for key, value in (secret.get("data") or {}).items()}

        digests = {(name, entry, hashlib.sha256(value).hexdigest()) for entry, value in data.items()}
        if not digests >= {digest for digest in wanted.secret_digests if digest[0] == name}:
            raise SecretChanged

        return [data.get(entry.name, b"").decode(errors="replace") for entry in reference.keys]
