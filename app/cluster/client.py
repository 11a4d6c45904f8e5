"""The one way to the Kubernetes API: raw JSON in and out, and our own errors. It never repeats a request."""

import asyncio
import os
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from kubernetes_asyncio.client.api_client import ApiClient
from kubernetes_asyncio.client.configuration import Configuration
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.incluster_config import InClusterConfigLoader
from kubernetes_asyncio.config.kube_config import KubeConfigLoader
from prometheus_client import Counter

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
    shorten,
)
from app.cluster.kubeconfig import NotYaml, authenticate, select
from app.cluster.reader import DITTO_SERVERS, Listing, Resource
from app.storage.facts import DryRun

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REQUEST_TIMEOUT_SECONDS = 10.0
PAGE_SIZE = 500
FIELD_MANAGER = "dittofs-operator"
# The API server sends a bookmark about once a minute: a longer silence is a connection that died unnoticed.
WATCH_IDLE_SECONDS = 70.0

# The name and labels that client-go gives it, so that dashboards made for any operator show this one.
REQUESTS = Counter(
    "rest_client_requests_total",
    "Requests to the Kubernetes API, by status code, method and host.",
    ["code", "method", "host"],
)

# Webhooks of others may take 10 s, and the API server answers for them then: that concerns one object, not the server.
_WRITE_FACTOR = 1.5
_TOKEN = "BearerToken"  # noqa: S105 - the name under which the library keeps the token
# Code, agent and quoted text (RFC 7234, 5.5), as k8s.io/apimachinery writes and reads them.
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')
_ESCAPED_CHARACTER = re.compile(r"\\(.)")
_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_Query = Sequence[tuple[str, str]]
_Headers = list[tuple[str, str]]
_AS_US = (("fieldManager", FIELD_MANAGER),)
# As server-side apply does: what is dropped without a word would be missed, and written again and again.
_STRICTLY_AS_US = (*_AS_US, ("fieldValidation", "Strict"))
# The loader takes a well-formed kubeconfig for granted: these are its ways to say that one is not.
_MALFORMED = (ConfigException, OSError, ValueError, TypeError, AttributeError, KeyError, AssertionError)


@dataclass(frozen=True)
class Selection:
    """Which objects of a resource, and whether with more than their metadata; a namespace of None means all of them.

    With a `name` it is the one object, and a permission for that resourceName is enough. `fields` is a field selector,
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
        return _path(self.resource, self.namespace)

    @property
    def query(self) -> _Query:
        by_labels = [("labelSelector", self.labels)] if self.labels else []
        fields = ",".join(filter(None, (f"metadata.name={self.name}" if self.name else "", self.fields)))
        by_fields = [("fieldSelector", fields)] if fields else []
        return [*by_labels, *by_fields]

    def accept(self, *, listed: bool = False) -> str:
        return _METADATA_ONLY.format("List" if listed else "") if self.metadata_only else _JSON

    @property
    def list_kind(self) -> str:
        return "PartialObjectMetadataList" if self.metadata_only else f"{self.resource.kind}List"


@dataclass(frozen=True)
class Request:
    """What is sent to the API server besides the credentials."""

    method: str
    path: str
    query: _Query = ()
    body: Any = None
    content_type: str = _JSON
    accept: str = _JSON


class Cluster:
    """A Reader that asks the API server, and the writer; `patience` is what a request may take, in seconds.

    What is written is answered with the object as it then is. A manifest's namespace counts, `default` without one.
    `namespace` is where this process itself is at home: its pod's, or that of the kubeconfig's context.
    """

    def __init__(self, api: ApiClient, session: aiohttp.ClientSession, patience: float, namespace: str) -> None:
        self._api = api
        self._session = session
        self._patience = patience
        self.namespace = namespace
        self._told: tuple[datetime, float] | None = None

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        kubeconfig: Path | Sequence[Path] | None = None,
        patience: float = REQUEST_TIMEOUT_SECONDS,
        service_account: Path = SERVICE_ACCOUNT,
        context: str = "",
    ) -> AsyncIterator["Cluster"]:
        """Without a kubeconfig as the pod's service account. Raises Unavailable; nothing is asked of the server yet.

        Several kubeconfigs are merged; without a `context` it is their current one.
        """
        files = (kubeconfig,) if isinstance(kubeconfig, Path) else tuple(kubeconfig or ())
        headers: _Headers = []
        if files:
            configuration, namespace, headers = await _from_files(files, context)
        else:
            configuration, namespace = _from_pod(service_account)
        # As client-go: the CAs of many clusters lack an extension that Python 3.13 insists on.
        configuration.disable_strict_ssl_verification = True
        # Each watch holds a connection for as long as it lasts: a limit would one day be reached by them alone.
        configuration.connection_pool_maxsize = 0
        async with _api_client(configuration) as api, _session(api, headers) as session:
            yield cls(api, session, patience, namespace)

    def now(self) -> datetime:
        """What the API server's clock says, to a second or two; this machine's until it has answered.

        It is the one by which it judges a certificate, and setting this machine's does not move it.
        """
        if self._told is None:
            return datetime.now(UTC)
        told, at = self._told
        return told + timedelta(seconds=monotonic() - at)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        if not _is_path_segment(name):
            # Such a name would ask for something else, an empty one for the whole list.
            raise NotFound(f'{resource.plural} "{name}" cannot exist by that name')
        path = f"{_path(resource, namespace or 'default')}/{quote(name, safe='')}"
        return await self._answer(Request("GET", path), resource.kind)

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing:
        pages = self.pages(Selection(resource, namespace, labels))
        return Listing(tuple([item async for page in pages for item in page["items"]]))

    async def stats(self, node: str) -> dict[str, Any]:
        """What the kubelet of a node says of its pods (its Summary API, which is of no kind)."""
        if not _is_path_segment(node):
            raise NotFound(f'nodes "{node}" cannot exist by that name')
        return await self._answer(Request("GET", f"/api/v1/nodes/{quote(node, safe='')}/proxy/stats/summary"))

    async def check_crd(self) -> None:
        """Raises NotServed when the API server says that it does not serve DittoServers."""
        group, _, version = DITTO_SERVERS.version.partition("/")
        try:
            groups = (await self._answer(Request("GET", "/apis"), "APIGroupList"))["groups"]
            versions = [served["version"] for item in groups if item["name"] == group for served in item["versions"]]
            names: list[str] = []
            if version in versions:
                known = await self._answer(Request("GET", f"/apis/{DITTO_SERVERS.version}"), "APIResourceList")
                names = [resource["name"] for resource in known["resources"]]
        except (ClusterError, KeyError, TypeError):
            # A request for DittoServers themselves fails for the same reason, and says so.
            return
        if DITTO_SERVERS.plural not in names:
            raise NotServed(_why_not_served(versions))

    async def pages(self, selection: Selection) -> AsyncGenerator[dict[str, Any]]:
        """A consistent list, page by page: `items`, and `metadata` with the resourceVersion. Raises Expired midway."""
        more = ""
        while True:
            query = [*selection.query, ("limit", str(PAGE_SIZE)), *([("continue", more)] if more else [])]
            request = Request("GET", selection.path, query, accept=selection.accept(listed=True))
            try:
                page = await self._answer(request, selection.list_kind)
            except UnknownPath:
                await self._check_resource(selection.resource)
                raise
            yield {**page, "items": page.get("items") or []}
            more = page["metadata"].get("continue") or ""
            if not more:
                return

    async def watch(
        self, selection: Selection, query: _Query, idle_seconds: float = WATCH_IDLE_SECONDS
    ) -> AsyncGenerator[bytes]:
        """The lines of a watch as they come, of any length; ends when the API server ends it.

        Raises Unavailable when it breaks, or says nothing for `idle_seconds` seconds.
        """
        request = Request("GET", selection.path, [*selection.query, ("watch", "1"), *query], accept=selection.accept())
        async with self._sent(
            request, aiohttp.ClientTimeout(connect=self._patience, sock_read=idle_seconds)
        ) as response:
            if response.status != 200:
                refusal = error_from(response.status, _parsed(await response.content.read()))
                if isinstance(refusal, UnknownPath):
                    await self._check_resource(selection.resource)
                raise refusal
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line

    async def _check_resource(self, resource: Resource) -> None:
        if resource == DITTO_SERVERS:
            await self.check_crd()

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Conflict when there is an object of that name, and Undecodable for a field that no object has."""
        path = _path(resource, _namespace(manifest))
        return await self._answer(Request("POST", path, _STRICTLY_AS_US, manifest), resource.kind)

    async def dry_run(self, resource: Resource, manifest: Mapping[str, Any]) -> DryRun:
        """Asks what `create` would do, and stores nothing; an object of that name may exist.

        Raises ClusterError when the answer is not about the object: a quota, a policy, a namespace that is missing.
        """
        query = [*_STRICTLY_AS_US, ("dryRun", "All")]
        request = Request("POST", _path(resource, _namespace(manifest)), query, manifest)
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
            # The name is taken, which is found out last.
            pass
        return DryRun(warnings=warnings)

    async def apply(
        self, resource: Resource, manifest: Mapping[str, Any], manager: str = FIELD_MANAGER
    ) -> dict[str, Any]:
        """Server-side apply: these fields are ours from now on, and what we no longer name is given up.

        A uid or resourceVersion in the metadata is a precondition, and Conflict is raised when it does not hold.
        """
        query = [("fieldManager", manager), ("force", "true")]
        return await self._answer(
            Request("PATCH", _path_of(resource, manifest), query, manifest, _APPLY), resource.kind
        )

    async def replace(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Conflict when the object is no longer at the manifest's resourceVersion."""
        request = Request("PUT", _path_of(resource, manifest), _STRICTLY_AS_US, manifest)
        return await self._answer(request, resource.kind)

    async def patch(
        self,
        resource: Resource,
        manifest: Mapping[str, Any],
        operations: Sequence[Mapping[str, Any]],
        *,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """A JSON Patch of the object that the manifest names. Raises Invalid when one of its tests fails."""
        query = [*_AS_US, *([("dryRun", "All")] if dry_run else [])]
        request = Request("PATCH", _path_of(resource, manifest), query, operations, _JSON_PATCH)
        return await self._answer(request, resource.kind)

    async def patch_status(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """A merge patch: lists are as given, whoever wrote what else is in them. Preconditions as for `apply`."""
        path = f"{_path_of(resource, manifest)}/status"
        return await self._answer(Request("PATCH", path, _AS_US, manifest, _MERGE_PATCH), resource.kind)

    async def delete(
        self, resource: Resource, manifest: Mapping[str, Any], *, orphan: bool = False
    ) -> dict[str, Any] | None:
        """Deletes this very object, and what it owns unless that is to be an orphan.

        Gives the object as it is until it is gone, None when it is gone. Raises Conflict when it changed, or another
        one has its name.
        """
        metadata = manifest["metadata"]
        preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"preconditions": preconditions, "propagationPolicy": "Orphan" if orphan else "Background"}
        request = Request("DELETE", _path_of(resource, manifest), body=body)
        answer = await self._answer(request, resource.kind, "Status")
        return answer if answer["kind"] == resource.kind else None

    async def _answer(self, request: Request, *kinds: str) -> dict[str, Any]:
        status, answer, _ = await self._exchange(request)
        return self._check(status, answer, kinds)

    async def _exchange(self, request: Request) -> tuple[int, Any, tuple[str, ...]]:
        """Status, JSON and warnings of the answer; the JSON is None when it is none."""
        seconds = self._patience if request.method == "GET" else self._patience * _WRITE_FACTOR
        async with self._sent(request, aiohttp.ClientTimeout(total=seconds)) as response:
            warnings = parse_warnings(response.headers.getall("Warning", ()))
            return response.status, _parsed(await response.content.read()), warnings

    def _check(self, status: int, answer: Any, kinds: Sequence[str]) -> dict[str, Any]:
        if not 200 <= status < 300:
            raise error_from(status, answer)
        if not isinstance(answer, dict) or (kinds and answer.get("kind") not in kinds):
            # Something in between answered: that there is nothing must not be concluded from it.
            expected = kinds[0] if kinds else "JSON object"
            raise Unavailable(f"expected a {expected} from {self._host}, got something else")
        return answer

    @asynccontextmanager
    async def _sent(self, request: Request, limit: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, whose body is yet to be read; what fails while that is done is ours to name as well."""
        code = "<error>"
        try:
            async with await self._asked(request, limit) as response:
                code = str(response.status)
                self._note_time(response.headers.get("Date", ""))
                try:
                    yield response
                finally:
                    await _cut(response)
        except TimeoutError as error:
            raise Unreachable(f"no answer from {self._host} within {limit.total or limit.sock_read:g} s") from error
        except (aiohttp.ClientError, OSError, ConfigException) as error:
            raise Unreachable(f"cannot ask {self._host}: {_why(error)}") from error
        finally:
            REQUESTS.labels(code, request.method, self._host).inc()

    async def _asked(self, request: Request, limit: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """Past the library's own call, which copies each body and looks for credentials in ~/.netrc by a thread."""
        configuration = self._api.configuration
        headers = {"Accept": request.accept, "Content-Type": request.content_type}
        await self._api.update_params_for_auth(headers, [], [_TOKEN])
        query = f"?{urlencode(request.query)}" if request.query else ""
        return await self._session.request(
            request.method,
            f"{configuration.host}{request.path}{query}",
            data=None if request.body is None else orjson.dumps(request.body),
            headers=headers,
            timeout=limit,
            proxy=configuration.proxy,
            server_hostname=configuration.tls_server_name,
        )

    def _note_time(self, date: str) -> None:
        try:
            told = parsedate_to_datetime(date)
        except ValueError:
            return
        self._told = told.astimezone(UTC), monotonic()

    @property
    def _host(self) -> str:
        return urlsplit(str(self._api.configuration.host)).netloc.rpartition("@")[2]


@asynccontextmanager
async def _api_client(configuration: Configuration) -> AsyncIterator[ApiClient]:
    try:
        api = ApiClient(configuration)
    except OSError as error:
        # Also ssl.SSLError: a CA or a client certificate that is none.
        raise Unavailable(f"cannot use the certificates given for {configuration.host}: {_why(error)}") from error
    async with api:
        yield api


async def _cut(response: aiohttp.ClientResponse) -> None:
    """Of an answer that is not read to its end, such as a watch: TLS would wait half a minute for a farewell."""
    protocol = response.connection and response.connection.protocol
    if protocol is None:
        return
    closed = protocol.closed
    protocol.abort()
    response.close()
    if closed:
        await closed


def _session(api: ApiClient, headers: _Headers) -> aiohttp.ClientSession:
    """On the library's connections; the headers are sent with every request."""
    configuration = api.configuration
    configuration.proxy = configuration.proxy or _proxy_of_environment(str(configuration.host))
    headers = [*headers, ("User-Agent", f"dittofs-operator/{_version()}")]
    connector = api.rest_client.pool_manager.connector
    return aiohttp.ClientSession(connector=connector, connector_owner=False, headers=headers)


def _proxy_of_environment(host: str) -> str | None:
    """Of HTTPS_PROXY and its like, as client-go does."""
    url = urlsplit(host)
    return None if proxy_bypass(url.hostname or "") else getproxies().get(url.scheme)


async def _from_files(files: Sequence[Path], context: str) -> tuple[Configuration, str, _Headers]:
    configuration = Configuration()
    name = os.pathsep.join(map(str, files))
    try:
        selected = await authenticate(await asyncio.to_thread(select, files, context))
        loader = KubeConfigLoader(config_dict=selected.as_kubeconfig(), config_base_path="")
        await loader.load_and_set(configuration)
        headers = selected.impersonation
    except NotYaml as error:
        raise Unavailable(str(error)) from None
    except _MALFORMED as error:
        raise Unavailable(f"kubeconfig {name} cannot be used: {_why(error)}") from error
    if _TOKEN in configuration.api_key:
        # A token file often ends in a newline, which no header may have in it.
        configuration.api_key[_TOKEN] = configuration.api_key[_TOKEN].strip()
    if not all(value.isprintable() for value in (*configuration.api_key.values(), *(value for _, value in headers))):
        raise Unavailable(f"kubeconfig {name} cannot be used: a line break or the like is in the user's token or name")
    return configuration, selected.namespace, headers


def _from_pod(service_account: Path) -> tuple[Configuration, str]:
    configuration = Configuration()
    try:
        _PodLoader(str(service_account / "token"), str(service_account / "ca.crt")).load_and_set(configuration)
        namespace = (service_account / "namespace").read_text().strip()
    except (ConfigException, OSError) as error:
        raise Unavailable(
            f"no kubeconfig was given, and this is no pod with a service account: {_why(error)}"
        ) from error
    return configuration, namespace


class _PodLoader(InClusterConfigLoader):
    """Reads the token again each minute, as the kubelet rotates it."""

    def _read_token_file(self) -> None:
        super()._read_token_file()  # type: ignore[no-untyped-call]
        self.token = self.token.strip()


def _path(resource: Resource, namespace: str | None) -> str:
    root = f"/apis/{resource.version}" if "/" in resource.version else f"/api/{resource.version}"
    if not resource.namespaced or namespace is None:
        return f"{root}/{resource.plural}"
    if not _is_path_segment(namespace):
        raise NotFound(f'namespaces "{namespace}" cannot exist by that name')
    return f"{root}/namespaces/{quote(namespace, safe='')}/{resource.plural}"


def _path_of(resource: Resource, manifest: Mapping[str, Any]) -> str:
    return f"{_path(resource, _namespace(manifest))}/{quote(manifest['metadata']['name'], safe='')}"


def _namespace(manifest: Mapping[str, Any]) -> str:
    return str(manifest["metadata"].get("namespace") or "default")


def _is_path_segment(name: str) -> bool:
    """The API server's own rule for names (ValidatePathSegmentName)."""
    return bool(name) and name not in (".", "..") and "/" not in name and "%" not in name


def _parsed(body: bytes) -> Any:
    """None when it is no JSON: the error would carry the body along, and with it a Secret's values."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def parse_warnings(headers: Iterable[str]) -> tuple[str, ...]:
    """Returns the texts of all `Warning` headers, each text once. A header may hold several."""
    texts = (_ESCAPED_CHARACTER.sub(r"\1", text) for header in headers for text in _WARNING.findall(header))
    return tuple(dict.fromkeys(texts))


def _why_not_served(versions: Sequence[str]) -> str:
    """By the versions of the group that the API server serves."""
    group, _, version = DITTO_SERVERS.version.partition("/")
    crd = f"the CustomResourceDefinition {DITTO_SERVERS.plural}.{group}"
    install = 'install it with "dittofs-operator crd | kubectl apply -f -"'
    if not versions:
        return f"{crd} is not installed, or not established yet: {install}"
    if version not in versions:
        return f"{crd} of this version is not installed: {version} is not served, only {', '.join(versions)}; {install}"
    return f"{crd} is not established: kubectl describe crd {DITTO_SERVERS.plural}.{group} says why"


def _why(error: Exception) -> str:
    # aiohttp's own text has the address of an SSL context in it.
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno and cause.errno > 0:
        said = os.strerror(cause.errno)
        return f"{said}: {cause.filename}" if cause.filename else said
    return shorten(str(cause)) or type(cause).__name__


def _version() -> str:
    try:
        return version("dittofs-operator")
    except PackageNotFoundError:
        return "unreleased"
