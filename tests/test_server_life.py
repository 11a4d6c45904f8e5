"""The Events of a server from its creation to its deletion, at the real API server: these and no others."""

import pytest

from app.cluster.reader import DITTO_SERVERS, PODS, SECRETS, STATEFUL_SETS
from app.reconcile.reconciler import Reconciler
from app.storage.events import Event
from app.storage.pause import PAUSED_ANNOTATION
from app.storage.reasons import BY_NAME
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.volume_expansion import SECONDS, ExpansionNamespace, open_expansion_namespace, until_adopted
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

site = pytest.fixture(open_expansion_namespace)

MARKER = "m4rker-of-a-secret"


class Life:
    """A server and the Events about it; `everything` are those since its creation."""

    def __init__(self, site: ExpansionNamespace, control_plane: ControlPlane) -> None:
        self.site = site
        self.control_plane = control_plane
        self.everything = list[Event]()

    def reasons(self) -> list[str]:
        """Returns the reasons of the Events since the last time."""
        events = list(self.site.events)
        self.everything += events
        self.site.events.clear()
        return [event.reason for event in events]

    def kubectl(self, *command: str) -> None:
        self.control_plane.kubectl("-n", self.site.namespace, *command)

    async def edit(self, annotations: dict[str, str] | None = None, **spec: object) -> None:
        live = await self.site.live(DITTO_SERVERS)
        await self.site.edit(metadata={"annotations": annotations or {}}, spec={**live["spec"], **spec})

    async def restart(self, pod: Manifest) -> Manifest:
        """Waits for the next pod, as its StatefulSet creates it, reports it ready, and returns it."""
        uid = pod["metadata"]["uid"]

        def is_next() -> bool:
            return self.site.pod is not None and self.site.pod["metadata"]["uid"] != uid

        await self.site.reconcile()
        await until_async(is_next, SECONDS)
        await self.site.reconcile_until("PodStarting", "Ready")
        await self.site.make_pod_ready()
        return await self.site.live(PODS, "files-0")


async def test_a_life_has_exactly_these_events(site: ExpansionNamespace, control_plane: ControlPlane) -> None:
    life = Life(site, control_plane)

    pod = await site.create_ready_server()
    assert life.reasons() == ["Created", "Available"]

    await life.edit(image="example.com/dittofs:2")
    pod = await life.restart(pod)
    assert life.reasons() == ["Restarting", "Changed", "Available"]

    life.kubectl("scale", "statefulset", "files", "--replicas=0")
    await until_async(lambda: bool(site.stateful_set and site.stateful_set["spec"]["replicas"] == 0))
    pod = await life.restart(pod)
    assert life.reasons() == ["Restored", "Available"]

    await site.put_secret("files-jwt-secret", **{"jwt-secret": MARKER * 2})
    pod = await life.restart(pod)
    assert life.reasons() == ["Restarting", "Available"]

    await site.change_sizes(cacheSize="2Gi")
    await life.edit(image="example.com/dittofs:2")
    await site.settle()
    await until_adopted(site)
    await site.settle()
    # The driver may be done before the StatefulSet is recreated, or after that.
    assert sorted(life.reasons()) == ["Resized", "Resizing", "StatefulSetRecreated"]

    await site.put_secret("files-jwt-secret", other=MARKER)
    await site.reconcile_until("SecretIncomplete", "CredentialsReady")
    assert life.reasons() == ["SecretIncomplete"]

    await life.edit(image="example.com/dittofs:3")
    await site.reconcile_until("SecretIncomplete", "CredentialsReady")
    await site.reconcile()
    assert life.reasons() == ["ChangeHeldBack"]

    await site.put_secret("files-jwt-secret", **{"jwt-secret": MARKER * 2})
    pod = await life.restart(pod)
    assert life.reasons() == ["Restarting", "Changed", "Recovered", "Available"]

    await life.edit({PAUSED_ANNOTATION: "true"}, nfsPort=3049)
    await site.reconcile_until("Paused", "Reconciling")
    await life.edit()
    await site.settle()
    assert life.reasons() == ["Paused", "Changed", "Resumed"]

    site.reconciler = Reconciler(site.cluster, site.informers, site.writer, site.record_event, site.now)
    await site.settle()
    await site.reconcile()
    assert life.reasons() == []

    life.kubectl("delete", "dittoserver", "files", "--wait=false")
    await until_async(lambda: site.key not in site.informers.servers)
    # The former reconciler still listens to the informers.
    assert {*life.reasons()} == {"ServerDeleted"}

    assert {event.reason for event in life.everything} <= BY_NAME.keys()
    assert all(event.type in BY_NAME[event.reason].event for event in life.everything)
    assert MARKER not in str(life.everything)
    assert await site.exists(SECRETS, "files-jwt-secret")


async def test_a_reported_failure_ends_with_an_event(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    pod = await site.live(PODS, "files-0")
    identity = {name: pod["metadata"][name] for name in ("name", "namespace", "uid")}
    waiting = {"name": "dittofs", "ready": False, "image": "i", "imageID": "", "restartCount": 3}
    waiting["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    not_ready = [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-02-01T12:00:00Z"}]
    site.events.clear()

    status = {"phase": "Running", "conditions": not_ready, "containerStatuses": [waiting]}
    await site.cluster.patch_status(PODS, {"metadata": identity, "status": status})
    await site.reconcile_until("CrashLoopBackOff", "Ready")
    await site.reconcile()
    await site.cluster.patch_status(PODS, {"metadata": identity, "status": {"containerStatuses": []}})
    await site.reconcile_until("PodStarting", "Ready")
    await site.make_pod_ready()

    assert [(event.type, event.reason) for event in site.events] == [
        ("Warning", "CrashLoopBackOff"),
        ("Normal", "Recovered"),
    ]
    assert site.events[-1].message.endswith("after less than a minute of CrashLoopBackOff")
    assert (await site.live(STATEFUL_SETS))["spec"]["replicas"] == 1
