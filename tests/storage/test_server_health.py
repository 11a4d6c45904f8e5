import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.server_health import (
    MAX_SHARES,
    Family,
    NotDittoFS,
    api_url,
    command_line_tool,
    explain_block_error,
    family_of_image,
    image_version,
    metrics_url,
    read_identity,
    read_metrics,
    read_shares,
    read_store_errors,
    read_version,
    share_removal_command,
    takes_keys_from_environment,
)
from app.storage.unstructured import Manifest
from tests.harness.json_strategies import ANY_JSON
from tests.harness.recorded_health import S3_DOWN, S3_FORBIDDEN, STARTED_AT, health


def service(name: str = "files-api", **changes: Any) -> Manifest:
    listener = name.rpartition("-")[2]
    spec = {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.9",
        "selector": {"app": "dittofs-server", "instance": "files"},
        "ports": [{"name": "extra", "port": 1}, {"name": listener, "port": 8080}],
    }
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {**spec, **changes}}


@pytest.mark.parametrize(
    ("data", "identity"),
    [
        ({"service": "dittofs", "started_at": STARTED_AT}, (Family.LEGACY, STARTED_AT)),
        (
            {"service": "dittofs", "started_at": STARTED_AT, "control_plane_db": "reachable"},
            (Family.CURRENT, STARTED_AT),
        ),
        ({"service": "dittofs", "started_at": STARTED_AT, "control_plane_db": None}, (Family.CURRENT, STARTED_AT)),
        ({"service": "dittofs", "started_at": "2026-11-27T13:33:02.5+02:00"}, (Family.LEGACY, "2026-11-27T11:33:02Z")),
    ],
)
def test_a_server_says_which_it_is(data: dict[str, Any], identity: tuple[Family, str]) -> None:
    assert read_identity(health(data=data)) == identity


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "healthy",
        {},
        {"data": []},
        {"data": {"started_at": STARTED_AT}},
        {"data": {"service": "dittofs"}},
    ],
)
def test_what_is_no_dittofs_server_has_no_identity(answer: Any) -> None:
    with pytest.raises(NotDittoFS):
        read_identity(answer)


@pytest.mark.parametrize(
    "time", [None, 7, [], {}, "", "yesterday", "2026-11-27", "2026-11-27T11:33:02", "9999-12-31T23:59:59-14:00"]
)
def test_a_start_without_a_time_is_refused(time: Any) -> None:
    with pytest.raises(NotDittoFS):
        read_identity(health(data={"service": "dittofs", "started_at": time}))


@pytest.mark.parametrize(
    ("answer", "shares"),
    [
        (health(data={"shares": 2}), 2),
        (health(data={"shares": 0}), 0),
        (health("unhealthy", error="no shares configured"), 0),
        (health("unhealthy", error="no adapters running"), None),
        ({}, None),
    ],
)
def test_shares_are_counted_or_unknown(answer: Any, shares: int | None) -> None:
    assert read_shares(answer) == shares


@pytest.mark.parametrize("shares", [-1, MAX_SHARES + 1, 2**63, True, 1.0, "1", None, []])
def test_a_number_of_shares_that_is_none_is_refused(shares: Any) -> None:
    with pytest.raises(NotDittoFS):
        read_shares(health(data={"shares": shares}))


def test_a_list_is_no_answer_about_shares() -> None:
    with pytest.raises(NotDittoFS):
        read_shares([])


# As February's server answered about an endpoint with a private CA.
NOT_TRUSTED = (
    "S3 health check failed: operation error S3: HeadBucket, exceeded maximum number of attempts, 3, "
    "https response error StatusCode: 0, RequestID: , HostID: , request send failed, "
    'Head "https://127.0.0.1:9001/dittofs": tls: failed to verify certificate: x509: certificate'
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (S3_FORBIDDEN, "S3 rejects the credentials: 403"),
        (S3_FORBIDDEN.replace("403", "401"), "S3 rejects the credentials: 401"),
        (S3_FORBIDDEN.replace("403", "404"), "S3 has no such bucket: 404"),
        (
            S3_FORBIDDEN.replace("403", "301"),
            "S3 does not accept the request, perhaps because of the region or the endpoint: 301",
        ),
        (S3_FORBIDDEN.replace("403", "503"), "S3 answers with an error: 503"),
        (S3_DOWN, "S3 cannot be reached: connection refused"),
        (S3_DOWN.replace("connection refused", "no such host"), "S3 cannot be reached: no such host"),
        (
            f"{NOT_TRUSTED} signed by unknown authority",
            "S3 cannot be reached: the server does not trust its certificate; name its CA in s3.caSecretRef",
        ),
        (
            f"{NOT_TRUSTED} is valid for 192.0.2.1, not 192.0.2.2",
            "S3 cannot be reached: its certificate is not valid for the host in the endpoint",
        ),
        (
            f"{NOT_TRUSTED} has expired or is not yet valid: current time 2026-11-27T12:00:00Z is after",
            "S3 cannot be reached: its certificate has expired, or is not valid yet",
        ),
        ("S3 health check failed: context deadline exceeded", "S3 cannot be reached: no answer in time"),
        ("S3 is\nbroken", "the content store fails: S3 is broken"),
        ("disk /data/content is full", "the content store fails: disk /data/content is full"),
        (None, "the content store fails: the server does not say why"),
        ({"a": 1}, "the content store fails: {'a': 1}"),
    ],
)
def test_an_error_of_s3_is_said_in_a_few_words(error: object, text: str) -> None:
    assert explain_block_error(error) == text


def test_each_store_that_fails_is_named_once() -> None:
    failing = {"status": "unhealthy", "error": S3_FORBIDDEN}
    stores = {
        "metadata_stores": [
            {"name": "m1", "status": "healthy"},
            {"name": "m2", "status": "unhealthy", "error": "gone"},
        ],
        "block_store": failing,
        "block_stores": [failing, {"status": "healthy"}],
    }

    expected = ("S3 rejects the credentials: 403", 'metadata store "m2" fails: gone')
    assert read_store_errors(health(data=stores)) == expected


@pytest.mark.parametrize("data", [{}, {"metadata_stores": 7}, {"block_store": [], "metadata_stores": [None, 7, {}]}])
def test_stores_of_another_shape_are_no_errors(data: Any) -> None:
    assert read_store_errors(health(data=data)) == ()


def test_errors_of_stores_are_limited_in_number_and_length() -> None:
    stores = [{"name": "n" * 9999, "status": 7, "error": f"{number}" + "\x00" * 99_999} for number in range(1000)]
    errors = read_store_errors(health(data={"metadata_stores": stores, "block_stores": [{"status": []}] * 1000}))

    assert len(errors) <= 8
    assert all(error.isprintable() and len(error) < 700 for error in errors)


METRICS = (
    "# HELP dittofs_build_info Build.\n# TYPE dittofs_build_info gauge\n"
    'dittofs_build_info{{commit="none",version="{}"}} 1\n'
)


@pytest.mark.parametrize(
    ("version", "read"), [("v0.29.0", "0.29.0"), ("0.29.0-rc.1", "0.29.0-rc.1"), ("dev", None), ("", None)]
)
def test_metrics_say_the_version(version: str, read: str | None) -> None:
    assert read_metrics(METRICS.format(version)) == (read, ())


def test_metrics_of_a_server_before_0_18_say_nothing() -> None:
    assert read_metrics("go_goroutines 7\n") is None


def test_metrics_say_which_share_has_lost_its_remote_store() -> None:
    text = METRICS.format("dev") + (
        '# TYPE dittofs_remote_up gauge\ndittofs_remote_up{share="/b"} 0\ndittofs_remote_up{share="/up"} 1\n'
        'dittofs_remote_up{pod="x",share="/a \\"{}\\n"} 0\ndittofs_remote_outage_seconds{share="/up"} 0\n'
    )
    expected = (
        'share "/a \\"{}\\n": its remote store is unreachable',
        'share "/b": its remote store is unreachable',
    )
    assert read_metrics(text) == (None, expected)


@pytest.mark.alone
@pytest.mark.parametrize(
    "text",
    [
        "\n" * 2**20,
        "\ndittofs_remote_up{" * 60_000,
        ('\ndittofs_remote_up{share="' + "\\a" * 500) * 1000,
        '\ndittofs_remote_up{share="a"} 0' * 30_000,
        "dittofs_build_info{" + "x" * 2**20,
        'version="' * 2**17,
    ],
)
def test_no_metrics_take_long_to_read(text: str) -> None:
    started = time.process_time()
    _, errors = read_metrics(METRICS.format("dev") + text) or (None, ())

    assert time.process_time() - started < 0.2
    assert len(errors) <= 8


@pytest.mark.parametrize(
    "text",
    [
        "latest",
        "dev",
        "29",
        "v",
        "0.x",
        "0.29.0\n",
        "0.29.0 evil",
        f"0.{'1' * 99}",
        "0.29.0+" + "a" * 99,
        "\u0660.\u0662",
        7,
        None,
    ],
)
def test_what_is_no_version_is_none(text: object) -> None:
    assert read_version(text) is None


@pytest.mark.parametrize(
    ("image", "family", "version"),
    [
        ("marmos91c/dittofs", Family.CURRENT, None),
        ("marmos91c/dittofs:latest", Family.CURRENT, None),
        ("registry:5000/dittofs", Family.CURRENT, None),
        ("registry:5000/dittofs:v0.29.0@sha256:abc", Family.CURRENT, "0.29.0"),
        ("marmos91c/dittofs:0.13", Family.CURRENT, "0.13"),
        ("marmos91c/dittofs:v1.0.0-rc1", Family.CURRENT, "1.0.0-rc1"),
        ("marmos91c/dittofs:v0.12.3", None, "0.12.3"),
        ("marmos91c/dittofs:v0.9.0", None, "0.9.0"),
        ("marmos91c/dittofs:0.8.3", Family.LEGACY, "0.8.3"),
        ("marmos91c/dittofs:0.4", Family.LEGACY, "0.4"),
        ("marmos91c/dittofs:0.8-alpine", Family.LEGACY, "0.8-alpine"),
        ("marmos91c/dittofs:main", None, None),
        ("marmos91c/dittofs:", None, None),
        ("marmos91c/dittofs@sha256:abc", None, None),
        ("", Family.CURRENT, None),
    ],
)
def test_a_tag_tells_the_family_and_the_version(image: str, family: Family | None, version: str | None) -> None:
    assert family_of_image(image) == family
    assert image_version(image) == version


@pytest.mark.parametrize(
    ("family", "version", "takes_keys"),
    [
        (Family.LEGACY, None, True),
        (Family.LEGACY, "0.9.9", True),
        (Family.CURRENT, "0.12.0", True),
        (Family.CURRENT, "0.13.0-rc1", False),
        (Family.CURRENT, "1.0.0", False),
        (Family.CURRENT, None, False),
    ],
)
def test_keys_reach_older_servers_by_a_restart(family: Family, version: str | None, *, takes_keys: bool) -> None:
    assert takes_keys_from_environment(family, version) is takes_keys


def test_the_tool_of_a_server_was_renamed() -> None:
    assert command_line_tool(Family.LEGACY, "0.4.2") == command_line_tool(Family.LEGACY, None) == "dittofsctl"
    assert command_line_tool(Family.LEGACY, "0.5.0") == command_line_tool(Family.CURRENT, None) == "dfsctl"


def test_the_command_that_removes_a_share_was_renamed() -> None:
    assert share_removal_command(Family.CURRENT, "0.23.2") == "dfsctl share delete"
    assert share_removal_command(Family.CURRENT, "0.24.0") == "dfsctl share remove"
    assert share_removal_command(Family.LEGACY, None) == "dittofsctl share delete"


def test_the_api_is_at_the_address_of_its_service() -> None:
    assert api_url(service()) == "http://10.96.0.9:8080"
    assert api_url(service(clusterIP="fd00::9", type="LoadBalancer")) == "http://[fd00::9]:8080"
    assert metrics_url(service("files-metrics")) == "http://10.96.0.9:8080"


def test_a_label_that_somebody_added_to_the_selector_narrows_it() -> None:
    selector = {"app": "dittofs-server", "instance": "files", "also": "this"}
    assert api_url(service(selector=selector)) == "http://10.96.0.9:8080"


@pytest.mark.parametrize(
    "other",
    [
        None,
        {},
        {"metadata": {"name": "files-api"}},
        service("files-file"),
        service(type="ExternalName", externalName="example.com"),
        service(clusterIP="None"),
        service(clusterIP=""),
        service(clusterIP="example.com"),
        service(clusterIP="127.0.0.1"),
        service(clusterIP="169.254.169.254"),
        service(clusterIP="fe80::1"),
        service(clusterIP="fe80::1%eth0"),
        service(clusterIP="::1"),
        service(clusterIP="::ffff:127.0.0.1"),
        service(clusterIP="224.0.0.1"),
        service(clusterIP="0.0.0.0"),
        service(selector=None),
        service(selector={"app": "something-else", "instance": "files"}),
        service(selector={"app": "dittofs-server", "instance": "others"}),
        service(ports=None),
        service(ports=[{"name": "other", "port": 8080}]),
        service(ports=[{"name": "api"}]),
    ],
)
def test_a_service_that_leads_elsewhere_has_no_url(other: Manifest | None) -> None:
    assert api_url(other) is None


_KEYS = st.sampled_from(
    [
        "block_store",
        "block_stores",
        "data",
        "error",
        "metadata_stores",
        "name",
        "service",
        "shares",
        "started_at",
        "status",
    ]
)
_LIKE_HEALTH = st.recursive(
    ANY_JSON | st.sampled_from(["dittofs", "healthy", "unhealthy", STARTED_AT, S3_FORBIDDEN]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
)


@given(answer=_LIKE_HEALTH)
def test_whatever_a_server_answers_is_read_or_refused(answer: Any) -> None:
    for read in (read_identity, read_shares, read_store_errors):
        with suppress(NotDittoFS):
            result = read(answer)
            assert all(text.isprintable() for text in (result if isinstance(result, tuple) else [str(result)]))


@given(text=st.text(max_size=200), image=st.text(max_size=80))
def test_whatever_metrics_and_images_say_is_read(text: str, image: str) -> None:
    metrics = f"{METRICS.format(text)}dittofs_remote_up{{{text}}} 0\n{text}"
    version, errors = read_metrics(metrics) or (None, ())
    assert all(error.isprintable() for error in (version or "", *errors))
    assert family_of_image(image) in (*Family, None)
    assert image_version(image) is None or len(image_version(image) or "") <= 64
