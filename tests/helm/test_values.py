"""Labels and annotations that collide with the chart's own, and values that do not go together."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from app.storage.objects import APP
from app.storage.unstructured import Manifest
from manifests.values import Value, documented
from tests.helm.chart import (
    CHART,
    EARLIER_VALUES,
    documents,
    loaded,
    manifests,
    output,
    run,
    template,
    with_earlier_values,
)
from tests.helm.test_chart import ALERTS, NAMES, NAMESPACE, RELEASE, SCHEMA, VALUES, container, one, set_flags

# Every optional object as well.
EVERYTHING = (*ALERTS, "podMonitor.enabled=true", "networkPolicy.enabled=true", "dashboard.enabled=true")
# Of earlier-values.yaml, where they are others now.
FORMER_DEFAULTS = ("workers=4",)
CERT_MANAGER = "certificates.provider=cert-manager"
PROVIDED = ("certificates.provider=secret", "certificates.secretName=provided")
INJECT = "cert-manager.io/inject-ca-from"
KEEP = "helm.sh/resource-policy"
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
CHART_LABELS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
)
OBJECT_LABELS = (
    "podLabels",
    "deploymentLabels",
    "service.labels",
    "serviceMonitor.labels",
    "podMonitor.labels",
    "prometheusRule.labels",
    "dashboard.labels",
)
OBJECT_ANNOTATIONS = ("deploymentAnnotations", "service.annotations", "crds.annotations", "serviceAccount.annotations")
# What is absent after an upgrade with --reuse-values, and may therefore be null: then the defaults of its values count.
LATER_SECTIONS = yaml.safe_load(VALUES).keys() - yaml.safe_load(EARLIER_VALUES.read_text()).keys()


@cache
def duplicate_keys(document: str) -> list[str]:
    """Returns the keys that a mapping has twice, which the API server's strict decoding rejects."""
    return [*_duplicate_keys(yaml.compose(document, yaml.CSafeLoader))]


def _duplicate_keys(node: yaml.Node | None) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        yield from (key for key in keys if keys.count(key) > 1)

    children = [item for pair in node.value for item in pair] if isinstance(node, yaml.MappingNode) else []
    children += node.value if isinstance(node, yaml.SequenceNode) else []
    for child in children:
        yield from _duplicate_keys(child)


def render(*values: str, colliding: dict[str, dict[str, str]] | None = None) -> list[Manifest]:
    """Returns every object, hooks included, of a release with the values; `colliding` maps values to their content."""
    content = [
        part for name, keys in (colliding or {}).items() for part in ("--set-json", f"{name}={json.dumps(keys)}")
    ]
    text = template(RELEASE, NAMESPACE, *set_flags(values), *content)

    assert not [key for document in documents(text) for key in duplicate_keys(document)]
    return loaded(text)


def metadata_of(documents: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yields the metadata of every object and of every pod template."""
    for manifest in documents:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        yield name, manifest["metadata"]
        if manifest["kind"] in ("Deployment", "Job"):
            yield f"{name}/pods", manifest["spec"]["template"]["metadata"]


def labels_of(documents: list[Manifest]) -> dict[str, dict[str, str]]:
    return {name: metadata.get("labels", {}) for name, metadata in metadata_of(documents)}


# Labels and annotations.


@pytest.mark.parametrize("value", ["commonLabels", *OBJECT_LABELS])
@pytest.mark.parametrize("key", CHART_LABELS)
def test_a_label_of_the_chart_wins(value: str, key: str) -> None:
    before = labels_of(render(*EVERYTHING))
    after = labels_of(render(*EVERYTHING, colliding={value: {key: "theirs", "example.com/team": "storage"}}))

    assert any("example.com/team" in labels for labels in after.values())

    for name, labels in before.items():
        assert {label: after[name][label] for label in labels.keys() & set(CHART_LABELS)} == {
            label: labels[label] for label in labels.keys() & set(CHART_LABELS)
        }


def test_a_selector_finds_only_pods_of_the_operator() -> None:
    everywhere = {"app.kubernetes.io/component": "operator", "app.kubernetes.io/name": RELEASE}
    documents = render(*EVERYTHING, colliding={"commonLabels": everywhere, "podLabels": everywhere})

    [deployment] = [manifest for manifest in documents if manifest["kind"] == "Deployment"]
    selector = deployment["spec"]["selector"]["matchLabels"]

    selected = {name for name, labels in labels_of(documents).items() if selector.items() <= labels.items()}
    assert f"Deployment/{RELEASE}/pods" in selected
    assert not {f"Pod/{RELEASE}-test", f"Job/{RELEASE}-wait", f"Job/{RELEASE}-wait/pods"} & selected


@pytest.mark.parametrize("value", OBJECT_LABELS)
def test_a_label_of_one_object_wins_over_a_common_one(value: str) -> None:
    labels = labels_of(render(*EVERYTHING, colliding={"commonLabels": {"release": "all"}, value: {"release": "one"}}))

    assert [entry["release"] for entry in labels.values()].count("one") == 1
    assert "all" in {entry["release"] for entry in labels.values()}


@pytest.mark.parametrize("value", OBJECT_ANNOTATIONS)
def test_an_annotation_of_one_object_wins_over_a_common_one(value: str) -> None:
    key = "example.com/site"
    documents = render(colliding={"commonAnnotations": {key: "all"}, value: {key: "one"}})

    sites = [metadata["annotations"].get(key) for _, metadata in metadata_of(documents) if "annotations" in metadata]

    assert sites.count("one") == 1
    assert "all" in sites


def test_roles_aggregate_whatever_the_common_labels() -> None:
    key = "rbac.authorization.k8s.io/aggregate-to-view"
    labels = labels_of(render(colliding={"commonLabels": {key: "false"}}))
    assert labels[f"ClusterRole/{RELEASE}-view"][key] == "true"
    assert labels[f"ClusterRole/{RELEASE}"][key] == "false"


def test_users_who_may_edit_may_scale() -> None:
    [editor] = [manifest for manifest in render() if manifest["metadata"]["name"] == f"{RELEASE}-edit"]
    scaling = [rule["verbs"] for rule in editor["rules"] if "dittoservers/scale" in rule["resources"]]
    assert scaling == [["update", "patch"]]


def annotations(kind: str, documents: list[Manifest]) -> Manifest:
    """Returns the annotations of the objects of this kind, which all have the same."""
    [first, *others] = [
        manifest["metadata"].get("annotations", {}) for manifest in documents if manifest["kind"] == kind
    ]
    assert all(other == first for other in others)
    return dict(first)


@pytest.mark.parametrize(
    ("keep", "expected"), [("true", {KEEP: "keep", "example.com/a": "b"}), ("false", {"example.com/a": "b"})]
)
def test_crds_keep_decides_on_keeping(keep: str, expected: dict[str, str]) -> None:
    common = {KEEP: "delete" if keep == "true" else "keep", "example.com/a": "b"}
    documents = render(f"crds.keep={keep}", colliding={"commonAnnotations": common, "crds.annotations": common})
    assert annotations("CustomResourceDefinition", documents) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), None),
        ((CERT_MANAGER,), f"{NAMESPACE}/{RELEASE}"),
        (PROVIDED, "theirs/ca"),
    ],
)
def test_the_provider_decides_on_ca_injection(values: tuple[str, ...], expected: str | None) -> None:
    """The annotation would keep an operator that issues its own certificates from publishing its CA."""
    documents = render(*values, colliding={"commonAnnotations": {INJECT: "theirs/ca"}})
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        assert annotations(kind, documents).get(INJECT) == expected


def test_hooks_stay_hooks() -> None:
    documents = render(colliding={"commonAnnotations": {"helm.sh/hook": "pre-delete", "helm.sh/hook-weight": "9"}})
    assert annotations("Pod", documents)["helm.sh/hook"] == "test"
    assert annotations("Job", documents)["helm.sh/hook"] == "post-install,post-upgrade"
    # Helm creates the Job after its account.
    assert annotations("Job", documents)["helm.sh/hook-weight"] == "0"


def test_the_default_container_of_a_pod_is_the_operator() -> None:
    documents = render(colliding={"podAnnotations": {DEFAULT_CONTAINER: "theirs", "example.com/a": "b"}})
    [metadata] = [it for name, it in metadata_of(documents) if name == f"Deployment/{RELEASE}/pods"]
    assert metadata["annotations"] == {DEFAULT_CONTAINER: "operator", "example.com/a": "b"}


@pytest.mark.parametrize("release", ["123", "true", "1e3", "null"])
def test_a_release_name_is_text(release: str) -> None:
    for labels in labels_of(loaded(template(release, NAMESPACE))).values():
        assert labels["app.kubernetes.io/instance"] == release


# Values that do not go together.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["prometheusRule.enabled=true"], "prometheusRule.enabled needs serviceMonitor.enabled or podMonitor.enabled"),
        (["leaderElect=false"], "leaderElect may be false only with replicas 1 or 0, or with reconcile false"),
        (["leaderElect=false", "replicas=3"], "leaderElect may be false only with replicas 1 or 0"),
        (["serviceAccount.create=false"], "serviceAccount.name must name an existing ServiceAccount"),
        (["webhook.port=8081"], "webhook.port and health.port must differ"),
        (["health.port=9443"], "webhook.port and health.port must differ"),
        (["image.pullPolicy=Always"], "image.pullPolicy cannot be Always with image.repository localhost/"),
        (["certificates.provider=secret"], "certificates.secretName must name a Secret"),
        (
            ["leaderElect=false", "replicas=1", "strategy.type=RollingUpdate"],
            "strategy.type may be RollingUpdate only with",
        ),
        (["strategy.type=Recreate", "strategy.rollingUpdate.maxSurge=1"], "strategy.rollingUpdate has no meaning with"),
        (["dnsPolicy=None"], "dnsConfig.nameservers must name a DNS server"),
        (
            ["certificates.provider=cert-manager", "certificates.issuerRef.kind=ClusterIssuer"],
            "at '/certificates/issuerRef'",
        ),
    ],
)
def test_values_that_cannot_work_together_are_rejected(values: list[str], message: str) -> None:
    process = run("template", RELEASE, CHART, *set_flags(values))

    assert process.returncode != 0
    assert message in process.stderr


@pytest.mark.parametrize(
    "values",
    [
        ("leaderElect=false", "replicas=1"),
        ("leaderElect=false", "replicas=0"),
        ("leaderElect=false", "reconcile=false"),
        ("serviceAccount.create=false", "serviceAccount.name=default"),
        ("prometheusRule.enabled=true", "prometheusRule.job=kubernetes-pods"),
        ("image.pullPolicy=Always", "image.repository=registry.example.com/dittofs-operator"),
        ("image.pullPolicy=Always", "image.registry=registry.example.com"),
        ("prometheusRule.enabled=true", "podMonitor.enabled=true"),
        ("leaderElect=false", "reconcile=false", "strategy.type=RollingUpdate"),
        ("strategy.rollingUpdate.maxSurge=25%",),
        (CERT_MANAGER, "certificates.issuerRef.name=internal"),
        ("replicas=0",),
        ("rbac.create=false",),
        ("crds.enabled=false",),
    ],
)
def test_values_that_work_together_are_accepted(values: tuple[str, ...]) -> None:
    assert manifests(RELEASE, NAMESPACE, *values)


@pytest.mark.parametrize("value", list(documented(VALUES)), ids=lambda value: value.name)
def test_a_null_means_empty_or_is_rejected_by_name(value: Value) -> None:
    """A parent's values file has such a null when everything below a key is commented out."""
    process = run("template", RELEASE, CHART, *set_flags([*EVERYTHING, f"{value.name}=null"]))

    if value.default in ("", [], {}) or isinstance(value.default, dict) or not is_required(value.name):
        assert process.returncode == 0, process.stderr
    else:
        assert f"missing property '{value.name.rpartition('.')[2]}'" in process.stderr


def is_required(name: str) -> bool:
    section, _, key = name.rpartition(".")
    schema = SCHEMA["properties"][section] if section else SCHEMA
    return key in schema.get("required", [])


@pytest.mark.parametrize("values", [(), (*EVERYTHING, "serviceMonitor.labels.release=prometheus")])
def test_reused_values_render_what_the_defaults_do(tmp_path: Path, values: tuple[str, ...]) -> None:
    """An upgrade with `--reuse-values` has no value that is newer than the installed chart, and its former defaults."""
    chart = with_earlier_values(tmp_path / "chart")

    reused = output(run("template", RELEASE, chart, "--namespace", NAMESPACE, *set_flags(values)))

    assert reused == template(RELEASE, NAMESPACE, *set_flags((*FORMER_DEFAULTS, *values)))


@pytest.mark.parametrize("section", [name for name, value in yaml.safe_load(VALUES).items() if isinstance(value, dict)])
def test_a_section_that_is_null_is_rejected_by_name(section: str) -> None:
    process = run("template", RELEASE, CHART, "--set", f"{section}=null")
    may_be_absent = section in NAMES or section in LATER_SECTIONS
    assert process.returncode == 0 if may_be_absent else f"missing property '{section}'" in process.stderr


@pytest.mark.parametrize(
    ("values", "waits"),
    [
        ((), True),
        (("waitForAdmission.enabled=false",), False),
        (("replicas=0",), False),
        (("rbac.create=false",), False),
        (("webhook.namespaceSelector.matchLabels.a=b",), False),
        (("webhook.objectSelector.matchLabels.a=b",), False),
        (PROVIDED, False),
        ((*PROVIDED, "certificates.caBundle=QUJD"), True),
        ((CERT_MANAGER,), True),
        (("webhook.failurePolicy=Ignore",), True),
        (("namespaces={one}",), True),
    ],
)
def test_helm_waits_where_somebody_answers(values: tuple[str, ...], waits: bool) -> None:
    hooks = [it["kind"] for it in render(*values) if it["metadata"]["name"] == f"{RELEASE}-wait"]
    assert sorted(hooks) == (["Job", "Role", "RoleBinding", "ServiceAccount"] if waits else [])


@pytest.mark.parametrize(("values", "namespace"), [((), NAMESPACE), (("namespaces={one,two}",), "one")])
def test_the_hook_may_only_create_a_server(values: tuple[str, ...], namespace: str) -> None:
    """In a namespace for which the webhook is called."""
    [role] = [it for it in render(*values) if (it["kind"], it["metadata"]["name"]) == ("Role", f"{RELEASE}-wait")]

    assert role["metadata"]["namespace"] == namespace
    assert role["rules"] == [{"apiGroups": ["dittofs.dittofs.com"], "resources": ["dittoservers"], "verbs": ["create"]}]


def test_the_hook_says_why_before_it_is_stopped() -> None:
    """Helm itself waits five minutes by default."""
    [job] = [manifest for manifest in render() if manifest["kind"] == "Job"]
    [container] = job["spec"]["template"]["spec"]["containers"]

    assert int(container["args"][-1]) < job["spec"]["activeDeadlineSeconds"] < 300
    assert job["metadata"]["annotations"]["helm.sh/hook-output-log-policy"] == "hook-failed"


def test_two_operators_without_a_lease_never_overlap() -> None:
    """They do not even overlap while one version replaces the other."""
    [alone] = [one("Deployment", "leaderElect=false", "replicas=1")["spec"]["strategy"]]
    assert alone == {"type": "Recreate"}
    assert one("Deployment", "leaderElect=false", "reconcile=false")["spec"]["strategy"]["type"] == "RollingUpdate"


@pytest.mark.parametrize(
    ("values", "job"),
    [
        (ALERTS, RELEASE),
        (("prometheusRule.enabled=true", "podMonitor.enabled=true"), RELEASE),
        (("prometheusRule.enabled=true", "prometheusRule.job=monitoring/pods"), "monitoring/pods"),
    ],
)
def test_every_alert_selects_the_scraped_job(values: tuple[str, ...], job: str) -> None:
    [*groups] = one("PrometheusRule", *values)["spec"]["groups"]
    # The label namespace of what is about a server is that of the server.
    selected = {"dittofs-servers": f'job="{job}"', "dittofs-operator": f'job="{job}", namespace="{NAMESPACE}"'}

    assert groups
    for group in groups:
        expressions = [rule["expr"] for rule in group["rules"] if "apiserver_" not in rule["expr"]]
        assert all(selected[group["name"]] in expression for expression in expressions)


def test_alerts_of_two_operators_can_be_told_apart() -> None:
    """Alertmanager takes alerts with the same labels for one."""
    flags = set_flags(ALERTS)
    [rule] = [it for it in loaded(template(RELEASE, "elsewhere", *flags)) if it["kind"] == "PrometheusRule"]
    [*_, operator] = rule["spec"]["groups"]

    # The API server counts the failed calls of all webhooks of this name together.
    about_one = [alert for alert in operator["rules"] if "apiserver_" not in alert["expr"]]

    assert {alert["labels"]["namespace"] for alert in about_one} == {"elsewhere"}


def test_a_network_policy_lets_scrapes_in() -> None:
    policy = one("NetworkPolicy", *EVERYTHING)
    [monitored] = [endpoint["port"] for endpoint in one("ServiceMonitor", *EVERYTHING)["spec"]["endpoints"]]
    [target] = [port["targetPort"] for port in one("Service")["spec"]["ports"] if port["name"] == monitored]

    [rule] = [rule for rule in policy["spec"]["ingress"] if {"port": target} in rule["ports"]]

    assert "from" not in rule
    assert target in {port["name"] for port in container(*EVERYTHING)["ports"]}


@pytest.mark.parametrize(
    ("values", "namespaces"),
    [
        ((), {}),
        (
            ("namespaces={one,two}",),
            {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["one", "two"]}]},
        ),
    ],
)
def test_a_network_policy_lets_the_operator_ask_servers(values: tuple[str, ...], namespaces: object) -> None:
    """On any port: that of the API is in the spec."""
    _, servers = one("NetworkPolicy", *EVERYTHING, *values)["spec"]["egress"]

    assert servers == {"to": [{"podSelector": {"matchLabels": {"app": APP}}, "namespaceSelector": namespaces}]}


def test_the_release_namespace_need_not_be_watched() -> None:
    roles = {
        (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        for manifest in manifests(RELEASE, NAMESPACE, "namespaces={one}")
        if manifest["kind"] == "Role"
    }

    assert roles == {("one", RELEASE), (NAMESPACE, f"{RELEASE}-own")}


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (("replicas=0",), "replicas is 0: until it is raised, no DittoServer can be created or changed"),
        (("podDisruptionBudget.maxUnavailable=0",), "podDisruptionBudget.maxUnavailable is 0: a node with a replica"),
        (("podDisruptionBudget.maxUnavailable=0%",), "podDisruptionBudget.maxUnavailable is 0%: a node with a replica"),
        (("rbac.create=false",), f"rbac.create is false: ServiceAccount {RELEASE} in {NAMESPACE} needs"),
        (("crds.enabled=false",), "crds.enabled is false: the CustomResourceDefinition has to be installed"),
        (("networkPolicy.enabled=true", "networkPolicy.metricsFrom[0].podSelector.matchLabels.a=b", *ALERTS),
         "networkPolicy.metricsFrom is set: Prometheus must be among"),
        (("hostNetwork=true",), "hostNetwork is true: ports 9443 and 8081 of the nodes have to be free"),
        (("hostNetwork=true", "networkPolicy.enabled=true"), "The NetworkPolicy does not apply to the pods"),
        (("webhook.failurePolicy=Ignore",), "webhook.failurePolicy is Ignore: while no replica answers"),
        (("serviceMonitor.enabled=true", "podMonitor.enabled=true"), "Prometheus scrapes every metric twice"),
    ],
)  # fmt: skip
def test_notes_warn_of_consequences_of_values(values: tuple[str, ...], note: str) -> None:
    assert note in notes(*values)
    assert note not in notes()


def notes(*values: str) -> str:
    flags = ("--namespace", NAMESPACE, "--dry-run=client", *set_flags(values))
    return output(run("install", RELEASE, CHART, *flags)).partition("NOTES:")[2]
