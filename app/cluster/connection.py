"""Connects to the API server, as the pod's service account or by kubeconfig. It never sends a request of its own."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

from app.cluster.errors import Unavailable, shorten
from app.cluster.http_library import aiohttp
from app.settings import release

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The kubelet rotates the token of a service account.
TOKEN_REFRESH_SECONDS = 60.0
# The kernel asks after 30 seconds of silence, then every 10, and gives up after a minute.
KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# How many turns the event loop needs at most to learn that a connection has ended, and to close it.
CLOSING_TURNS = 100

_NO_POD = "no kubeconfig was given, and this is no pod with a service account"
_TOKEN = "BearerToken"  # noqa: S105 - the name under which the library keeps the token


@dataclass
class Connection:
    """A session with one API server: where it is, how it is trusted, and as whom it is asked.

    `namespace` is the namespace of the pod, or of the kubeconfig's context. `authorization` returns the value of that
    header, None where there is none, and raises OSError. `headers` are sent with every request.
    """

    url: str
    namespace: str
    tls: ssl.SSLContext
    authorization: Callable[[], str | None]
    headers: Sequence[tuple[str, str]] = ()
    proxy: str | None = None
    tls_server_name: str | None = None
    session: aiohttp.ClientSession = field(init=False)

    @property
    def host(self) -> str:
        """Host and port, without the credentials that a URL may have."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Sends one request. Raises TimeoutError, OSError and aiohttp.ClientError; see `explain`."""
        authorization = self.authorization()
        return await self.session.request(
            method,
            f"{self.url}{path}",
            data=body,
            headers={**headers, "Authorization": authorization} if authorization else headers,
            timeout=limits,
            proxy=self.proxy,
            server_hostname=self.tls_server_name,
        )


@asynccontextmanager
async def connect(
    kubeconfig: Path | Sequence[Path] | None = None, service_account: Path = SERVICE_ACCOUNT, context: str = ""
) -> AsyncIterator[Connection]:
    """Opens a session, as the pod's service account where no kubeconfig is given. Raises Unavailable."""
    files = (kubeconfig,) if isinstance(kubeconfig, Path) else tuple(kubeconfig or ())
    connection = await _from_kubeconfig(files, context) if files else _from_pod(service_account)

    # Like client-go, honour HTTPS_PROXY and its relatives.
    url = urlsplit(connection.url)
    if not connection.proxy and not proxy_bypass(url.hostname or ""):
        connection.proxy = getproxies().get(url.scheme)

    headers = [*connection.headers, ("User-Agent", f"dittofs-operator/{release()}")]

    sockets = WeakSet[socket.socket]()

    def open_socket(address: tuple[Any, ...]) -> socket.socket:
        opened = socket.socket(*address[:3])
        _keep_alive(opened)
        sockets.add(opened)
        return opened

    # Each watch holds a connection for as long as it lasts, so that watches alone would reach any limit some day.
    connector = aiohttp.TCPConnector(limit=0, ssl=connection.tls, socket_factory=open_socket)
    try:
        async with aiohttp.ClientSession(connector=connector, headers=headers) as connection.session:
            yield connection
    finally:
        await _close(sockets)


def _keep_alive(opened: socket.socket) -> None:
    """Has the kernel end a connection whose other end is gone, also while a watch has nothing to say."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        # Each system has its own, and knows a default for the others.
        if (option := getattr(socket, name, None)) is not None:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)


async def _close(sockets: Iterable[socket.socket]) -> None:
    """Ends connections that wait for the server's farewell: a cancelled watch leaves one that the session forgets."""
    for opened in list(sockets):
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)

    for _ in range(CLOSING_TURNS):
        if all(opened.fileno() == -1 for opened in sockets):
            return
        await asyncio.sleep(0)


def explain(error: Exception) -> str:
    """Returns in one line why a file could not be read or a server not be reached."""
    # aiohttp's own text has the address of an SSL context in it.
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno and cause.errno > 0:
        text = os.strerror(cause.errno)
        return f"{text}: {cause.filename}" if cause.filename else text
    return shorten(str(cause)) or type(cause).__name__


def _from_pod(service_account: Path) -> Connection:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise Unavailable(f"{_NO_POD}: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    ca_file = service_account / "ca.crt"
    try:
        token = _ServiceAccountToken(service_account / "token")
        namespace = (service_account / "namespace").read_text().strip()
        _read(ca_file)
    except (OSError, ValueError) as error:
        raise Unavailable(f"{_NO_POD}: {explain(error)}") from error
    return Connection(url, namespace, _tls_context(url, str(ca_file)), token.authorization)


class _ServiceAccountToken:
    """Reads the token again each minute. Raises OSError when there is none."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._refresh()

    def authorization(self) -> str:
        if monotonic() >= self._refresh_at:
            self._refresh()
        return f"Bearer {self._token}"

    def _refresh(self) -> None:
        self._token = _read(self._file)
        self._refresh_at = monotonic() + TOKEN_REFRESH_SECONDS


def _read(file: Path) -> str:
    """Raises OSError also when the file is empty."""
    text = file.read_text().strip()
    if not text:
        raise OSError(f"{file} is empty")
    return text


async def _from_kubeconfig(files: Sequence[Path], context: str) -> Connection:
    # A pod can do without what these import.
    from app.cluster.kubeconfig import authenticate, select
    from app.cluster.kubeconfig_loader import MALFORMED, load

    name = os.pathsep.join(map(str, files))
    try:
        selected = await authenticate(await asyncio.to_thread(select, files, context))
        configuration = await load(selected)
        impersonation = selected.impersonation
    except MALFORMED as error:
        raise Unavailable(f"kubeconfig {name} cannot be used: {explain(error)}") from error

    # A token file often ends in a newline, which no header may contain.
    token = configuration.api_key[_TOKEN].strip() if _TOKEN in configuration.api_key else None
    if not all(value.isprintable() for value in (token or "", *(value for _, value in impersonation))):
        raise Unavailable(f"kubeconfig {name} cannot be used: a line break or the like is in the user's token or name")

    url = str(configuration.host)
    tls = _tls_context(
        url, configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file, verify=configuration.verify_ssl
    )
    return Connection(
        url, selected.namespace, tls, lambda: token, impersonation, configuration.proxy, configuration.tls_server_name
    )


def _tls_context(
    url: str, ca_file: str | None, certificate: str | None = None, key: str | None = None, *, verify: bool = True
) -> ssl.SSLContext:
    """Trusts the CA, or those of the system where there is none. Raises Unavailable."""
    try:
        tls = ssl.create_default_context(cafile=ca_file)
        if certificate:
            tls.load_cert_chain(certificate, key)
    except OSError as error:
        # This includes ssl.SSLError, such as for a file that has no certificate in it.
        raise Unavailable(f"cannot use the certificates given for {url}: {explain(error)}") from error

    if not verify:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    # Like client-go: the CAs of many clusters lack an extension that Python 3.13 insists on.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return tls
