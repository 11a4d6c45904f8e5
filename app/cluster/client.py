"""The one way to the Kubernetes API: raw JSON in and our own errors out. It only reads, and never repeats a request."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
import yaml
from kubernetes_asyncio.client.api_client import ApiClient
from kubernetes_asyncio.client.configuration import Configuration
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.incluster_config import InClusterConfigLoader
from kubernetes_asyncio.config.kube_config import KubeConfigLoader
from prometheus_client import Counter

from app.cluster.reader import (
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    Listing,
    NotFound,
    Resource,
    Unavailable,
)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PATIENCE = 10.0
PAGE = 500

# The name and labels that client-go gives it, so that dashboards made for any operator show this one.
REQUESTS = Counter(
    "rest_client_requests_total",
    "Requests to the Kubernetes API, by status code, method and host.",
    ["code", "method", "host"],
)

_TOKEN = "BearerToken"  # noqa: S105 - the name under which the library keeps the token
_MESSAGE_CHARACTERS = 400
_Query = list[tuple[str, str]]
# The loader takes a well-formed kubeconfig for granted: these are its ways to say that one is not.
_MALFORMED = (ConfigException, OSError, ValueError, TypeError, AttributeError, KeyError, AssertionError)


class Cluster:
    """A Reader that asks the API server; `patience` is what a request may take, in seconds."""

    def __init__(self, api: ApiClient, patience: float = PATIENCE) -> None:
        self._api = api
        self._patience = patience
        self._api.user_agent = f"dittofs-operator/{_version()}"

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, kubeconfig: Path | None = None, patience: float = PATIENCE, service_account: Path = SERVICE_ACCOUNT
    ) -> AsyncIterator["Cluster"]:
        """Without a kubeconfig as the pod's service account. Raises Unavailable; nothing is asked of the server yet."""
        configuration = await _from_file(kubeconfig) if kubeconfig else _from_pod(service_account)
        # As client-go: the CAs of many clusters lack an extension that Python 3.13 insists on.
        configuration.disable_strict_ssl_verification = True
        async with _api_client(configuration) as api:
            yield cls(api, patience)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        if not _is_path_segment(name):
            # Such a name would ask for something else, an empty one for the whole list.
            raise NotFound(f'{resource.plural} "{name}" cannot exist by that name')
        path = f"{_path(resource, namespace or 'default')}/{quote(name, safe='')}"
        return await self._read(resource.kind, path, [])

    async def list(self, resource: Resource, namespace: str | None = None) -> Listing:
        items: list[dict[str, Any]] = []
        more = ""
        while True:
            query = [("limit", str(PAGE)), *([("continue", more)] if more else [])]
            page = await self._read(f"{resource.kind}List", _path(resource, namespace), query)
            items += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return Listing(tuple(items))

    async def _read(self, kind: str, path: str, query: _Query) -> dict[str, Any]:
        status, body = await self._request("GET", path, query)
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None  # The error would carry the body along, and with it a Secret's values.
        if status != 200:
            raise _refusal(status, answer)
        if not isinstance(answer, dict) or answer.get("kind") != kind:
            # Something in between answered: that there is nothing must not be concluded from it.
            raise Unavailable(f"expected a {kind} from {self._host}, got something else")
        return answer

    async def _request(self, method: str, path: str, query: _Query) -> tuple[int, bytes]:
        code = "<error>"
        try:
            response = await self._api.call_api(
                path,
                method,
                query_params=query,
                header_params={"Accept": "application/json"},
                auth_settings=[_TOKEN],
                _preload_content=False,
                _request_timeout=self._patience,
            )
            async with response:
                code = str(response.status)
                return response.status, await response.content.read()
        except TimeoutError as error:
            raise Unavailable(f"no answer from {self._host} within {self._patience:g} s") from error
        except (aiohttp.ClientError, OSError, ConfigException) as error:
            raise Unavailable(f"cannot ask {self._host}: {_why(error)}") from error
        finally:
            REQUESTS.labels(code, method, self._host).inc()

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


async def _from_file(path: Path) -> Configuration:
    configuration = Configuration()
    try:
        content = yaml.safe_load(await asyncio.to_thread(path.read_bytes))
        loader = KubeConfigLoader(config_dict=content, config_base_path=str(path.parent))
        await loader.load_and_set(configuration)
    except yaml.YAMLError:
        # The error quotes the line, which may be the one with the token.
        raise Unavailable(f"kubeconfig {path} is not valid YAML") from None
    except _MALFORMED as error:
        raise Unavailable(f"kubeconfig {path} cannot be used: {_why(error)}") from error
    if _TOKEN in configuration.api_key:
        # A token file often ends in a newline, which no header may have in it.
        configuration.api_key[_TOKEN] = configuration.api_key[_TOKEN].strip()
    return configuration


def _from_pod(service_account: Path) -> Configuration:
    configuration = Configuration()
    try:
        _PodLoader(str(service_account / "token"), str(service_account / "ca.crt")).load_and_set(configuration)
    except (ConfigException, OSError) as error:
        raise Unavailable(
            f"no kubeconfig was given, and this is no pod with a service account: {_why(error)}"
        ) from error
    return configuration


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


def _is_path_segment(name: str) -> bool:
    """The API server's own rule for names (ValidatePathSegmentName)."""
    return bool(name) and name not in (".", "..") and "/" not in name and "%" not in name


def _refusal(status: int, answer: Any) -> ClusterError:
    if not isinstance(answer, dict) or answer.get("kind") != "Status":
        return Unavailable(f"HTTP status {status}, without a Kubernetes Status")
    message = _one_line(answer.get("message") or answer.get("reason") or f"HTTP status {status}")
    if status == 404:
        # A server that does not know the resource says 404 as well, but names no object.
        named = (answer.get("details") or {}).get("name")
        return NotFound(message) if named else Unavailable(message)
    if status in (401, 403):
        return Forbidden(f"forbidden: {message}")
    return {400: Invalid, 409: Conflict, 422: Invalid}.get(status, Unavailable)(message)


def _why(error: Exception) -> str:
    # aiohttp's own text has the address of an SSL context in it.
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno and cause.errno > 0:
        said = os.strerror(cause.errno)
        return f"{said}: {cause.filename}" if cause.filename else said
    return _one_line(str(cause)) or type(cause).__name__


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_CHARACTERS else f"{line[:_MESSAGE_CHARACTERS]}…"


def _version() -> str:
    try:
        return version("dittofs-operator")
    except PackageNotFoundError:
        return "unreleased"
