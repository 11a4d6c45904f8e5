import json

import pytest

from app.cluster.reader import DITTO_SERVERS, SERVICES, STATEFUL_SETS
from app.reconcile.announcer import Announcer
from app.reconcile.journal import record_write
from app.storage.object_write import ObjectWrite
from app.storage.restart_cause import Restart, RestartCause
from tests.controlplane.cluster import ControlPlane
from tests.harness.reconciler_namespace import ReconcilerNamespace, open_reconciler_namespace
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio
site = pytest.fixture(open_reconciler_namespace)

CREATED = (
    "created Secret files-jwt-secret and files-admin-bootstrap-credentials, ConfigMap files-config, StatefulSet files, "
    "Service files-headless and files-file and files-api"
)


def announcements(site: ReconcilerNamespace) -> list[tuple[str, str]]:
    """Returns reason and message of the Events since the last time."""
    events = [(event.reason, event.message) for event in site.events]
    site.events.clear()
    return events


async def kubectl(site: ReconcilerNamespace, control_plane: ControlPlane, *command: str) -> None:
    """Runs a command that changes the StatefulSet or the Service for files, and waits until the informers know."""
    stores = (site.informers.stateful_sets, site.key), (site.informers.services, (site.namespace, "files-file"))
    before = [store.version(key) for store, key in stores]
    control_plane.kubectl("-n", site.namespace, *command)
    await until_async(lambda: [store.version(key) for store, key in stores] != before)


async def test_all_objects_of_a_new_server_are_one_event(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await site.reconcile()

    assert announcements(site) == [("Created", CREATED)]

    await site.reconcile()

    assert announcements(site) == []


async def test_an_edit_is_announced_with_its_fields_and_its_restart(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await site.reconcile()
    announcements(site)

    await site.change_spec(image="example.com/dittofs:2", metrics={"enabled": True})

    events = dict(announcements(site))
    assert events.keys() == {"Created", "Changed", "Restarting"}
    assert events["Created"] == "created Service files-metrics"
    assert events["Changed"].startswith("changed ConfigMap files-config: data[config.yaml]; StatefulSet files: spec")
    assert "spec.template.spec.containers[dittofs].image" in events["Changed"]
    assert events["Restarting"] == "the pod restarts: the spec has changed"

    await site.change_spec(image="example.com/dittofs:2")

    assert "deleted Service files-metrics: the spec does not ask for it any more" in dict(announcements(site)).values()


async def test_a_restored_edit_names_the_tool(site: ReconcilerNamespace, control_plane: ControlPlane) -> None:
    await site.create_server()
    await site.reconcile()
    announcements(site)
    await kubectl(site, control_plane, "scale", "statefulset", "files", "--replicas=3")
    ports = json.dumps({"spec": {"ports": [{"name": "nfs", "port": 2050, "targetPort": "nfs"}]}})
    edit = ("--type=merge", "--field-manager=kubectl-edit", "-p", ports)
    await kubectl(site, control_plane, "patch", "service", "files-file", *edit)

    await site.reconcile()

    events = announcements(site)
    assert [reason for reason, _ in events] == ["Restored"], events
    [(_, message)] = events
    assert "StatefulSet files: spec.replicas (by kubectl" in message
    assert "Service files-file: spec.ports" in message
    assert "(by kubectl-edit)" in message
    assert (await site.live(STATEFUL_SETS))["spec"]["replicas"] == 1
    assert (await site.live(SERVICES, "files-file"))["spec"]["ports"][0]["port"] == 2049

    await site.reconcile()

    assert announcements(site) == []


async def test_a_deleted_object_is_created_with_an_event(
    site: ReconcilerNamespace, control_plane: ControlPlane
) -> None:
    await site.create_server()
    await site.reconcile()
    announcements(site)
    await kubectl(site, control_plane, "delete", "service", "files-file")

    await site.reconcile()

    assert announcements(site) == [("Created", "created Service files-file")]


async def test_a_message_has_no_values(site: ReconcilerNamespace, control_plane: ControlPlane) -> None:
    marker = "m4rker-of-a-secret"
    await site.create_server(podTemplate={"metadata": {"annotations": {"example.com/note": marker}}})
    await site.reconcile()
    variable = {"name": "TOKEN", "value": marker}
    containers = [{"name": "dittofs", "image": "edited", "env": [variable]}]
    patch = json.dumps({"spec": {"template": {"spec": {"containers": containers}}}})
    await kubectl(site, control_plane, "patch", "statefulset", "files", "-p", patch)
    await site.reconcile()

    assert "Restored" in [event.reason for event in site.events]
    assert marker not in str(site.events)


async def test_a_restart_of_the_operator_announces_nothing(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await site.reconcile()
    announcements(site)

    later = ReconcilerNamespace(site.cluster, site.informers, site.namespace)
    await later.reconcile()

    assert announcements(later) == []
    assert (await site.live(DITTO_SERVERS))["status"]


async def test_what_was_written_before_a_failure_is_announced(site: ReconcilerNamespace) -> None:
    server = await site.create_server()
    announcer = Announcer(site.informers, site.record_event)

    def fail() -> None:
        with announcer.announce_writes(server):
            record_write(ObjectWrite("create", "Service", site.namespace, "files-file"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert announcements(site) == [("Created", "created Service files-file")]


async def test_a_restart_is_an_event_and_reaches_each_handler(site: ReconcilerNamespace) -> None:
    server = await site.create_server()
    causes = []
    announcer = Announcer(site.informers, site.record_event)
    announcer.restart_handlers.append(lambda key, cause: causes.append((key, cause)))

    restart = Restart(RestartCause.VOLUMES, "a volume was added")
    announcer.announce_restart(server, restart)
    site.informers.servers.remove({**server, "metadata": {**server["metadata"], "resourceVersion": str(2**62)}})
    announcer.announce_restart(server, restart)

    assert announcements(site) == [("Restarting", "the pod restarts: a volume was added")]
    assert causes == [(site.key, RestartCause.VOLUMES)]
