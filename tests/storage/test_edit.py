from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from app.storage.config import config_yaml
from app.storage.defaulting import set_defaults
from app.storage.edit import Effect, caveat, creation, edit
from app.storage.facts import Claim, StorageClass, StorageClasses
from app.storage.live import LiveState
from app.storage.objects import OPERATOR, Owner, stateful_set
from app.storage.pause import PAUSED_ANNOTATION
from app.storage.pod import RESTARTED_AT, PodRevision
from app.storage.reading import read
from app.storage.rendering import NEWEST, ObjectDefaults, Rendering
from app.storage.secret_references import consumed_references
from app.storage.spec import KIND
from app.storage.unstructured import Manifest
from tests.harness.server_table import IMAGE, jwt, s3, server, snapshot, storage

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
FAST = StorageClass("fast", is_default=True, expandable=True)
CLASSES = StorageClasses((FAST,))


def claim(volume: str, capacity: str | None, requested: str | None = None, **known: Any) -> Claim:
    bound = {"storage_class": "fast", "phase": "Bound" if capacity else "Pending", **known}
    return Claim(f"{volume}-files-0", capacity=capacity, requested=requested or capacity, **bound)


def live_state(*claims: Claim, **known: Any) -> LiveState:
    there = (claim("metadata", "10Gi"), claim("cache", "5Gi"), *claims)
    return LiveState(**{"claims": {claim.name: claim for claim in there}, "classes": CLASSES, **known})


def effects(new: Manifest, old: Manifest | None = None, live: LiveState | None = None) -> list[Effect]:
    return edit(set_defaults(old or server()), set_defaults(new), live or live_state(), NOON)


def test_an_unchanged_field_has_no_effect() -> None:
    assert effects(server(nfsPort=2049, **storage(cacheSize="5Gi"))) == []


def test_a_volume_grows_online_and_restarts_nothing() -> None:
    [effect] = effects(server(**storage(cacheSize="20Gi")))

    assert effect == Effect(
        "cache", "5Gi to 20Gi, claim cache-files-0, class fast expands online", restarts=False, grows_in_use=True
    )


def test_a_volume_that_no_pod_uses_grows_when_one_does() -> None:
    [effect] = effects(server(replicas=0, **storage(cacheSize="20Gi")), server(replicas=0))

    assert effect.how == "5Gi to 20Gi, claim cache-files-0, class fast expands it when a pod uses it"
    assert not effect.grows_in_use


def test_whether_a_class_can_expand_may_be_unknown() -> None:
    live = live_state(claim("cache", "5Gi", storage_class="other"), classes=StorageClasses(gap="forbidden"))
    [effect] = effects(server(**storage(cacheSize="20Gi")), live=live)

    assert effect.how == "5Gi to 20Gi, claim cache-files-0, whether class other can expand is unknown"


@pytest.mark.parametrize(
    ("size", "capacity", "how"),
    [
        ("9Gi", "5Gi", "5Gi to 9Gi, claim cache-files-0 no longer asks for 20Gi"),
        ("6Gi", "6Gi", "6Gi, claim cache-files-0 has that, and no longer asks for 20Gi"),
    ],
)
def test_an_expansion_of_the_operator_is_taken_back(size: str, capacity: str, how: str) -> None:
    ours = claim("cache", capacity, "20Gi", requested_by=frozenset({OPERATOR}))
    [effect] = effects(server(**storage(cacheSize=size)), server(**storage(cacheSize="20Gi")), live_state(ours))

    assert (effect.how, effect.restarts, effect.grows_in_use) == (how, False, False)


def test_a_claim_that_others_expanded_is_large_enough() -> None:
    [effect] = effects(server(**storage(cacheSize="20Gi")), live=live_state(claim("cache", "30Gi", "5Gi")))

    assert effect.how == "20Gi, claim cache-files-0 has 30Gi already"

    [effect] = effects(server(**storage(cacheSize="20Gi")), live=live_state(claim("cache", "30Gi")))

    assert (
        effect.how
        == "volume claim cache-files-0 asks for 30Gi, more than storage.cacheSize 20Gi; the claim keeps that size"
    )


def test_an_unbound_claim_keeps_its_request() -> None:
    [effect] = effects(server(**storage(cacheSize="20Gi")), live=live_state(claim("cache", None, "5Gi")))

    assert effect.how == "20Gi, claim cache-files-0 is Pending and asks for 5Gi"


@pytest.mark.parametrize("name", ["fast", None])
def test_an_added_content_volume_restarts_the_pod(name: str | None) -> None:
    spec = {} if name else {"storage": {"metadataSize": "10Gi"}}
    old, new = server(**spec), server(storage={**server(**spec)["spec"]["storage"], "contentSize": "1Ti"})
    [effect] = effects(new, old)

    assert effect == Effect("content", "1Ti, claim content-files-0 is created, class fast", restarts=True)

    [effect] = effects(new, old, live_state(classes=StorageClasses()))

    assert effect.how.endswith("class fast" if name else "without a class")


def test_another_bucket_restarts_a_server_that_has_a_record_of_it() -> None:
    before, after = (server(s3={**s3()["s3"], "bucket": bucket}) for bucket in ("media", "films"))
    maintained = {**before, "status": {"remoteStore": {"name": "dittofs-operator"}}}
    how = "media to films, also in block store dittofs-operator of the server"

    assert effects(after, maintained) == [Effect("s3.bucket", how, restarts=True)]
    assert effects(after, before) == [Effect("s3.bucket", "media to films", restarts=False)]
    assert [effect.restarts for effect in effects(server(**s3()), maintained)] == [False]


def test_pinning_what_runs_migrates_nothing() -> None:
    image = f"dittofs@sha256:{'a' * 64}"

    [effect] = effects(server(image=image), {**server(), "status": {"server": {"imageID": image}}})

    assert effect.restarts
    assert "migrate" not in effect.how


@pytest.mark.parametrize(
    ("new", "effect"),
    [
        (
            server(image="dittofs:2"),
            Effect("image", f"{IMAGE} to dittofs:2, which may migrate the database irreversibly", restarts=True),
        ),
        (
            server(nfsPort=2050),
            Effect(
                "nfsPort", "2049 to 2050, changes Service files-headless, changes Service files-file", restarts=False
            ),
        ),
        (
            server(metrics={"enabled": True}),
            Effect("metrics", 'unset to {"enabled": true, "port": 9090}, creates Service files-metrics', restarts=True),
        ),
        (
            server(**s3()),
            Effect("s3", 'unset to {"credentialsSecretRef": {"secretName": "s3", "accessKeyIdK…', restarts=True),
        ),
        (
            server(s3={"bucket": "media"}),
            Effect("s3", 'unset to {"bucket": "media", "region": "eu-west-1"}', restarts=False),
        ),
        (server(replicas=0), Effect("replicas", "1 to 0, stops the pod, whose volumes are kept", restarts=False)),
        (server(database={"type": "sqlite"}), Effect("database", 'unset to {"type": "sqlite"}', restarts=False)),
        (
            server(resources={"limits": {"cpu": 2}}),
            Effect("resources", 'unset to {"limits": {"cpu": 2}}', restarts=True),
        ),
    ],
    ids=lambda value: value.what if isinstance(value, Effect) else "",
)
def test_a_field_names_its_values_and_services(new: Manifest, effect: Effect) -> None:
    assert effects(new) == [effect]


def test_labels_and_annotations_change_claims_and_restart_nothing() -> None:
    old = server(**storage(cache={"labels": {"team": "a", "tier": "1"}}))
    new = server(**storage(cache={"labels": {"team": "b"}}, metadata={"annotations": {"a": "b"}}))

    assert [(effect.what, effect.how, effect.restarts) for effect in effects(new, old)] == [
        ("storage.cache.labels.team", "a to b, changes volume claim cache-files-0", False),
        ("storage.cache.labels.tier", "1 to unset, changes volume claim cache-files-0", False),
        (
            "storage.metadata",
            'unset to {"annotations": {"a": "b"}}, changes volume claim metadata-files-0',
            False,
        ),
    ]


def test_a_class_or_source_of_a_volume_changes_nothing_else() -> None:
    old = server(**storage(cache=snapshot()))
    new = server(**storage(cache={"storageClassName": "fast"}))

    assert [(effect.what, effect.restarts) for effect in effects(new, old)] == [
        ("storage.cache.dataSourceRef", False),
        ("storage.cache.storageClassName", False),
    ]


def test_a_restored_volume_names_its_source() -> None:
    added = server(**storage(contentSize="1Gi", content={"storageClassName": "slow", **snapshot()}))

    [content, settings] = effects(added)

    assert content.how == "1Gi, claim content-files-0 is created, class slow, restored from VolumeSnapshot nightly"
    assert content.restarts
    assert "changes volume claim" not in settings.how


def test_a_volume_of_its_own_class_grows_by_that() -> None:
    old, new = (server(**storage(cache={"storageClassName": "slow"}, cacheSize=size)) for size in ("5Gi", "9Gi"))
    live = LiveState(
        {entry.name: entry for entry in (claim("metadata", "10Gi"), claim("cache", "5Gi", storage_class="slow"))},
        StorageClasses((StorageClass("fast"), StorageClass("slow", expandable=True))),
    )

    [effect] = effects(new, old, live)

    assert effect.how == "5Gi to 9Gi, claim cache-files-0, class slow expands online"


def test_a_field_within_a_section_is_an_effect() -> None:
    old = server(metrics={"enabled": True}, **s3())
    changed, removed = server(metrics={"enabled": True}, **s3(endpointKey="url")), server(**s3())

    assert effects(changed, old) == [Effect("s3.credentialsSecretRef.endpointKey", "endpoint to url", restarts=True)]

    [effect] = effects(removed, old)

    assert effect.how == '{"enabled": true, "port": 9090} to unset, removes Service files-metrics'


@pytest.mark.parametrize(
    ("live_type", "changed"), [("LoadBalancer", ["files-file", "files-api"]), ("ClusterIP", ["files-file"])]
)
def test_an_exposed_api_changes_with_the_files(live_type: str, changed: list[str]) -> None:
    old, new = (server(service={"type": kind}) for kind in ("LoadBalancer", "NodePort"))
    live = live_state(services={"files-api": {"metadata": {"name": "files-api"}, "spec": {"type": live_type}}})

    [effect] = effects(new, old, live)

    services = ", ".join(f"changes Service {name}" for name in changed)
    assert effect == Effect("service.type", f"LoadBalancer to NodePort, {services}", restarts=False)


def test_a_field_of_one_service_changes_no_other() -> None:
    old = server(service={"type": "LoadBalancer", "api": {"type": "NodePort"}})
    new = server(service={"type": "LoadBalancer", "api": {"type": "NodePort"}, "nodePorts": {"api": 30080}})

    [effect] = effects(new, old)

    assert effect.how == 'unset to {"api": 30080}, changes Service files-api'


def test_a_pod_that_does_not_run_restarts_for_nothing() -> None:
    stopped = server(replicas=0)

    assert not effects(server(replicas=0, image="dittofs:2"), stopped)[0].restarts

    [started] = effects(server(), stopped)

    assert started.how == "0 to 1, starts the pod"


def of(*specs: Manifest) -> Manifest:
    return server(**{name: value for spec in specs for name, value in spec.items()})


# Each changes something else; some need another one to have an effect, or take another one's away.
SPECS: tuple[Manifest, ...] = (
    {},
    {"replicas": 0},
    {"image": "dittofs:2"},
    {"nfsPort": 2050, "smb": {"enabled": True}},
    jwt(key="a"),
    jwt(key="b", name="keys"),
    {"database": {"type": "postgres"}},
    {"database": {"type": "postgres", "postgresSecretRef": {"key": "dsn"}}},
    {"database": {"postgresSecretRef": {"key": "dsn", "name": "keys"}}},
    {"database": {"sqlite": {"path": "/data/metadata/a.db"}}},
    {"s3": {"region": "eu-west-2"}},
    {"s3": {"region": "eu-west-2", "credentialsSecretRef": {"secretName": "keys"}}},
    {"s3": {"credentialsSecretRef": {"secretName": "keys", "sessionTokenKey": "token"}}},
    {"s3": {"credentialsSecretRef": {"secretName": "keys"}, "caSecretRef": {"name": "keys", "key": "ca"}}},
    {"s3": {"caSecretRef": {"name": "ca"}, "serviceAccountName": "uploader"}},
    {"resources": {"limits": {"cpu": 2, "memory": None}}},
    storage(contentSize="1Ti", cacheSize="9Gi"),
)


def test_an_edit_restarts_when_one_of_its_fields_does() -> None:
    for first, second in product(SPECS, repeat=2):
        for old, new in ((of(first), of(second)), (of(first), of(first, second))):
            runs = "replicas" not in old["spec"] and "replicas" not in new["spec"]
            restarts = any(effect.restarts for effect in effects(new, old))
            assert restarts == (runs and consumed(old) != consumed(new)), (old, new)


def consumed(manifest: Manifest) -> Any:
    spec = read(manifest).server.spec
    template = stateful_set(Owner("files", "default"), spec, None)["spec"]["template"]
    return template, config_yaml(spec), consumed_references("files", spec)


def test_changes_without_an_edit_come_first() -> None:
    spec = read(server()).server.spec
    live = stateful_set(Owner("files", "default", "u"), spec, PodRevision(config_hash="digest"))

    assert effects(server(), live=live_state(stateful_set=live)) == []

    live["spec"]["template"]["spec"]["containers"][0]["image"] = "dittofs:1"
    [drift] = effects(server(), live=live_state(stateful_set=live))

    assert drift == Effect(
        "StatefulSet files",
        "differs from what this version of the operator renders for the unchanged spec",
        restarts=True,
    )


@pytest.mark.parametrize(("policy", "restarts"), [("Always", True), ("IfNotPresent", False)])
def test_a_pull_policy_that_the_pod_has_already_restarts_nothing(policy: str, *, restarts: bool) -> None:
    """The API server keeps what it chose by the tag of an earlier image."""
    old = server(image="example.com/dittofs:latest")
    live = stateful_set(Owner("files", "default", "u"), read(old).server.spec, PodRevision(config_hash="digest"))
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    new = {**old, "spec": {**old["spec"], "imagePullPolicy": policy}}

    [effect] = [effect for effect in effects(new, old, live_state(stateful_set=live)) if effect.what != "image"]

    assert effect.restarts is restarts


def running_in(rendering: Rendering, **spec: Any) -> LiveState:
    """A server as a version of the operator with this rendering left it."""
    revision = PodRevision(rendering, "digest", has_writable_root=rendering is not NEWEST)
    live = stateful_set(Owner("files", "default", "u"), read(server(**spec)).server.spec, revision)
    return live_state(stateful_set=live)


def test_what_is_pending_goes_out_with_the_restart_of_an_edit() -> None:
    live, changes = running_in(Rendering.SINGLE_FAMILY), Rendering.BOTH_FAMILIES.changes
    pending = Effect("pending rollout", f"goes out with this restart: {changes}", restarts=True)
    waiting = Effect("pending rollout", f"waits for the next rollout: {changes}", restarts=False)

    assert effects(server(resources={"limits": {"cpu": 2}}), live=live)[1:] == [pending]
    assert effects(server(nfsPort=2050), live=live)[1:] == [waiting]
    assert effects(server(), live=live) == [waiting]
    assert effects(server(), live=running_in(NEWEST)) == []


def test_settings_for_all_servers_go_out_with_the_restart_of_an_edit() -> None:
    settings = ObjectDefaults({"team": "storage"})
    revision = PodRevision(config_hash="digest", defaults=settings)
    workload = stateful_set(Owner("files", "default", "u"), read(server()).server.spec, revision)
    before, after = live_state(stateful_set=workload, defaults=settings), live_state(stateful_set=workload)
    changes = "label team by the operator's settings for all servers"

    assert effects(server(), live=before) == []
    assert effects(server(), live=after) == [Effect("pending rollout", f"waits for the next rollout: {changes}", False)]
    image, pending = effects(server(image="dittofs:2"), live=after)
    assert image.restarts
    assert pending == Effect("pending rollout", f"goes out with this restart: {changes}", restarts=True)


def test_a_label_that_the_pod_has_from_the_settings_restarts_nothing() -> None:
    settings = ObjectDefaults({"team": "storage"})
    revision = PodRevision(config_hash="digest", defaults=settings)
    workload = stateful_set(Owner("files", "default", "u"), read(server()).server.spec, revision)
    live = live_state(stateful_set=workload, defaults=settings)

    [same] = effects(server(podTemplate={"metadata": {"labels": {"team": "storage"}}}), live=live)
    [other] = effects(server(podTemplate={"metadata": {"labels": {"team": "files"}}}), live=live)

    assert (same.restarts, other.restarts) == (False, True)


def test_an_opt_in_to_a_read_only_root_restarts() -> None:
    opted_in = server(securityContext={"readOnlyRootFilesystem": True})

    assert effects(opted_in, live=running_in(Rendering.SINGLE_FAMILY))[0].restarts
    assert not effects(opted_in, live=running_in(NEWEST))[0].restarts


def asking(value: str) -> Manifest:
    manifest = server()
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": {RESTARTED_AT: value}}}


def test_a_restart_that_is_asked_for_takes_pending_changes_along() -> None:
    live = running_in(Rendering.SINGLE_FAMILY)
    asked, pending = effects(asking("noon"), live=live)

    assert asked == Effect("annotation dittofs.io/restartedAt", "unset to noon", restarts=True)
    assert pending.restarts
    assert [effect.restarts for effect in effects(server(), asking("noon"), live)] == [False]
    assert [effect.restarts for effect in effects(asking("noon\n"), live=live)] == [False]


def test_without_claims_a_size_is_an_ordinary_field() -> None:
    assert edit(set_defaults(server()), set_defaults(server(**storage(cacheSize="20Gi"))), None, NOON) == [
        Effect("storage.cacheSize", "5Gi to 20Gi", restarts=False)
    ]


def test_a_new_server_creates_objects_secrets_and_claims() -> None:
    assert creation(server(**jwt(name="jwt", key="k")), LiveState(classes=CLASSES), NOON) == [
        Effect(
            "objects",
            "ConfigMap files-config, StatefulSet files, Service files-headless, Service files-file, Service files-api "
            "are created",
        ),
        Effect(
            "Secrets", "files-admin-bootstrap-credentials are generated, or reused where an earlier server left them"
        ),
        Effect("metadata", "10Gi, claim metadata-files-0 is created, class fast"),
        Effect("cache", "5Gi, claim cache-files-0 is created, class fast"),
    ]


SLOW = StorageClass("slow", expandable=True)
LATER = StorageClass("later", waits_for_pod=True)
MORE = StorageClasses((FAST, SLOW, LATER))


@pytest.mark.parametrize(
    ("leftover", "how"),
    [
        (claim("cache", "5Gi"), "5Gi, claim cache-files-0 is reused with its data: 5Gi of class fast"),
        (claim("cache", "9Gi"), "5Gi, claim cache-files-0 is reused with its data: 9Gi of class fast"),
        (
            claim("cache", "5Gi", storage_class="slow"),
            "5Gi, claim cache-files-0 is reused with its data: 5Gi of class slow, not fast",
        ),
        (
            claim("cache", "5Gi", storage_class=None),
            "5Gi, claim cache-files-0 is reused with its data: 5Gi without a class, not fast",
        ),
        (
            claim("cache", "2Gi", storage_class="slow"),
            "2Gi to 5Gi, claim cache-files-0 is reused with its data: 2Gi of class slow, not fast, "
            "class slow expands online",
        ),
        (
            claim("cache", None, "7Gi", storage_class="slow"),
            "5Gi, claim cache-files-0 is reused, not bound yet: 7Gi of class slow, not fast",
        ),
        (
            claim("cache", "5Gi", phase="Lost"),
            "5Gi, claim cache-files-0 is reused, but has lost its volume: 5Gi of class fast",
        ),
        (
            claim("cache", "9Gi", terminating=True),
            "5Gi, claim cache-files-0 is recreated once the one being deleted is gone, class fast",
        ),
    ],
)
def test_a_new_server_says_which_claims_it_reuses(leftover: Claim, how: str) -> None:
    *_, metadata, cache = creation(server(), live_state(leftover, classes=MORE), NOON)

    assert metadata.how == "10Gi, claim metadata-files-0 is reused with its data: 10Gi of class fast"
    assert cache.how == how


def test_a_leftover_that_grows_has_its_caveat() -> None:
    live = live_state(claim("cache", "2Gi"))

    assert "the pod restarts once" in (caveat(creation(server(), live, NOON), live) or "")


def test_a_content_volume_added_reuses_its_claim() -> None:
    live = live_state(claim("content", "1Gi", storage_class="slow"), classes=MORE)

    [effect] = effects(server(**storage(contentSize="1Gi")), live=live)

    assert effect.how == "1Gi, claim content-files-0 is reused with its data: 1Gi of class slow, not fast"
    assert effect.restarts


def test_claims_that_are_unknown_have_no_effect() -> None:
    assert [effect.what for effect in creation(server(), None, NOON)] == ["objects", "Secrets"]


OURS = {"labels": {"app.kubernetes.io/managed-by": OPERATOR}}
PREVIOUS = {"ownerReferences": [{"kind": KIND, "name": "files", "controller": True}]}
THEIRS = {"ownerReferences": [{"kind": "Database", "name": "files", "controller": True}]}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (OURS, ["exists without an owner and is adopted"]),
        ({}, ["exists and is not this server's; nothing is created until it is removed or renamed"]),
        ({**OURS, **THEIRS}, ["exists and is not this server's; nothing is created until it is removed or renamed"]),
        ({**OURS, **PREVIOUS}, []),
    ],
)
def test_a_new_server_says_whose_statefulset_is_there(metadata: Manifest, expected: list[str]) -> None:
    effects = creation(server(), live_state(stateful_set={"metadata": metadata}), NOON)

    assert [effect.how for effect in effects if effect.what == "StatefulSet files"] == expected


@pytest.mark.parametrize(
    ("metadata", "adopted"), [({}, True), (THEIRS, False), ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, False)]
)
def test_a_new_server_says_which_pod_it_adopts(metadata: Manifest, *, adopted: bool) -> None:
    effects = creation(server(), live_state(pod={"metadata": metadata}), NOON)

    assert (Effect("pod files-0", "exists without a StatefulSet and is adopted") in effects) is adopted


def test_an_expansion_in_use_has_a_caveat() -> None:
    grown = effects(server(**storage(cacheSize="20Gi")))

    assert "the pod restarts once" in (caveat(grown, live_state()) or "")
    assert "waits for you to delete the pod" in (caveat(grown, live_state(may_restart=False)) or "")
    assert caveat(effects(server(nfsPort=2050)), live_state()) is None


def paused(manifest: Manifest) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": {PAUSED_ANNOTATION: "true"}}}


@pytest.mark.parametrize("old", [server(), paused(server())])
def test_an_edit_of_a_paused_server_waits(old: Manifest) -> None:
    new = server(metrics={"enabled": True})
    waits, *others = effects(paused(new) if old == server() else new, old)

    assert waits.what == "annotation dittofs.io/paused"
    assert waits.how == 'is "true": nothing of this happens before it is removed, and then the pod restarts'
    assert others
    assert not any(effect.restarts for effect in (waits, *others))


def test_pausing_a_server_is_no_effect_of_its_own() -> None:
    assert effects(paused(server())) == []


def test_a_new_server_may_be_paused() -> None:
    first, *_ = creation(paused(server()), live_state(), NOON)

    assert first.what == "annotation dittofs.io/paused"


def pod(**pod_spec: Any) -> Manifest:
    return server(podTemplate={"spec": pod_spec})


@pytest.mark.parametrize(
    ("old", "new", "what", "restarts"),
    [
        (pod(), pod(securityContext={"runAsUser": None}), "podTemplate.spec.securityContext", True),
        (
            pod(securityContext={"fsGroup": 1}),
            pod(securityContext={"fsGroup": None}),
            "podTemplate.spec.securityContext.fsGroup",
            True,
        ),
        (
            pod(containers=[{"name": "a", "image": "x"}]),
            pod(containers=[{"name": "a", "image": "y"}]),
            "podTemplate.spec.containers[a].image",
            True,
        ),
        (pod(), pod(containers=[{"name": "dittofs"}]), "podTemplate.spec.containers", False),
        (pod(), pod(terminationGracePeriodSeconds=105), "podTemplate.spec.terminationGracePeriodSeconds", False),
        (server(), server(nodeSelector={"disk": "ssd"}), "nodeSelector", True),
        (server(), server(tolerations=[{"key": "a"}]), "tolerations", True),
        (server(), server(imagePullSecrets=[{"name": "a"}]), "imagePullSecrets", True),
        (server(affinity={}), server(affinity={"podAffinity": {}}), "affinity.podAffinity", True),
    ],
)
def test_a_pod_restarts_for_what_changes_it(old: Manifest, new: Manifest, what: str, restarts: bool) -> None:
    [effect] = effects(new, old)

    assert (effect.what, effect.restarts) == (what, restarts)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"resources": {"limits": {"memory": "1Gi"}}}, {"resources": {"limits": {"memory": "1024Mi"}}}),
        ({}, {"podTemplate": {"spec": {"dnsPolicy": "ClusterFirst", "hostNetwork": False}}}),
        ({}, {"podTemplate": {"spec": {"terminationGracePeriodSeconds": 105}}}),
        ({"podTemplate": {"metadata": {"labels": {}}}}, {}),
    ],
)
def test_another_way_to_write_a_pod_restarts_nothing(old: Manifest, new: Manifest) -> None:
    assert [effect.restarts for effect in effects(server(**new), server(**old))] == [False]
