from app.storage.events import Event
from app.storage.object_write import ObjectWrite, Verb, WriteCause
from app.storage.write_events import MAX_FIELDS, write_events

IMAGE = "spec.template.spec.containers[dittofs].image"


def write(verb: Verb, kind: str, name: str, *fields: str, cause: WriteCause = WriteCause.DESIRED) -> ObjectWrite:
    return ObjectWrite(verb, kind, "here", name, fields, cause=cause)


def test_a_new_server_has_one_event_for_all_its_objects() -> None:
    writes = [
        write("create", "Secret", "files-jwt-secret"),
        write("create", "Secret", "files-admin-bootstrap-credentials"),
        write("create", "ConfigMap", "files-config"),
        write("create", "StatefulSet", "files"),
        # A webhook of others has changed it.
        write("apply", "StatefulSet", "files", IMAGE, cause=WriteCause.DRIFT),
        write("create", "Service", "files-file"),
        write("create", "Service", "files-api"),
    ]

    assert list(write_events(writes)) == [
        Event(
            "Normal",
            "Created",
            "created Secret files-jwt-secret and files-admin-bootstrap-credentials, ConfigMap files-config, "
            "StatefulSet files, Service files-file and files-api",
        )
    ]


def test_a_change_names_each_field_once() -> None:
    writes = [
        write("apply", "ConfigMap", "files-config", "data[config.yaml]"),
        write("apply", "StatefulSet", "files", "spec.replicas"),
        write("apply", "StatefulSet", "files", "spec.replicas", IMAGE),
    ]

    assert [event.message for event in write_events(writes)] == [
        f"changed ConfigMap files-config: data[config.yaml]; StatefulSet files: spec.replicas, {IMAGE}"
    ]


def test_many_fields_are_not_listed() -> None:
    [event] = write_events([write("apply", "Service", "files-file", *(f"metadata.labels.x{n}" for n in range(20)))])

    assert event.message.count("metadata.labels") == MAX_FIELDS
    assert event.message.endswith(", and more")


def test_drift_is_told_from_a_change_of_the_spec() -> None:
    drift = ObjectWrite(
        "apply",
        "StatefulSet",
        "here",
        "files",
        ("spec.replicas",),
        cause=WriteCause.DRIFT,
        changed_by=("kubectl",),
    )
    writes = [drift, write("apply", "Service", "files-file", "spec.type"), write("delete", "Service", "files-metrics")]

    assert list(write_events(writes)) == [
        Event("Normal", "Changed", "changed Service files-file: spec.type"),
        Event("Warning", "Restored", "restored what others changed: StatefulSet files: spec.replicas (by kubectl)"),
        Event("Normal", "Deleted", "deleted Service files-metrics: the spec does not ask for it any more"),
    ]


def test_a_takeover_has_one_event() -> None:
    writes = [
        write("patch", "StatefulSet", "files", "metadata.labels"),
        write("patch", "StatefulSet", "files", "metadata.managedFields"),
        write("apply", "StatefulSet", "files", IMAGE, cause=WriteCause.ADOPTION),
        write("replace", "Service", "files-file", "spec.type", cause=WriteCause.ADOPTION),
    ]

    [event] = write_events(writes)

    assert event.reason == "Adopted"
    assert event.message.startswith("took over StatefulSet files, Service files-file")


def test_what_has_an_event_of_its_own_has_no_other() -> None:
    writes = [
        write("patch", "DittoServer", "files", "metadata.finalizers"),
        write("delete", "Pod", "files-0"),
        write("patch", "Pod", "files-0", "metadata.ownerReferences"),
        write("patch", "PersistentVolumeClaim", "cache-files-0", "spec.resources.requests.storage"),
        write("patch", "Secret", "files-jwt-secret", "metadata.ownerReferences"),
    ]

    assert list(write_events(writes)) == []
    assert list(write_events([])) == []


def test_labels_of_secrets_and_claims_are_changes() -> None:
    writes = [
        write("patch", "Secret", "files-jwt-secret", "metadata.labels"),
        write("merge", "PersistentVolumeClaim", "cache-files-0", "metadata.labels.team"),
    ]

    assert [event.message for event in write_events(writes)] == [
        "changed Secret files-jwt-secret: metadata.labels; PersistentVolumeClaim cache-files-0: metadata.labels.team"
    ]


def test_a_hash_that_restarts_the_pod_is_no_change() -> None:
    annotations = "spec.template.metadata.annotations"
    rotated = (f"{annotations}[dittofs.io/config-hash]", f"{annotations}[dittofs.io/restartedAt]")

    assert list(write_events([write("apply", "StatefulSet", "files", *rotated)])) == []
    assert [event.message for event in write_events([write("apply", "StatefulSet", "files", *rotated, IMAGE)])] == [
        f"changed StatefulSet files: {IMAGE}"
    ]
