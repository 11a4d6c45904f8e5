from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.storage.checkup import CheckResult
from app.storage.crd import custom_resource_definition
from app.storage.facts import Unknown
from app.storage.installation import OLDEST_KUBERNETES, Installation, checks, preflight_checks
from app.storage.operator_checks import OperatorState
from app.storage.permissions import Permission
from app.storage.webhook_configurations import webhook_configurations
from tests.storage.test_operator_checks import DEPLOYMENT

ROOT = Path(__file__).parent.parent.parent
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
FORBIDDEN = Unknown("forbidden")


def installation(**facts: Any) -> Installation:
    return Installation(now=NOW, program="0.1.0", kubernetes="v1.36.1+k3s1", **facts)


def installation_check(listed: Any) -> tuple[CheckResult, str]:
    [only] = [check for check in listed if check.name == "installation"]
    return only.result, only.message


def test_the_oldest_kubernetes_is_that_of_the_chart() -> None:
    chart = yaml.safe_load((ROOT / "charts/dittofs-operator/Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={'.'.join(map(str, OLDEST_KUBERNETES))}.0-0"


@pytest.mark.parametrize(
    ("version", "result"),
    [
        ("v1.36.1", CheckResult.OK),
        ("v1.30.0-rc.1+k3s1", CheckResult.OK),
        ("v1.29.9", CheckResult.PROBLEM),
        ("", CheckResult.UNKNOWN),
    ],
)
def test_an_old_kubernetes_is_a_problem(version: str, result: CheckResult) -> None:
    first = next(checks(Installation(now=NOW, program="0.1.0", kubernetes=version)))
    assert (first.name, first.result) == ("Kubernetes", result)


def test_without_an_operator_nothing_else_is_a_problem() -> None:
    listed = list(checks(installation()))

    assert [check.name for check in listed if check.result == CheckResult.PROBLEM] == ["installation"]
    assert installation_check(listed) == (CheckResult.PROBLEM, "nothing of the operator is installed")


def test_what_may_not_be_looked_at_may_be_there() -> None:
    absent = installation(operators=FORBIDDEN)
    present = installation(configurations={"ValidatingWebhookConfiguration": FORBIDDEN})

    assert installation_check(checks(absent))[1] == "nothing of the operator is installed as far as you may look"
    assert "installation" not in [check.name for check in checks(present)]


def test_a_preflight_tells_whether_all_is_ready() -> None:
    refused = {Permission("apps", "deployments", "create"): False}

    assert installation_check(preflight_checks(installation()))[0] == CheckResult.OK
    assert installation_check(preflight_checks(installation(of_installation=refused)))[0] == CheckResult.PROBLEM


@pytest.mark.parametrize(
    ("facts", "result", "text"),
    [
        ({"operators": [OperatorState(DEPLOYMENT, (), None)]}, CheckResult.WARNING, "is installed already"),
        ({"crd": custom_resource_definition()}, CheckResult.WARNING, "and no Deployment of this operator"),
        ({"crd": FORBIDDEN}, CheckResult.UNKNOWN, "a part of the operator may be installed"),
    ],
)
def test_a_preflight_notices_what_is_there(facts: Any, result: CheckResult, text: str) -> None:
    live, message = installation_check(preflight_checks(installation(**facts)))
    assert (live, text in message) == (result, True)


def test_the_webhook_tells_where_the_operator_is() -> None:
    service = {"namespace": "storage", "name": "dittofs-operator"}
    by_service = {item["kind"]: [item] for item in webhook_configurations(lambda _: {"service": service})}
    by_url = {item["kind"]: [item] for item in webhook_configurations(lambda path: {"url": f"https://a.b{path}"})}

    assert installation(configurations=by_service).operator_namespace == "storage"
    assert installation(configurations=by_url).webhook_address.startswith("https://a.b/")
    assert installation(configurations=by_url).operator_namespace == "dittofs-system"
    assert installation(configurations={"a": FORBIDDEN}).operator_namespace == "dittofs-system"
    assert installation(operators=[OperatorState(DEPLOYMENT, (), None)]).operator_namespace == "dittofs-system"
