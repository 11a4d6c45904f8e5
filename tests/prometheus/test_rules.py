"""The alerts that the chart renders: promtool accepts them, each is proven to fire and resolve, and has a runbook."""

import re
from pathlib import Path

import pytest

from tests.helm.chart import CHART
from tests.prometheus import test_operator_alerts, test_server_alerts
from tests.prometheus.rules import rendered_rules, run_promtool, write_rules

PROOFS = (test_operator_alerts, test_server_alerts)
DOCS = CHART.parent.parent / "docs"
RUNBOOKS = (DOCS / "how-to/runbooks.md").read_text()
ALERTS = sorted({rule["alert"] for group in rendered_rules()["groups"] for rule in group["rules"]})


def alerts_of(*values: str) -> set[str]:
    return {rule["alert"] for group in rendered_rules(*values)["groups"] for rule in group["rules"]}


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("reconcile=false",),
        ("serverMetrics=false",),
        ("certificates.provider=cert-manager",),
        ("certificates.provider=secret", "certificates.secretName=files", "prometheusRule.job=monitoring/pods"),
    ],
)
def test_promtool_accepts_the_rules(tmp_path: Path, values: tuple[str, ...]) -> None:
    file = write_rules(tmp_path, rendered_rules(*values))

    process = run_promtool("check", "rules", "--lint=all", "--lint-fatal", file)

    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize("value", ["reconcile=false", "serverMetrics=false"])
def test_no_alert_lacks_its_metrics(value: str) -> None:
    assert "dittofs_operator_server_" in str(rendered_rules())
    assert "dittofs_operator_server_" not in str(rendered_rules(value))


def test_promtool_refuses_a_broken_rule(tmp_path: Path) -> None:
    rules = rendered_rules()
    rules["groups"][0]["rules"][0] = {"alert": "Broken", "expr": "sum(rate(up[5m])"}

    process = run_promtool("check", "rules", write_rules(tmp_path, rules))

    assert "unclosed left parenthesis" in process.stderr


def test_every_alert_is_proven_to_fire_and_resolve() -> None:
    tests = [test for module in PROOFS for test in vars(module).values()]
    assert {test.proof[0] for test in tests if hasattr(test, "proof")} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_runbook(alert: str) -> None:
    section = RUNBOOKS.partition(f"\n## {alert}\n")[2].partition("\n## ")[0]
    parts = re.findall(r"^\*\*(\w+)\.\*\* \S", section, re.MULTILINE)

    assert parts == ["Symptom", "Impact", "Diagnose", "Fix"]


def test_no_runbook_is_about_an_alert_that_does_not_exist() -> None:
    assert set(re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE)) == set(ALERTS)


def test_an_alert_links_to_its_runbook() -> None:
    for base, values in (
        ("docs/how-to/runbooks.md", ()),
        ("https://wiki.example.com/dittofs", ("prometheusRule.runbookUrl=https://wiki.example.com/dittofs",)),
    ):
        rules = [rule for group in rendered_rules(*values)["groups"] for rule in group["rules"]]
        assert all(rule["annotations"]["runbook_url"] == f"{base}#{rule['alert'].lower()}" for rule in rules)


@pytest.mark.parametrize("alert", ALERTS)
def test_the_guide_tells_whom_an_alert_wakes(alert: str) -> None:
    guide = (DOCS / "how-to/monitor.md").read_text()
    [row] = [line for line in guide.splitlines() if line.startswith("|") and f"#{alert.lower()})" in line]
    severities = {
        rule["labels"]["severity"]
        for group in rendered_rules()["groups"]
        for rule in group["rules"]
        if rule["alert"] == alert
    }

    assert severities == set(re.findall(r"\b(critical|warning)\b", row.split("|")[2]))
