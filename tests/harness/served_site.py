"""A namespace in which the operator's parts work in the test's own process, on a DittoServer that really answers.

A stand-in for DittoFS runs as a local process instead of in the pod, and is started again for each new pod.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from app.cluster.client import Cluster
from app.cluster.errors import ClusterError
from app.cluster.informers import Informers
from app.cluster.reader import DITTO_SERVERS, PODS, SECRETS
from app.dittofs.client import ServerClient
from app.reconcile.concurrency import ConcurrencyLimit
from app.reconcile.controller import Controller
from app.reconcile.health_monitor import HealthMonitor
from app.reconcile.provisioner import Provisioner
from app.reconcile.reconciler import Reconciler
from app.reconcile.writer import Writer
from app.storage.events import Event
from app.storage.status import conditions
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.dittofs_standin import PASSWORD, DittoFS
from tests.harness.editing import edit
from tests.harness.reconciler_namespace import BY_HAND, connect, run_informers
from tests.harness.server_table import server
from tests.harness.wait import run_beside, until_async

RETRY_SECONDS = 0.3
ADMIN = "files-admin"


class Proxy:
    """Forwards a socket to a port of this machine; while `is_open` is false, it closes every connection."""

    def __init__(self, socket: Path, port: int) -> None:
        self.socket = socket
        self.port = port
        self.is_open = True
        self.requests: list[str] = []
        # Called before a request is forwarded.
        self.before: Callable[[str], None] = lambda _: None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        forwarding = await asyncio.start_unix_server(self._forward, self.socket)
        try:
            yield
        finally:
            forwarding.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The event loop may end before the client has: whatever is open then is closed, or the loop complains.
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n")
                line = head.decode().removesuffix(" HTTP/1.1\r\n")
                self.requests.append(line)
                self.before(line)
                if self.is_open:
                    await self._pass_on(head, reader, writer)
        finally:
            writer.close()

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            to_writer.write(head)
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, to_writer))
                group.create_task(_copy(to_reader, writer))
        finally:
            to_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class ServedSite:
    """The namespace with one server named files. `starts` counts how often its process was started."""

    def __init__(self, cluster: Cluster, informers: Informers, namespace: str, dittofs: DittoFS, proxy: Proxy) -> None:
        self.cluster = cluster
        self.informers = informers
        self.namespace = namespace
        self.dittofs = dittofs
        self.proxy = proxy
        self.key = namespace, "files"
        self.events = list[Event]()
        self.starts = 0
        self._pod = ""

    async def create(self, **spec: Any) -> None:
        await self.put_secret(ADMIN, password=PASSWORD)
        manifest = server(**self.spec(**spec))
        await self.cluster.create(
            DITTO_SERVERS, {**manifest, "metadata": {"name": "files", "namespace": self.namespace}}
        )

    def spec(self, **spec: Any) -> Manifest:
        identity = {"admin": {"passwordSecretRef": {"name": ADMIN, "key": "password"}}}
        return {**BY_HAND, "identity": identity, **spec}

    async def change(self, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        def changed(live: Manifest) -> Manifest:
            metadata = {**live["metadata"], **({"annotations": annotations} if annotations else {})}
            return {**live, "metadata": metadata, "spec": {**live["spec"], **spec}}

        await edit(self.cluster, DITTO_SERVERS, self.key, changed)

    async def put_secret(self, name: str, **values: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        metadata = {"name": name, "namespace": self.namespace}
        await self.cluster.apply(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    async def live(self) -> Manifest:
        return await self.cluster.get(DITTO_SERVERS, "files", self.namespace)

    @property
    def status(self) -> Manifest:
        status: Manifest = (self.informers.servers.get(self.key) or {}).get("status") or {}
        return status

    def condition(self, kind: str) -> tuple[str, str]:
        condition = conditions({"status": self.status}).get(kind) or {"status": "", "reason": ""}
        return condition["status"], condition["reason"]

    def shares(self) -> dict[str, str]:
        return {share["path"]: share["phase"] for share in self.status.get("shares") or ()}

    async def until(self, holds: Callable[[], bool]) -> None:
        try:
            await until_async(holds)
        except AssertionError as error:
            raise AssertionError(f"{self.status}, {self.proxy.requests[-20:]}") from error

    async def until_condition(self, kind: str, status: str, reason: str) -> None:
        await self.until(lambda: self.condition(kind) == (status, reason))

    @asynccontextmanager
    async def operated(self) -> AsyncIterator[None]:
        """Runs the operator's parts inside the `with`; whatever they remember is lost at its end."""
        client = ServerClient(lambda _host, _port: asyncio.open_unix_connection(self.proxy.socket))
        async with AsyncExitStack() as stack:
            health = HealthMonitor(self.informers, client, RETRY_SECONDS, RETRY_SECONDS)
            provisioner = Provisioner(self.informers, client, lambda: True, (RETRY_SECONDS, RETRY_SECONDS))
            reconciler = Reconciler(
                self.cluster,
                self.informers,
                Writer(self.cluster, self.informers, lambda: True),
                lambda _, event: self.events.append(event),
                report_of=health.report,
                provisioner=provisioner,
            )
            controller = Controller(self.informers, reconciler, ConcurrencyLimit(2))
            health.change_handlers.append(partial(controller.wake, trigger="health"))
            provisioner.change_handlers += [partial(controller.wake, trigger="stores and shares"), health.ask_soon]
            for work in (health.run(), provisioner.run(), controller.run()):
                await stack.enter_async_context(run_beside(work, asyncio.sleep(0), 10))
            yield

    async def run_pods(self) -> None:
        """Starts the process again for each new pod, and reports the pod ready, until cancelled."""
        while True:
            await asyncio.sleep(0.05)
            pod = self.informers.pods.get((self.namespace, "files-0"))
            metadata = pod["metadata"] if pod else {}
            if not pod or metadata["uid"] == self._pod or metadata.get("deletionTimestamp"):
                continue

            await self._put_environment()
            start = self.dittofs.restart if self.starts else self.dittofs.start
            starting = asyncio.get_running_loop().run_in_executor(None, start)
            try:
                await asyncio.shield(starting)
            finally:
                # A thread goes on when this is cancelled, and the process that it starts has to be stopped.
                await starting
                self.starts += 1

            with suppress(ClusterError):
                await self._report_ready(metadata["uid"])
                self._pod = metadata["uid"]

    async def _put_environment(self) -> None:
        """Gives the process the S3 keys and the CA as the pod gets them."""
        s3 = (await self.live())["spec"].get("s3") or {}
        if s3.get("caSecretRef"):
            mount = self.dittofs.folder / "s3-ca"
            mount.mkdir(exist_ok=True)
            (mount / "ca.crt").write_text((await self._secret_values("ca"))["ca.crt"])
            self.dittofs.environ["SSL_CERT_DIR"] = str(mount)

        if s3.get("credentialsSecretRef"):
            values = await self._secret_values("s3")
            self.dittofs.environ |= {
                "AWS_ACCESS_KEY_ID": values["accessKeyId"],
                "AWS_SECRET_ACCESS_KEY": values["secretAccessKey"],
                "AWS_ENDPOINT_URL": values["endpoint"],
            }

    async def _secret_values(self, name: str) -> dict[str, str]:
        data = (await self.cluster.get(SECRETS, name, self.namespace))["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    async def _report_ready(self, uid: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        container = {
            "name": "dittofs",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "image": "i",
            "imageID": "i",
            "containerID": f"local://{uid}",
            "state": {"running": {"startedAt": now}},
        }
        ready = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
        status = {"phase": "Running", "conditions": ready, "containerStatuses": [container]}
        metadata = {"name": "files-0", "namespace": self.namespace, "uid": uid}
        await self.cluster.patch_status(PODS, {"metadata": metadata, "status": status})


@asynccontextmanager
async def served_site(
    control_plane: ControlPlane, namespace: str, dittofs: DittoFS, folder: Path
) -> AsyncIterator[ServedSite]:
    """Opens the namespace; the operator does not work there yet."""
    proxy = Proxy(folder / "socket", dittofs.port)
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers, proxy.running():
        site = ServedSite(cluster, informers, namespace, dittofs, proxy)
        try:
            async with run_beside(site.run_pods(), asyncio.sleep(0), 10):
                yield site
        finally:
            if site.starts:
                await asyncio.to_thread(dittofs.stop)
