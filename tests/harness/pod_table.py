"""A table of DittoServers that change their pod, with the expected verdict on each; it continues `server_table`."""

from typing import Any

from app.storage.unstructured import Manifest
from tests.harness.server_table import Row, server


def pod(**pod_spec: Any) -> Manifest:
    """Builds a DittoServer with a podTemplate."""
    return server(podTemplate={"spec": pod_spec})


def own_container(**fields: Any) -> Manifest:
    """Builds a DittoServer with a podTemplate that changes the server's own container."""
    return pod(containers=[{"name": "dittofs", **fields}])


def sidecar(**fields: Any) -> Manifest:
    return pod(containers=[{"name": "sidecar", "image": "a", **fields}])


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else {}


def _row(title: str, manifest: Manifest, *errors: str) -> Row:
    return Row(title, manifest, errors)


def _in_a_cluster(title: str, manifest: Manifest, *errors: str) -> Row:
    return Row(title, manifest, errors, only_a_cluster_knows=True)


# What the object alone shows: here CRD, webhook, snapshot and check must agree.
ABOUT_PODS = (
    _row(
        "a pod with a bit of everything",
        pod(
            securityContext={"runAsUser": None},
            nodeSelector={"disk": "ssd", "zone": None},
            containers=[
                {"name": "sidecar", "image": "a", "args": ["b"], "ports": [{"name": "web", "containerPort": 8088}]},
                {"name": "dittofs", "env": [{"name": "DITTOFS_LOGGING_LEVEL", "value": "DEBUG"}]},
            ],
            initContainers=[{"name": "first", "image": "a", "restartPolicy": "Always"}],
            volumes=[{"name": "extra", "emptyDir": {"sizeLimit": "1Gi"}}],
            restartPolicy="Always",
        ),
    ),
    _row(
        "labels and annotations of the pod",
        server(podTemplate={"metadata": {"labels": {"team": "a"}, "annotations": {"example.com/a": "b"}}}),
    ),
    _row("IDs that the cluster sets", server(podTemplate={"removeDefaults": ["runAsUser", "fsGroup"]})),
    _row(
        "defaults that cannot be removed",
        server(podTemplate={"removeDefaults": ["runAsNonRoot"]}),
        "podTemplate.removeDefaults[0] must be 'runAsUser', 'runAsGroup' or 'fsGroup'",
    ),
    _row("a podTemplate that says nothing", server(podTemplate={"metadata": None, "spec": None})),
    _row("a podTemplate that is no object", server(podTemplate=[]), "podTemplate must be an object"),
    _row("a pod that is no object", server(podTemplate={"spec": "a"}), "podTemplate.spec must be an object"),
    _row(
        "shortcuts",
        server(
            imagePullSecrets=[{"name": "registry"}],
            nodeSelector={"disk": "ssd"},
            tolerations=[{"key": "storage", "operator": "Exists"}],
            affinity={"podAntiAffinity": {}},
        ),
    ),
    _row("a pull secret without a name", server(imagePullSecrets=[{}]), "imagePullSecrets[0].name is required"),
    _row(
        "one pull secret twice",
        server(imagePullSecrets=[{"name": "a"}, {"name": "a"}]),
        'imagePullSecrets has 2 entries named "a"',
    ),
    _row("a toleration that is text", server(tolerations=["storage"]), "tolerations[0] must be an object"),
    _row(
        "too many tolerations",
        server(tolerations=[{"key": str(number)} for number in range(65)]),
        "tolerations must have at most 64 entries",
    ),
    _row(
        "labels that select the pod",
        server(podTemplate={"metadata": {"labels": {"app": "a", "instance": "b"}}}),
        "podTemplate.metadata.labels[app] must not be set: the operator selects the pod by it",
        "podTemplate.metadata.labels[instance] must not be set",
    ),
    _row(
        "an annotation of the operator",
        server(podTemplate={"metadata": {"annotations": {"dittofs.io/restartedAt": "now"}}}),
        "podTemplate.metadata.annotations[dittofs.io/restartedAt] must not be set",
    ),
    _row("a pod that ends", pod(restartPolicy="Never"), "podTemplate.spec.restartPolicy must be Always"),
    _row(
        "a volume of the operator",
        pod(volumes=[{"name": "a", "emptyDir": {}}, {"name": "config", "emptyDir": {}}]),
        "podTemplate.spec.volumes[1].name must not be config: the operator's own volume has this name",
    ),
    _row("a volume named as a claim", pod(volumes=[{"name": "cache"}]), "podTemplate.spec.volumes[0].name must not"),
    _row(
        "another image of the server",
        pod(containers=[{"name": "a", "image": "a"}, {"name": "dittofs", "image": "b"}]),
        "podTemplate.spec.containers[1].image must not be set: set spec.image",
    ),
    _row("other arguments", own_container(args=["a"]), "podTemplate.spec.containers[0].args must not be set"),
    _row("another command", own_container(command=["a"]), "podTemplate.spec.containers[0].command must not be set"),
    _row(
        "variables of the operator",
        own_container(env=[{"name": "A"}, {"name": "AWS_REGION", "value": "a"}, {"name": "AWS_ENDPOINT_URL"}]),
        "podTemplate.spec.containers[0].env[1].name must not be AWS_REGION: the operator sets it",
        "podTemplate.spec.containers[0].env[2].name must not be AWS_ENDPOINT_URL",
    ),
    _row("CAs of the user", own_container(env=[{"name": "SSL_CERT_DIR", "value": "/a"}])),
    _row(
        "mounts where the operator has its own",
        own_container(
            volumeMounts=[
                {"name": "metadata", "mountPath": "/data"},
                {"name": "metadata", "mountPath": "/data/cache"},
                {"name": "metadata", "mountPath": "/config/"},
            ]
        ),
        "podTemplate.spec.containers[0].volumeMounts[1].mountPath must not be /data/cache: the operator mounts",
        "podTemplate.spec.containers[0].volumeMounts[2].mountPath must not be /config",
    ),
    _row("mounts of a sidecar", sidecar(volumeMounts=[{"name": "config", "mountPath": "/config"}])),
    _row("variables of a sidecar", sidecar(env=[{"name": "AWS_REGION", "value": "a"}])),
    _row(
        "ports named as those of the operator",
        own_container(ports=[{"containerPort": 81, "name": "nfs"}, {"containerPort": 82, "name": "metrics"}]),
        "podTemplate.spec.containers[0].ports[0].name must not be nfs",
        "podTemplate.spec.containers[0].ports[1].name must not be metrics",
    ),
    _row(
        "ports of the operator",
        own_container(ports=[{"containerPort": 12049, "protocol": "UDP"}, {"containerPort": 8080, "name": "web"}]),
        "podTemplate.spec.containers[0].ports[0] of containerPort 12049 must be named nfs with protocol TCP",
        "podTemplate.spec.containers[0].ports[1] of containerPort 8080 must be named api with protocol TCP",
    ),
    _row("a port of the node for NFS", own_container(ports=[{"containerPort": 12049, "hostPort": 2049}])),
    _row(
        "a port where the API no longer is",
        server(
            controlPlane={"port": 8081},
            podTemplate={
                "spec": {"containers": [{"name": "dittofs", "ports": [{"containerPort": 8080, "name": "a"}]}]}
            },
        ),
    ),
    _row("a container without a name", pod(containers=[{"image": "a"}]), "containers[0].name is required"),
    _row("a container whose name is null", pod(containers=[{"name": None, "image": "a"}]), "containers[0].name is"),
    _row(
        "containers of one name",
        pod(containers=[{"name": "a", "image": "a"}, {"name": "a", "image": "b"}]),
        'podTemplate.spec.containers has 2 entries with name "a"; keep one of them',
    ),
    _row(
        "variables of one name",
        sidecar(env=[{"name": "b"}, {"name": "b"}]),
        'podTemplate.spec.containers[0].env has 2 entries with name "b"',
    ),
    _row("a container that is null", pod(containers=[None]), "podTemplate.spec.containers[0] must not be null"),
    _row("an argument that is null", sidecar(args=[None]), "podTemplate.spec.containers[0].args[0] must not be null"),
    _row("lists that are null", pod(containers=None, volumes=None, tolerations=None)),
    _row(
        "a mount at an endless path",
        sidecar(volumeMounts=[{"name": "metadata", "mountPath": "/" + "a" * 4096}]),
        "volumeMounts[0].mountPath must have at most 4096 characters",
    ),
    _row(
        "a flood of aliases",
        pod(hostAliases=[{"ip": f"10.0.{number // 256}.{number % 256}"} for number in range(257)]),
        "podTemplate.spec.hostAliases must have at most 256 entries",
    ),
    _row("a flood of labels", pod(nodeSelector={f"a{number}": "b" for number in range(257)}), "at most 256 entries"),
)

# What the spec alone shows as well, and no schema: the CRD admits these, and the reconciler takes them for invalid.
BEYOND_THE_SCHEMA = (
    _row("no arguments", own_container(args=None), "podTemplate.spec.containers[0].args must not be set"),
    _row(
        "directives of a patch",
        pod(**{"$patch": "replace", "containers": [{"name": "a", "image": "a", "$patch": "delete"}]}),
        "podTemplate.spec.$patch is no field: directives of patches have no effect here",
        "podTemplate.spec.containers[0].$patch is no field",
    ),
    _row("a pod that is nested endlessly", pod(a=nested(500)), "podTemplate.spec is nested more than 16 deep"),
    _row("an affinity that is nested endlessly", server(affinity=nested(500)), "affinity is nested more than 16 deep"),
    _row("a toleration that is nested", server(tolerations=[nested(500)]), "tolerations is nested more than 16 deep"),
    _row("a pod as large as a book", sidecar(args=["a" * 70_000]), "podTemplate.spec must have at most 32768 bytes"),
    _row(
        "a mount in a roundabout way",
        own_container(volumeMounts=[{"name": "metadata", "mountPath": "/data/./cache"}]),
        "podTemplate.spec.containers[0].volumeMounts[0].mountPath must not be /data/cache",
    ),
)

# The CRD knows these types, and an operator would only hear of them from the API server.
OF_WRONG_TYPE = (
    _row(
        "types that are wrong",
        pod(terminationGracePeriodSeconds="1", hostNetwork="yes", containers=[{"name": "a", "image": 5}]),
        "podTemplate.spec.terminationGracePeriodSeconds must be an integer",
        "podTemplate.spec.hostNetwork must be true or false",
        "podTemplate.spec.containers[0].image must be a string",
    ),
)

# What the CRD admits: its types have to be open for other versions of Kubernetes.
VERBATIM_PODS = (
    _row(
        "misspelt fields of a pod",
        pod(tolerationz=[], containers=[{"name": "a", "image": "a", "imagePullpolicy": "Always"}]),
        "podTemplate.spec.tolerationz is not a field of a PodSpec in Kubernetes 1.36; did you mean tolerations?",
        "podTemplate.spec.containers[0].imagePullpolicy is not a field of a Container",
    ),
    _row(
        "a policy that there is not",
        sidecar(imagePullPolicy="Sometimes"),
        "podTemplate.spec.containers[0].imagePullPolicy must be 'Always' or 'IfNotPresent' or 'Never'",
    ),
    _row("an affinity of nothing", server(affinity={"nodeAfinity": {}}), "did you mean nodeAffinity?"),
    _row("a misspelt toleration", server(tolerations=[{"kee": "a"}]), "tolerations[0].kee is not a field of a"),
    _in_a_cluster(
        "a sidecar without an image",
        pod(containers=[{"name": "dittofs", "env": [{"name": "A"}]}, {"name": "a"}]),
        "podTemplate.spec.containers[1].image: Required value",
    ),
    _in_a_cluster(
        "a mount of no volume",
        sidecar(volumeMounts=[{"name": "none", "mountPath": "/a"}]),
        "podTemplate.spec.containers[0].volumeMounts[0].name: Not found",
    ),
    _in_a_cluster(
        "a label that is none",
        server(podTemplate={"metadata": {"labels": {"a b": "c"}}}),
        "podTemplate.metadata.labels: Invalid value",
    ),
    _in_a_cluster("a node label that is none", server(nodeSelector={"a b": "c"}), "nodeSelector: Invalid value"),
    _in_a_cluster(
        "a toleration that is none",
        server(tolerations=[{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists", "value": "b"}]),
        "tolerations[1].operator: Invalid value",
    ),
    _in_a_cluster(
        "a probe in two ways",
        own_container(readinessProbe={"exec": {"command": ["a"]}}),
        "podTemplate.spec.containers[0].readinessProbe.httpGet: Forbidden",
    ),
    _in_a_cluster(
        "a user that there cannot be",
        own_container(securityContext={"runAsUser": -1}),
        "podTemplate.spec.containers[0].securityContext.runAsUser: Invalid value",
    ),
    _in_a_cluster(
        "a volume of two kinds",
        pod(volumes=[{"name": "a", "emptyDir": {}, "configMap": {"name": "b"}}]),
        "podTemplate.spec.volumes[0].configMap: Forbidden",
    ),
)

MORE_PODS = (*BEYOND_THE_SCHEMA, *OF_WRONG_TYPE, *VERBATIM_PODS)
