"""What single values of the chart do to the objects; tests/helm/test_release.py shows them to a real API server."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from app.storage.unstructured import Manifest
from tests.helm.chart import IMAGE, loaded, manifests, template
from tests.helm.test_chart import NAMESPACE, RELEASE, container, one, set_flags

RELABELING = [{"targetLabel": "cluster", "replacement": "west"}]
DROP = [{"sourceLabels": ["__name__"], "regex": "python_.*", "action": "drop"}]
TAG = IMAGE.rpartition(":")[2]
DIGEST = f"sha256:{'0' * 64}"


def pod(*values: str) -> Any:
    return one("Deployment", *values)["spec"]["template"]["spec"]


def with_json(values: Manifest, *flags: str) -> list[Manifest]:
    """Returns all manifests except hooks; a value is named as for --set."""
    options = [part for name, value in values.items() for part in ("--set-json", f"{name}={json.dumps(value)}")]
    return loaded(template(RELEASE, NAMESPACE, "--no-hooks", *options, *set_flags(flags)))


def of_kind(documents: Sequence[Manifest], kind: str) -> Any:
    [match] = [manifest for manifest in documents if manifest["kind"] == kind]
    return match


# Names.


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((), "files-dittofs-operator"),
        (("nameOverride=storage",), "files-storage"),
        (("nameOverride=files",), "files"),
        (("nameOverride=storage", "fullnameOverride=other"), "other"),
    ],
)
def test_a_name_replaces_that_of_the_chart(values: tuple[str, ...], name: str) -> None:
    deployment = of_kind(manifests("files", NAMESPACE, *values), "Deployment")

    assert deployment["metadata"]["name"] == name
    # By this label `doctor` and `status` find the operator, and a selector cannot be changed.
    assert deployment["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "dittofs-operator"


def test_another_namespace_is_that_of_everything() -> None:
    values = ("prometheusRule.enabled=true", "serviceMonitor.enabled=true", "certificates.provider=cert-manager")
    text = template(RELEASE, "elsewhere", *set_flags([*values, f"namespaceOverride={NAMESPACE}"]))

    assert "elsewhere" not in text
    assert text == template(RELEASE, NAMESPACE, *set_flags(values))


@pytest.mark.parametrize("values", [(), ("rbac.create=true", "crds.enabled=false", "serviceMonitor.enabled=true")])
def test_two_releases_share_no_object(values: tuple[str, ...]) -> None:
    """Apart from the CustomResourceDefinition, which crds.enabled turns off for one of them."""
    options = set_flags(values)
    first, second = (
        {
            (it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"])
            for it in loaded(template(release, namespace, *options))
        }
        for release, namespace in (("storage", "storage-system"), ("archive", "archive-system"))
    )

    assert {kind for kind, _, _ in first & second} == ({"CustomResourceDefinition"} if not values else set())
    assert not {(kind, name) for kind, _, name in first} & {(kind, name) for kind, _, name in second - first}


# The image.


@pytest.mark.parametrize(
    ("values", "image"),
    [
        (("image.registry=r.example.com",), f"r.example.com/dittofs-operator:{TAG}"),
        (("global.imageRegistry=r.example.com:5000/",), f"r.example.com:5000/dittofs-operator:{TAG}"),
        (("image.registry=r.example.com", "image.repository=team/op", "image.tag=1.2"), "r.example.com/team/op:1.2"),
        (("image.registry=r.example.com", f"image.digest={DIGEST}"), f"r.example.com/dittofs-operator@{DIGEST}"),
        (
            ("image.registry=a.example.com", "global.imageRegistry=b.example.com"),
            f"a.example.com/dittofs-operator:{TAG}",
        ),
        (("global.imageRegistry=b.example.com", "image.repository=a.example.com/op"), f"a.example.com/op:{TAG}"),
        (("global.imageRegistry=b.example.com", "image.repository=localhost:5000/op"), f"localhost:5000/op:{TAG}"),
        (
            ("image.registry=b.example.com", "image.repository=a.example.com/op"),
            f"b.example.com/a.example.com/op:{TAG}",
        ),
    ],
)
def test_a_registry_precedes_the_repository(values: tuple[str, ...], image: str) -> None:
    assert container(*values)["image"] == image
    # It can be pulled, since it is no longer one that is loaded into the node.
    assert container(*values)["imagePullPolicy"] == "IfNotPresent"


def test_pull_secrets_are_those_of_all_charts_too() -> None:
    values = {
        "imagePullSecrets": [{"name": "own"}, {"name": "both"}],
        "global.imagePullSecrets": ["plain", {"name": "both"}],
    }
    options = [part for name, value in values.items() for part in ("--set-json", f"{name}={json.dumps(value)}")]
    documents = loaded(template(RELEASE, NAMESPACE, *options))
    pods = [
        manifest["spec"].get("template", manifest)["spec"]
        for manifest in documents
        if manifest["kind"] in ("Deployment", "Job", "Pod")
    ]

    assert len(pods) > 1
    for spec in pods:
        assert spec["imagePullSecrets"] == [{"name": "own"}, {"name": "both"}, {"name": "plain"}]


# The pods.


@pytest.mark.parametrize(
    ("values", "policy"),
    [
        ((), None),
        (("dnsPolicy=Default",), "Default"),
        (("hostNetwork=true",), "ClusterFirstWithHostNet"),
        (("hostNetwork=true", "dnsPolicy=Default"), "Default"),
    ],
)
def test_pods_on_the_network_of_nodes_ask_the_clusters_dns(values: tuple[str, ...], policy: str | None) -> None:
    assert pod(*values).get("dnsPolicy") == policy
    assert pod(*values).get("hostNetwork", False) is ("hostNetwork=true" in values)


def test_ports_of_nodes_are_those_of_the_values() -> None:
    values = ("hostNetwork=true", "webhook.port=10250", "health.port=10251")
    ports = {port["name"]: port["containerPort"] for port in container(*values)["ports"]}

    assert ports == {"webhook": 10250, "health": 10251}
    assert {"--listen=[::]:10250", "--health-listen=[::]:10251"} <= set(container(*values)["args"])
    # The Service and the probes name the ports.
    assert {port["targetPort"] for port in one("Service", *values)["spec"]["ports"]} == ports.keys()


@pytest.mark.parametrize(
    ("values", "strategy"),
    [
        ((), {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}),
        (("hostNetwork=true",), {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        (("hostNetwork=true", "leaderElect=false", "replicas=1"), {"type": "Recreate"}),
        (("strategy.type=Recreate",), {"type": "Recreate"}),
        (("strategy.rollingUpdate.maxSurge=2",), {"rollingUpdate": {"maxSurge": 2}}),
    ],
)
def test_the_next_pod_never_waits_for_a_port(values: tuple[str, ...], strategy: Manifest) -> None:
    assert one("Deployment", *values)["spec"]["strategy"] == strategy


def test_the_history_is_that_of_the_cluster_by_default() -> None:
    assert "revisionHistoryLimit" not in one("Deployment")["spec"]
    assert one("Deployment", "revisionHistoryLimit=0")["spec"]["revisionHistoryLimit"] == 0


def test_further_arguments_come_last() -> None:
    values = ("logLevel=info", "extraArgs={--log-level=debug,--workers=1}")
    assert container(*values)["args"] == [*container("logLevel=info")["args"], "--log-level=debug", "--workers=1"]


def test_further_variables_and_volumes_are_added() -> None:
    secret = ("certificates.provider=secret", "certificates.secretName=provided")
    extra: Manifest = {
        "extraEnv": [{"name": "TZ", "value": "Europe/Berlin"}],
        "envFrom": [{"secretRef": {"name": "proxy"}}],
        "extraVolumes": [{"name": "trust", "configMap": {"name": "cas"}}],
        "extraVolumeMounts": [{"name": "trust", "mountPath": "/etc/ssl/certs"}],
    }

    alone, besides = (
        of_kind(with_json(extra, *values), "Deployment")["spec"]["template"]["spec"] for values in ((), secret)
    )

    for spec in (alone, besides):
        [operator] = spec["containers"]
        assert (operator["env"], operator["envFrom"]) == (extra["extraEnv"], extra["envFrom"])
        assert operator["volumeMounts"][-1:] == extra["extraVolumeMounts"]
        assert spec["volumes"][-1:] == extra["extraVolumes"]
    assert len(alone["volumes"]) == 1
    assert [volume["name"] for volume in besides["volumes"]] == ["certificates", "trust"]


def test_a_probe_keeps_what_no_value_changes() -> None:
    changed = container("livenessProbe.periodSeconds=30", "readinessProbe.failureThreshold=5")

    assert changed["livenessProbe"] == {
        "httpGet": {"path": "/healthz", "port": "health"},
        "periodSeconds": 30,
        "timeoutSeconds": 5,
    }
    assert changed["readinessProbe"] == container()["readinessProbe"] | {"failureThreshold": 5}
    assert changed["startupProbe"] == container()["startupProbe"]


# Webhooks.


def webhooks(values: Manifest, *flags: str) -> tuple[Manifest, Manifest]:
    """Returns the webhook that sets defaults and the one that validates."""
    documents = with_json(values, *flags)
    mutating, validating = (
        of_kind(documents, f"{kind}WebhookConfiguration")["webhooks"] for kind in ("Mutating", "Validating")
    )
    return mutating[0], validating[0]


def test_a_failure_policy_is_that_of_validation() -> None:
    defaulting, validating = webhooks({}, "webhook.failurePolicy=Ignore")
    assert (defaulting["failurePolicy"], validating["failurePolicy"]) == ("Ignore", "Ignore")

    defaulting, validating = webhooks({}, "webhook.failurePolicy=Fail")
    assert (defaulting["failurePolicy"], validating["failurePolicy"]) == ("Ignore", "Fail")


def test_each_webhook_has_its_timeout() -> None:
    defaulting, validating = webhooks({}, "webhook.timeoutSeconds=20", "webhook.defaultingTimeoutSeconds=10")
    assert (defaulting["timeoutSeconds"], validating["timeoutSeconds"]) == (10, 20)


def test_selectors_narrow_the_watched_namespaces() -> None:
    checked = {"key": "example.com/checked", "operator": "Exists"}
    selector = {"matchLabels": {"team": "a"}, "matchExpressions": [checked]}
    objects = {"matchLabels": {"tier": "gold"}}
    watched = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["one"]}

    for webhook in webhooks({"webhook.namespaceSelector": selector, "webhook.objectSelector": objects}):
        assert (webhook["namespaceSelector"], webhook["objectSelector"]) == (selector, objects)
    for webhook in webhooks({"webhook.namespaceSelector": selector}, "namespaces={one}"):
        assert webhook["namespaceSelector"] == selector | {"matchExpressions": [checked, watched]}
        assert "objectSelector" not in webhook


# Monitoring.


def test_relabelings_follow_those_of_the_chart() -> None:
    values: Manifest = {
        f"{monitor}.{name}": value
        for monitor in ("serviceMonitor", "podMonitor")
        for name, value in (("relabelings", RELABELING), ("metricRelabelings", DROP))
    }
    enabled = ("serviceMonitor.enabled=true", "serviceMonitor.servers=true", "podMonitor.enabled=true")

    plain, changed = (endpoints(with_json(changes, *enabled)) for changes in ({}, values))

    assert len(changed) == 3
    for name, endpoint in changed.items():
        assert endpoint["relabelings"] == plain[name].get("relabelings", []) + RELABELING
        assert endpoint["metricRelabelings"] == DROP
        assert "metricRelabelings" not in plain[name]


def endpoints(documents: list[Manifest]) -> dict[str, Any]:
    """Returns the one endpoint of each monitor."""
    return {
        f"{manifest['kind']}/{manifest['metadata']['name']}": endpoint
        for manifest in documents
        if manifest["kind"] in ("ServiceMonitor", "PodMonitor")
        for endpoint in manifest["spec"].get("endpoints") or manifest["spec"]["podMetricsEndpoints"]
    }


def test_a_pod_monitor_scrapes_the_operators_pods() -> None:
    monitor = one("PodMonitor", "podMonitor.enabled=true")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]

    assert monitor["spec"]["selector"]["matchLabels"] == one("Deployment")["spec"]["selector"]["matchLabels"]
    assert endpoint["port"] in {port["name"] for port in container()["ports"]}
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": RELEASE}]
    assert endpoint["honorLabels"] is True


def test_further_rules_are_a_group_of_their_own() -> None:
    # Prometheus fills the label in, not helm.
    rules = [{"alert": "TooMany", "expr": "a > 1", "annotations": {"summary": "{{ $labels.namespace }} has too many"}}]
    flags = ("prometheusRule.enabled=true", "podMonitor.enabled=true")

    groups = of_kind(with_json({"prometheusRule.additionalRules": rules}, *flags), "PrometheusRule")["spec"]["groups"]

    assert groups[-1] == {"name": "dittofs-additional", "rules": rules}
    assert groups[:-1] == of_kind(with_json({}, *flags), "PrometheusRule")["spec"]["groups"]


# Further objects.


def test_further_objects_are_manifests_or_text() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text\n"
    manifest = yaml.safe_load(text.replace("{{ .Release.Name }}-text", "'{{ .Release.Name }}-manifest'"))

    documents = with_json({"extraObjects": [text, manifest]})

    names = [it["metadata"]["name"] for it in documents if it["kind"] == "ConfigMap"]
    assert names == [f"{RELEASE}-text", f"{RELEASE}-manifest"]
    assert len(documents) == len(with_json({})) + 2
