"""One object at a time at the real API server. The caches do not run here: a store has what a test puts into it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import lists

from app.cluster.client import FIELD_MANAGER, Cluster, Selection
from app.cluster.errors import ClusterError, Conflict, Invalid, NotFound, Unavailable
from app.cluster.informers import Informers, without_managed_fields
from app.cluster.reader import CONFIG_MAPS, DITTO_SERVERS, SECRETS, SERVICES, STATEFUL_SETS
from app.reconcile.writer import NameTaken, NotLeading, Writer, merged_entries
from app.storage.difference import APPLIED, marked
from app.storage.object_write import ObjectWrite, Verb, WriteCause
from app.storage.objects import Owner, stateful_set
from app.storage.reading import read
from app.storage.rules import invalid_findings
from app.storage.services import services
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.reconciler_namespace import connect, create_server, owner_of, resource_version
from tests.harness.recorded_writes import Recording
from tests.harness.spec_edits import AT_THE_API_SERVER, SPEC_EDITS, FieldEdit

pytestmark = pytest.mark.anyio


class Desk:
    """A writer, what it knows, and the server for which it writes."""

    def __init__(self, cluster: Cluster, server: Manifest) -> None:
        self.cluster = cluster
        self.server = server
        self.owner = owner_of(server)
        self.informers = Informers(cluster, (self.owner.namespace,))
        self.informers.servers.put(server)
        self.leads = True
        self.writer = Writer(cluster, self.informers, lambda: self.leads)
        self.writes: list[ObjectWrite] = []
        self.writer.write_handlers.append(self.writes.append)

    def wanted(self, **data: str) -> Manifest:
        metadata = {**self.named(), "labels": self.owner.labels, "ownerReferences": [self.owner.reference]}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    def secret(self, **data: str) -> Manifest:
        return {**self.wanted(), "kind": "Secret", "data": data}

    def named(self) -> Manifest:
        return {"name": "files-config", "namespace": self.owner.namespace}

    async def ensured(self, **data: str) -> Manifest:
        return await self.writer.ensure(CONFIG_MAPS, self.wanted(**data), self.owner)

    async def ensured_workload(self, manifest: Manifest) -> Manifest:
        """Writes the StatefulSet, again where its controller was faster."""
        while True:
            try:
                return await self.writer.ensure(STATEFUL_SETS, manifest, self.owner)
            except Conflict:
                self.informers.stateful_sets.put(await self.cluster.get(STATEFUL_SETS, "files", self.owner.namespace))

    async def live(self, kind: Any = CONFIG_MAPS) -> Manifest:
        return await self.cluster.get(kind, "files-config", self.owner.namespace)

    async def known(self, manifest: Manifest) -> Manifest:
        """Made by another client, and heard of."""
        found = await self.cluster.create(CONFIG_MAPS, manifest)
        self.informers.config_maps.put(found)
        return found


@pytest.fixture
async def desk(control_plane: ControlPlane, crd: None, namespace: str) -> AsyncIterator[Desk]:
    async with connect(control_plane) as cluster:
        yield Desk(cluster, await create_server(cluster, namespace))


async def test_a_status_loses_what_it_no_longer_has(desk: Desk) -> None:
    """A merge patch would leave the fields of a section as they are."""
    key = desk.owner.namespace, "files"
    await desk.writer.write_status(desk.server, {"phase": "Running", "server": {"version": "0.29.0", "shares": 2}})
    written = desk.informers.servers.get(key)
    assert written

    await desk.writer.write_status(written, {"observedGeneration": 1, "server": {"shares": 3}})

    live = await desk.cluster.get(DITTO_SERVERS, "files", desk.owner.namespace)
    assert live["status"] == {"observedGeneration": 1, "server": {"shares": 3}}


async def test_what_there_is_not_is_made_and_known_at_once(desk: Desk) -> None:
    found = await desk.ensured(a="1")
    assert found["data"] == {"a": "1"}
    assert desk.informers.config_maps.get((desk.owner.namespace, "files-config"))


async def test_what_is_as_it_is_wanted_is_left_alone(desk: Desk) -> None:
    first = await desk.ensured(a="1")
    await desk.ensured(a="1")
    assert resource_version(await desk.live()) == resource_version(first)


async def test_others_have_their_turn_between_two_objects_that_are_as_they_are_wanted(desk: Desk) -> None:
    await desk.ensured(a="1")
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "other")
    await desk.ensured(a="1")

    assert turns


async def test_what_differs_is_changed_and_what_is_no_longer_wanted_goes(desk: Desk) -> None:
    await desk.ensured(a="1", b="2")
    assert (await desk.ensured(a="3", c="4"))["data"] == {"a": "3", "c": "4"}
    assert (await desk.ensured(c="4"))["data"] == {"c": "4"}


async def test_a_change_that_removes_nothing_is_one_request(desk: Desk) -> None:
    recording = Recording(desk.cluster)
    desk.writer = Writer(recording, desk.informers, lambda: True)
    await desk.ensured(a="1", b="2")
    recording.writes.clear()
    assert (await desk.ensured(a="3", b="2", c="4"))["data"] == {"a": "3", "b": "2", "c": "4"}
    assert len(recording.writes) == 1

    # What it then removes was applied by two kinds of requests.
    assert (await desk.ensured(a="3"))["data"] == {"a": "3"}
    assert len(recording.writes) == 3


async def test_what_another_creator_added_goes_with_the_next_change(desk: Desk, control_plane: ControlPlane) -> None:
    created = {**marked(desk.wanted(a="1")), "data": {"a": "1", "theirs": "x"}}
    control_plane.kubectl("create", "--field-manager=manager", "-f", "-", input=json.dumps(created))
    desk.informers.config_maps.put(await desk.live())

    assert (await desk.ensured(a="2"))["data"] == {"a": "2"}


async def test_a_port_that_gets_another_number_is_one_port(desk: Desk) -> None:
    for port in (3049, 3050):
        spec = read({**desk.server, "spec": {**desk.server["spec"], "nfsPort": port}}).server.spec
        [service] = (service for service in services(desk.owner, spec) if service["metadata"]["name"] == "files-file")
        written = await desk.writer.ensure(SERVICES, service, desk.owner)

    assert [port["port"] for port in written["spec"]["ports"] if port["name"] == "nfs"] == [3050]


@settings(AT_THE_API_SERVER, max_examples=20)
@given(edits=lists(SPEC_EDITS, min_size=3, max_size=6))
async def test_what_was_changed_is_as_if_it_were_new(
    desk: Desk, control_plane: ControlPlane, edits: list[list[FieldEdit]]
) -> None:
    """Nothing stays of an earlier spec, also where a change was applied by one request."""
    first = stateful_set(desk.owner, read(desk.server).server.spec)
    live = await desk.writer.ensure(STATEFUL_SETS, first, desk.owner)

    spec, desired = desk.server["spec"], first
    for edit in edits:
        edited = reduce(lambda before, change: change.apply(before), edit, spec)
        reading = read({**desk.server, "spec": edited})
        if invalid_findings(reading):
            continue
        # The API server rejects what this test does not ask it about beforehand.
        with suppress(Invalid):
            manifest = stateful_set(desk.owner, reading.server.spec)
            live = await desk.ensured_workload(manifest)
            spec, desired = edited, manifest

    control_plane.delete(f"{Selection(STATEFUL_SETS, desk.owner.namespace).path}/files")
    desk.informers.stateful_sets.remove(live)
    new = await desk.cluster.create(STATEFUL_SETS, marked(desired), dry_run=True)

    assert live["spec"]["template"] == new["spec"]["template"]


@pytest.mark.parametrize("applied", [False, True], ids=["made", "changed since"])
async def test_nothing_is_written_by_what_is_known_no_longer(desk: Desk, applied: bool) -> None:
    await desk.ensured(a="1")
    before = await desk.ensured(a="2") if applied else await desk.live()
    theirs = await desk.cluster.replace(CONFIG_MAPS, {**before, "data": {"a": "theirs"}})

    with pytest.raises(Conflict):
        await desk.ensured(a="4")
    assert await desk.live() == theirs


async def test_an_object_that_is_gone_is_not_made_of_what_is_known_of_it(desk: Desk) -> None:
    await desk.ensured(a="1")
    await desk.cluster.delete(CONFIG_MAPS, await desk.ensured(a="2"))

    with pytest.raises(ClusterError):
        await desk.ensured(a="3")
    with pytest.raises(NotFound):
        await desk.live()


async def test_an_object_that_nobody_has_heard_of_yet_is_found(desk: Desk) -> None:
    await desk.cluster.create(CONFIG_MAPS, desk.wanted(a="1"))
    assert (await desk.ensured(a="2"))["data"] == {"a": "2"}


async def test_what_another_has_just_made_as_it_is_wanted_is_known_at_once(desk: Desk) -> None:
    theirs = await desk.cluster.create(CONFIG_MAPS, marked(desk.wanted(a="1")))
    assert resource_version(await desk.ensured(a="1")) == resource_version(theirs)
    assert desk.informers.config_maps.get((desk.owner.namespace, "files-config"))


async def test_a_name_that_is_taken_is_not_ours_to_write(desk: Desk) -> None:
    theirs = {**desk.wanted(a="theirs"), "metadata": desk.named()}
    before = await desk.cluster.create(CONFIG_MAPS, theirs)

    with pytest.raises(NameTaken, match="ConfigMap files-config exists and is not this server's"):
        await desk.ensured(a="1")
    assert await desk.live() == before


async def test_what_another_controls_is_not_ours_whatever_its_labels(desk: Desk) -> None:
    controller = await desk.cluster.create(
        CONFIG_MAPS, {**desk.wanted(), "metadata": {"name": "other", "namespace": desk.owner.namespace}}
    )
    theirs = desk.wanted(a="theirs")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": controller["metadata"]["uid"]}
    theirs["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
    before = await desk.known(theirs)

    with pytest.raises(NameTaken):
        await desk.ensured(a="1")
    assert await desk.live() == before


@pytest.mark.parametrize("heard_of", [True, False])
async def test_an_orphan_with_our_labels_is_adopted(desk: Desk, heard_of: bool) -> None:
    orphan = desk.wanted(a="1")
    del orphan["metadata"]["ownerReferences"]
    await (desk.known(orphan) if heard_of else desk.cluster.create(CONFIG_MAPS, orphan))
    assert desk.owner.owns(await desk.ensured(a="1"))


async def test_what_is_left_of_a_former_server_of_the_name_is_waited_for(
    desk: Desk, control_plane: ControlPlane
) -> None:
    former = desk.wanted(a="former")
    former["metadata"]["ownerReferences"] = [Owner("files", desk.owner.namespace, "uid-of-the-former").reference]
    former["metadata"]["finalizers"] = ["example.com/held"]
    # Heard of before the garbage collector begins to delete it.
    known = await desk.known(former)

    with pytest.raises(Unavailable, match="belongs to a previous DittoServer of this name"):
        await desk.ensured(a="1")

    desk.informers.config_maps.remove(known)
    released = ("patch", "configmap", "files-config", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    control_plane.kubectl("-n", desk.owner.namespace, *released)
    control_plane.kubectl("-n", desk.owner.namespace, "delete", "configmap", "files-config", "--ignore-not-found")

    assert (await desk.ensured(a="1"))["data"] == {"a": "1"}


async def test_what_a_former_operator_made_is_taken_over_and_what_a_person_added_is_kept(
    desk: Desk, control_plane: ControlPlane
) -> None:
    control_plane.kubectl("create", "--field-manager=manager", "-f", "-", input=json.dumps(desk.wanted(a="1", old="x")))
    in_here = ("-n", desk.owner.namespace)
    control_plane.kubectl(*in_here, "annotate", "configmap", "files-config", "example.com/note=kept")
    desk.informers.config_maps.put(await desk.live())
    found = await desk.ensured(a="1", b="2")

    assert found["data"] == {"a": "1", "b": "2"}
    assert found["metadata"]["annotations"]["example.com/note"] == "kept"

    managers = {entry["manager"]: entry["operation"] for entry in found["metadata"]["managedFields"]}

    assert managers == {FIELD_MANAGER: "Apply", "kubectl-annotate": "Update"}


async def test_a_drift_is_told_from_a_change_and_its_author_is_named(desk: Desk, control_plane: ControlPlane) -> None:
    await desk.ensured(a="1", b="2")
    await desk.ensured(a="3", b="2")
    patch = ("patch", "configmap", "files-config", "--type=merge", "--field-manager=kubectl-edit", "-p")
    control_plane.kubectl("-n", desk.owner.namespace, *patch, '{"data":{"a":"9","b":null}}')
    desk.informers.config_maps.put(without_managed_fields(await desk.live()))
    restored = await desk.ensured(a="3", b="2")

    assert restored["data"] == {"a": "3", "b": "2"}
    assert [(write.fields, write.cause, write.changed_by) for write in desk.writes if write.verb == "apply"] == [
        (("data.a",), WriteCause.DESIRED, ()),
        (("data.a", "data.b"), WriteCause.DRIFT, ("kubectl-edit",)),
    ]


async def test_a_replaced_service_loses_what_is_no_longer_wanted(desk: Desk, control_plane: ControlPlane) -> None:
    """What somebody edited cannot be merged with what is wanted, so that the Service is replaced."""

    def wanted(ports: dict[str, int], **fields: Any) -> Manifest:
        listed = [{"name": name, "port": port, "targetPort": name} for name, port in ports.items()]
        metadata = {**desk.wanted()["metadata"], "annotations": fields.pop("annotations", {})}
        spec = {"type": "LoadBalancer", "selector": desk.owner.selector, "ports": listed, **fields}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}

    closed = {"loadBalancerSourceRanges": ["10.0.0.0/8"], "externalTrafficPolicy": "Local"}
    first = wanted({"nfs": 2049}, annotations={"example.com/a": "b"})
    await desk.writer.ensure(SERVICES, first, desk.owner)
    await desk.writer.ensure(SERVICES, {**first, "spec": {**first["spec"], **closed}}, desk.owner)
    added = '[{"op": "add", "path": "/spec/ports/-", "value": {"name": "smb", "port": 446}}]'
    in_here = ("-n", desk.owner.namespace)
    control_plane.kubectl(*in_here, "patch", "service", "files-config", "--type=json", "-p", added)
    control_plane.kubectl(*in_here, "annotate", "service", "files-config", "example.com/note=kept")
    desk.informers.services.put(await desk.live(SERVICES))

    after = await desk.writer.ensure(SERVICES, wanted({"nfs": 2049, "smb": 445}), desk.owner)

    assert [port["port"] for port in after["spec"]["ports"]] == [2049, 445]
    assert "loadBalancerSourceRanges" not in after["spec"]
    assert after["spec"]["externalTrafficPolicy"] == "Cluster"
    assert after["metadata"]["annotations"].keys() == {APPLIED, "example.com/note"}


OWNED: Manifest = {"f:metadata": {"f:ownerReferences": {".": {}}}}


def entry(manager: str, operation: str, fields: Manifest, **more: str) -> Manifest:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


MAKER = entry("manager", "Update", {**OWNED, "f:data": {"f:old": {}}})
OURS = entry(FIELD_MANAGER, "Apply", {**OWNED, "f:data": {"f:new": {}}})
PERSON = entry("kubectl-edit", "Update", {"f:data": {"f:note": {}}})
STATUS = entry("kubelet", "Update", OWNED, subresource="status")
JOINED = entry(FIELD_MANAGER, "Apply", {**OWNED, "f:data": {"f:old": {}, "f:new": {}}})


@pytest.mark.parametrize(
    ("entries", "merged"),
    [
        ([], []),
        ([OURS, PERSON], [OURS, PERSON]),
        ([PERSON, STATUS], [PERSON, STATUS]),
        ([MAKER, PERSON], [PERSON, {**MAKER, "manager": FIELD_MANAGER, "operation": "Apply"}]),
        ([MAKER, OURS, STATUS], [STATUS, JOINED]),
    ],
)
def test_the_fields_of_makers_become_ours_and_those_of_others_stay_theirs(
    entries: list[Manifest], merged: list[Manifest]
) -> None:
    assert merged_entries(entries) == merged


async def test_a_generated_secret_is_made_once_and_known_without_being_read(desk: Desk) -> None:
    await desk.writer.create_secret(desk.secret(a="MQ=="))

    assert desk.informers.secrets.get((desk.owner.namespace, "files-config"))
    with pytest.raises(Unavailable, match="Secret files-config has just been made by another"):
        await desk.writer.create_secret(desk.secret(a="Mg=="))
    assert (await desk.live(SECRETS))["data"] == {"a": "MQ=="}


async def test_a_secret_of_ours_is_made_kept_and_changed(desk: Desk) -> None:
    await desk.writer.ensure_secret(desk.secret(a="MQ=="), desk.owner)
    first = await desk.live(SECRETS)
    await desk.writer.ensure_secret(desk.secret(a="MQ=="), desk.owner)

    assert await desk.live(SECRETS) == first

    await desk.writer.ensure_secret(desk.secret(a="Mg=="), desk.owner)

    assert (await desk.live(SECRETS))["data"] == {"a": "Mg=="}


async def test_a_secret_of_somebody_else_is_left_as_it_is(desk: Desk) -> None:
    before = await desk.cluster.create(SECRETS, {**desk.secret(a="MQ=="), "metadata": desk.named()})
    with pytest.raises(NameTaken):
        await desk.writer.ensure_secret(desk.secret(a="Mg=="), desk.owner)
    assert await desk.live(SECRETS) == before


async def test_only_the_very_object_that_was_looked_at_is_removed(desk: Desk) -> None:
    before = await desk.ensured(a="1")
    after = await desk.ensured(a="2")

    with pytest.raises(Conflict):
        await desk.writer.delete(CONFIG_MAPS, before)

    await desk.writer.delete(CONFIG_MAPS, after)

    with pytest.raises(NotFound):
        await desk.live()


async def test_a_status_is_written_for_the_server_that_was_looked_at(desk: Desk) -> None:
    key = desk.owner.namespace, "files"
    await desk.writer.write_status(desk.server, {"phase": "Pending"})
    known = desk.informers.servers.get(key)

    assert known
    assert known["status"]["phase"] == "Pending"
    with pytest.raises(Conflict):
        await desk.writer.write_status(desk.server, {"phase": "Running"})
    assert (await desk.cluster.get(DITTO_SERVERS, "files", key[0]))["status"]["phase"] == "Pending"


WRITES: dict[str, Callable[[Desk], Awaitable[object]]] = {
    "change": lambda desk: desk.ensured(a="2"),
    "remove": lambda desk: desk.writer.delete(CONFIG_MAPS, desk.wanted()),
    "create a Secret": lambda desk: desk.writer.create_secret(desk.secret()),
    "make a Secret": lambda desk: desk.writer.ensure_secret(desk.secret(), desk.owner),
    "status": lambda desk: desk.writer.write_status(desk.server, {"phase": "Running"}),
}


async def test_who_may_not_write_makes_nothing(desk: Desk) -> None:
    desk.leads = False
    for write in WRITES.values():
        with pytest.raises(NotLeading):
            await write(desk)
    for kind in (CONFIG_MAPS, SECRETS):
        with pytest.raises(NotFound):
            await desk.live(kind)

    live = await desk.cluster.get(DITTO_SERVERS, "files", desk.owner.namespace)
    assert resource_version(live) == resource_version(desk.server)


@pytest.mark.parametrize("applied", [False, True], ids=["made", "changed since"])
async def test_who_may_not_write_any_more_changes_nothing(desk: Desk, applied: bool) -> None:
    await desk.ensured(a="0")
    await desk.writer.ensure_secret(desk.secret(a="MQ=="), desk.owner)
    if applied:
        await desk.ensured(a="1")
    before = await desk.live(), await desk.live(SECRETS)
    desk.leads = False

    with pytest.raises(NotLeading):
        await desk.ensured(a="2")
    with pytest.raises(NotLeading):
        await desk.writer.ensure_secret(desk.secret(a="Mg=="), desk.owner)
    assert (await desk.live(), await desk.live(SECRETS)) == before


async def test_each_write_that_changed_something_is_reported(desk: Desk) -> None:
    def expect(verb: Verb, *fields: str, kind: str = "ConfigMap") -> None:
        assert desk.writes == [ObjectWrite(verb, kind, desk.owner.namespace, "files-config", fields)]
        assert desk.writes.pop().seconds > 0

    await desk.ensured(a="1")
    expect("create")

    await desk.ensured(a="1")
    assert desk.writes == []

    await desk.ensured(a="2", b="3")
    expect("apply", "data.a", "data.b")

    # Once, to take over the fields of who created it.
    live = await desk.ensured(a="2")
    assert desk.writes.pop(0).fields == ("metadata.managedFields",)
    expect("apply", "data.b")

    await desk.writer.patch(CONFIG_MAPS, live, {"/data/a": "4"}, dry_run=True)
    assert desk.writes == []

    live = await desk.writer.patch(CONFIG_MAPS, live, {"/data/a": "4"})
    expect("patch", "data.a")

    await desk.writer.patch(CONFIG_MAPS, live, {"/data/a": "4"})
    assert desk.writes == []

    live = await desk.writer.merge(CONFIG_MAPS, live, {"metadata": {"labels": {"team": "a"}}})
    expect("merge", "metadata.labels.team")

    await desk.writer.delete(CONFIG_MAPS, live)
    expect("delete")


async def test_writes_of_secrets_are_reported_without_values(desk: Desk) -> None:
    await desk.writer.ensure_secret(desk.secret(a="MQ=="), desk.owner)
    await desk.writer.ensure_secret(desk.secret(a="MQ=="), desk.owner)
    await desk.writer.ensure_secret(desk.secret(a="Mg=="), desk.owner)

    reported = [(write.verb, write.kind, write.fields) for write in desk.writes]

    assert reported == [("create", "Secret", ()), ("apply", "Secret", ("data.a",))]


async def test_a_write_that_failed_is_not_reported(desk: Desk) -> None:
    before = await desk.ensured(a="1")
    await desk.ensured(a="2")
    desk.writes.clear()
    with pytest.raises(Conflict):
        await desk.writer.delete(CONFIG_MAPS, before)
    assert desk.writes == []
