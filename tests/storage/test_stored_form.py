from typing import Any

import pytest

from app.storage.stored_form import stored_template
from app.storage.unstructured import Manifest

HELPER = {"name": "helper", "image": "example.com/helper:1"}
PROBE = {"httpGet": {"port": 9999}}


def template(**spec: Any) -> Manifest:
    return {"metadata": {"labels": {"app": "a"}, "annotations": {}}, "spec": spec}


def container(**fields: Any) -> Manifest:
    return template(containers=[{**HELPER, **fields}])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (template(), template(dnsPolicy="ClusterFirst", restartPolicy="Always", schedulerName="default-scheduler")),
        (template(), template(terminationGracePeriodSeconds=30, securityContext={}, hostNetwork=False, nodeName="")),
        (template(serviceAccountName="a"), template(serviceAccountName="a", serviceAccount="a")),
        (template(volumes=[{"name": "a"}]), template(volumes=[{"name": "a", "emptyDir": {}}])),
        (
            template(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "1Gi"}}]),
            template(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "1024Mi", "medium": ""}}]),
        ),
        (
            template(volumes=[{"name": "a", "configMap": {"name": "x"}}]),
            template(volumes=[{"name": "a", "configMap": {"name": "x", "defaultMode": 420}}]),
        ),
        (container(), container(imagePullPolicy="IfNotPresent", terminationMessagePolicy="File", resources={})),
        (container(), container(stdin=False, env=[], workingDir="")),
        (
            container(resources={"limits": {"memory": "1Gi", "cpu": "1"}}),
            container(resources={"limits": {"memory": "1024Mi", "cpu": 1}}),
        ),
        (
            container(readinessProbe=PROBE),
            container(
                readinessProbe={
                    "httpGet": {"port": 9999, "path": "/", "scheme": "HTTP"},
                    "periodSeconds": 10,
                    "timeoutSeconds": 0,
                }
            ),
        ),
    ],
)
def test_what_the_api_server_stores_alike_is_equal(one: Manifest, other: Manifest) -> None:
    assert stored_template(one) == stored_template(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (template(), template(dnsPolicy="Default")),
        (template(), template(affinity={})),
        (template(), template(automountServiceAccountToken=False)),
        (template(), template(shareProcessNamespace=False)),
        (template(), template(terminationGracePeriodSeconds=0)),
        (container(), container(securityContext={})),
        (container(), container(imagePullPolicy="Always")),
        (container(image="a:latest"), container(image="a:latest", imagePullPolicy="IfNotPresent")),
        (container(securityContext={"runAsUser": 0}), container(securityContext={})),
        (container(resources={"limits": {"cpu": "1"}}), container(resources={"limits": {"cpu": "1001m"}})),
        (container(args=["a", "b"]), container(args=["b", "a"])),
        (template(containers="x"), template(containers=[])),
        (template(terminationGracePeriodSeconds=1), template(terminationGracePeriodSeconds=True)),
    ],
)
def test_what_it_stores_otherwise_differs(one: Manifest, other: Manifest) -> None:
    assert repr(stored_template(one)) != repr(stored_template(other))


def test_a_malformed_template_keeps_what_is_malformed() -> None:
    malformed = container(resources={"limits": {"cpu": "much"}}, ports="x", unknown={"a": None})

    [kept] = stored_template(malformed)["spec"]["containers"]

    assert (kept["ports"], kept["resources"]) == ("x", {"limits": {"cpu": "much"}})
    assert kept["unknown"] == {"a": None}
