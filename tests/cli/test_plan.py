import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from app.cli.df import list_volumes
from app.cli.output import format_json
from app.cli.plan import Outcome, Preview, as_json, format_text, preview
from app.cluster.client import Cluster
from app.cluster.snapshot import Snapshot
from app.cluster.survey import survey
from app.manifests import Document, parse
from app.storage.pod import CONFIG_HASH
from app.storage.resize import ALLOW_DATA_LOSS
from app.storage.unstructured import Manifest
from app.storage.unusable_input import UnusableInput
from app.storage.volume_states import RESTART_FOR_RESIZE, VolumeState
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import SNAPSHOT, run
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import IMAGE, s3, server, storage
from tests.harness.volume_driver import Expansion, VolumeDriver
from tests.harness.wait import until

pytestmark = pytest.mark.anyio

FAST = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "fast"},
    "allowVolumeExpansion": True,
}
CLAIM: Manifest = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "cache-files-0", "namespace": "media"},
    "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}},
    "status": {"phase": "Bound", "capacity": {"storage": "5Gi"}},
}
LIVE = {**server(), "metadata": {"name": "files", "namespace": "media"}}


def documents(*manifests: Manifest) -> list[Document]:
    return parse(yaml.safe_dump_all(manifests), "servers.yaml")


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump_all([FAST, CLAIM, LIVE]))
    return Snapshot(tmp_path)


async def preview_outcomes(snapshot: Snapshot, *manifests: Manifest) -> list[Outcome]:
    return list((await preview(documents(*manifests), snapshot, "media")).outcomes)


def lines(outcomes: list[Outcome]) -> list[str]:
    return [click.unstyle(line) for line in format_text(outcomes)]


async def test_a_growing_volume_restarts_nothing(snapshot: Snapshot) -> None:
    assert lines(await preview_outcomes(snapshot, server(**storage(cacheSize="20Gi")))) == [
        "DittoServer media/files: no restart",
        "  cache: 5Gi to 20Gi, claim cache-files-0, class fast expands online, no restart",
        "  (if a driver cannot expand a volume in use, the pod restarts once; "
        f'annotation {RESTART_FOR_RESIZE}: "never" forbids that)',
    ]


async def test_a_pod_section_is_judged_when_it_changes(tmp_path: Path) -> None:
    bad = {"resources": {"limit": {"memory": "1Gi"}}}
    live = {**server(**bad), "metadata": LIVE["metadata"]}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump_all([FAST, CLAIM, live]))
    snapshot = Snapshot(tmp_path)

    [unchanged] = await preview_outcomes(snapshot, server(nfsPort=2050, **bad))
    [changed] = await preview_outcomes(snapshot, server(resources={"limits": {"memory": "1 GB"}}))

    assert not unchanged.refused
    assert [finding.path for finding in changed.findings] == ["spec.resources.limits[memory]"]


@pytest.mark.usefixtures("crd")
async def test_a_pod_section_is_tried_in_a_cluster(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    by_hand = storage(storageClassName="")
    sections = {"securityContext": {"runAsUser": -1}, "podSecurityContext": {"runAsNonRoot": False}, **by_hand}

    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        [refused] = (await preview(documents(server(**sections)), cluster, namespace)).outcomes
        del sections["securityContext"]
        [warned] = (await preview(documents(server(**sections)), cluster, namespace)).outcomes

    assert [finding.path for finding in refused.findings if finding.rejects] == ["spec.securityContext.runAsUser"]
    assert not warned.refused
    assert [finding for finding in warned.findings if "would violate PodSecurity" in finding.message]
    assert control_plane.get(f"/apis/apps/v1/namespaces/{namespace}/statefulsets")["items"] == []


async def test_the_annotation_of_the_file_counts(snapshot: Snapshot) -> None:
    edited = server(**storage(cacheSize="20Gi"))
    edited["metadata"]["annotations"] = {RESTART_FOR_RESIZE: "never"}
    assert "waits for you to delete the pod" in lines(await preview_outcomes(snapshot, edited))[-1]


async def test_each_field_says_whether_it_restarts_the_pod(snapshot: Snapshot) -> None:
    assert lines(await preview_outcomes(snapshot, server(image="dittofs:2", nfsPort=2050))) == [
        "DittoServer media/files: the pod restarts",
        "  warning: spec.image: image changes: once the new one has migrated the database, the old image may fail "
        "or show no shares; back up the metadata volume first",
        f"  image: {IMAGE} to dittofs:2, which may migrate the database irreversibly, restarts the pod",
        "  nfsPort: 2049 to 2050, changes Service files-headless, changes Service files-file, no restart",
    ]


async def test_a_server_that_stays_as_it_is_says_so(snapshot: Snapshot) -> None:
    assert lines(await preview_outcomes(snapshot, server(nfsPort=2049))) == ["DittoServer media/files: nothing changes"]


async def test_a_refused_edit_has_no_effects(snapshot: Snapshot) -> None:
    edits = server(nfsPort=8080, **storage(cacheSize="1Gi", storageClassName="slow"))

    assert lines(await preview_outcomes(snapshot, edits)) == [
        "DittoServer media/files: refused",
        "  refused: spec.controlPlane.port: port 8080 is used by both nfs and api",
        "  refused: spec.storage.cacheSize: storage.cacheSize must be at least 5Gi, "
        "which volume claim cache-files-0 has; volumes cannot shrink",
        '  refused: spec.storage.storageClassName: storage.storageClassName cannot change, it was "fast": '
        "volumes cannot move; make a new DittoServer with the other class and copy the data",
    ]


async def test_a_new_server_lists_its_objects_and_warnings(snapshot: Snapshot) -> None:
    [title, warning, *effects] = lines(await preview_outcomes(snapshot, server("other", **s3())))

    assert title == "DittoServer media/other: new"
    assert warning.startswith('  warning: spec.s3.credentialsSecretRef: S3 credentials Secret "s3" not found')
    assert [line.split(":")[0] for line in effects] == ["  objects", "  Secrets", "  metadata", "  cache"]
    assert effects[-1] == "  cache: 5Gi, claim cache-other-0 is created, class fast"


@pytest.mark.parametrize("change", [{"image": "example.com/dittofs:2"}, {"replicas": 0}])
async def test_a_restart_that_is_held_back_is_told(snapshot: Snapshot, tmp_path: Path, change: Manifest) -> None:
    mounts = [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache-files-0"}}]
    labels = {"app": "dittofs-server", "instance": "files"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files-0", "namespace": "media", "labels": labels}}
    leaving = {**CLAIM, "metadata": {**CLAIM["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    facts = [FAST, leaving, LIVE, {**pod, "spec": {"volumes": mounts}}]
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump_all(facts))
    deleted = Snapshot(tmp_path)

    output = lines(await preview_outcomes(deleted, server("files", **change)))

    assert output[0] == "DittoServer media/files: the restart is held back"
    assert "volume claim cache-files-0 is being deleted" in output[-1]
    assert ALLOW_DATA_LOSS in output[-1]

    allowed = server("files", **change)
    allowed["metadata"]["annotations"] = {ALLOW_DATA_LOSS: "true"}

    assert "held back" not in lines(await preview_outcomes(deleted, allowed))[0]
    assert lines(await preview_outcomes(deleted, server("files")))[0] == "DittoServer media/files: nothing changes"


async def test_a_new_server_says_what_it_reuses(snapshot: Snapshot) -> None:
    slow = {**FAST, "metadata": {"name": "slow"}}
    spec = {**CLAIM["spec"], "storageClassName": "slow"}
    left = {**CLAIM, "metadata": {"name": "cache-other-0", "namespace": "media"}, "spec": spec}

    [outcome] = await preview_outcomes(snapshot, server("other"), left, slow)

    assert not outcome.refused

    [title, warning, _, _, metadata, cache] = lines([outcome])

    assert title == "DittoServer media/other: new"
    assert warning == (
        "  warning: spec.storage.cacheSize: volume claim cache-other-0 exists and is reused with its data: "
        '5Gi of StorageClass "slow", not "fast"; '
        'for "fast", delete the claim and its data, or choose another server name'
    )
    assert metadata == "  metadata: 10Gi, claim metadata-other-0 is created, class fast"
    assert cache == "  cache: 5Gi, claim cache-other-0 is reused with its data: 5Gi of class slow, not fast"


async def test_a_namespace_that_the_file_names_counts(snapshot: Snapshot) -> None:
    elsewhere = {**server(), "metadata": {"name": "files", "namespace": "elsewhere"}}
    assert [outcome.is_new for outcome in await preview_outcomes(snapshot, server(), elsewhere)] == [False, True]


async def test_other_documents_of_the_input_count_as_facts(snapshot: Snapshot) -> None:
    slow = {**FAST, "metadata": {"name": "slow"}}
    [outcome] = await preview_outcomes(snapshot, server("other", **storage(storageClassName="slow")), slow)
    assert not outcome.refused


@pytest.mark.parametrize("metadata", [{"name": "files"}, "files", None])
async def test_another_version_of_the_api_is_refused(snapshot: Snapshot, metadata: Any) -> None:
    [outcome] = await preview_outcomes(
        snapshot, {**server(), "apiVersion": "dittofs.dittofs.com/v1", "metadata": metadata}
    )
    assert [finding.path for finding in outcome.findings] == ["apiVersion"]


async def test_a_server_without_a_name_has_no_preview(snapshot: Snapshot) -> None:
    with pytest.raises(UnusableInput, match=r"servers.yaml:\d+: expected a name in metadata.name of a DittoServer"):
        await preview_outcomes(snapshot, {**server(), "metadata": {"generateName": "files-"}})


async def test_json_is_for_programs(snapshot: Snapshot) -> None:
    text = format_json(map(as_json, await preview_outcomes(snapshot, server(nfsPort=2050), server(replicas=2))))
    changed, refused = json.loads(text)

    assert changed == {
        "namespace": "media",
        "server": "files",
        "new": False,
        "refused": False,
        "restarts": False,
        "findings": [],
        "effects": [
            {
                "what": "nfsPort",
                "how": "2049 to 2050, changes Service files-headless, changes Service files-file",
                "restarts": False,
            }
        ],
        "caveat": None,
        "heldBack": None,
    }
    assert refused["findings"] == [
        {"severity": "error", "path": "spec.replicas", "message": "replicas must be between 0 and 1, not 2"}
    ]


EDITS: tuple[Manifest, ...] = (
    {"nfsPort": 2050},
    {"nfsPort": 2050, "image": "dittofs:2"},
    {"image": "dittofs:2", "smb": {"enabled": True}},
    {"image": "dittofs:2", "cache": {"size": "2GB"}},
    {"image": "dittofs:2", "cache": {"size": "2GB"}, "s3": {"bucket": "media"}},
)


async def test_the_operator_does_what_the_preview_says(operated: OperatorNamespace) -> None:
    """Compares pod templates before and after each edit: spec or hash differ exactly when a restart was announced."""
    operated.apply(server())
    operated.wait_until_observed("files")

    for spec in EDITS:
        before = operated.template("files")
        [outcome] = (await preview_live(operated, server(**spec))).outcomes

        assert outcome.effects
        assert "StatefulSet files" not in [effect.what for effect in outcome.effects]

        operated.apply(server(**spec))
        operated.wait_until_observed("files")

        assert outcome.restarts == (pod_of(operated.template("files")) != pod_of(before)), spec


def pod_of(template: Any) -> tuple[Any, str]:
    return template["spec"], template["metadata"]["annotations"][CONFIG_HASH]


async def preview_live(operated: OperatorNamespace, *manifests: Manifest) -> Preview:
    async with Cluster.connect(operated.control_plane.kubeconfig) as cluster:
        return await preview(documents(*manifests), cluster, operated.namespace)


async def test_volumes_grow_as_planned_and_are_listed_so(operated: OperatorNamespace) -> None:
    with VolumeDriver(operated.control_plane, operated.namespace) as driver:

        def sized(size: str) -> Manifest:
            return server(**storage(cacheSize=size, storageClassName=driver.storage_class))

        operated.apply(sized("5Gi"))
        until(lambda: reason(operated) == "Bound" and operated.get("pod", "files-0") is not None)
        pod = operated.get("pod", "files-0")["metadata"]["uid"]

        driver.expansion = Expansion(most="10Gi")
        claim, grows = "claim cache-files-0", f"class {driver.storage_class} expands online"

        assert await preview_effects(operated, sized("20Gi")) == [("cache", f"5Gi to 20Gi, {claim}, {grows}", False)]

        operated.apply(sized("20Gi"))
        until(lambda: reason(operated) == "ResizeRefused")

        assert "no volume has more than 10Gi" in (await cache(operated)).message

        assert await preview_effects(operated, sized("5Gi")) == [
            ("cache", f"5Gi, {claim} has that, and no longer asks for 20Gi", False)
        ]
        assert await preview_effects(operated, sized("9Gi")) == [
            ("cache", f"5Gi to 9Gi, {claim} no longer asks for 20Gi", False)
        ]

        operated.apply(sized("9Gi"))
        until(lambda: reason(operated) == "Bound")
        grown = await cache(operated)

        assert (grown.volume.size, grown.capacity, grown.phase, grown.message) == ("9Gi", "9Gi", "Bound", "")
        assert operated.get("pod", "files-0")["metadata"]["uid"] == pod


def reason(operated: OperatorNamespace) -> str:
    """Returns the reason of StorageReady once it is about the current generation."""
    operated.wait_until_observed("files")
    return str((operated.condition("files", "StorageReady") or {}).get("reason"))


async def preview_effects(operated: OperatorNamespace, manifest: Manifest) -> list[tuple[str, str, bool | None]]:
    [outcome] = (await preview_live(operated, manifest)).outcomes
    return [(effect.what, effect.how, effect.restarts) for effect in outcome.effects]


async def cache(operated: OperatorNamespace) -> VolumeState:
    async with Cluster.connect(operated.control_plane.kubeconfig) as cluster:
        return list_volumes(await survey(cluster, operated.namespace))[-1].state


async def test_forbidden_reads_are_gaps_in_the_preview(operated: OperatorNamespace) -> None:
    operated.apply(server())
    operated.wait_until_observed("files")
    operated.kubectl("create", "serviceaccount", "viewer")
    operated.kubectl("create", "role", "viewer", "--verb=list", "--resource=dittoservers.dittofs.dittofs.com")
    operated.kubectl(
        "create", "rolebinding", "viewer", "--role=viewer", f"--serviceaccount={operated.namespace}:viewer"
    )
    kubeconfig = operated.control_plane.kubeconfig_for("viewer", operated.namespace)

    async with Cluster.connect(kubeconfig) as cluster:
        result = await preview(documents(server(**storage(cacheSize="20Gi"))), cluster, operated.namespace)
    [outcome] = result.outcomes

    assert [(effect.what, effect.how) for effect in outcome.effects] == [("storage.cacheSize", "5Gi to 20Gi")]
    assert [gap.split()[0] for gap in result.gaps] == [
        "persistentvolumeclaims",
        "pods",
        "services",
        "statefulsets",
        "storageclasses",
    ]


HOSTILE = "\x1b]0;title\x07\x1b[2J\n\r\u202e"


@pytest.mark.parametrize(
    "spec",
    [
        {"cache": {"path": HOSTILE}},
        {"image": HOSTILE},
        {f"field{HOSTILE}": 1},
        {"service": {"annotations": {HOSTILE: 5}}},
        {"service": {"annotations": {HOSTILE: HOSTILE}}},
    ],
)
async def test_no_line_has_control_characters(snapshot: Snapshot, spec: dict[str, Any]) -> None:
    outcomes = await preview_outcomes(snapshot, server(**spec), server(HOSTILE, **spec))

    assert all(line.isprintable() for line in lines(outcomes))
    assert len(lines(outcomes)) > 2


def test_kubectl_previews_a_file(
    plugin: Callable[..., list[str]], control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "server.yaml"
    manifest.write_text(yaml.safe_dump(server(image="dittofs:2", **storage(storageClassName=""))))

    assert plugin("plan", str(manifest), "-n", namespace)[0] == f"DittoServer {namespace}/files: new"

    control_plane.kubectl("apply", "--namespace", namespace, "-f", str(manifest))

    assert plugin("plan", str(manifest), "-n", namespace) == [f"DittoServer {namespace}/files: nothing changes"]


@pytest.mark.parametrize(("port", "code", "verdict"), [(2050, 0, "new"), (8080, 1, "refused")])
def test_plan_exits_with_its_verdict(tmp_path: Path, port: int, code: int, verdict: str) -> None:
    result = run("plan", "-", "--snapshot", SNAPSHOT, stdin=yaml.safe_dump(server(nfsPort=port)))
    assert result.returncode == code
    assert result.stdout.splitlines()[0] == f"DittoServer default/files: {verdict}"
