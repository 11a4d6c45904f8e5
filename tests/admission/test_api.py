import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import jsonpatch
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admission.api import BODY_BYTES, health, webhook
from app.storage.defaulting import set_defaults
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH
from tests.admission.reviews import Json, broken, classes, client, review
from tests.harness.json_strategies import ANY_JSON
from tests.harness.log_lines import record_lines
from tests.harness.server_table import server, storage

pytestmark = pytest.mark.anyio


async def ask(path: str, question: Json, gather: Any = classes) -> Json:
    async with client(webhook(gather)) as api:
        answer = await api.post(path, json=question)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    response: Json = answer.json()["response"]
    assert response["uid"] == question["request"]["uid"]
    return response


async def test_defaults_come_back_as_a_patch() -> None:
    response = await ask(MUTATE_PATH, review(server()))
    operations = orjson.loads(base64.b64decode(response["patch"]))
    assert {"op": "add", "path": "/spec/storage/cacheSize", "value": "5Gi"} in operations
    assert jsonpatch.apply_patch(server(), operations) == set_defaults(server())


async def test_a_complete_server_gets_no_patch() -> None:
    assert await ask(MUTATE_PATH, review(set_defaults(server()))) == {"uid": "u-1", "allowed": True}


async def test_a_broken_object_is_left_for_validation_to_reject() -> None:
    assert await ask(MUTATE_PATH, review(server(nfsPort="x"))) == {"uid": "u-1", "allowed": True}
    assert (await ask(VALIDATE_PATH, review(server(nfsPort="x"))))["allowed"] is False


async def test_all_findings_and_warnings_come_back() -> None:
    manifest = server(nfsPort=8080, controlPlane={"port": 80}, **storage(storageClassName="gone", cacheSize="0Gi"))
    response = await ask(VALIDATE_PATH, review(manifest))

    assert response["status"]["code"] == 422
    assert [cause["field"] for cause in response["status"]["details"]["causes"]] == [
        "spec.storage.cacheSize",
        "spec.storage.storageClassName",
    ]
    assert response["warnings"] == ["api port 80 is privileged; may require CAP_NET_BIND_SERVICE capability"]


@pytest.mark.parametrize("path", [MUTATE_PATH, VALIDATE_PATH])
async def test_a_deletion_is_always_allowed(path: str) -> None:
    question = review(None, server(nfsPort=0), operation="DELETE")
    assert await ask(path, question) == {"uid": "u-1", "allowed": True}


async def test_the_old_object_counts_only_on_update() -> None:
    question = review(server(nfsPort=0), server(nfsPort=0), operation="CREATE")
    assert (await ask(VALIDATE_PATH, question))["allowed"] is False


async def test_another_kind_is_refused() -> None:
    question = review(server())
    question["request"]["kind"] = {"kind": "Pod"}
    response = await ask(VALIDATE_PATH, question)

    assert response["status"]["code"] == 400
    assert "judges DittoServer objects, not Pod" in response["status"]["message"]


async def test_an_internal_error_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    response = await ask(VALIDATE_PATH, review(server()), gather=broken)

    assert response["status"] == {
        "status": "Failure",
        "code": 500,
        "message": "dittofs-operator failed to judge this object; its log says why",
    }
    assert "out of order" in caplog.text


@given(ANY_JSON, ANY_JSON, st.sampled_from([MUTATE_PATH, VALIDATE_PATH]), st.sampled_from(["CREATE", "UPDATE", "x"]))
async def test_any_json_as_the_object_gets_an_answer(manifest: Any, old: Any, path: str, operation: str) -> None:
    response = await ask(path, review(manifest, old, operation))
    assert isinstance(response["allowed"], bool)


@given(st.dictionaries(st.sampled_from(["storage", "smb", "s3", "identity", "service", "nfsPort"]), ANY_JSON))
async def test_any_json_in_the_spec_gets_a_patch_that_applies(spec: Json) -> None:
    manifest = server() | {"spec": spec}
    response = await ask(MUTATE_PATH, review(manifest))
    operations = orjson.loads(base64.b64decode(response.get("patch", "") or b"W10="))

    assert jsonpatch.apply_patch(manifest, operations) == set_defaults(manifest)
    assert (await ask(VALIDATE_PATH, review(manifest)))["allowed"] in (True, False)


@pytest.mark.parametrize(
    ("content_type", "body", "code", "error"),
    [
        ("text/yaml", b"{}", 415, "expected content type application/json, got text/yaml"),
        ("", b"{}", 415, "expected content type application/json, got none"),
        ("application/json; charset=utf-8", b'{"kind"', 400, "the body is not JSON"),
        ("application/json", b"{}", 400, "expected an AdmissionReview of admission.k8s.io/v1"),
        ("application/json", b" " * (BODY_BYTES + 1), 413, f"expected a body of at most {BODY_BYTES} bytes"),
    ],
)
async def test_what_is_no_review_is_refused_with_a_reason(
    content_type: str, body: bytes, code: int, error: str
) -> None:
    async with client(webhook(classes)) as api:
        answer = await api.post(VALIDATE_PATH, content=body, headers={"content-type": content_type})
    assert answer.status_code == code
    assert error in answer.json()["error"]


@pytest.mark.parametrize(("method", "path", "code"), [("GET", VALIDATE_PATH, 405), ("POST", "/elsewhere", 404)])
async def test_only_a_post_to_a_webhook_is_a_review(method: str, path: str, code: int) -> None:
    async with client(webhook(classes)) as api:
        answer = await api.request(method, path, json=review(server()))

    assert answer.status_code == code


@pytest.mark.parametrize(("depth", "code"), [(500, 200), (1000, 200), (100_000, 400)])
@pytest.mark.parametrize("path", [MUTATE_PATH, VALIDATE_PATH])
async def test_a_deeply_nested_object_gets_an_answer(path: str, depth: int, code: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    body = orjson.dumps(review(server(resources="deep"), server(resources="deep", nfsPort=1))).replace(b'"deep"', deep)
    async with client(webhook(classes)) as api:
        answer = await api.post(path, content=body, headers={"content-type": "application/json"})

    assert answer.status_code == code


@pytest.mark.parametrize("depth", [500, 900, 1000])
@pytest.mark.parametrize("path", [MUTATE_PATH, VALIDATE_PATH])
async def test_an_equally_deep_update_is_no_error(path: str, depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    body = orjson.dumps(review(server(resources="deep"), server(resources="deep"))).replace(b'"deep"', deep)

    async with client(webhook(classes)) as api:
        answer = await api.post(path, content=body, headers={"content-type": "application/json"})

    assert answer.json()["response"]["allowed"] is True


@pytest.mark.parametrize("field", ["apiVersion", "kind"])
async def test_a_deep_envelope_is_refused(field: str) -> None:
    body = orjson.dumps(review(server()) | {field: "deep"}).replace(b'"deep"', b"[" * 1000 + b"]" * 1000)

    async with client(webhook(classes)) as api:
        answer = await api.post(VALIDATE_PATH, content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert "got apiVersion" in answer.json()["error"]


@pytest.mark.parametrize("value", ["${SIZE}", "{}", "{given}", "%s", "{0.__class__}"])
async def test_an_unsubstituted_variable_is_a_finding(value: str) -> None:
    response = await ask(VALIDATE_PATH, review(server(**storage(cacheSize=value))))

    [cause] = response["status"]["details"]["causes"]

    assert cause["field"] == "spec.storage.cacheSize"
    assert cause["message"].endswith(f'such as 10Gi, not "{value}"')


async def test_a_path_in_an_answer_has_no_control_character() -> None:
    response = await ask(VALIDATE_PATH, review(server(service={"annotations": {"a\n\x1b[2J": 5}})))

    assert response["status"]["details"]["causes"][0]["field"].isprintable()
    assert response["status"]["message"].isprintable()


async def test_a_body_of_unknown_length_is_capped() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 2**20
            yield b" " * 2**20
            await anyio.lowlevel.checkpoint()

    async with client(webhook(classes)) as api:
        answer = await api.post(VALIDATE_PATH, content=endless(), headers={"content-type": "application/json"})

    assert answer.status_code == 413
    assert sent <= BODY_BYTES + 2**21


async def test_a_body_in_tiny_parts_is_read_fast() -> None:
    part, parts = {"type": "http.request", "body": b" ", "more_body": True}, 20_000
    messages = iter([{**part, "body": b" " * (BODY_BYTES - 2 * parts)}, *[part] * parts, {**part, "more_body": False}])

    async def receive() -> Any:
        return next(messages)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    started = time.process_time()
    await webhook(classes)({"type": "http", "method": "POST", "path": VALIDATE_PATH, "headers": headers}, receive, send)

    assert sent[0]["status"] == 400
    # To copy all of it for each part takes more than ten.
    assert time.process_time() - started < 2


async def test_a_decision_is_logged_on_one_line() -> None:
    with record_lines() as lines:
        await ask(VALIDATE_PATH, review(server("a-server", nfsPort=0)))
    [line] = [line for line in lines if line["message"] == "reviewed"]

    assert line["review_id"] == "u-1"
    assert line["operation"] == "CREATE"
    assert (line["namespace"], line["server"]) == ("default", "a-server")
    assert line["verdict"] == "denied"
    assert line["milliseconds"] > 0
    assert "nfsPort must be between" in line["reason"]


async def test_readiness_gives_the_reason() -> None:
    why: str | None = "draining"
    async with client(health(lambda: why)) as api:
        assert (await api.get("/healthz")).status_code == 200
        assert ((await api.get("/readyz")).status_code, (await api.get("/readyz")).text) == (503, "draining\n")

        why = None

        assert (await api.get("/readyz")).status_code == 200


async def test_named_metrics_come_without_the_servers() -> None:
    async def server_metrics() -> AsyncIterator[str]:
        yield "of_servers 1\n"

    async with client(health(lambda: None, server_metrics)) as api:
        text = (await api.get("/metrics?name[]=controller_runtime_webhook_requests_total")).text
        whole = (await api.get("/metrics")).text

    names = {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")}
    assert names == {"controller_runtime_webhook_requests_total"}
    assert whole.endswith("of_servers 1\n")


async def test_metrics_have_the_names_of_controller_runtime() -> None:
    await ask(VALIDATE_PATH, review(server()))
    async with client(health(lambda: None)) as api:
        text = (await api.get("/metrics")).text

    assert f'controller_runtime_webhook_requests_total{{code="200",webhook="{VALIDATE_PATH}"}}' in text
    assert f'controller_runtime_webhook_latency_seconds_count{{webhook="{VALIDATE_PATH}"}}' in text
    assert f'controller_runtime_webhook_requests_in_flight{{webhook="{VALIDATE_PATH}"}} 0.0' in text
