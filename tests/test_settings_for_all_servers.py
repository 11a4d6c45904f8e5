"""Labels, annotations and pull secrets by the operator's settings reach the objects of all servers and restart no pod.

The pods are real as far as the StatefulSet's controller is concerned, and report to be ready as their kubelet would.
"""

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.cluster.reader import CLAIMS, CONFIG_MAPS, DITTO_SERVERS, PODS, SECRETS, SERVICES, STATEFUL_SETS
from app.reconcile.reconciler import Reconciler
from app.reconcile.writer import Writer
from app.storage.object_defaults import pod_defaults
from app.storage.objects import controller
from app.storage.pod import RESTARTED_AT
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import VALIDATE_PATH
from tests.admission.reviews import review
from tests.controlplane.cluster import ControlPlane
from tests.harness.operator_namespace import Namespace, OperatorNamespace
from tests.harness.reconciler_namespace import connect, run_informers
from tests.harness.recorded_writes import Recording
from tests.harness.server_table import server
from tests.harness.volume_driver import VolumeDriver
from tests.harness.volume_expansion import SECONDS, ExpansionNamespace, until_adopted
from tests.harness.wait import until, until_async

pytestmark = pytest.mark.anyio

TEAM = ObjectDefaults({"team": "storage"}, {"example.com/cost": "1, 2"}, ("registry",))
FILES = ObjectDefaults({"team": "files", "tier": "1"}, {}, ("registry", "mirror"))
WRITTEN = (STATEFUL_SETS, CONFIG_MAPS, SERVICES)


class Settings(ExpansionNamespace):
    """A server, and the operator with settings that can change, as its restart does."""

    async def use(self, defaults: ObjectDefaults) -> None:
        """Lets an operator with these settings do all that there is to do."""
        self.recording = Recording(self.cluster)
        self.writer = Writer(self.recording, self.informers, self.may_write)
        self.reconciler = Reconciler(
            self.recording, self.informers, self.writer, self.record_event, self.now, defaults=defaults
        )
        await self.reconcile()

    @property
    def writes(self) -> list[str]:
        """The objects that were written, in their order, without the status."""
        requests = [request.path.partition(f"/{self.namespace}/")[2] for request in self.recording.writes]
        return [request for request in requests if not request.startswith("dittoservers/")]

    async def objects(self) -> list[Manifest]:
        listings = [await self.cluster.list(resource, self.namespace) for resource in WRITTEN]
        manifests = [manifest for listing in listings for manifest in listing.items]
        return [manifest for manifest in manifests if manifest["metadata"]["name"] != "kube-root-ca.crt"]

    async def generated_secrets(self) -> list[Manifest]:
        listed = await self.cluster.list(SECRETS, self.namespace)
        return [manifest for manifest in listed.items if manifest["metadata"]["name"].startswith("files-")]

    async def pending(self) -> str | None:
        pending: str | None = (await self.live(DITTO_SERVERS))["status"].get("pendingRollout")
        return pending


@pytest.fixture
async def site(control_plane: ControlPlane, crd: None, namespace: str, driver: VolumeDriver) -> AsyncIterator[Settings]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        settings = Settings(cluster, informers, namespace)
        await settings.create_sized_server()
        yield settings


async def start(site: Settings, defaults: ObjectDefaults) -> Manifest:
    """Lets a new server run under an operator with these settings; returns the pod."""
    await site.use(defaults)
    await site.reconcile_until("Bound")
    await until_async(lambda: site.pod is not None, SECONDS)
    return await site.make_pod_ready()


def entries(manifest: Manifest, defaults: ObjectDefaults) -> tuple[Manifest, Manifest]:
    """Returns those of the labels and annotations that an object has."""
    metadata = manifest["metadata"]
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    return (
        {key: labels.get(key) for key in defaults.labels},
        {key: annotations.get(key) for key in defaults.annotations},
    )


async def test_a_new_server_has_them_everywhere(site: Settings) -> None:
    pod = await start(site, TEAM)

    claims = (await site.cluster.list(CLAIMS, site.namespace)).items
    created = [pod, *claims, *await site.objects(), *await site.generated_secrets()]
    assert len(created) == 1 + 2 + 5 + 2
    for manifest in created:
        assert entries(manifest, TEAM) == (TEAM.labels, TEAM.annotations), manifest["metadata"]["name"]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert await site.pending() is None

    await site.use(TEAM)

    assert site.writes == []


@pytest.mark.parametrize(("before", "after"), [(NO_DEFAULTS, TEAM), (TEAM, FILES), (TEAM, NO_DEFAULTS)])
async def test_other_settings_restart_no_pod(site: Settings, before: ObjectDefaults, after: ObjectDefaults) -> None:
    pod, template = await start(site, before), await site.template()

    await site.use(after)
    await site.settle()

    assert await site.template() == template
    assert (await site.live(PODS, "files-0"))["metadata"]["uid"] == pod["metadata"]["uid"]
    for manifest in await site.objects():
        expected = (
            {**dict.fromkeys(before.labels), **after.labels},
            {**dict.fromkeys(before.annotations), **after.annotations},
        )
        every = ObjectDefaults({**before.labels, **after.labels}, {**before.annotations, **after.annotations})
        assert entries(manifest, every) == expected
    for secret in await site.generated_secrets():
        assert after.labels.items() <= secret["metadata"]["labels"].items()
    assert "by the operator's settings for all servers" in (await site.pending() or "")

    await site.use(after)

    assert site.writes == []


async def test_a_restart_brings_the_settings_of_now(site: Settings) -> None:
    pod = await start(site, TEAM)
    await site.use(NO_DEFAULTS)
    await site.use(FILES)
    await site.edit(metadata={"annotations": {RESTARTED_AT: "noon"}})

    await site.reconcile()
    await until_async(lambda: (site.pod or pod)["metadata"]["uid"] != pod["metadata"]["uid"], SECONDS)
    await site.make_pod_ready()

    assert pod_defaults(await site.template()) == FILES
    assert (await site.template())["spec"]["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}]
    assert await site.pending() is None
    [restart] = [event.message for event in site.events if event.reason == "Restarting"]
    assert "labels team, tier, annotation example.com/cost, pull secret mirror by the operator's settings" in restart


async def test_an_expansion_and_an_orphan_keep_the_settings_of_before(site: Settings) -> None:
    pod, template = await start(site, TEAM), await site.template()
    await site.use(FILES)
    await site.change_sizes(cacheSize="2Gi")
    await site.settle()
    await until_adopted(site)

    assert (await site.template_sizes())["cache"] == "2Gi"
    assert await site.template() == template

    await site.delete(STATEFUL_SETS, orphan=True)
    await until_async(lambda: site.stateful_set is None and controller(site.pod or template) is None)
    await site.use(FILES)
    await site.settle()
    await until_adopted(site)

    assert await site.template() == template
    assert (await site.live(PODS, "files-0"))["metadata"]["uid"] == pod["metadata"]["uid"]
    assert await site.pending()


LABEL, VALUE = "example.com/cost-center", "cc-42"
FLAGS = (f"--object-label={LABEL}={VALUE}", "--image-pull-secret=registry")


@pytest.fixture
def policy(control_plane: ControlPlane, namespace: str) -> Iterator[None]:
    """Requires the label of everything that is created or updated in the namespace, the status apart."""
    group = "admissionregistration.k8s.io/v1"
    rules = [
        {"apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}
        for resource in ("pods", "services", "configmaps", "secrets", "persistentvolumeclaims", "statefulsets")
    ]
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": rules,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        },
        "validations": [{"expression": f"'{LABEL}' in object.metadata.?labels.orValue({{}})", "message": "no label"}],
    }
    binding = {"policyName": namespace, "validationActions": ["Deny"]}
    paths = {"validatingadmissionpolicies": spec, "validatingadmissionpolicybindings": binding}
    for plural, content in paths.items():
        control_plane.create(f"/apis/{group}/{plural}", {"metadata": {"name": namespace}, "spec": content})

    yield

    for plural in reversed(paths):
        control_plane.delete(f"/apis/{group}/{plural}/{namespace}")


def test_a_policy_that_requires_a_label_is_satisfied(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, policy: None
) -> None:
    site = Namespace(control_plane, namespace)
    until(lambda: is_denied(site))
    manifest = server(storage={"metadataSize": "1Gi", "storageClassName": ""}, resources={"limits": {"memory": "1Gi"}})
    manifest["metadata"]["namespace"] = namespace

    with OperatorNamespace(control_plane, namespace, tmp_path, *FLAGS) as operated:
        # The dry run of the StatefulSet is subject to the policy as well.
        response = operated.operator.post(VALIDATE_PATH, review(manifest))
        operated.apply(manifest)
        operated.wait_until_observed("files")
        until(lambda: operated.get("pod", "files-0") is not None)
        pod = operated.get("pod", "files-0")
        writes = [(request.verb, request.resource) for request in operated.writes() if request.resource != "events"]

    assert (response["allowed"], response.get("warnings", [])) == (True, [])
    assert pod["metadata"]["labels"][LABEL] == VALUE
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    created = [resource for verb, resource in writes if verb == "create"]
    # One of the StatefulSets is the dry run.
    assert sorted(created) == ["configmaps", *["secrets"] * 2, *["services"] * 3, *["statefulsets"] * 2]
    assert {write for write in writes if write[0] != "create"} == {("patch", "dittoservers/status")}


def is_denied(site: Namespace) -> bool:
    """Tells whether the policy is in force."""
    try:
        site.kubectl("create", "configmap", "unlabelled", "--dry-run=server")
    except subprocess.CalledProcessError as error:
        return "no label" in str(error.stderr)
    return False
