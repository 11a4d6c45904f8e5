import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.storage.claim_metadata import RECORD
from app.storage.database import database_mounts
from app.storage.desired import (
    NODE_RECHECK_SECONDS,
    REFUSED_RECHECK_SECONDS,
    SAVED_STATE,
    UNKNOWN_CLAIMS_RECHECK_SECONDS,
    Plan,
    Write,
    desired,
    recheck_seconds,
)
from app.storage.difference import marked
from app.storage.facts import Claim, Secret, StorageClass, StorageClasses, Unknown
from app.storage.finding import rejection
from app.storage.live import LiveState
from app.storage.objects import Owner
from app.storage.pod import CONFIG_HASH, config_hash_of
from app.storage.problem import UNREADABLE
from app.storage.reading import read
from app.storage.remote_store import RemoteStore
from app.storage.rendering import ObjectDefaults
from app.storage.resize import ChangeClaims, RecreateStatefulSet, RemoveStatefulSet
from app.storage.restart_cause import RestartCause
from app.storage.rollout import REVISION
from app.storage.services import services
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest
from tests.harness.server_table import server, storage

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
BEFORE, LONG_AGO = "2026-02-01T11:59:55Z", "2026-01-01T12:00:00Z"
OWNER = Owner("files", "here", "u")
FAST = StorageClasses((StorageClass("fast", expandable=True),))
JWT, ADMIN, POSTGRES = "files-jwt-secret", "files-admin-bootstrap-credentials", "files-postgres"
SECRETS = {JWT: Secret({"jwt-secret": frozenset()}), ADMIN: Secret({"password": frozenset()})}
DIGESTS = {JWT: {"jwt-secret": "1"}, ADMIN: {"password": "2"}}


def of_spec(**spec: Any) -> DittoServer:
    return read({**server(**spec), "metadata": {"name": "files", "namespace": "here"}}).server


def known(**state: Any) -> LiveState:
    """The live state of a server whose Secrets and volumes are there."""
    claims = {
        name: Claim(name, "fast", size, "Bound", size, created=LONG_AGO)
        for name, size in (("metadata-files-0", "10Gi"), ("cache-files-0", "5Gi"))
    }
    usual = {"uid": "u", "claims": claims, "classes": FAST, "secrets": SECRETS, "digests": DIGESTS}
    return LiveState(**{**usual, **state})


TEAM = ObjectDefaults({"team": "storage"}, {"cost": "1"}, ("registry",))


def objects(plan: Plan) -> list[tuple[str, str]]:
    return [(write.kind, write.manifest["metadata"]["name"]) for write in plan.apply]


def applied(plan: Plan, kind: str = "StatefulSet") -> Manifest | None:
    return next((write.manifest for write in plan.apply if write.kind == kind), None)


def running(plan: Plan, **status: Any) -> Manifest:
    """The StatefulSet of the plan as it is live, its controller up to date."""
    workload = applied(plan)
    assert workload

    found = marked(workload)
    metadata = {**found["metadata"], "uid": "s", "generation": 1, "creationTimestamp": LONG_AGO}
    updates = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    known_status = {"observedGeneration": 1, "currentRevision": "r1", "updateRevision": "r1", **status}
    return {**found, "metadata": metadata, "spec": {**found["spec"], "updateStrategy": updates}, "status": known_status}


def pod_of(stateful_set: Manifest, revision: str = "r1", ready: str = "True", **metadata: Any) -> Manifest:
    reference = {"controller": True, "uid": stateful_set["metadata"]["uid"]}
    labels = {REVISION: revision}
    volumes = [
        {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-files-0"}} for name in ("metadata", "cache")
    ]
    return {
        "metadata": {
            "name": "files-0",
            "creationTimestamp": LONG_AGO,
            "labels": labels,
            "ownerReferences": [reference],
            **metadata,
        },
        "spec": {"volumes": volumes},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def settled(**state: Any) -> LiveState:
    """A server that runs as its spec asks."""
    live = running(desired(of_spec(), known(), NOON))
    return known(stateful_set=live, pod=pod_of(live), **state)


def test_a_new_server_gets_its_secrets_before_its_pod() -> None:
    plan = desired(of_spec(), known(secrets={JWT: None, ADMIN: None}, digests={}, claims={}), NOON)

    assert [reference.secret for reference in plan.generate] == [JWT, ADMIN]
    assert "StatefulSet" not in dict(objects(plan))
    [problem] = plan.problems
    assert problem.reason == "SecretNotFound"


def test_objects_come_in_the_order_of_their_dependencies() -> None:
    plan = desired(of_spec(), known(claims={}), NOON)

    assert objects(plan) == [
        ("ConfigMap", "files-config"),
        ("StatefulSet", "files"),
        ("Service", "files-headless"),
        ("Service", "files-file"),
        ("Service", "files-api"),
    ]
    assert plan == Plan(apply=plan.apply)


def test_no_statefulset_is_created_while_its_claims_are_unknown() -> None:
    live = known(claims={}, claims_gap="forbidden: no")

    assert applied(desired(of_spec(), live, NOON)) is None
    assert recheck_seconds(of_spec(), live, NOON) == UNKNOWN_CLAIMS_RECHECK_SECONDS


def test_a_known_database_waits_for_no_claim() -> None:
    live = settled(claims_gap="forbidden: no")

    assert applied(desired(of_spec(replicas=0), live, NOON))
    assert recheck_seconds(of_spec(), live, NOON) is None


def test_a_database_on_no_volume_waits_for_the_claims() -> None:
    live = running(desired(of_spec(), known(), NOON))
    container = live["spec"]["template"]["spec"]["containers"][0]
    container["volumeMounts"] = [{"name": "metadata", "mountPath": "/data/metadata"}]

    assert applied(desired(of_spec(), known(stateful_set=live, claims_gap="forbidden: no"), NOON)) is None
    assert applied(desired(of_spec(), known(stateful_set=live), NOON))


def test_a_kept_database_is_mounted() -> None:
    kept = Claim("controlplane-files-0", "slow", "2Gi", "Bound", "2Gi", created=LONG_AGO)
    live = known()
    workload = applied(desired(of_spec(), replace(live, claims={**live.claims, kept.name: kept}), NOON))

    assert workload
    assert workload["spec"]["volumeClaimTemplates"][-1] == {
        "metadata": {"name": "controlplane"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "slow",
            "resources": {"requests": {"storage": "2Gi"}},
        },
    }
    assert database_mounts_of(workload) == [{"name": "controlplane", "mountPath": "/data/controlplane"}]


def test_a_claim_does_not_replace_a_database_in_use() -> None:
    live = settled()
    kept = Claim("controlplane-files-0", "slow", "2Gi", "Bound", "2Gi", created=LONG_AGO)
    workload = applied(desired(of_spec(), replace(live, claims={**live.claims, kept.name: kept}), NOON))

    assert workload == applied(desired(of_spec(), live, NOON))


def database_mounts_of(workload: Manifest) -> list[Manifest]:
    return list(database_mounts(workload["spec"]["template"]))


def of_the_server(name: str, **metadata: Any) -> Manifest:
    """Returns the metadata of a Secret that the Go operator generated."""
    reference = {"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "files", "uid": "u"}
    return {"metadata": {"name": name, "ownerReferences": [{**reference, "controller": True}], **metadata}}


def test_a_generated_secret_stays_when_the_server_goes() -> None:
    live = settled(generated_secrets={JWT: of_the_server(JWT), ADMIN: of_the_server(ADMIN, ownerReferences=[])})
    [write] = desired(of_spec(), live, NOON).disown

    assert (write.kind, write.manifest["metadata"]) == ("Secret", {"name": JWT, "ownerReferences": []})
    assert write.event
    assert write.event.reason == "SecretKept"


def test_a_secret_that_is_being_deleted_keeps_its_owner() -> None:
    terminating = of_the_server(JWT, deletionTimestamp=LONG_AGO)

    assert desired(of_spec(), settled(generated_secrets={JWT: terminating}), NOON).disown == ()


FORMER = "files-admin-credentials"


def test_a_password_that_the_database_knows_is_used_again() -> None:
    live = known(secrets={**SECRETS, ADMIN: None}, digests={}, former_admin_secret=of_the_server(FORMER))
    plan = desired(of_spec(), live, NOON)

    assert [reference.secret for reference in plan.generate] == [ADMIN]
    assert plan.password_from == FORMER


@pytest.mark.parametrize("metadata", [{"ownerReferences": []}, {"deletionTimestamp": LONG_AGO}])
def test_a_secret_of_somebody_else_gives_no_password(metadata: Manifest) -> None:
    live = known(secrets={**SECRETS, ADMIN: None}, digests={}, former_admin_secret=of_the_server(FORMER, **metadata))

    assert desired(of_spec(), live, NOON).password_from is None


def test_all_objects_belong_to_the_server() -> None:
    plan = desired(of_spec(), known(), NOON)

    assert all(OWNER.owns(write.manifest) for write in plan.apply)


def test_a_secret_that_is_lost_is_generated_only_if_no_pod_needs_it() -> None:
    stopped = settled()
    lost = {**SECRETS, JWT: None}
    needed = desired(of_spec(), replace(stopped, secrets=lost), NOON)

    assert needed.generate == ()
    [problem] = needed.problems
    assert problem.message.startswith(f"generated Secret {JWT} is gone: put it back")
    assert applied(needed) is None

    unneeded = desired(of_spec(), known(secrets=lost), NOON)

    assert [reference.secret for reference in unneeded.generate] == [JWT]


def test_a_pod_that_lost_its_statefulset_keeps_its_secrets() -> None:
    live = settled()
    orphan = pod_of(live.stateful_set or {}, ownerReferences=[], annotations={CONFIG_HASH: "0" * 64})
    plan = desired(of_spec(), replace(live, stateful_set=None, pod=orphan, secrets={**SECRETS, JWT: None}), NOON)
    workload = applied(plan)

    assert plan.generate == ()
    assert workload
    assert config_hash_of(workload) == "0" * 64


@pytest.mark.parametrize("annotation", ["", "x" * 64, "0" * 63, "0" * 64 + "\n", "{}"])
def test_nothing_but_a_hash_is_taken_from_an_orphan(annotation: str) -> None:
    live = settled()
    orphan = pod_of(live.stateful_set or {}, ownerReferences=[], annotations={CONFIG_HASH: annotation})
    plan = desired(of_spec(), replace(live, stateful_set=None, pod=orphan, secrets={**SECRETS, JWT: None}), NOON)

    assert applied(plan) is None


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (None, "SecretNotFound"),
        (Unknown("forbidden"), UNREADABLE),
        (Secret({}, terminating=True), "SecretTerminating"),
        (Secret({"accessKeyId": frozenset()}), "SecretIncomplete"),
    ],
)
def test_a_pod_waits_for_its_credentials(secret: Secret | Unknown | None, reason: str) -> None:
    wanted = of_spec(s3={"credentialsSecretRef": {"secretName": "s3"}})
    plan = desired(wanted, known(secrets={**SECRETS, "s3": secret}), NOON)

    [problem] = plan.problems
    assert problem.reason == reason
    assert applied(plan) is None
    assert applied(plan, "ConfigMap")


def test_broken_credentials_touch_no_pod_that_runs_but_let_it_stop() -> None:
    live = settled(secrets={**SECRETS, JWT: Secret({})})
    before = config_hash_of(live.stateful_set or {})
    stopped = applied(desired(of_spec(replicas=0), live, NOON))

    assert applied(desired(of_spec(image="example.com/new"), live, NOON)) is None
    assert stopped
    assert stopped["spec"]["replicas"] == 0
    assert config_hash_of(stopped) == before


def test_an_edit_that_waits_for_credentials_is_held_back() -> None:
    live = settled(secrets={**SECRETS, JWT: Secret({})})
    event = desired(of_spec(image="example.com/new"), live, NOON).held_back

    assert event
    assert (event.type, event.reason) == ("Warning", "ChangeHeldBack")
    assert f'"{JWT}"' in event.message
    for spec in ({}, {"nfsPort": 3049}, {"replicas": 0, "image": "example.com/new"}):
        assert desired(of_spec(**spec), live, NOON).held_back is None
    assert desired(of_spec(image="example.com/new"), settled(), NOON).held_back is None


def test_changed_credentials_restart_the_pod_and_say_so() -> None:
    live = settled()
    rotated = desired(of_spec(), replace(live, digests={**DIGESTS, JWT: {"jwt-secret": "3"}}), NOON)
    [restart] = [write.restart for write in rotated.apply if write.restart]

    assert restart.cause is RestartCause.CREDENTIALS
    assert not [write for write in desired(of_spec(), live, NOON).apply if write.restart]
    assert not [write for write in desired(of_spec(), known(), NOON).apply if write.restart]


def test_the_parts_of_a_connection_string_are_written_when_it_was_read() -> None:
    wanted = of_spec(database={"type": "postgres", "postgresSecretRef": {"name": "dsn", "key": "dsn"}})
    dsn = base64.b64encode(b"postgres://user:pass@db.example.com:5433/ditto").decode()
    state = known(secrets={**SECRETS, "dsn": Secret({"dsn": frozenset()})}, digests={**DIGESTS, "dsn": {"dsn": "4"}})
    plan = desired(wanted, replace(state, postgres_source={"data": {"dsn": dsn}}), NOON)

    assert objects(plan)[:3] == [("ConfigMap", "files-config"), ("Secret", POSTGRES), ("StatefulSet", "files")]
    assert ("Secret", POSTGRES) not in objects(desired(wanted, state, NOON))

    unreadable = desired(wanted, replace(state, postgres_source={"data": {"dsn": "Og=="}}), NOON)

    [problem] = unreadable.problems
    assert problem.reason == "SecretIncomplete"
    assert applied(unreadable) is None


def test_what_an_earlier_spec_asked_for_is_deleted() -> None:
    metrics = services(OWNER, of_spec(metrics={"enabled": True, "port": 9090}).spec)[-1]
    parts = {"metadata": {"name": POSTGRES, "ownerReferences": [OWNER.reference]}}
    live = known(services={"files-metrics": metrics}, postgres_secret=parts)

    assert desired(of_spec(), live, NOON).delete == (Write("Service", metrics), Write("Secret", parts))
    assert desired(of_spec(metrics={"enabled": True, "port": 9090}), live, NOON).delete == (Write("Secret", parts),)


@pytest.mark.parametrize("metadata", [{"ownerReferences": []}, {"deletionTimestamp": BEFORE}])
def test_what_is_not_ours_or_leaves_already_is_not_deleted(metadata: Manifest) -> None:
    own = {"name": "files-metrics", "ownerReferences": [OWNER.reference]}
    live = known(
        services={"files-metrics": {"metadata": {**own, **metadata}}},
        postgres_secret={"metadata": {**own, "name": POSTGRES, **metadata}},
    )

    assert desired(of_spec(), live, NOON).delete == ()


def test_a_stuck_pod_is_replaced_once_nothing_else_changes() -> None:
    live = settled()
    stateful_set = {**(live.stateful_set or {}), "status": {"observedGeneration": 1, "updateRevision": "r2"}}
    stuck = replace(live, stateful_set=stateful_set, pod=pod_of(stateful_set, ready="False"))
    [deletion] = desired(of_spec(), stuck, NOON).delete

    assert (deletion.kind, deletion.manifest) == ("Pod", stuck.pod)
    assert deletion.event
    assert deletion.event.reason == "PodReplaced"
    assert desired(of_spec(image="example.com/new"), stuck, NOON).delete == ()
    assert desired(of_spec(), replace(stuck, pod=pod_of(stateful_set)), NOON).delete == ()


def test_a_stuck_pod_of_another_owner_is_left_alone() -> None:
    live = settled(secrets={**SECRETS, JWT: Unknown("forbidden")})
    metadata = {**(live.stateful_set or {})["metadata"], "ownerReferences": [{"controller": True, "uid": "another"}]}
    status = {"observedGeneration": 1, "updateRevision": "r2"}
    foreign = {**(live.stateful_set or {}), "metadata": metadata, "status": status}

    assert (
        desired(of_spec(), replace(live, stateful_set=foreign, pod=pod_of(foreign, ready="False")), NOON).delete == ()
    )


class TestAPodThatServesFromAnEarlierStore:
    STORE = RemoteStore(restart_for="p")

    def outdated(self, **state: Any) -> LiveState:
        live = settled(remote_store=self.STORE, **state)
        assert live.pod
        return replace(live, pod={**live.pod, "metadata": {**live.pod["metadata"], "uid": "p"}})

    def test_restarts_once(self) -> None:
        live = self.outdated()
        assert live.pod

        [write] = desired(of_spec(), live, NOON).delete

        assert (write.kind, write.manifest) == ("Pod", live.pod)
        assert write.restart
        assert write.restart.cause is RestartCause.CREDENTIALS
        restarted = replace(live, pod={**live.pod, "metadata": {**live.pod["metadata"], "uid": "next"}})
        assert desired(of_spec(), restarted, NOON).delete == ()

    def test_ends_by_another_change_where_there_is_one(self) -> None:
        assert desired(of_spec(image="other:1"), self.outdated(), NOON).delete == ()

    def test_stays_without_its_secrets(self) -> None:
        live = self.outdated(secrets={**SECRETS, JWT: Secret({})})

        assert desired(of_spec(), live, NOON).delete == ()

    def test_stays_while_its_data_is_at_risk(self) -> None:
        live = self.outdated()
        claims = {name: replace(claim, terminating=True) for name, claim in live.claims.items()}

        plan = desired(of_spec(), replace(live, claims=claims), NOON)

        assert plan.delete == ()
        assert [problem.reason for problem in plan.problems] == ["RestartHeldBack"]

    def test_that_leaves_already_is_left_alone(self) -> None:
        live = self.outdated()
        assert live.pod
        leaving = {**live.pod, "metadata": {**live.pod["metadata"], "deletionTimestamp": BEFORE}}

        assert desired(of_spec(), replace(live, pod=leaving), NOON).delete == ()


def test_a_claim_that_would_be_lost_holds_every_restart() -> None:
    live = settled()
    leaving = {**live.claims, "cache-files-0": replace(live.claims["cache-files-0"], terminating=True)}
    held = desired(of_spec(image="example.com/new"), replace(live, claims=leaving), NOON)

    [problem] = held.problems
    assert problem.reason == "RestartHeldBack"
    assert applied(held) is None
    assert applied(held, "Service")
    assert desired(of_spec(), replace(live, claims=leaving), NOON).problems == ()

    allowed = desired(of_spec(image="example.com/new"), replace(live, claims=leaving, may_lose_data=True), NOON)

    assert allowed.problems == ()
    assert applied(allowed)


def test_a_rejected_section_keeps_its_live_value() -> None:
    live = settled(rejected=[rejection("spec.resources", "spec.resources: no such field")])
    wanted = of_spec(resources={"limit": {}}, image="example.com/new")
    plan = desired(wanted, live, NOON)
    workload = applied(plan)

    [problem] = plan.problems
    assert problem.message == "spec.resources: no such field; the pod keeps resources unchanged"
    assert workload
    [container] = workload["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "example.com/new"
    assert "resources" not in container


def test_no_pod_is_created_without_a_section_that_was_rejected() -> None:
    plan = desired(of_spec(), known(rejected=[rejection("spec.resources", "no such field")]), NOON)

    [problem] = plan.problems
    assert problem.message == "no pod can be created: no such field"
    assert applied(plan) is None


def test_an_expansion_comes_first_and_holds_nothing_else_up() -> None:
    live = settled(secrets={**SECRETS, JWT: Unknown("forbidden")})
    wanted = of_spec(storage={"metadataSize": "20Gi", "storageClassName": "fast"})

    assert desired(wanted, live, NOON).resize == ChangeClaims({"metadata-files-0": "20Gi"})


def test_a_statefulset_that_is_recreated_is_not_changed_before() -> None:
    live = settled()
    grown = {
        **live.claims,
        "metadata-files-0": replace(live.claims["metadata-files-0"], capacity="20Gi", requested="20Gi"),
    }
    wanted = of_spec(storage={"metadataSize": "20Gi", "storageClassName": "fast"}, nfsPort=2050)
    plan = desired(wanted, replace(live, claims=grown, pod=None), NOON)

    assert isinstance(plan.resize, RemoveStatefulSet)
    assert applied(plan) is None

    removed = desired(wanted, replace(live, claims=grown, stateful_set=None, removed=live.stateful_set), NOON)

    assert applied(removed) is None


def test_a_statefulset_of_another_is_not_resized() -> None:
    live = settled()
    foreign = {**(live.stateful_set or {}), "metadata": {"name": "files", "uid": "s", "ownerReferences": []}}
    wanted = of_spec(storage={"metadataSize": "20Gi", "storageClassName": "fast"})

    assert desired(wanted, replace(live, stateful_set=foreign), NOON).resize is None


def saved_in(**metadata: Any) -> LiveState:
    annotations = {SAVED_STATE: "{}", "theirs": "x"}
    own = {"name": "files-config", "annotations": annotations, "ownerReferences": [OWNER.reference]}
    return known(config_map={"metadata": {**own, **metadata}})


def test_state_that_earlier_versions_saved_is_ignored_and_removed() -> None:
    [write] = desired(of_spec(), saved_in(), NOON).annotate

    assert write.manifest["metadata"]["annotations"] == {"theirs": "x"}
    assert write.event
    assert write.event.reason == "SavedStateIgnored"
    assert desired(of_spec(), saved_in(annotations={}), NOON).annotate == ()


@pytest.mark.parametrize("metadata", [{"ownerReferences": []}, {"deletionTimestamp": BEFORE}])
def test_annotations_of_others_are_left_alone(metadata: Manifest) -> None:
    assert desired(of_spec(), saved_in(**metadata), NOON).annotate == ()


def test_a_server_at_rest_is_not_looked_at_again() -> None:
    assert recheck_seconds(of_spec(), settled(), NOON) is None


def test_a_claim_that_waits_is_looked_at_when_it_is_overdue() -> None:
    waiting = Claim("metadata-files-0", "fast", created="2026-02-01T11:58:00Z")

    assert recheck_seconds(of_spec(), settled(claims={waiting.name: waiting}), NOON) == 300 - 120 + 1


def test_an_expansion_that_was_refused_is_looked_at_again() -> None:
    wanted = of_spec(storage={"metadataSize": "20Gi", "storageClassName": "fast"})
    live = settled(refused={"metadata-files-0": "exceeded quota"})

    assert recheck_seconds(wanted, live, NOON) == REFUSED_RECHECK_SECONDS


def test_a_file_system_that_does_not_grow_is_looked_at_when_its_pod_restarts() -> None:
    live = settled()
    pending = replace(live.claims["cache-files-0"], capacity="5Gi", requested="6Gi", waits_for_pod_since=BEFORE)
    wanted = of_spec(storage={"metadataSize": "10Gi", "cacheSize": "6Gi", "storageClassName": "fast"})
    live = replace(live, claims={**live.claims, pending.name: pending})

    assert recheck_seconds(wanted, live, NOON) == 120 - 5 + 1


def test_a_pod_that_does_not_end_is_looked_at_again_and_again() -> None:
    live = settled()
    leaving = pod_of(live.stateful_set or {}, deletionTimestamp=BEFORE, deletionGracePeriodSeconds=30)

    first = recheck_seconds(of_spec(), replace(live, pod=leaving), NOON)
    later = recheck_seconds(of_spec(), replace(live, pod=leaving), NOON + timedelta(minutes=10))

    assert first
    assert 0 < first < NODE_RECHECK_SECONDS
    assert later == NODE_RECHECK_SECONDS


def test_missing_claims_are_looked_at_when_their_statefulset_is_no_longer_new() -> None:
    live = settled(is_new=True)
    new = {
        **(live.stateful_set or {}),
        "metadata": {**(live.stateful_set or {})["metadata"], "creationTimestamp": BEFORE},
    }

    assert recheck_seconds(of_spec(), replace(live, stateful_set=new, claims={}), NOON) == 10 - 5 + 1


@pytest.mark.parametrize("state", [{}, {"secrets": dict.fromkeys(SECRETS)}, {"claims": {}}, {"adopt_store": "x"}])
def test_nothing_is_done_for_a_paused_server(state: Manifest) -> None:
    server = of_spec(image="example.com/other:2", metrics={"enabled": True}, storage={"metadataSize": "90Gi"})

    plan = desired(server, known(is_paused=True, **state), NOON)

    assert plan == Plan(problems=plan.problems, baseline=plan.baseline, contents=plan.contents)
    assert not plan.problems or [problem.reason for problem in plan.problems] == ["Paused"]


def test_a_paused_server_still_says_which_secret_is_missing() -> None:
    spec = {"s3": {"credentialsSecretRef": {"secretName": "s3"}}}
    plan = desired(of_spec(**spec), known(is_paused=True, secrets={**SECRETS, "s3": None}), NOON)

    assert [problem.reason for problem in plan.problems] == ["SecretNotFound"]


def labelled(**cache: Any) -> DittoServer:
    return of_spec(**storage(cache={"labels": {"team": "a"}}, **cache))


def test_a_claim_gets_what_the_spec_adds() -> None:
    [write] = desired(labelled(), settled(), NOON).claims

    assert (write.kind, write.event) == ("PersistentVolumeClaim", None)
    assert write.manifest["metadata"] == {
        "name": "cache-files-0",
        "namespace": "here",
        "labels": {"team": "a"},
        "annotations": {RECORD: '{"labels":["team"]}'},
    }


def test_a_spec_without_settings_patches_no_claim() -> None:
    labels = {"app": "dittofs-server", "team": "a"}
    claims = {name: replace(claim, labels=labels) for name, claim in known().claims.items()}

    assert desired(of_spec(), settled(claims=claims), NOON).claims == ()


@pytest.mark.parametrize(
    "state",
    [
        {"claims": {}},
        {"claims": {"cache-files-0": Claim("cache-files-0", "fast", "5Gi", "Bound", terminating=True)}},
        {"is_paused": True},
        {"uid": "another"},
    ],
)
def test_a_claim_that_is_not_to_be_changed_stays(state: Manifest) -> None:
    assert desired(labelled(), settled(**state), NOON).claims == ()


def test_a_claim_of_a_volume_that_the_server_lacks_stays() -> None:
    content = Claim("content-files-0", "fast", "5Gi", "Bound", annotations={RECORD: '{"labels":["team"]}'})

    assert desired(of_spec(), settled(claims={**known().claims, content.name: content}), NOON).claims == ()


def test_every_object_has_the_settings_for_all_servers() -> None:
    spec = {"metrics": {"enabled": True}, "service": {"annotations": {"cost": "own"}}}

    plan = desired(of_spec(**spec), known(defaults=TEAM), NOON)

    for write in plan.apply:
        metadata, name = write.manifest["metadata"], write.manifest["metadata"]["name"]
        assert metadata["labels"] == {**OWNER.labels, "team": "storage"}
        assert metadata["annotations"]["cost"] == ("own" if name in ("files-file", "files-api") else "1")
    stateful_set = applied(plan)
    assert stateful_set
    for template in stateful_set["spec"]["volumeClaimTemplates"]:
        assert template["metadata"]["labels"] == {"team": "storage"}
        assert template["metadata"]["annotations"] == {"cost": "1"}


def test_an_added_volume_has_the_settings_of_now() -> None:
    first = running(desired(of_spec(), known(), NOON))
    grown = of_spec(storage={"metadataSize": "10Gi", "contentSize": "1Gi", "storageClassName": "fast"})
    removed = desired(grown, known(removed=first, defaults=TEAM), NOON).resize

    assert isinstance(removed, RecreateStatefulSet)
    labels = {
        template["metadata"]["name"]: template["metadata"].get("labels")
        for template in removed.stateful_set["spec"]["volumeClaimTemplates"]
    }
    assert labels == {"metadata": None, "content": {"team": "storage"}, "cache": None}


def test_generated_secrets_get_the_labels_of_now() -> None:
    metadata: Manifest = {"name": JWT, "labels": {**OWNER.labels, "team": "before", "others": "stay"}}
    secret = {"metadata": metadata}

    [write] = desired(of_spec(), known(generated_secrets={JWT: secret}, defaults=TEAM), NOON).label

    assert write.manifest["metadata"]["labels"] == {**metadata["labels"], "team": "storage"}

    labelled = {"metadata": {**metadata, "labels": {**OWNER.labels, "team": "storage"}}}
    terminating = {"metadata": {**metadata, "deletionTimestamp": "2026-01-01T12:00:00Z"}}
    somebody_elses = {"metadata": {"name": JWT, "labels": {"app": "other"}}}
    for other in (labelled, terminating, somebody_elses):
        assert desired(of_spec(), known(generated_secrets={JWT: other}, defaults=TEAM), NOON).label == ()
    assert desired(of_spec(), known(generated_secrets={JWT: secret}), NOON).label == ()
