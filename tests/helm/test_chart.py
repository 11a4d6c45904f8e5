"""Renders the chart with helm, without a cluster."""

import base64
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from prometheus_client import REGISTRY

from app import serve
from app.__main__ import import_command
from app.cluster.lease import LeaseTiming
from app.storage.objects import Owner
from app.storage.server_samples import FAMILIES
from app.storage.services import services
from app.storage.spec import Spec
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import webhook_configurations
from manifests.values import documented, sections
from tests.helm.chart import CHART, IMAGE, loaded, manifests, run, template

RELEASE, NAMESPACE = "dittofs-operator", "dittofs-system"
ROOT = Path(__file__).parent.parent.parent
INSTALL_GUIDE = ROOT / "docs/how-to/install.md"
OTHER = Path(__file__).with_name("values.yaml")
VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
NAMES = [value.name for value in documented(VALUES)]

ALERTS = ("prometheusRule.enabled=true", "serviceMonitor.enabled=true")
SERVERS = "serviceMonitor.servers=true"

# What lets the chart wait until admission answers, next to all other values.
WAITING = ["rbac.create=true", "webhook.namespaceSelector=null", "webhook.objectSelector=null"]
# What has to be set besides, for a value to make a difference.
BESIDES = {
    "global.imageRegistry": ["image.registry=", "image.repository=operator"],
    "nameOverride": ["fullnameOverride="],
    "image.repository": ["image.pullPolicy=Never"],
    "image.tag": ["image.digest="],
    "crds.keep": ["crds.enabled=true"],
    "crds.annotations": ["crds.enabled=true"],
    "certificates.caDays": ["certificates.provider=operator"],
    "certificates.caBundle": ["certificates.provider=secret"],
    "reconcile": ["leaderElect=true"],
    "waitForAdmission.enabled": WAITING,
    "waitForAdmission.timeoutSeconds": [*WAITING, "waitForAdmission.enabled=true"],
    "serviceAccount.annotations": ["serviceAccount.create=true"],
    "serviceAccount.name": ["serviceAccount.create=true"],
    "podDisruptionBudget.maxUnavailable": ["podDisruptionBudget.enabled=true"],
}


def one(kind: str, *values: str) -> Manifest:
    [match] = [manifest for manifest in manifests(RELEASE, NAMESPACE, *values) if manifest["kind"] == kind]
    return match


def container(*values: str) -> Manifest:
    [only] = one("Deployment", *values)["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_helm_lint_has_no_complaints() -> None:
    for values in ([], ["--values", str(OTHER)]):
        process = run("lint", "--strict", CHART, *values)
        assert process.returncode == 0, process.stdout + process.stderr


def test_every_version_is_that_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert f"localhost/dittofs-operator:{version}" == IMAGE
    assert f"--build-arg VERSION={version}" in build_command()


def test_the_chart_describes_itself() -> None:
    """As Artifact Hub shows it: what is in YAML there is text in Chart.yaml."""
    annotations = chart_metadata()["annotations"]
    [definition] = yaml.safe_load(annotations["artifacthub.io/crds"])
    [example] = yaml.safe_load(annotations["artifacthub.io/crdsExamples"])
    crd = yaml.safe_load((CHART / "files/crd.yaml").read_text())
    names = crd["spec"]["names"]

    assert definition["name"] == crd["metadata"]["name"]
    assert (definition["kind"], definition["displayName"]) == (names["kind"], names["kind"])
    assert definition["version"] in [version["name"] for version in crd["spec"]["versions"]]
    assert example == yaml.safe_load((ROOT / "manifests/samples/minimal.yaml").read_text())
    assert annotations["artifacthub.io/operator"] == "true"


def test_the_icon_needs_no_host() -> None:
    head, _, content = chart_metadata()["icon"].partition(",")
    drawing = base64.b64decode(content)

    assert head == "data:image/svg+xml;base64"
    assert drawing == (CHART / "icon.svg").read_bytes()
    assert ElementTree.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    assert "href" not in drawing.decode()


def chart_metadata() -> Manifest:
    return dict(yaml.safe_load((CHART / "Chart.yaml").read_text()))


# The image.


def build_command(*variables: str) -> str:
    """Returns what `make image` would run, without building anything."""
    environ = {name: value for name, value in os.environ.items() if name not in ("IMAGE", "BASE", "BUILD_OPTIONS")}
    command = ("make", "--silent", "--directory", str(ROOT), "image", "BUILDER=echo", *variables)
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


def images(documents: list[Manifest]) -> set[str]:
    """Returns the images of all pods, including those that helm starts."""
    pods = [
        manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"] for manifest in workloads(documents)
    ]
    return {container["image"] for pod in pods for container in pod["spec"]["containers"]}


def workloads(documents: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in documents if manifest["kind"] in ("Deployment", "Job", "Pod")]


def test_make_image_builds_the_installed_image() -> None:
    assert f"--tag {IMAGE} " in build_command()
    assert images(loaded(template(RELEASE, NAMESPACE))) == {IMAGE}
    assert images(loaded((ROOT / "manifests/install.yaml").read_text())) == {IMAGE}


def test_another_image_needs_two_values() -> None:
    image = "registry.example.com/team/dittofs-operator"
    assert f"--tag {image}:1.2 " in build_command(f"IMAGE={image}:1.2")
    assert container(f"image.repository={image}", "image.tag=1.2")["image"] == f"{image}:1.2"


@pytest.mark.parametrize(
    ("values", "policy"),
    [
        ((), "Never"),
        (("image.tag=1.2",), "Never"),
        (("image.repository=registry.example.com/dittofs-operator",), "IfNotPresent"),
        (("image.repository=localhost:5000/dittofs-operator",), "IfNotPresent"),
        (("image.repository=registry.example.com/dittofs-operator", "image.pullPolicy=Always"), "Always"),
        (("image.pullPolicy=IfNotPresent",), "IfNotPresent"),
    ],
)
def test_only_an_image_of_a_registry_is_pulled(values: tuple[str, ...], policy: str) -> None:
    assert container(*values)["imagePullPolicy"] == policy
    [pod] = [
        manifest for manifest in loaded(template(RELEASE, NAMESPACE, *set_flags(values))) if manifest["kind"] == "Pod"
    ]
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


def set_flags(values: Iterable[str]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


@pytest.mark.parametrize("file", [ROOT / "README.md", INSTALL_GUIDE, CHART / "README.md"])
def test_documents_name_the_image_and_how_to_load_it(file: Path) -> None:
    text = file.read_text()

    assert IMAGE in text
    assert "no image is published" in text.lower()
    # Every full name of the image in an example has the version of the project.
    assert set(re.findall(r"localhost/dittofs-operator:[\w.]+", text)) == {IMAGE}


def test_guide_loads_the_image_in_two_lines() -> None:
    blocks = re.findall(r"```sh[^\n]*\n(.*?)```", INSTALL_GUIDE.read_text(), re.DOTALL)
    loading = [block.splitlines() for block in blocks if block.startswith("make image")]

    for tool in ("kind load", "k3s ctr images import", "push registry.example.com/"):
        [lines] = [lines for lines in loading if len(lines) > 1 and tool in lines[1]]
        assert len([line for line in lines if not line.startswith("helm ")]) == 2


def test_guide_installs_from_a_registry_by_kubectl() -> None:
    [command] = re.findall(r"^(sed .+) \| kubectl apply", INSTALL_GUIDE.read_text(), re.MULTILINE)
    text = subprocess.run(command, shell=True, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    [pods] = workloads(loaded(text))
    wanted = one("Deployment", "image.repository=registry.example.com/dittofs-operator")

    assert pods["spec"]["template"]["spec"] == wanted["spec"]["template"]["spec"]


def test_chart_is_not_taken_for_the_go_operators() -> None:
    chart = (CHART / "Chart.yaml").read_text()
    shipped = [path for path in CHART.rglob("*") if path.is_file()] + [ROOT / "manifests/install.yaml"]

    assert "github.com/marmos91" not in chart
    assert "not the chart of the Go operator" in chart
    assert not [path for path in shipped if "marmos91c/dittofs-operator" in path.read_text()]


# Values.


def leaves(value: Any, path: str = "") -> Iterator[str]:
    if not isinstance(value, dict) or not value:
        yield path
        return
    for key, inner in value.items():
        yield from leaves(inner, f"{path}.{key}" if path else key)


def at(value: Any, name: str) -> Any:
    for key in name.split("."):
        value = value[key]
    return value


def test_every_value_is_documented() -> None:
    silent = [leaf for leaf in leaves(yaml.safe_load(VALUES)) if not any(f"{leaf}.".startswith(f"{n}.") for n in NAMES)]
    assert not silent


# Without a secretName, provider `secret` is rejected: see below.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "certificates.secretName"])
def test_a_value_makes_a_difference(name: str, tmp_path: Path) -> None:
    """The other values differ from their defaults as well, so that every value is tried with every template."""
    values = yaml.safe_load(OTHER.read_text())

    assert at(values, name) != at(yaml.safe_load(VALUES), name)

    besides = [part for value in BESIDES.get(name, []) for part in ("--set", value)]
    section, _, key = name.rpartition(".")
    del (at(values, section) if section else values)[key]
    by_default = tmp_path / "values.yaml"
    by_default.write_text(yaml.safe_dump(values))
    changed, unchanged = (template(RELEASE, NAMESPACE, "--values", str(file), *besides) for file in (OTHER, by_default))

    assert changed != unchanged


def properties(schema: Manifest, path: str = "") -> Iterator[tuple[str, Manifest]]:
    for name, inner in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, inner
        yield from properties(inner, here)


def test_the_schema_has_every_value_and_no_other() -> None:
    known = dict(properties(SCHEMA))

    assert set(NAMES) <= known.keys()

    beyond = {name for name in known if not any(f"{name}.".startswith(f"{n}.") for n in NAMES)}

    # These are the sections of the values, those of Helm, and what a parent chart sets for its condition.
    assert beyond == {name.rpartition(".")[0] for name in NAMES if "." in name} | {"enabled", "exports", "tags"}


def test_the_schema_describes_everything() -> None:
    """Editors show it."""
    entries = [*every_property(SCHEMA, "values")]

    assert [path for path, entry in entries if not entry.get("description", "").endswith(".")] == []

    described = dict(properties(SCHEMA))

    for value in [*documented(VALUES), *sections(VALUES)]:
        assert described[value.name]["description"] == value.meaning
    for value in documented(VALUES):
        assert described[value.name]["default"] == value.default


def every_property(schema: Any, path: str) -> Iterator[tuple[str, Manifest]]:
    """Yields every property at any depth, also those of the items of a list and of alternatives."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from every_property(inner, f"{path}.{name}")
    for inner in [*filter(None, [schema.get("items")]), *schema.get("anyOf", [])]:
        yield from every_property(inner, f"{path}[]")


def test_no_section_of_the_schema_takes_unknown_values() -> None:
    objects = [(name, section) for name, section in properties(SCHEMA) if "properties" in section]
    open_ended = [name for name, section in objects if section.get("additionalProperties", True)]

    # It has values of other charts, too.
    assert open_ended == ["global"]
    assert SCHEMA["additionalProperties"] is False


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.name=x", "at '/image': additional properties 'name' not allowed"),
        ("certificates.provider=vault", "at '/certificates/provider': value must be one of"),
        ("webhook.port=70000", "at '/webhook/port': maximum: got 70,000, want 65,535"),
        ("namespaces=one", "at '/namespaces': got string, want array"),
        ("reconcile=yes", "at '/reconcile': got string, want boolean"),
        ("waitForAdmission.timeoutSeconds=0", "at '/waitForAdmission/timeoutSeconds': minimum: got 0, want 1"),
        ("webhook.failurePolicy=Warn", "at '/webhook/failurePolicy': value must be one of 'Fail', 'Ignore'"),
        ("webhook.timeoutSeconds=2", "at '/webhook/timeoutSeconds': minimum: got 2, want 3"),
        ("webhook.timeoutSeconds=31", "at '/webhook/timeoutSeconds': maximum: got 31, want 30"),
        ("webhook.defaultingTimeoutSeconds=0", "at '/webhook/defaultingTimeoutSeconds': minimum"),
        ("webhook.objectSelector.team=a", "at '/webhook/objectSelector': additional properties 'team' not allowed"),
        ("webhook.namespaceSelector.matchExpressions[0].key=a", "missing property 'operator'"),
        ("dnsPolicy=Host", "at '/dnsPolicy': value must be one of"),
        ("strategy.type=OnDelete", "at '/strategy/type': value must be one of"),
        ("livenessProbe.path=/", "at '/livenessProbe': additional properties 'path' not allowed"),
        ("readinessProbe.periodSeconds=0", "at '/readinessProbe/periodSeconds': minimum"),
        ("revisionHistoryLimit=-1", "at '/revisionHistoryLimit'"),
        ("namespaceOverride=Storage", "at '/namespaceOverride': 'Storage' does not match pattern"),
        ("extraArgs=--log-level=debug", "at '/extraArgs': got string, want array"),
        ("extraEnv[0].value=a", "at '/extraEnv/0': missing property 'name'"),
        ("extraVolumeMounts[0].name=a", "at '/extraVolumeMounts/0': missing property 'mountPath'"),
        ("extraObjects[0]=1", "at '/extraObjects/0'"),
        ("certificates.provider=secret", "certificates.secretName must name a Secret"),
    ],
)
def test_an_invalid_value_is_rejected_by_name(value: str, message: str) -> None:
    process = run("template", RELEASE, CHART, "--set", value)

    assert process.returncode != 0
    assert message in process.stderr


# The Deployment.


def flags(*values: str) -> list[str]:
    command, *flags = container(*values)["args"]
    assert command == "serve"
    return [flag.partition("=")[0] for flag in flags]


def test_serve_has_exactly_the_flags_of_a_pod() -> None:
    options = {flag for option in import_command("serve").params for flag in option.opts + option.secondary_opts}
    secret = ("certificates.provider=secret", "certificates.secretName=x")
    off = (
        "reconcile=false",
        "leaderElect=false",
        "serverMetrics=false",
        "namespaces={one}",
        "clusterDomain=example.org",
    )
    all_servers = ("servers.labels.a=b", "servers.annotations.a=b", "servers.imagePullSecrets[0].name=c")
    used = set(flags()) | set(flags(*secret, *off, *all_servers))

    assert used <= options
    assert options - used == {"--kubeconfig", "--snapshot"}


def test_the_grace_period_covers_the_shutdown() -> None:
    grace = one("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    # The operator finishes its work, gives up the Lease and writes the last Events, one after the other.
    assert grace > serve.FINISH_SECONDS + LeaseTiming().retry + serve.DRAIN_SECONDS


def test_a_digest_takes_precedence_over_a_tag() -> None:
    digest = f"sha256:{'0' * 64}"
    assert container("image.tag=1.2")["image"] == "localhost/dittofs-operator:1.2"
    assert container("image.tag=1.2", f"image.digest={digest}")["image"] == f"localhost/dittofs-operator@{digest}"


def test_an_upgrade_of_the_chart_alone_restarts_no_pod() -> None:
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & labels.keys()


def test_pods_of_helm_are_not_selected_as_an_operator() -> None:
    documents = loaded(template(RELEASE, NAMESPACE))
    labels = [manifest["metadata"]["labels"] for manifest in documents if manifest["kind"] == "Pod"]
    labels += [it["spec"]["template"]["metadata"]["labels"] for it in documents if it["kind"] == "Job"]

    selector = one("Service")["spec"]["selector"]

    assert selector == one("Deployment")["spec"]["selector"]["matchLabels"]
    assert len(labels) == 2
    assert not [entry for entry in labels if selector.items() <= entry.items()]


# Webhooks and certificates.


def webhooks(*values: str) -> list[Manifest]:
    configurations = [it for it in manifests(RELEASE, NAMESPACE, *values) if "Webhook" in it["kind"]]
    return sorted(configurations, key=lambda configuration: str(configuration["kind"]))


def test_webhooks_are_registered_as_in_the_code() -> None:
    service = {"name": RELEASE, "namespace": NAMESPACE}
    expected = webhook_configurations(lambda path: {"service": {**service, "path": path}})

    for actual, wanted in zip(webhooks(), expected, strict=True):
        assert (actual["kind"], actual["metadata"]["name"]) == (wanted["kind"], wanted["metadata"]["name"])
        assert actual["webhooks"] == wanted["webhooks"]


def test_webhooks_are_called_at_the_service_of_the_release() -> None:
    for configuration in loaded(template("other", "elsewhere", "--show-only", "templates/webhooks.yaml")):
        [webhook] = configuration["webhooks"]
        service = webhook["clientConfig"]["service"]
        assert (service["name"], service["namespace"]) == ("other-dittofs-operator", "elsewhere")


def test_webhooks_are_called_in_watched_namespaces_only() -> None:
    for configuration in webhooks("namespaces={one,two}"):
        [webhook] = configuration["webhooks"]
        [expression] = webhook["namespaceSelector"]["matchExpressions"]
        assert expression == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["one", "two"]}


def test_cert_manager_provides_certificate_and_ca() -> None:
    provider = "certificates.provider=cert-manager"
    for configuration in webhooks(provider):
        assert configuration["metadata"]["annotations"] == {
            "cert-manager.io/inject-ca-from": f"{NAMESPACE}/{RELEASE}",
        }
        assert "caBundle" not in json.dumps(configuration)

    made = manifests(RELEASE, NAMESPACE, provider)
    [certificate] = [
        manifest for manifest in made if manifest["kind"] == "Certificate" and manifest["metadata"]["name"] == RELEASE
    ]

    assert certificate["spec"]["dnsNames"] == [f"{RELEASE}.{NAMESPACE}.svc"]
    assert certificate["spec"]["duration"] == "129600m"

    [volume] = [volume for volume in volumes(provider) if "secret" in volume]

    assert volume["secret"]["secretName"] == certificate["spec"]["secretName"]
    assert {"--tls-cert", "--tls-key"} <= set(flags(provider))
    assert not {"--certificate-secret", "--webhook-configuration"} & set(flags(provider))


def test_a_fraction_of_a_day_counts() -> None:
    half = ("--set-json", "certificates.days=0.5", "--set", "certificates.provider=cert-manager")
    made = loaded(template(RELEASE, NAMESPACE, *set_flags(ALERTS), *half))
    [certificate] = [
        manifest for manifest in made if manifest["kind"] == "Certificate" and manifest["metadata"]["name"] == RELEASE
    ]
    [rule] = [manifest for manifest in made if manifest["kind"] == "PrometheusRule"]

    assert certificate["spec"]["duration"] == "720m"
    assert 'certificate="serving"}\\n) - time() < 10800' in str(rule)


def test_an_existing_issuer_of_cert_manager_is_used() -> None:
    issuer = ("certificates.issuerRef.kind=ClusterIssuer", "certificates.issuerRef.name=internal")
    values = ("certificates.provider=cert-manager", *issuer)
    assert one("Certificate", *values)["spec"]["issuerRef"] == {"kind": "ClusterIssuer", "name": "internal"}
    assert not [manifest for manifest in manifests(RELEASE, NAMESPACE, *values) if manifest["kind"] == "Issuer"]


def volumes(*values: str) -> list[Manifest]:
    volumes: list[Manifest] = one("Deployment", *values)["spec"]["template"]["spec"]["volumes"]
    return volumes


def test_a_provided_certificate_comes_with_its_ca() -> None:
    values = ("certificates.provider=secret", "certificates.secretName=given", "certificates.caBundle=QUJD")
    assert {"name": "certificates", "secret": {"secretName": "given"}} in volumes(*values)
    for configuration in webhooks(*values):
        assert configuration["webhooks"][0]["clientConfig"]["caBundle"] == "QUJD"


@pytest.mark.parametrize("provider", ["cert-manager", "secret"])
def test_only_self_managed_certificates_need_permissions(provider: str) -> None:
    values = (f"certificates.provider={provider}", "certificates.secretName=x", "rbac.aggregate=false")
    rules = [rule for role in roles(*values) for rule in role["rules"]]

    assert not [rule for rule in rules if "admissionregistration.k8s.io" in rule["apiGroups"]]
    assert not [rule for rule in rules if f"{RELEASE}-tls" in rule.get("resourceNames", [])]


# Permissions; tests/test_rbac.py tests which calls the operator makes.


def roles(*values: str) -> list[Manifest]:
    return [
        manifest for manifest in manifests(RELEASE, NAMESPACE, *values) if manifest["kind"] in ("Role", "ClusterRole")
    ]


def test_a_confined_operator_has_no_other_permission() -> None:
    made = roles("namespaces={one,two}", "rbac.aggregate=false")

    assert sorted(
        (manifest["kind"], manifest["metadata"].get("namespace")) for manifest in made if manifest["kind"] == "Role"
    ) == [
        ("Role", NAMESPACE),
        ("Role", "one"),
        ("Role", "two"),
    ]

    [of_the_cluster] = [manifest for manifest in made if manifest["kind"] == "ClusterRole"]
    [rule] = of_the_cluster["rules"]

    assert rule["apiGroups"] == ["admissionregistration.k8s.io"]
    assert rule["resourceNames"] == [RELEASE]


def test_an_operator_that_only_judges_may_only_read() -> None:
    [of_the_cluster, _webhooks] = [
        manifest for manifest in roles("reconcile=false", "rbac.aggregate=false") if manifest["kind"] == "ClusterRole"
    ]
    assert {verb for rule in of_the_cluster["rules"] for verb in rule["verbs"]} == {"get", "list"}


# Monitoring.


def test_alerts_and_dashboard_use_existing_metrics() -> None:
    alerts = alerts_of(one("PrometheusRule", *ALERTS))
    dashboard = json.loads(one("ConfigMap", "dashboard.enabled=true")["data"]["dittofs-operator.json"])
    expressions = [alert["expr"] for alert in alerts]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    used = set(chain.from_iterable(re.findall(r"(\w+)\{", expression) for expression in expressions))

    # Prometheus itself provides `up` and `ALERTS`, and the API server its own.
    used = {name for name in used if not name.startswith("apiserver_")}
    assert used - {"up", "ALERTS"} <= metrics()
    assert len(used) > 5


@pytest.mark.parametrize(
    ("values", "least"),
    [
        (
            (),
            {
                ("ca", "warning"): 365 / 4,
                ("ca", "critical"): 365 / 20,
                ("serving", "warning"): 90 / 4,
                ("serving", "critical"): 90 / 20,
            },
        ),
        (
            ("certificates.provider=cert-manager",),
            {("serving", "warning"): 90 / 4, ("serving", "critical"): 90 / 20},
        ),
        (
            ("certificates.provider=secret", "certificates.secretName=given"),
            {("serving", "warning"): 7, ("serving", "critical"): 1},
        ),
    ],
)
def test_an_overdue_renewal_raises_an_alert_in_time(
    values: tuple[str, ...], least: dict[tuple[str, str], float]
) -> None:
    """`least` has the days that a certificate still has at least when all is well, or not urgent."""
    rules = alerts_of(one("PrometheusRule", *ALERTS, *values))
    overdue = [rule for rule in rules if rule["alert"] == "DittofsCertificateRenewalOverdue"]
    limits = {
        (rule["labels"]["certificate"], rule["labels"]["severity"]): int(rule["expr"].rpartition("<")[2]) / 86400
        for rule in overdue
    }

    assert limits == least


def alerts_of(rule: Manifest) -> list[Manifest]:
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


def metrics() -> set[str]:
    """Returns the names of all metrics as Prometheus scrapes them, including those with labels and no sample yet."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    names = {f"{metric.name}{suffix}" for metric in REGISTRY.collect() for suffix in suffixes.get(metric.type, ())}
    return names | {family.name for family in FAMILIES}


def test_servers_are_scraped_at_their_metrics_service() -> None:
    """A Service is scraped if it has the labels, and then only at the port of that name."""
    monitor = one("ServiceMonitor", SERVERS)
    labels, [endpoint] = monitor["spec"]["selector"]["matchLabels"], monitor["spec"]["endpoints"]
    sizes = {"metadataSize": "1Gi", "cacheSize": "1Gi"}
    relabelled = {"labels": {"app.kubernetes.io/component": "theirs"}}
    spec = Spec.model_validate({"storage": sizes, "metrics": {"enabled": True}, "service": relabelled})
    rendered = services(Owner("files", "media"), spec)

    assert all(labels.items() <= service["metadata"]["labels"].items() for service in rendered)

    names = {port["name"]: service["metadata"]["name"] for service in rendered for port in service["spec"]["ports"]}

    assert names[endpoint["port"]] == "files-metrics"
    assert not labels.items() <= one("Service")["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("values", "selector"), [((), {"any": True}), (("namespaces={one,two}",), {"matchNames": ["one", "two"]})]
)
def test_servers_are_scraped_where_they_are_managed(values: tuple[str, ...], selector: Manifest) -> None:
    assert one("ServiceMonitor", SERVERS, *values)["spec"]["namespaceSelector"] == selector


def test_monitoring_is_off_by_default() -> None:
    kinds = {manifest["kind"] for manifest in manifests(RELEASE, NAMESPACE)}
    assert not kinds & {"ServiceMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"}
