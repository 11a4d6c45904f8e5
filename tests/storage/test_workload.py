from dataclasses import replace
from typing import Any

import pytest

from app.storage.config import config_hash, config_yaml, consumed_digests
from app.storage.difference import marked
from app.storage.facts import Secret
from app.storage.finding import rejection
from app.storage.live import LiveState
from app.storage.object_defaults import pod_defaults, workload_with_defaults
from app.storage.objects import OPERATOR, Owner, stateful_set
from app.storage.pod import CONFIG_HASH, CONTAINER, POD_DEFAULTS, RESTARTED_AT, PodRevision, config_hash_of
from app.storage.problem import Problem, Stage
from app.storage.reading import read
from app.storage.rendering import NEWEST, NO_DEFAULTS, Baseline, ObjectDefaults, Rendering
from app.storage.secret_references import consumed_references
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest
from app.storage.workload import Workload, decide_workload, pending_rollout, restarted_at
from tests.harness.server_table import s3, server, storage

OLD = Rendering.SINGLE_FAMILY
OWNER = Owner("files", "here", "u")
SECRETS = {"files-jwt-secret": Secret({"jwt-secret": frozenset()})}
DIGESTS = {"files-jwt-secret": {"jwt-secret": "1"}, "files-admin-bootstrap-credentials": {"password": "2"}}
UNREADABLE = Problem("SecretUnreadable", "forbidden", Stage.CREDENTIALS)


def of_spec(**spec: Any) -> DittoServer:
    return read({**server(**spec), "metadata": {"name": "files", "namespace": "here"}}).server


def live_in(rendering: Rendering, digests: Any = None, owner: Owner = OWNER, **spec: Any) -> Manifest:
    """The StatefulSet that a version of the operator with this rendering left."""
    rendered = of_spec(**spec).spec
    consumed = consumed_digests(consumed_references("files", rendered), digests or DIGESTS)
    digest = config_hash(config_yaml(rendered, rendering), consumed)
    revision = PodRevision(rendering, digest, has_writable_root=rendering is OLD)

    found = marked(stateful_set(owner, rendered, revision))
    return {**found, "metadata": {**found["metadata"], "uid": "s"}}


def known(stateful_set: Manifest | None, **state: Any) -> LiveState:
    return LiveState(**{"uid": "u", "secrets": SECRETS, "digests": DIGESTS, "stateful_set": stateful_set, **state})


def decide(live: LiveState, credentials: Problem | None = None, **spec: Any) -> Workload:
    return decide_workload(of_spec(**spec), OWNER, live, None, credentials)


def template(workload: Workload) -> Manifest:
    assert workload.manifest
    found: Manifest = workload.manifest["spec"]["template"]
    return found


def container(workload: Workload) -> Manifest:
    [found] = template(workload)["spec"]["containers"]
    return dict(found)


def orphan_of(stateful_set: Manifest, **changes: Any) -> Manifest:
    """The pod of the StatefulSet, with what a cluster adds to it, after it has lost its StatefulSet."""
    pod, [first] = stateful_set["spec"]["template"], stateful_set["spec"]["template"]["spec"]["containers"]
    added = {**first, "image": "mirror.example.com/dittofs", "env": [*first["env"], {"name": "ADDED", "value": "1"}]}
    return {
        "metadata": {**pod["metadata"], "name": "files-0", **changes},
        "spec": {**pod["spec"], "containers": [added]},
    }


EVERY_FIELD = {
    "resources": {"limits": {"cpu": 2}},
    "securityContext": {"runAsUser": 7},
    "podSecurityContext": {"fsGroup": 7},
    **s3(),
    **storage(contentSize="1Ti"),
}


@pytest.mark.parametrize("spec", [{}, EVERY_FIELD])
def test_an_upgrade_of_the_operator_changes_no_pod(spec: Manifest) -> None:
    before = live_in(OLD, **spec)
    workload = decide(known(before), **spec)

    assert workload.baseline.rendering is OLD
    assert workload.restart is None
    assert workload.manifest
    assert marked(workload.manifest) == {**before, "metadata": {**marked(workload.manifest)["metadata"]}}
    assert "dittofs.io/restartedAt" in (pending_rollout(workload.baseline, NO_DEFAULTS) or "")


@pytest.mark.parametrize("rendering", Rendering)
def test_a_pod_that_has_its_rendering_is_left_alone(rendering: Rendering) -> None:
    assert decide(known(live_in(rendering))).baseline.rendering is rendering


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"image": "dittofs:2"}),
        ({}, {"cache": {"size": "2GB"}}),
        ({}, s3()),
        (s3(), {}),
        ({}, {"metrics": {"enabled": True}}),
        # What the spec no longer has is in the live template all the same.
        ({"resources": {"limits": {"cpu": 2}}}, {}),
        ({"podSecurityContext": {"sysctls": [{"name": "a", "value": "b"}]}}, {}),
        ({"securityContext": {"runAsUser": 7}}, {"securityContext": {}}),
        ({}, {"securityContext": {"readOnlyRootFilesystem": True}}),
    ],
)
def test_an_edit_that_restarts_brings_everything_pending(before: Manifest, after: Manifest) -> None:
    digests = {**DIGESTS, "s3": {"accessKeyId": "3", "secretAccessKey": "4"}}
    workload = decide(known(live_in(OLD, digests, **before), digests=digests), **after)

    assert workload.baseline.rendering is NEWEST
    assert pending_rollout(workload.baseline, NO_DEFAULTS) is None
    assert "/data/store/metadata" in [mount["mountPath"] for mount in container(workload)["volumeMounts"]]


@pytest.mark.parametrize(
    "after",
    [{"nfsPort": 3049}, {"smb": {"enabled": True}}, {"service": {"type": "NodePort"}}, storage(cacheSize="9Gi")],
)
def test_an_edit_that_restarts_nothing_leaves_it_pending(after: Manifest) -> None:
    assert decide(known(live_in(OLD)), **after).baseline.rendering is OLD


def test_a_rotation_brings_everything_pending() -> None:
    rotated = {**DIGESTS, "files-jwt-secret": {"jwt-secret": "9"}}
    workload = decide(known(live_in(OLD), digests=rotated))

    assert workload.baseline.rendering is NEWEST
    assert workload.restart
    assert "credentials that it consumes have changed" in workload.restart.why
    assert Rendering.BOTH_FAMILIES.changes in workload.restart.why
    # A rotation that is taken back before it went out is none.
    assert decide(known(live_in(OLD))).baseline.rendering is OLD


def test_what_others_changed_in_the_pod_brings_everything_pending() -> None:
    live = live_in(OLD)
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "dittofs:edited"

    assert decide(known(live)).baseline.rendering is NEWEST


def test_what_others_scaled_brings_nothing() -> None:
    live = live_in(OLD)
    live["spec"]["replicas"] = 3
    workload = decide(known(live))

    assert workload.baseline.rendering is OLD
    assert workload.restart is None


def test_what_others_added_to_the_pod_brings_nothing() -> None:
    live = live_in(OLD)
    live["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "noon"
    live["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "sidecar"})

    assert decide(known(live)).baseline.rendering is OLD


def test_new_and_stopped_servers_get_the_newest() -> None:
    assert decide(known(None)).baseline.rendering is NEWEST
    assert decide(known(live_in(OLD, replicas=0)), replicas=0).baseline.rendering is NEWEST
    assert decide(known(live_in(OLD, replicas=0))).baseline.rendering is NEWEST

    stopping = decide(known(live_in(OLD)), replicas=0)

    assert stopping.baseline.rendering is NEWEST
    assert stopping.restart is None


def test_unreadable_credentials_change_no_rendering() -> None:
    assert decide(known(live_in(OLD)), UNREADABLE) == Workload(Baseline(OLD))
    assert decide(known(live_in(NEWEST)), UNREADABLE) == Workload(Baseline(NEWEST))


def test_a_statefulset_that_is_recreated_keeps_its_rendering() -> None:
    removed = decide(known(None, removed=live_in(OLD)), **storage(cacheSize="9Gi"))

    assert removed == Workload(Baseline(OLD))


@pytest.mark.parametrize("rendering", Rendering)
def test_an_orphan_keeps_its_rendering_and_its_root(rendering: Rendering) -> None:
    live = live_in(rendering)
    workload = decide(known(None, pod=orphan_of(live)))

    assert workload.baseline.rendering is rendering
    assert template(workload) == live["spec"]["template"]


def test_nothing_is_pending_in_a_pod_of_somebody_else() -> None:
    token = {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    spec = {"containers": [{"name": CONTAINER, "volumeMounts": [token]}]}

    assert decide(known(None, pod={"metadata": {"name": "files-0"}, "spec": spec})).baseline.rendering is NEWEST


def test_an_orphan_that_has_to_restart_brings_everything_pending() -> None:
    rotated = {**DIGESTS, "files-jwt-secret": {"jwt-secret": "9"}}

    assert decide(known(None, pod=orphan_of(live_in(OLD)), digests=rotated)).baseline.rendering is NEWEST
    assert decide(known(None, pod=orphan_of(live_in(OLD)), restarted_at="noon")).baseline.rendering is NEWEST


def test_an_orphan_without_its_hash_is_judged_by_its_mounts() -> None:
    assert decide(known(None, pod=orphan_of(live_in(OLD), annotations={}))).baseline.rendering is OLD
    assert (
        decide(known(None, pod=orphan_of(live_in(OLD), annotations={CONFIG_HASH: "0" * 64}))).baseline.rendering
        is NEWEST
    )


def test_a_statefulset_without_an_owner_is_adopted_as_it_is() -> None:
    orphaned = live_in(OLD, owner=Owner("files", "here", "previous"))
    del orphaned["metadata"]["ownerReferences"]

    assert decide(known(orphaned)).baseline.rendering is OLD


def test_a_statefulset_of_others_gets_the_newest_and_a_writable_root() -> None:
    mounts = [{"name": "controlplane", "mountPath": "/data/controlplane"}]
    theirs = {
        "metadata": {"name": "files", "labels": {"app.kubernetes.io/managed-by": OPERATOR}},
        "spec": {
            "replicas": 1,
            "template": {
                "metadata": {"annotations": {}},
                "spec": {"containers": [{"name": "dittofs", "command": ["/app"], "volumeMounts": mounts}]},
            },
            "volumeClaimTemplates": [
                {"metadata": {"name": name}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}
                for name in ("metadata", "controlplane")
            ],
        },
    }

    workload = decide(known(theirs))

    assert workload.baseline.rendering is NEWEST
    assert "readOnlyRootFilesystem" not in container(workload)["securityContext"]
    assert mounts[0] in container(workload)["volumeMounts"]


def test_a_root_that_was_writable_stays_so_until_its_owner_opts_in() -> None:
    edited = decide(known(live_in(OLD)), image="dittofs:2")

    assert "readOnlyRootFilesystem" not in container(edited)["securityContext"]
    assert "no-content" not in [volume["name"] for volume in template(edited)["spec"]["volumes"]]

    kept = decide(known(edited.manifest), image="dittofs:3")

    assert "readOnlyRootFilesystem" not in container(kept)["securityContext"]

    opted_in = decide(known(edited.manifest), securityContext={"readOnlyRootFilesystem": True})
    later = decide(known(opted_in.manifest))

    assert container(later)["securityContext"]["readOnlyRootFilesystem"] is True
    assert container(decide(known(None)))["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_pod_template_with_a_writable_root_keeps_its_mounts_at_the_next_edit() -> None:
    own: Manifest = {"name": "dittofs", "securityContext": {"readOnlyRootFilesystem": False}}
    spec: dict[str, Any] = {"podTemplate": {"spec": {"containers": [own]}}}

    workload = decide(known(live_in(NEWEST, **spec)), image="dittofs:2", **spec)

    paths = [mount["mountPath"] for mount in container(workload)["volumeMounts"]]
    assert container(workload)["securityContext"]["readOnlyRootFilesystem"] is False
    assert "/tmp" in paths
    assert "/data/content" in paths


def test_nobody_makes_a_root_writable_behind_the_spec() -> None:
    live = live_in(NEWEST)
    del live["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]

    assert container(decide(known(live)))["securityContext"]["readOnlyRootFilesystem"] is True
    assert container(decide(known(live), securityContext={"readOnlyRootFilesystem": False}))["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_section_that_is_rejected_does_not_bring_what_is_pending() -> None:
    rejected = [rejection("spec.securityContext", "no such field")]
    workload = decide(
        known(live_in(OLD), rejected=rejected), securityContext={"readOnlyRootFilesystem": True, "bogus": 1}
    )

    assert workload.baseline.rendering is OLD
    assert workload.rejected

    changed = decide(
        known(live_in(OLD), rejected=rejected),
        image="dittofs:2",
        securityContext={"readOnlyRootFilesystem": True, "bogus": 1},
    )

    assert "no-content" not in [mount["name"] for mount in container(changed)["volumeMounts"]]


TEAM, SPENT = ObjectDefaults({"team": "storage"}, {"cost": "1"}, ("registry",)), ObjectDefaults({"team": "files"})


def with_settings(defaults: ObjectDefaults, pod: ObjectDefaults | None = None, **spec: Any) -> Manifest:
    """The StatefulSet that an operator with these settings left; its pod may have those of before."""
    live = known(None, defaults=defaults if pod is None else pod)
    manifest = decide(live, **spec).manifest
    assert manifest

    left = marked(workload_with_defaults(manifest, defaults))
    return {**left, "metadata": {**left["metadata"], "uid": "s"}}


@pytest.mark.parametrize(
    "live",
    [
        with_settings(TEAM),
        with_settings(NO_DEFAULTS),
        with_settings(SPENT, pod=TEAM),
        with_settings(TEAM, pod=NO_DEFAULTS),
        with_settings(NO_DEFAULTS, pod=TEAM),
    ],
)
@pytest.mark.parametrize("defaults", [TEAM, SPENT, NO_DEFAULTS])
def test_other_settings_change_no_pod(live: Manifest, defaults: ObjectDefaults) -> None:
    workload = decide(known(live, defaults=defaults))

    assert template(workload) == live["spec"]["template"]
    assert workload.restart is None
    assert workload.baseline.defaults == pod_defaults(live["spec"]["template"])
    is_pending = pending_rollout(workload.baseline, defaults) is not None
    assert is_pending is (workload.baseline.defaults != defaults)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"image": "dittofs:2"}),
        # What the spec no longer has is in the live template all the same.
        ({"resources": {"limits": {"cpu": 2}}}, {}),
    ],
)
def test_other_settings_go_out_with_an_edit(before: Manifest, after: Manifest) -> None:
    live = with_settings(TEAM, pod=SPENT, **before)

    assert decide(known(live, defaults=NO_DEFAULTS), **before).baseline.defaults == SPENT
    assert decide(known(live, defaults=NO_DEFAULTS), **after).baseline == Baseline()
    assert pod_defaults(template(decide(known(live, defaults=TEAM), **after))) == TEAM


def test_a_restart_names_the_settings_that_go_out_with_it() -> None:
    workload = decide(known(with_settings(SPENT), defaults=TEAM, restarted_at="noon"))

    assert pod_defaults(template(workload)) == TEAM
    assert workload.restart
    assert workload.restart.why.endswith(
        "pending changes go out with it: label team, annotation cost, pull secret registry "
        "by the operator's settings for all servers"
    )


def test_a_stopped_server_gets_the_settings_of_now() -> None:
    assert decide(known(with_settings(SPENT), defaults=TEAM), replicas=0).baseline.defaults == TEAM
    stopped = with_settings(SPENT, replicas=0)
    assert decide(known(stopped, defaults=TEAM)).baseline.defaults == TEAM


def test_an_orphan_and_a_recreated_statefulset_keep_the_settings() -> None:
    live = with_settings(SPENT)

    assert template(decide(known(None, pod=orphan_of(live), defaults=TEAM))) == live["spec"]["template"]
    assert decide(known(None, removed=live, defaults=TEAM)).baseline.defaults == SPENT


def test_settings_that_somebody_wrote_into_a_template_are_replaced() -> None:
    live = with_settings(NO_DEFAULTS)
    metadata = live["spec"]["template"]["metadata"]
    metadata["annotations"][POD_DEFAULTS] = TEAM.encode()

    assert decide(known(live)).baseline == Baseline()
    assert POD_DEFAULTS not in template(decide(known(live)))["metadata"]["annotations"]


def test_a_restart_is_asked_for_once() -> None:
    live = known(live_in(OLD), restarted_at="noon")
    workload = decide(live)

    assert workload.baseline.rendering is NEWEST
    assert template(workload)["metadata"]["annotations"][RESTARTED_AT] == "noon"
    assert workload.restart
    assert workload.restart.why.startswith('annotation dittofs.io/restartedAt is "noon"')

    restarted = replace(live, stateful_set=marked(workload.manifest or {}))

    assert decide(restarted).restart is None
    assert template(decide(restarted)) == template(workload)
    # To remove the annotation restarts nothing.
    assert template(decide(replace(restarted, restarted_at=None))) == template(workload)
    assert decide(replace(restarted, restarted_at="one")).restart


@pytest.mark.parametrize("value", ["", "x" * 65, "a\nb", "a\x00", "\u202ea", 7, None, ["a"], {}])
def test_a_value_that_is_no_short_text_restarts_nothing(value: Any) -> None:
    assert restarted_at({"metadata": {"annotations": {RESTARTED_AT: value}}}) is None


@pytest.mark.parametrize("value", ["2026-11-27T12:00:00Z", "x" * 64, "{{ .Values.a }} $(rm) é", " "])
def test_any_other_value_restarts(value: str) -> None:
    assert restarted_at({"metadata": {"annotations": {RESTARTED_AT: value}}}) == value


def test_the_hash_is_that_of_the_kept_rendering() -> None:
    live = live_in(OLD)
    workload = decide(known(live))

    assert workload.manifest
    assert config_hash_of(workload.manifest) == config_hash_of(live)
