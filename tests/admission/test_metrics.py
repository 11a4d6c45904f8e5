from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.admission.api import webhook
from app.admission.metrics import COUNTS, WebhookCollector
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH
from tests.admission.reviews import Json, broken, classes, client, review
from tests.harness.server_table import server, storage

Counts = dict[tuple[str, ...], float]

pytestmark = pytest.mark.anyio


async def ask(path: str, question: Json, gather: Any = classes) -> None:
    async with client(webhook(gather)) as api:
        assert (await api.post(path, json=question)).status_code == 200


def counts(name: str) -> Counts:
    """Returns the values of a counter by its labels, in the order of their names."""
    [family] = [metric for metric in REGISTRY.collect() if metric.name == name]
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for sample in family.samples
        if sample.name == f"{name}_total"
    }


def increases(before: Counts, after: Counts) -> Counts:
    assert before.keys() == after.keys()
    return {labels: value - before[labels] for labels, value in after.items() if value != before[labels]}


def other_kind() -> Json:
    question = review(server())
    question["request"]["kind"] = {"kind": "Pod"}
    return question


@pytest.mark.parametrize(
    ("path", "question", "gather", "operation", "verdict"),
    [
        (MUTATE_PATH, review(server()), classes, "CREATE", "patched"),
        (MUTATE_PATH, review(None, server(), operation="DELETE"), classes, "other", "allowed"),
        (VALIDATE_PATH, review(server()), classes, "CREATE", "allowed"),
        (VALIDATE_PATH, review(server(), server(nfsPort=1)), classes, "UPDATE", "allowed"),
        (VALIDATE_PATH, review(server(controlPlane={"port": 80})), classes, "CREATE", "warned"),
        (VALIDATE_PATH, review(server(nfsPort=0)), classes, "CREATE", "denied"),
        (VALIDATE_PATH, review(server()), broken, "CREATE", "error"),
        (VALIDATE_PATH, other_kind(), classes, "CREATE", "error"),
        (VALIDATE_PATH, review(server(), operation="x" * 500), classes, "other", "allowed"),
    ],
)
async def test_every_review_is_counted_once(
    path: str, question: Json, gather: Any, operation: str, verdict: str
) -> None:
    before = counts("dittofs_operator_admission_reviews")

    await ask(path, question, gather)

    after = counts("dittofs_operator_admission_reviews")
    assert increases(before, after) == {(operation, verdict, path): 1}


async def test_every_finding_is_counted_by_its_rule() -> None:
    before = counts("dittofs_operator_admission_findings")

    manifest = server(nfsPort=8080, controlPlane={"port": 8080}, **storage(storageClassName="gone"))
    await ask(VALIDATE_PATH, review(manifest))
    await ask(VALIDATE_PATH, review(server(controlPlane={"port": 80}, nfsPorts=1)))

    after = counts("dittofs_operator_admission_findings")
    assert increases(before, after) == {
        ("rejected", "ports_are_distinct"): 1,
        ("rejected", "storage_class_exists"): 1,
        ("warned", "fields_are_known"): 1,
        ("warned", "ports_are_unprivileged"): 1,
    }


async def test_latencies_are_counted_from_bound_to_bound() -> None:
    def latencies() -> dict[str, float]:
        [family] = [metric for metric in WebhookCollector().collect() if metric.type == "histogram"]
        samples = [sample for sample in family.samples if sample.labels["webhook"] == VALIDATE_PATH]
        return {sample.labels.get("le", sample.name.rpartition("_")[2]): sample.value for sample in samples}

    before = latencies()

    for seconds in (0.5, 0.75, 1.0, 100.0):
        COUNTS[VALIDATE_PATH].count_answer(200, seconds)

    increases = {key: value - before[key] for key, value in latencies().items()}
    assert [increases[bound] for bound in ("0.25", "0.5", "0.75", "1.0", "10.0", "+Inf")] == [0, 1, 2, 3, 3, 4]
    assert increases["count"] == 4
    assert increases["sum"] == pytest.approx(102.25)


async def test_a_request_is_in_flight_until_it_is_answered() -> None:
    labels = {"webhook": VALIDATE_PATH}
    in_flight: list[float | None] = []

    async def gather(needs: Any) -> Any:
        in_flight.append(REGISTRY.get_sample_value("controller_runtime_webhook_requests_in_flight", labels))
        return await classes(needs)

    await ask(VALIDATE_PATH, review(server()), gather)

    assert in_flight == [1]
    assert REGISTRY.get_sample_value("controller_runtime_webhook_requests_in_flight", labels) == 0
