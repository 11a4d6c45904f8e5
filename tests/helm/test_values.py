"""Labels and annotations that collide with the chart's own."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.helm.chart import Manifest, loaded, template
from tests.helm.test_chart import ALERTS, NAMESPACE, RELEASE, set_flags

# Every optional object as well.
EVERYTHING = (*ALERTS, "networkPolicy.enabled=true", "dashboard.enabled=true")
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
LABEL_VALUES = ("commonLabels", "podLabels", "serviceMonitor.labels", "prometheusRule.labels", "dashboard.labels")


def duplicate_keys(node: yaml.Node | None) -> Iterator[str]:
    """Yields the keys that a mapping has twice, which the API server's strict decoding rejects."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        yield from (key for key in keys if keys.count(key) > 1)
    children = [item for pair in node.value for item in pair] if isinstance(node, yaml.MappingNode) else []
    children += node.value if isinstance(node, yaml.SequenceNode) else []
    for child in children:
        yield from duplicate_keys(child)


def render(*values: str, colliding: dict[str, dict[str, str]] | None = None) -> list[Manifest]:
    """Returns every object, hooks included, of a release with the values; `colliding` maps values to their content."""
    content = [
        part for name, keys in (colliding or {}).items() for part in ("--set-json", f"{name}={json.dumps(keys)}")
    ]
    text = template(RELEASE, NAMESPACE, *set_flags(values), *content)

    assert not [key for node in yaml.compose_all(text, yaml.CSafeLoader) for key in duplicate_keys(node)]
    return loaded(text)


def metadata_of(documents: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yields the metadata of every object and of every pod template."""
    for each in documents:
        name = f"{each['kind']}/{each['metadata']['name']}"
        yield name, each["metadata"]
        if each["kind"] == "Deployment":
            yield f"{name}/pods", each["spec"]["template"]["metadata"]


def labels_of(documents: list[Manifest]) -> dict[str, dict[str, str]]:
    return {name: metadata.get("labels", {}) for name, metadata in metadata_of(documents)}


# Labels and annotations.


@pytest.mark.parametrize("value", LABEL_VALUES)
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

    [pod] = [each for each in documents if each["kind"] == "Pod"]
    [deployment] = [each for each in documents if each["kind"] == "Deployment"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert not selector.items() <= pod["metadata"]["labels"].items()


@pytest.mark.parametrize("value", ["podLabels", "serviceMonitor.labels", "prometheusRule.labels", "dashboard.labels"])
def test_a_label_of_one_object_wins_over_a_common_one(value: str) -> None:
    labels = labels_of(render(*EVERYTHING, colliding={"commonLabels": {"release": "all"}, value: {"release": "one"}}))

    assert [each["release"] for each in labels.values()].count("one") == 1
    assert "all" in {each["release"] for each in labels.values()}


def test_roles_aggregate_whatever_the_common_labels() -> None:
    key = "rbac.authorization.k8s.io/aggregate-to-view"
    labels = labels_of(render(colliding={"commonLabels": {key: "false"}}))
    assert labels[f"ClusterRole/{RELEASE}-view"][key] == "true"
    assert labels[f"ClusterRole/{RELEASE}"][key] == "false"


def annotations(kind: str, documents: list[Manifest]) -> Manifest:
    """Returns the annotations of the objects of this kind, which all have the same."""
    [first, *others] = [each["metadata"].get("annotations", {}) for each in documents if each["kind"] == kind]
    assert all(each == first for each in others)
    return dict(first)


@pytest.mark.parametrize(
    ("keep", "expected"), [("true", {KEEP: "keep", "example.com/a": "b"}), ("false", {"example.com/a": "b"})]
)
def test_crds_keep_decides_on_keeping(keep: str, expected: dict[str, str]) -> None:
    common = {KEEP: "delete" if keep == "true" else "keep", "example.com/a": "b"}
    documents = render(f"crds.keep={keep}", colliding={"commonAnnotations": common})
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
    """With `operator` the annotation would keep the operator from publishing its CA."""
    documents = render(*values, colliding={"commonAnnotations": {INJECT: "theirs/ca"}})
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        assert annotations(kind, documents).get(INJECT) == expected


def test_hooks_stay_hooks() -> None:
    documents = render(colliding={"commonAnnotations": {"helm.sh/hook": "pre-delete", "helm.sh/hook-weight": "9"}})
    assert annotations("Pod", documents)["helm.sh/hook"] == "test"


def test_the_default_container_of_a_pod_is_the_operator() -> None:
    documents = render(colliding={"podAnnotations": {DEFAULT_CONTAINER: "theirs", "example.com/a": "b"}})
    [template_metadata] = [metadata for name, metadata in metadata_of(documents) if name.endswith("/pods")]
    assert template_metadata["annotations"] == {DEFAULT_CONTAINER: "operator", "example.com/a": "b"}


def test_an_account_annotation_wins_over_a_common_one() -> None:
    colliding = {
        "commonAnnotations": {"example.com/role": "all"},
        "serviceAccount.annotations": {"example.com/role": "one"},
    }
    documents = render(colliding=colliding)
    assert [
        each["metadata"]["annotations"]["example.com/role"]
        for each in documents
        if each["kind"] == "ServiceAccount" and each["metadata"]["name"] == RELEASE
    ] == ["one"]


@pytest.mark.parametrize("release", ["123", "true", "1e3", "null"])
def test_a_release_name_is_text(release: str) -> None:
    for labels in labels_of(loaded(template(release, NAMESPACE))).values():
        assert labels["app.kubernetes.io/instance"] == release
