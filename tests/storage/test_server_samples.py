from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.restart_cause import RestartCause
from app.storage.server_samples import (
    CAPACITY,
    CONDITION,
    CONTAINER_RESTARTS,
    CREDENTIALS_CHANGED,
    FAMILIES,
    INFO,
    REQUESTED,
    RESTARTS,
    STORE_FAILING,
    VOLUME_PHASE,
    WAITING,
    MetricFamily,
    Sample,
    s3_secret_name,
    server_samples,
)
from app.storage.status import CONDITIONS
from app.storage.unstructured import Manifest
from tests.harness.json_strategies import ANY_JSON, ANY_OBJECT
from tests.harness.server_table import s3, server

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
HALF_PAST_ELEVEN = "2026-02-01T11:30:00Z"
SIZE = {"requested": "10Gi", "capacity": "5Gi"}


def condition(kind: str, status: str, reason: str = "Available", since: str = HALF_PAST_ELEVEN) -> Manifest:
    return {"type": kind, "status": status, "reason": reason, "lastTransitionTime": since, "message": ""}


def samples(status: Any = None, pod: Manifest | None = None, **changes: Any) -> dict[MetricFamily, list[Sample]]:
    metadata = {"name": "files", "namespace": "default", "creationTimestamp": "2026-02-01T11:59:00Z"}
    manifest = {**server(), "metadata": metadata, "status": {} if status is None else status}
    arguments = {"credentials_changed": None, "restarts": {}, "now": NOON, **changes}
    return server_samples(manifest, pod, **arguments)


def test_info_has_the_reason_of_ready_or_stalled() -> None:
    ready, reported = condition("Ready", "True"), {"version": "0.29.0"}
    going = {"phase": "Running", "server": reported, "conditions": [ready, condition("Stalled", "False", "Reconciled")]}
    stuck = {"phase": "Running", "conditions": [ready, condition("Stalled", "True", "ResizeRefused")]}

    assert samples(going)[INFO] == [(("0.29.0", "Running", "Available"), 1)]
    assert samples(stuck)[INFO] == [(("", "Running", "ResizeRefused"), 1)]
    assert samples()[INFO] == [(("", "", ""), 1)]


@pytest.mark.parametrize(
    ("status", "reason", "value"),
    [("False", "StoreFailing", 1), ("False", "NoShare", 0), ("Unknown", "ServerUnreachable", 0), ("True", "Loaded", 0)],
)
def test_a_missing_share_is_no_failing_store(status: str, reason: str, value: float) -> None:
    assert samples({"conditions": [condition("StoresReady", status, reason)]})[STORE_FAILING] == [((), value)]
    assert samples()[STORE_FAILING] == [((), 0)]


def test_exactly_one_status_of_each_condition_is_1() -> None:
    values = dict(samples({"conditions": [condition("Ready", "False")]})[CONDITION])

    assert [values["Ready", status] for status in ("True", "False", "Unknown")] == [0, 1, 0]
    for kind in CONDITIONS.keys() - {"Ready"}:
        assert [values[kind, status] for status in ("True", "False", "Unknown")] == [0, 0, 1]


@pytest.mark.parametrize(
    ("conditions", "seconds"),
    [
        ([condition("Ready", "True"), condition("Reconciling", "False"), condition("Stalled", "False")], 0),
        ([condition("Ready", "False")], 1800),
        ([condition("Ready", "Unknown")], 1800),
        ([condition("Ready", "True"), condition("Reconciling", "True")], 1800),
        ([condition("Ready", "True"), condition("Stalled", "True")], 1800),
        ([condition("Ready", "False", since="2026-02-01T11:50:00Z"), condition("Stalled", "True")], 1800),
        ([condition("Ready", "False", since="2026-02-01T13:00:00Z")], 0),
        ([condition("Ready", "False", since="yesterday")], 0),
        ([condition("Ready", "False", since="2026-02-01T11:30:00")], 0),
        ([condition("Ready", "True"), condition("StorageReady", "False")], 0),
        ([], 60),
    ],
)
def test_a_server_waits_until_it_is_as_its_spec_asks(conditions: list[Manifest], seconds: float) -> None:
    assert samples({"conditions": conditions})[WAITING] == [((), seconds)]


def test_volumes_have_sizes_in_bytes_and_a_phase() -> None:
    volumes = [{"name": "cache", "phase": "Resizing", **SIZE}, {"name": "metadata", "phase": "Pending"}]

    values = samples({"volumes": volumes})

    assert values[REQUESTED] == [(("cache", "cache-files-0"), 10 * 2**30)]
    assert values[CAPACITY] == [(("cache", "cache-files-0"), 5 * 2**30)]
    assert values[VOLUME_PHASE] == [(("cache", "Resizing"), 1), (("metadata", "Pending"), 1)]


def test_all_causes_of_restarts_are_there() -> None:
    values = dict(samples(restarts={RestartCause.SPEC: 2})[RESTARTS])

    assert values.keys() == {(cause,) for cause in RestartCause}
    assert sum(values.values()) == values[RestartCause.SPEC,] == 2


def test_restarts_of_the_container_are_those_of_the_pod() -> None:
    statuses = [{"name": "sidecar", "restartCount": 7}, {"name": "dittofs", "restartCount": 2}]

    assert samples(pod={"status": {"containerStatuses": statuses}})[CONTAINER_RESTARTS] == [((), 2)]
    assert samples(pod={"status": {}})[CONTAINER_RESTARTS] == [((), 0)]
    assert samples()[CONTAINER_RESTARTS] == [((), 0)]


def test_the_age_of_credentials_follows_from_a_timestamp() -> None:
    assert samples(credentials_changed="2026-02-01T12:00:00Z")[CREDENTIALS_CHANGED] == [((), NOON.timestamp())]
    assert samples()[CREDENTIALS_CHANGED] == []


def test_the_s3_secret_is_that_of_the_spec() -> None:
    assert s3_secret_name(server(**s3())) == "s3"
    assert s3_secret_name(server()) is None


@given(ANY_OBJECT, ANY_JSON)
def test_any_spec_is_read_for_its_secret(spec: Manifest, anything: Any) -> None:
    for manifest in ({"spec": spec}, {"spec": anything}, {"spec": {"s3": anything}}):
        assert s3_secret_name(manifest) is None
    s3_secret_name({"spec": {"s3": {"credentialsSecretRef": anything}}})


HOSTILE_TEXTS = st.sampled_from(
    ['a"} 1\nx{y="', "\\", "a" * 1000, "9" * 250, "1e99", "-5Gi", "NaN", "", "True", "Ready"]
)
HOSTILE = st.recursive(
    HOSTILE_TEXTS | ANY_JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE_TEXTS, inner, max_size=3),
)
CONDITIONS_OF_TENANTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from([*CONDITIONS, "Mine", 'a"'])},
        optional=dict.fromkeys(("status", "reason", "message", "lastTransitionTime"), HOSTILE),
    )
    | st.builds(condition, st.sampled_from([*CONDITIONS, "Mine"]), st.just("True"), HOSTILE_TEXTS, HOSTILE_TEXTS),
    max_size=4,
)
VOLUMES_OF_TENANTS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["cache", "metadata", "mine", 'a"'])},
        optional=dict.fromkeys(("requested", "capacity", "phase", "claim"), HOSTILE_TEXTS),
    ),
    max_size=4,
)
STATUSES_OF_TENANTS = st.fixed_dictionaries(
    {},
    optional={
        "conditions": CONDITIONS_OF_TENANTS | HOSTILE,
        "volumes": VOLUMES_OF_TENANTS | HOSTILE,
        "phase": HOSTILE,
        "server": st.fixed_dictionaries({"version": HOSTILE_TEXTS}) | HOSTILE,
    },
)


@given(STATUSES_OF_TENANTS | ANY_JSON)
def test_any_status_gives_few_and_short_labels(status: Any) -> None:
    values = samples(status)

    assert values.keys() == set(FAMILIES)
    for family, listed in values.items():
        # No series is there twice: Prometheus would drop one of the two.
        assert len({labels for labels, _ in listed}) == len(listed) <= family.series * (4 if family.per_volume else 1)
        for labels, value in listed:
            assert len(labels) == len(family.labels)
            assert all(len(label) <= 64 and label.isprintable() for label in labels if not label.endswith("-files-0"))
            assert 0 <= value < float("inf")
