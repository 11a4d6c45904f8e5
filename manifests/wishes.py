"""Lists what users ask for, with the fields and a sample that fulfil it, for the reference page.

Tests apply each sample as it is, in a real cluster as well.
"""

from typing import NamedTuple


class Wish(NamedTuple):
    """`fields` are paths below `spec`, and `sample` is a file in manifests/samples without its suffix.

    `limits` is Markdown with links relative to docs/reference; it is empty where there is nothing to add. `needs` are
    what admission warns about while nothing exists that the sample refers to.
    """

    title: str
    fields: tuple[str, ...]
    sample: str
    limits: str = ""
    needs: tuple[str, ...] = ()


WISHES = (
    Wish(
        "Pull the image from a private registry",
        ("imagePullSecrets", "imagePullPolicy"),
        "private-registry",
        "The image keeps the version of DittoFS in its tag, by which the operator knows what the server can do.",
        ('pull Secret "registry-login" does not exist; a private image cannot be pulled without it',),
    ),
    Wish(
        "Run on nodes that are reserved for storage",
        ("nodeSelector", "tolerations", "affinity"),
        "storage-nodes",
        "A volume that exists keeps the pod near it: none of these fields moves data to another node or zone.",
    ),
    Wish(
        "Satisfy a policy that requires labels",
        ("podTemplate.metadata.labels", "service.labels", "storage.metadata.labels", "storage.cache.labels"),
        "required-labels",
        "Each volume has its own labels; `storage.content.labels` is for `contentSize`. Labels of claims and Services "
        "change without a restart, those of the pod restart it.",
    ),
    Wish(
        "Run on OpenShift, under `restricted-v2`",
        ("podTemplate.removeDefaults",),
        "openshift",
        "The namespace chooses the user and group IDs. See "
        "[Customize the pod](../how-to/customize-the-pod.md#remove-the-user-and-group-ids-as-on-openshift).",
    ),
    Wish(
        "Store content in a MinIO with a CA of its own",
        ("s3.caSecretRef", "s3.credentialsSecretRef"),
        "minio",
        "With every version of DittoFS. See "
        "[Use an S3 endpoint with a private CA](../how-to/use-an-s3-endpoint-with-a-private-ca.md).",
        (
            'S3 credentials Secret "minio-credentials" not found; ensure it exists before DittoFS pod starts',
            'S3 CA Secret "minio-ca" not found; ensure it exists before DittoFS pod starts',
        ),
    ),
    Wish(
        "Use S3 without keys, by a workload identity",
        ("s3.serviceAccountName",),
        "workload-identity",
        "Only with DittoFS up to 0.12, on EKS or where AWS trusts the cluster. See "
        "[Use workload identity](../how-to/use-workload-identity.md).",
    ),
    Wish(
        "Reach the server through a load balancer, from some networks only",
        (
            "service.type",
            "service.loadBalancerSourceRanges",
            "service.loadBalancerClass",
            "service.externalTrafficPolicy",
        ),
        "load-balancer",
        "`status.endpoints` has the address of the load balancer, and `EndpointsReady` says what it waits for. Not "
        "every cloud enforces source ranges.",
    ),
    Wish(
        "Serve IPv4 and IPv6",
        ("service.ipFamilyPolicy", "service.ipFamilies"),
        "dual-stack",
        "The first family of a Service that exists cannot change.",
    ),
    Wish(
        "Start from snapshots of volumes",
        ("storage.metadata.dataSourceRef", "storage.content.dataSourceRef", "identity.admin.passwordSecretRef"),
        "restore-snapshot",
        "Only when the claims are created. Content in S3 is in no snapshot: two servers must not write to one bucket. "
        "See [Restore from a snapshot](../how-to/restore-from-a-snapshot.md).",
        (
            'admin password Secret "files-admin-bootstrap-credentials" not found; ensure it exists before DittoFS pod '
            "starts",
            *(
                f'VolumeSnapshot "files-{volume}" does not exist; its claim stays Pending until it does'
                for volume in ("metadata", "content")
            ),
        ),
    ),
    Wish(
        "Add a sidecar or an init container",
        ("podTemplate.spec.containers", "podTemplate.spec.initContainers", "podTemplate.spec.volumes"),
        "sidecar",
        "The container of the server is called `dittofs`. Volumes `metadata`, `content` and `cache` can be mounted.",
    ),
)
