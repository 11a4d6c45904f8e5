"""Sends requests to the Kubernetes API: raw JSON in and out, errors translated. It never repeats a request."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from prometheus_client import Counter

from app.cluster.connection import SERVICE_ACCOUNT, Connection, connect, explain
from app.cluster.errors import (
    ClusterError,
    Conflict,
    Invalid,
    NotFound,
    NotServed,
    Unavailable,
    Undecodable,
    UnknownPath,
    Unreachable,
    error_from,
)
from app.cluster.http_library import aiohttp
from app.cluster.reader import DITTO_SERVERS, EVENTS, PODS, Listing, Resource
from app.storage.facts import DryRun

FIELD_MANAGER = "dittofs-operator"
REQUEST_TIMEOUT_SECONDS = 10.0
# The API server sends a bookmark about once a minute: a longer silence is a connection that died unnoticed.
WATCH_IDLE_SECONDS = 70.0
PAGE_SIZE = 500
# A leader of a thousand servers serves two megabytes of metrics.
MAX_METRICS_BYTES = 16 << 20
# How much is read of the end of a log: an error is in its last lines.
LOG_LINES = 50
LOG_BYTES = 65536

# The name and labels are client-go's, so that dashboards made for any operator show this one.
REQUESTS = Counter(
    "rest_client_requests_total",
    "Requests to the Kubernetes API, by status code, method and host.",
    ["code", "method", "host"],
)

# The API server waits up to 10 s for other webhooks when it writes. That concerns one object, not the server.
_WRITE_TIMEOUT_FACTOR = 1.5

_JSON = "application/json"
_ANYTHING = "application/json, */*"
_APPLY = "application/apply-patch+yaml"
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"

# Called with the seconds that a request took, and with None unless the API server is overloaded or has not answered:
# then it is the seconds for which it wants no requests at all.
AnswerHandler = Callable[[float, float | None], None]
_OVERLOADED = (429, 503, 504)

_Query = Sequence[tuple[str, str]]
_MANAGED = (("fieldManager", FIELD_MANAGER),)
# Like server-side apply. A field that is dropped without an error would be missed and written again and again.
_MANAGED_STRICTLY = (*_MANAGED, ("fieldValidation", "Strict"))

# Code, agent and quoted text (RFC 7234, 5.5), as k8s.io/apimachinery writes and reads them.
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')
_ESCAPED_CHARACTER = re.compile(r"\\(.)")


@dataclass(frozen=True)
class Selection:
    """Selects objects of a resource, in all namespaces where `namespace` is None.

    With a `name` it selects one object, and a permission for that resourceName is enough. `fields` is a field selector,
    such as `type=Warning`.
    """

    resource: Resource
    namespace: str | None = None
    labels: str = ""
    metadata_only: bool = False
    name: str = ""
    fields: str = ""

    @property
    def path(self) -> str:
        return _collection_path(self.resource, self.namespace)

    @property
    def query(self) -> _Query:
        fields = ",".join(filter(None, (self.name and f"metadata.name={self.name}", self.fields)))
        selectors = ("labelSelector", self.labels), ("fieldSelector", fields)
        return [selector for selector in selectors if selector[1]]

    def accept(self, *, listed: bool = False) -> str:
        return _METADATA_ONLY.format("List" if listed else "") if self.metadata_only else _JSON

    @property
    def list_kind(self) -> str:
        return "PartialObjectMetadataList" if self.metadata_only else f"{self.resource.kind}List"


@dataclass(frozen=True)
class Request:
    """A request to the API server, without the credentials."""

    method: str
    path: str
    query: _Query = ()
    body: Any = None
    content_type: str = _JSON
    accept: str = _JSON


class Cluster:
    """Reads and writes objects through the API server; it is a Reader.

    Writes return the object as it then is. A manifest without a namespace belongs to `default`. `request_handlers` are
    called before each request and `answer_handlers` after it, watches and logs aside.
    """

    def __init__(self, connection: Connection, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS) -> None:
        self.request_handlers: list[Callable[[], None]] = []
        self.answer_handlers: list[AnswerHandler] = []
        self.connection = connection
        self._timeout_seconds = timeout_seconds
        # What the server's clock said, and when by `monotonic`.
        self._server_time: tuple[datetime, float] | None = None

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        kubeconfig: Path | Sequence[Path] | None = None,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        service_account: Path = SERVICE_ACCOUNT,
        context: str = "",
    ) -> AsyncIterator["Cluster"]:
        """Connects as the pod's service account where no kubeconfig is given. Raises Unavailable; sends no request."""
        async with connect(kubeconfig, service_account, context) as connection:
            yield cls(connection, timeout_seconds)

    @property
    def namespace(self) -> str:
        """The namespace of this process's pod, or of the kubeconfig's context."""
        return self.connection.namespace

    def now(self) -> datetime:
        """Returns the API server's time, to a second or two; this machine's until the server has answered."""
        # The API server judges certificates by its own clock, and setting this machine's does not move it.
        if self._server_time is None:
            return datetime.now(UTC)
        server_time, at = self._server_time
        return server_time + timedelta(seconds=monotonic() - at)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        segment = _path_segment(resource.plural, name)
        path = f"{_collection_path(resource, namespace or 'default')}/{segment}"
        return await self._request(Request("GET", path), resource.kind)

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing:
        pages = self.pages(Selection(resource, namespace, labels))
        return Listing(tuple([item async for page in pages for item in page["items"]]))

    async def events(self, namespace: str, fields: str) -> Listing:
        pages = self.pages(Selection(EVENTS, namespace, fields=fields))
        return Listing(tuple([item async for page in pages for item in page["items"]]))

    async def pages(self, selection: Selection, size: int | None = None) -> AsyncGenerator[dict[str, Any]]:
        """Yields a consistent list in pages: `items`, and `metadata` with the resourceVersion. May raise Expired."""
        more = ""
        while True:
            query = [*selection.query, ("limit", str(size or PAGE_SIZE)), *([("continue", more)] if more else [])]
            request = Request("GET", selection.path, query, accept=selection.accept(listed=True))
            try:
                page = await self._request(request, selection.list_kind)
            except UnknownPath:
                if selection.resource == DITTO_SERVERS:
                    await self.check_crd()
                raise

            yield {**page, "items": page.get("items") or []}
            more = page["metadata"].get("continue") or ""
            if not more:
                return

    async def watch(
        self, selection: Selection, query: _Query, idle_seconds: float = WATCH_IDLE_SECONDS
    ) -> AsyncGenerator[bytes]:
        """Yields the lines of a watch. Raises Unavailable when it breaks, or after `idle_seconds` without an answer."""
        request = Request("GET", selection.path, [*selection.query, ("watch", "1"), *query], accept=selection.accept())
        limits = aiohttp.ClientTimeout(connect=self._timeout_seconds, sock_read=idle_seconds)
        async with self._send(request, limits) as response:
            if response.status != 200:
                error = error_from(response.status, _parse(await response.content.read()))
                if isinstance(error, UnknownPath) and selection.resource == DITTO_SERVERS:
                    await self.check_crd()
                raise error

            rest = b""
            async for chunk in response.content.iter_any():
                rest += chunk
                # A watch may be silent for minutes: it keeps nothing meanwhile of what has been read, of which the last
                # chunk of a list has 256 KB.
                del chunk
                *lines, rest = rest.split(b"\n")
                lines.reverse()
                while lines:
                    yield lines.pop()

    async def version(self) -> str:
        """Returns the version of Kubernetes, such as v1.36.1."""
        return str((await self._request(Request("GET", "/version"))).get("gitVersion") or "")

    async def stats(self, node: str) -> dict[str, Any]:
        """Returns the Summary API of a node's kubelet, which reports on its pods and volumes."""
        return await self._request(Request("GET", f"/api/v1/nodes/{_path_segment('nodes', node)}/proxy/stats/summary"))

    async def metrics(self, pod: str, namespace: str, port: int) -> str:
        """Returns what a pod serves at /metrics, which the API server asks it for."""
        segment = _path_segment("pods", f"{pod}:{port}")
        request = Request(
            "GET", f"{_collection_path(PODS, namespace)}/{segment}/proxy/metrics", accept="text/plain, */*"
        )

        async with self._send(request, aiohttp.ClientTimeout(total=self._timeout_seconds)) as response:
            answer = b""
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > MAX_METRICS_BYTES:
                    raise Unavailable(f"more than {MAX_METRICS_BYTES >> 20} MiB of metrics from pod {pod}")
            if response.status != 200:
                raise error_from(response.status, _parse(answer))
            return answer.decode(errors="replace")

    async def previous_log_contains(self, pod: str, namespace: str, container: str, *phrases: bytes) -> bool:
        """Tells whether the log of the container's previous run ends with lines that have one of the phrases.

        Nothing else of the log leaves this function: there may be secrets in it.
        """
        path = f"{_collection_path(PODS, namespace)}/{_path_segment('pods', pod)}/log"
        limits = ("tailLines", str(LOG_LINES)), ("limitBytes", str(LOG_BYTES))
        request = Request("GET", path, [("container", container), ("previous", "true"), *limits], accept=_ANYTHING)

        async with self._send(request, aiohttp.ClientTimeout(total=self._timeout_seconds)) as response:
            answer = b""
            async for chunk in response.content.iter_chunked(LOG_BYTES):
                answer += chunk
                if len(answer) >= LOG_BYTES:
                    break
            # A pod without a node has a log without content, with the status 204.
            if not 200 <= response.status < 300:
                raise error_from(response.status, _parse(answer))
            return any(phrase in answer for phrase in phrases)

    async def log(
        self, pod: str, namespace: str, options: Mapping[str, str], idle_seconds: float | None = None
    ) -> AsyncGenerator[bytes]:
        """Yields the log of a pod's container in chunks; `options` are those of PodLogOptions.

        There may be secrets in it: it is for the person who asks, and for nobody else.
        """
        path = f"{_collection_path(PODS, namespace)}/{_path_segment('pods', pod)}/log"
        request = Request("GET", path, list(options.items()), accept=_ANYTHING)
        limits = aiohttp.ClientTimeout(connect=self._timeout_seconds, sock_read=idle_seconds)

        async with self._send(request, limits) as response:
            # A pod without a node has a log without content, with the status 204.
            if not 200 <= response.status < 300:
                raise error_from(response.status, _parse(await response.content.read()))
            async for chunk in response.content.iter_any():
                yield chunk

    async def check_crd(self) -> None:
        """Raises NotServed when the API server says that it does not serve DittoServers."""
        group, _, version = DITTO_SERVERS.version.partition("/")
        try:
            groups = (await self._request(Request("GET", "/apis"), "APIGroupList"))["groups"]
            versions = [served["version"] for item in groups if item["name"] == group for served in item["versions"]]
            if version in versions:
                request = Request("GET", f"/apis/{DITTO_SERVERS.version}")
                resources = (await self._request(request, "APIResourceList"))["resources"]
                if DITTO_SERVERS.plural in [resource["name"] for resource in resources]:
                    return
        except (ClusterError, KeyError, TypeError):
            # A request for DittoServers themselves fails for the same reason, and reports it.
            return

        crd = f"the CustomResourceDefinition {DITTO_SERVERS.plural}.{group}"
        install = 'install it with "dittofs-operator crd | kubectl apply -f -"'
        if not versions:
            raise NotServed(f"{crd} is not installed, or not established yet: {install}")
        if version not in versions:
            served = ", ".join(versions)
            raise NotServed(
                f"{crd} of this version is not installed: {version} is not served, only {served}; {install}"
            )
        raise NotServed(f"{crd} is not established: kubectl describe crd {DITTO_SERVERS.plural}.{group} says why")

    async def create(self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Raises Conflict when an object of that name exists, and Undecodable when a field does not exist."""
        query = [*_MANAGED_STRICTLY, *([("dryRun", "All")] if dry_run else [])]
        path = _collection_path(resource, _namespace(manifest))
        return await self._request(Request("POST", path, query, manifest), resource.kind)

    async def dry_run(self, resource: Resource, manifest: Mapping[str, Any]) -> DryRun:
        """Asks what `create` would do. Raises ClusterError when a quota, a policy or a missing namespace forbids it."""
        query = [*_MANAGED_STRICTLY, ("dryRun", "All")]
        request = Request("POST", _collection_path(resource, _namespace(manifest)), query, manifest)
        status, answer, warnings = await self._exchange(request)

        try:
            self._check(status, answer, (resource.kind,))
        except Undecodable as error:
            return DryRun(error.causes, warnings, decoded=False)
        except Invalid as error:
            if not error.causes:
                raise
            return DryRun(error.causes, warnings)
        except Conflict:
            # The API server checks last whether the name is taken.
            pass
        return DryRun(warnings=warnings)

    async def apply(
        self, resource: Resource, manifest: Mapping[str, Any], manager: str = FIELD_MANAGER
    ) -> dict[str, Any]:
        """Applies on the server: the manager owns these fields from now on, and gives up those that it omits.

        A uid or resourceVersion in the metadata is a precondition. Raises Conflict when it does not hold.
        """
        query = [("fieldManager", manager), ("force", "true")]
        request = Request("PATCH", _object_path(resource, manifest), query, manifest, _APPLY)
        return await self._request(request, resource.kind)

    async def replace(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Conflict when the object is no longer at the manifest's resourceVersion."""
        request = Request("PUT", _object_path(resource, manifest), _MANAGED_STRICTLY, manifest)
        return await self._request(request, resource.kind)

    async def patch(
        self,
        resource: Resource,
        manifest: Mapping[str, Any],
        operations: Sequence[Mapping[str, Any]],
        *,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Applies a JSON Patch to the object that the manifest names. Raises Invalid when one of its tests fails."""
        query = [*_MANAGED, *([("dryRun", "All")] if dry_run else [])]
        request = Request("PATCH", _object_path(resource, manifest), query, operations, _JSON_PATCH)
        return await self._request(request, resource.kind)

    async def merge(
        self, resource: Resource, manifest: Mapping[str, Any], manager: str = FIELD_MANAGER
    ) -> dict[str, Any]:
        """Applies a merge patch, in which a null removes a field.

        A uid or resourceVersion in the metadata is a precondition. Raises Invalid for another uid, else Conflict.
        """
        query = [("fieldManager", manager)]
        request = Request("PATCH", _object_path(resource, manifest), query, manifest, _MERGE_PATCH)
        return await self._request(request, resource.kind)

    async def patch_status(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Applies a merge patch, which replaces whole lists, whoever owns their items. Preconditions as for `apply`."""
        path = f"{_object_path(resource, manifest)}/status"
        return await self._request(Request("PATCH", path, _MANAGED, manifest, _MERGE_PATCH), resource.kind)

    async def delete(
        self, resource: Resource, manifest: Mapping[str, Any], *, orphan: bool = False
    ) -> dict[str, Any] | None:
        """Deletes this very object, and its dependents unless they are to be orphaned.

        Returns the object while finalizers keep it, else None. Raises Conflict when it has changed or was replaced.
        """
        metadata = manifest["metadata"]
        preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"preconditions": preconditions, "propagationPolicy": "Orphan" if orphan else "Background"}

        request = Request("DELETE", _object_path(resource, manifest), body=body)
        answer = await self._request(request, resource.kind, "Status")
        return answer if answer["kind"] == resource.kind else None

    async def _request(self, request: Request, *kinds: str) -> dict[str, Any]:
        status, answer, _ = await self._exchange(request)
        return self._check(status, answer, kinds)

    async def _exchange(self, request: Request) -> tuple[int, Any, tuple[str, ...]]:
        """Returns status, JSON and warnings of the answer. The JSON is None when it cannot be parsed."""
        seconds = self._timeout_seconds * (1 if request.method == "GET" else _WRITE_TIMEOUT_FACTOR)
        started = monotonic()
        retry_after: float | None = 0.0
        for handler in self.request_handlers:
            handler()

        try:
            async with self._send(request, aiohttp.ClientTimeout(total=seconds)) as response:
                warnings = parse_warnings(response.headers.getall("Warning", ()))
                answer = _parse(await response.content.read())
                if response.status not in _OVERLOADED:
                    retry_after = None
                elif answer is None:
                    # A Status is about this one object: another webhook may answer with any code and Retry-After.
                    retry_after = _retry_after(response.headers)
                return response.status, answer, warnings
        finally:
            for answer_handler in self.answer_handlers:
                answer_handler(monotonic() - started, retry_after)

    def _check(self, status: int, answer: Any, kinds: Sequence[str]) -> dict[str, Any]:
        if not 200 <= status < 300:
            raise error_from(status, answer)
        if not isinstance(answer, dict) or (kinds and answer.get("kind") not in kinds):
            # Something in between answered: nobody must conclude from it that an object does not exist.
            expected = kinds[0] if kinds else "JSON object"
            raise Unavailable(f"expected a {expected} from {self.connection.host}, got something else")
        return answer

    @asynccontextmanager
    async def _send(self, request: Request, limits: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """Translates errors of sending, and those of reading the answer's body inside the context."""
        host, code = self.connection.host, "<error>"
        query = f"?{urlencode(request.query)}" if request.query else ""
        headers = {"Accept": request.accept, "Content-Type": request.content_type}
        body = None if request.body is None else orjson.dumps(request.body)

        try:
            async with await self.connection.request(
                request.method, f"{request.path}{query}", headers, body, limits
            ) as response:
                code = str(response.status)
                with suppress(ValueError):
                    server_time = parsedate_to_datetime(response.headers.get("Date", ""))
                    self._server_time = server_time.astimezone(UTC), monotonic()
                try:
                    yield response
                finally:
                    # TLS would wait half a minute for the other side to close a connection that was not read to its
                    # end, such as a watch.
                    protocol = response.connection and response.connection.protocol
                    if protocol is not None:
                        closed = protocol.closed
                        protocol.abort()
                        response.close()
                        if closed:
                            await closed
        except TimeoutError as error:
            raise Unreachable(f"no answer from {host} within {limits.total or limits.sock_read:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"cannot ask {host}: {explain(error)}") from error
        finally:
            REQUESTS.labels(code, request.method, host).inc()


def parse_warnings(headers: Iterable[str]) -> tuple[str, ...]:
    """Returns the texts of all `Warning` headers, each text once. A header may hold several."""
    texts = (_ESCAPED_CHARACTER.sub(r"\1", text) for header in headers for text in _WARNING.findall(header))
    return tuple(dict.fromkeys(texts))


def _retry_after(headers: Mapping[str, str]) -> float:
    """Returns 0 for a date, which the API server never sends."""
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isascii() and seconds.isdecimal() else 0.0


def _collection_path(resource: Resource, namespace: str | None) -> str:
    root = f"/apis/{resource.version}" if "/" in resource.version else f"/api/{resource.version}"
    if not resource.namespaced or namespace is None:
        return f"{root}/{resource.plural}"
    return f"{root}/namespaces/{_path_segment('namespaces', namespace)}/{resource.plural}"


def _object_path(resource: Resource, manifest: Mapping[str, Any]) -> str:
    return f"{_collection_path(resource, _namespace(manifest))}/{quote(manifest['metadata']['name'], safe='')}"


def _namespace(manifest: Mapping[str, Any]) -> str:
    return str(manifest["metadata"].get("namespace") or "default")


def _path_segment(plural: str, name: str) -> str:
    """Quotes a name. Raises NotFound where the API server's own rule forbids it (ValidatePathSegmentName)."""
    # Such a name would request something else, an empty one the whole list.
    if name in ("", ".", "..") or "/" in name or "%" in name:
        raise NotFound(f'{plural} "{name}" cannot exist by that name')
    return quote(name, safe="")


def _parse(body: bytes) -> Any:
    """Returns None when it is not JSON: the error would quote the body, and with it a Secret's values."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
