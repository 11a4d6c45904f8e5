"""Looks up the operator at the real API server, as people with and without permissions do."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.cluster.client import Cluster
from app.cluster.errors import Forbidden
from app.cluster.operator_health import look_up_operator_health
from app.cluster.reader import Listing
from app.storage.operator_health import OperatorHealth, find_failure
from tests.controlplane.cluster import ControlPlane
from tests.harness.incidents import Place, WebhookService
from tests.harness.volume_driver import VolumeDriver


def test_an_operator_that_works_has_no_failure(
    control_plane: ControlPlane, crd: None, namespace: str, driver: VolumeDriver, tmp_path: Path
) -> None:
    async def look(kubeconfig: Path) -> OperatorHealth:
        async with Cluster.connect(kubeconfig) as cluster:
            return (await look_up_operator_health(cluster, [(namespace, "files")], tries=True))[namespace]

    place = Place(control_plane, namespace, tmp_path, driver, lambda: tmp_path)
    with place.serving() as operated, WebhookService(operated):
        known = asyncio.run(look(control_plane.kubeconfig))
        review = operated.operator.decisions()[-1]
        unknown = asyncio.run(look(operated.kubeconfig))

    assert known.webhook
    assert (known.webhook.namespace, known.webhook.service) == (namespace, "operator")
    assert (known.ready, known.refusal) == (1, "")
    assert known.lease
    assert find_failure(known, datetime.now(UTC)) is None
    assert (review["server"], review["operation"]) == ("files", "CREATE")

    # The operator's own account may read none of that, and create no server.
    assert (unknown.webhook, unknown.ready, unknown.lease) == (None, None, None)
    assert find_failure(unknown, datetime.now(UTC)) is None


@pytest.mark.anyio
async def test_what_does_not_answer_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cluster.operator_health.ANSWER_SECONDS", 0.01)
    monkeypatch.setattr("app.cluster.operator_health.TRIAL_SECONDS", 0.01)

    class Silent:
        async def list(self, *_: Any) -> Listing:
            await asyncio.Event().wait()
            raise AssertionError

        async def get(self, *_: Any) -> dict[str, Any]:
            raise Forbidden("no")

        async def dry_run(self, *_: Any) -> None:
            await asyncio.Event().wait()

    silent: Any = Silent()
    assert await look_up_operator_health(silent, [("media", "files")], tries=True) == {"media": OperatorHealth()}
