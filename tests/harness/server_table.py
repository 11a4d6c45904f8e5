"""Tables of DittoServers, changes to them and leftover claims, with the expected verdict on each.

Everything that judges them is tested against these tables: CRD, webhook, snapshot and check.
"""

from dataclasses import dataclass, field
from typing import Any

from app.storage.spec import API_VERSION, KIND
from app.storage.unstructured import Manifest

# Its tag says neither which DittoFS it is nor that it could move.
IMAGE = "example.com/dittofs:tested"


def server(name: str = "files", /, **spec: Any) -> Manifest:
    """Builds a DittoServer that is valid and deserves no warning unless `spec` makes it invalid or doubtful."""
    spec = {"image": IMAGE, "storage": {"metadataSize": "10Gi", "storageClassName": "fast"}, **spec}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def storage(**fields: Any) -> Manifest:
    return {"storage": {"metadataSize": "10Gi", "storageClassName": "fast", **fields}}


def snapshot(name: str = "nightly", **fields: Any) -> Manifest:
    """Builds the settings of a volume that is restored from a VolumeSnapshot."""
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name}
    return {"dataSourceRef": {name: value for name, value in {**source, **fields}.items() if value is not None}}


def s3(**fields: Any) -> Manifest:
    return {"s3": {"credentialsSecretRef": {"secretName": "s3", **fields}}}


# What passes for a certificate in PEM, with an empty sequence in it.
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"


def s3_ca(**fields: Any) -> Manifest:
    return {"s3": {"caSecretRef": {"name": "ca", **fields}}}


def shares(*entries: Any, **spec: Any) -> Manifest:
    """Builds a spec with shares, a bucket and a content volume."""
    bucket = {"credentialsSecretRef": {"secretName": "s3"}, "bucket": "media"}
    return {"shares": list(entries), "s3": bucket, **storage(contentSize="50Gi"), **spec}


def _nested(levels: int) -> Any:
    return {"a": _nested(levels - 1)} if levels else {}


def service(**fields: Any) -> Manifest:
    return {"service": fields}


def jwt(**reference: Any) -> Manifest:
    return {"identity": {"jwt": {"secretRef": reference}}}


_NODE_PORT = {"type": "NodePort"}


@dataclass(frozen=True)
class Row:
    """A new DittoServer, and the `errors` in the webhook's rejection: one text for each finding, none when admitted.

    Where `only_a_cluster_knows`, the errors come from a dry run; without a cluster the server is admitted.
    """

    title: str
    manifest: Manifest
    errors: tuple[str, ...] = field(default=())
    only_a_cluster_knows: bool = False

    @property
    def admitted(self) -> bool:
        return not self.errors


def _row(title: str, manifest: Manifest, *errors: str) -> Row:
    return Row(title, manifest, errors)


# What the object alone shows: here CRD, webhook, snapshot and check must agree.
ABOUT_THE_OBJECT = (
    _row("minimal", server()),
    _row("every size", server(**storage(contentSize="50Gi", cacheSize="5Gi"))),
    _row("sizes in Mi and Ti", server(**storage(contentSize="1Ti", cacheSize="512Mi"))),
    _row("no metadataSize", server(storage={"storageClassName": "fast"}), "storage.metadataSize is required"),
    _row("no storage", {**server(), "spec": {}}, "storage.metadataSize is required"),
    _row("storage that is no object", server(storage="10Gi"), "storage must be an object"),
    _row("a null where there is a default", server(nfsPort=None, smb=None, **storage(cacheSize=None))),
    _row(
        "a size in decimal units",
        server(**storage(cacheSize="5G")),
        'storage.cacheSize must match ^[0-9]+(Gi|Mi|Ti)$, such as 10Gi, not "5G"',
    ),
    _row("a size with a fraction", server(**storage(contentSize="1.5Gi")), "storage.contentSize must match"),
    _row("a size with a line break", server(**storage(cacheSize="5Gi\n")), "storage.cacheSize must match"),
    _row("a size that is a number", server(**storage(cacheSize=5)), "storage.cacheSize must be a string"),
    _row("an endless size", server(**storage(cacheSize="1" * 30 + "Gi")), "storage.cacheSize must have at most 20"),
    _row("metadataSize zero", server(**storage(metadataSize="0Gi")), "storage.metadataSize must be more than zero"),
    _row("contentSize zero", server(**storage(contentSize="00Mi")), "storage.contentSize must be more than zero"),
    _row("cacheSize zero", server(**storage(cacheSize="0Ti")), "storage.cacheSize must be more than zero"),
    _row("api port zero", server(controlPlane={"port": 0}), "controlPlane.port must be between 1 and 65535"),
    _row("api port too high", server(controlPlane={"port": 65536}), "controlPlane.port must be between 1 and 65535"),
    _row("nfs port negative", server(nfsPort=-1), "nfsPort must be between 1 and 65535"),
    _row("a port as text", server(nfsPort="2049"), "nfsPort must be an integer"),
    _row("nfs on the default api port", server(nfsPort=8080), "port 8080 is used by both nfs and api"),
    _row(
        "api and metrics on one port",
        server(controlPlane={}, metrics={"enabled": True, "port": 8080}),
        "port 8080 is used by both api and metrics",
    ),
    _row("metrics off on the api port", server(metrics={"enabled": False, "port": 8080})),
    _row("nfs and smb on one port", server(smb={"enabled": True, "port": 2049}), "used by both nfs and smb"),
    _row("smb off on the nfs port", server(smb={"port": 2049})),
    _row(
        "everything on one port",
        server(
            nfsPort=9000,
            controlPlane={"port": 9000},
            smb={"enabled": True, "port": 9000},
            metrics={"enabled": True, "port": 9000},
        ),
        "port 9000 is used by both nfs and api",
        "port 9000 is used by both nfs and smb",
        "port 9000 is used by both nfs and metrics",
        "port 9000 is used by both api and smb",
        "port 9000 is used by both api and metrics",
        "port 9000 is used by both smb and metrics",
    ),
    _row("api where NFS listens", server(controlPlane={"port": 12049}), "controlPlane.port must not be 12049"),
    _row("metrics where SMB listens", server(metrics={"enabled": True, "port": 1445}), "metrics.port must not be 1445"),
    _row("metrics off where SMB listens", server(metrics={"port": 1445})),
    _row("nfs Service where NFS listens", server(nfsPort=12049)),
    _row("the longest name", server("a" * 52)),
    _row("a name too long", server("a" * 53), "metadata.name must have at most 52"),
    _row("a name with a dot", server("a.b"), "metadata.name must have at most 52"),
    _row("a name that begins with a digit", server("1a"), "metadata.name must have at most 52"),
    _row("a pull policy", server(imagePullPolicy="Always")),
    _row("no pull policy", server(imagePullPolicy=None)),
    _row("another pull policy", server(imagePullPolicy="Sometimes"), "imagePullPolicy must be 'Always'"),
    _row("two replicas", server(replicas=2), "replicas must be between 0 and 1"),
    _row("stopped", server(replicas=0)),
    _row("another database", server(database={"type": "mysql"}), "database.type must be 'sqlite' or 'postgres'"),
    _row("another identity", server(identity={"type": "ldap"}), "identity.type must be 'memory'"),
    _row("another Service", server(service={"type": "ExternalName"}), "service.type must be 'ClusterIP'"),
    _row(
        "a load balancer with everything",
        server(
            **service(
                type="LoadBalancer",
                labels={"example.com/team": "storage"},
                loadBalancerClass="example.com/internal",
                loadBalancerSourceRanges=["10.0.0.0/8", "2001:db8::/32"],
                externalTrafficPolicy="Local",
                ipFamilyPolicy="PreferDualStack",
                ipFamilies=["IPv6", "IPv4"],
                nodePorts={"nfs": 30049, "smb": 30445, "api": 30080},
                api={"type": "NodePort", "annotations": {"a": "b"}},
            )
        ),
    ),
    _row("a Service with nothing", server(**service(labels=None, nodePorts=None, api={}, ipFamilies=None))),
    _row("fields of an API that is balanced", server(**service(loadBalancerClass="a", api={"type": "LoadBalancer"}))),
    _row("no source ranges without a load balancer", server(**service(loadBalancerSourceRanges=[]))),
    _row(
        "fields of a load balancer without one",
        server(**service(type="NodePort", loadBalancerClass="a", loadBalancerSourceRanges=["10.0.0.0/8"])),
        "service.loadBalancerClass needs service.type or service.api.type LoadBalancer",
        "service.loadBalancerSourceRanges needs",
    ),
    _row(
        "a traffic policy inside the cluster",
        server(**service(externalTrafficPolicy="Local", api={})),
        "service.externalTrafficPolicy needs service.type or service.api.type NodePort or LoadBalancer",
    ),
    _row("a traffic policy of the API", server(**service(externalTrafficPolicy="Local", api={"type": "NodePort"}))),
    _row("another traffic policy", server(**service(externalTrafficPolicy="None")), "must be 'Cluster' or 'Local'"),
    _row(
        "node ports inside the cluster",
        server(**service(nodePorts={"nfs": 30049, "smb": 30445, "api": 30080})),
        "service.nodePorts.nfs needs service.type NodePort or LoadBalancer",
        "service.nodePorts.smb needs service.type",
        "service.nodePorts.api needs service.api.type NodePort or LoadBalancer",
    ),
    _row(
        "a node port of an API that is not exposed",
        server(**service(type="LoadBalancer", nodePorts={"api": 30080})),
        "service.nodePorts.api needs service.api.type",
    ),
    _row(
        "one node port for all",
        server(
            **service(type="NodePort", nodePorts={"nfs": 30049, "smb": 30049, "api": 30049}, api={"type": "NodePort"})
        ),
        "node port 30049 is used by both nfs and smb",
        "node port 30049 is used by both nfs and api",
        "node port 30049 is used by both smb and api",
    ),
    _row(
        "a node port out of range",
        server(**service(type="NodePort", nodePorts={"nfs": 65536})),
        "service.nodePorts.nfs must be between 1 and 65535",
    ),
    _row("one family", server(**service(ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack"))),
    _row("no family", server(**service(ipFamilies=[])), "service.ipFamilies must not be empty"),
    _row("both families", server(**service(ipFamilies=["IPv6", "IPv4"], ipFamilyPolicy="RequireDualStack"))),
    _row(
        "both families without a policy", server(**service(ipFamilies=["IPv6", "IPv4"])), "set service.ipFamilyPolicy"
    ),
    _row(
        "both families for one",
        server(**service(ipFamilies=["IPv6", "IPv4"], ipFamilyPolicy="SingleStack")),
        "set service.ipFamilyPolicy to PreferDualStack or RequireDualStack",
    ),
    _row(
        "one family for both",
        server(**service(ipFamilies=["IPv6"], ipFamilyPolicy="PreferDualStack")),
        "service.ipFamilies needs both families with service.ipFamilyPolicy PreferDualStack, or leave it out",
    ),
    _row(
        "a family twice",
        server(**service(ipFamilies=["IPv6", "IPv6"], ipFamilyPolicy="PreferDualStack")),
        "service.ipFamilies names IPv6 twice",
    ),
    _row("another family", server(**service(ipFamilies=["IPv5"])), "service.ipFamilies[0] must be 'IPv4' or 'IPv6'"),
    _row(
        "labels of the operator",
        server(**service(labels={"app": "mine", "app.kubernetes.io/name": "mine", "app.kubernetes.io/version": "1"})),
        'service.labels must not have "app": the operator sets that label itself',
        'service.labels must not have "app.kubernetes.io/name"',
    ),
    _row("a label that is a number", server(**service(labels={"team": 1})), "service.labels.team must be a string"),
    _row("an API of another type", server(**service(api={"type": "Headless"})), "service.api.type must be 'ClusterIP'"),
    _row(
        "too many ranges",
        server(**service(type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.0/8"] * 65)),
        "service.loadBalancerSourceRanges must have at most 64 entries",
    ),
    _row("an annotation that is a number", server(service={"annotations": {"a.b/c": 1}}), "must be a string"),
    _row("S3 credentials without a name", server(s3={"credentialsSecretRef": {}}), "secretName is required"),
    _row("S3 credentials with an empty name", server(**s3(secretName="")), "secretName must not be empty"),
    _row("a ServiceAccount for S3", server(s3={"serviceAccountName": "team.uploader-1"})),
    _row("no ServiceAccount for S3", server(s3={"serviceAccountName": None})),
    _row("an empty ServiceAccount", server(s3={"serviceAccountName": ""}), "s3.serviceAccountName must"),
    _row(
        "a ServiceAccount of no name",
        server(s3={"serviceAccountName": "A b"}),
        "s3.serviceAccountName must be the name",
    ),
    _row(
        "a ServiceAccount with a line break", server(s3={"serviceAccountName": "a\n"}), "must be the name of an object"
    ),
    _row("a ServiceAccount too long", server(s3={"serviceAccountName": "a" * 254}), "s3.serviceAccountName must"),
    _row(
        "the same ServiceAccount twice",
        server(s3={"serviceAccountName": "a"}, podTemplate={"spec": {"serviceAccountName": "a"}}),
    ),
    _row(
        "two ServiceAccounts",
        server(s3={"serviceAccountName": "a"}, podTemplate={"spec": {"serviceAccountName": "b"}}),
        'podTemplate.spec.serviceAccountName must not differ from s3.serviceAccountName "a"',
    ),
    _row(
        "another ServiceAccount in the older field",
        server(s3={"serviceAccountName": "a"}, podTemplate={"spec": {"serviceAccount": "b"}}),
        'podTemplate.spec.serviceAccount must not differ from s3.serviceAccountName "a"',
    ),
    _row(
        "a ServiceAccount that null does not remove",
        server(s3={"serviceAccountName": "a"}, podTemplate={"spec": {"serviceAccountName": None}}),
    ),
    _row("a session token of S3", server(**s3(sessionTokenKey="sessionToken"))),
    _row("a session token of S3 in no key", server(**s3(sessionTokenKey="")), "sessionTokenKey must not be empty"),
    _row("a CA of S3", server(**s3_ca())),
    _row("a CA of S3 in a key of its own", server(**s3_ca(key="minio.pem"))),
    _row("no CA of S3", server(s3={"caSecretRef": None})),
    _row("a CA of S3 without a name", server(s3={"caSecretRef": {"key": "ca.crt"}}), "s3.caSecretRef.name is required"),
    _row("a CA of S3 with an empty name", server(**s3_ca(name="")), "s3.caSecretRef.name must not be empty"),
    _row("a CA of S3 with an empty key", server(**s3_ca(key="")), "s3.caSecretRef.key must not be empty"),
    _row("a CA of S3 that is no object", server(s3={"caSecretRef": "ca"}), "s3.caSecretRef must be an object"),
    _row("a JWT reference without a key", server(**jwt(name="jwt")), "identity.jwt.secretRef.key is required"),
    _row(
        "a JWT reference that is wrong in two ways",
        server(**jwt(name=5)),
        "identity.jwt.secretRef.key is required",
        "identity.jwt.secretRef.name must be a string",
    ),
    _row("JWT without a reference", server(identity={"jwt": {}}), "identity.jwt.secretRef is required"),
    _row("a switch that is text", server(smb={"enabled": "true"}), "smb.enabled must be true or false"),
    _row("SMB credits below one", server(smb={"credits": {"minGrant": 0}}), "smb.credits.minGrant must be between 1"),
    _row("an int32 too large", server(smb={"maxConnections": 2**31}), "smb.maxConnections must be between 0"),
    _row("core types as they are", server(resources={"limits": {"memory": "1Gi"}}, podSecurityContext={"x": None})),
    _row("a share", server(**shares({"name": "media"}))),
    _row(
        "shares in both stores",
        server(
            **shares(
                {"name": "media", "store": "s3", "readOnly": True, "squash": "all_to_guest"},
                {"name": "0-scratch-0", "store": "local", "defaultPermission": "none"},
            )
        ),
    ),
    _row("no shares", server(shares=[])),
    _row("shares that are null", server(shares=None)),
    _row("shares that are no list", server(shares={"name": "media"}), "shares must be a list"),
    _row("a share that is no object", server(**shares("media")), "shares[0] must be an object"),
    _row("a share without a name", server(**shares({})), "shares[0].name is required"),
    _row("a share with a path", server(**shares({"name": "a"}, {"name": "/b"})), "shares[1].name must be lower-case"),
    _row("a share that ends in a line break", server(**shares({"name": "a\n"})), "shares[0].name must be lower-case"),
    _row("the longest name of a share", server(**shares({"name": "a" * 63}))),
    _row("a share with a long name", server(**shares({"name": "a" * 64})), "shares[0].name must have at most 63"),
    _row("a share with an empty name", server(**shares({"name": ""})), "shares[0].name must"),
    _row(
        "two shares of a name",
        server(**shares({"name": "a"}, {"name": "b"}, {"name": "a"})),
        'shares has 2 entries named "a"',
    ),
    _row(
        "a share with other settings",
        server(
            **shares({"name": "a", "readOnly": "yes", "squash": "root", "defaultPermission": "rw", "store": "disk"})
        ),
        "shares[0].defaultPermission must be 'none', 'read', 'read-write' or 'admin'",
        "shares[0].readOnly must be true or false",
        "shares[0].squash must be 'none', 'root_to_admin'",
        "shares[0].store must be 's3' or 'local'",
    ),
    _row(
        "too many shares",
        server(**shares(*({"name": f"a{number}"} for number in range(65)))),
        "shares must have at most 64 entries",
    ),
    _row(
        "a share without content volume and bucket",
        server(shares=[{"name": "a"}]),
        'share "a" in a local store needs storage.contentSize',
    ),
    _row(
        "a share in s3 without a bucket",
        server(**shares({"name": "a", "store": "s3"}, s3={"credentialsSecretRef": {"secretName": "s3"}})),
        'share "a" in s3 needs s3.bucket and s3.credentialsSecretRef',
    ),
    _row(
        "a share in s3 with a ServiceAccount",
        server(**shares({"name": "a"}, s3={"bucket": "media", "serviceAccountName": "uploader"})),
    ),
    _row(
        "a share in s3 with a ServiceAccount without a bucket",
        server(**shares({"name": "a", "store": "s3"}, s3={"serviceAccountName": "uploader"})),
        'share "a" in s3 needs s3.bucket',
    ),
    _row(
        "a share in a bucket of no name", server(**shares({"name": "a", "store": "s3"}, s3={"bucket": ""})), 'share "a"'
    ),
    _row(
        "a share in s3 without credentials", server(**shares({"name": "a"}, s3={"bucket": "media"})), 'share "a" in s3'
    ),
    _row("a local share without s3", server(**shares({"name": "a"}, s3={}))),
    _row("a local share beside s3", server(**shares({"name": "a", "store": "local"}, s3={"bucket": "media"}))),
    _row(
        "settings of every volume",
        server(
            **storage(
                contentSize="50Gi",
                metadata={"labels": {"team": "a", "example.com/tier": ""}, "annotations": {"example.com/backup": "x"}},
                content={"storageClassName": "slow", **snapshot()},
                cache={"storageClassName": "", "labels": {}, "annotations": None},
            )
        ),
    ),
    _row("settings of volumes that are empty", server(**storage(metadata={}, cache=None, content=None))),
    _row("settings that are no object", server(**storage(cache="fast")), "storage.cache must be an object"),
    _row("a volume's class that is no text", server(**storage(cache={"storageClassName": 1})), "must be a string"),
    _row(
        "settings of a content volume that there is not",
        server(**storage(content={})),
        "storage.content needs storage.contentSize",
    ),
    _row("a label that is a number", server(**storage(cache={"labels": {"a": 1}})), "labels.a must be a string"),
    _row(
        "a label that is too long",
        server(**storage(cache={"labels": {"a": "x" * 64}})),
        "storage.cache.labels.a must have at most 63 characters",
    ),
    _row(
        "too many labels",
        server(**storage(cache={"labels": {f"a{number}": "" for number in range(257)}})),
        "storage.cache.labels must have at most 256 entries",
    ),
    _row(
        "labels by which claims are found",
        server(**storage(metadata={"labels": {"app": "a", "instance": "b", "apps": "c", "example.com/app": "d"}})),
        'storage.metadata.labels must not have "app"',
        'storage.metadata.labels must not have "instance"',
    ),
    _row(
        "annotations of volume controllers",
        server(
            **storage(
                metadata={"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
                cache={
                    "annotations": {
                        "volume.kubernetes.io/selected-node": "a",
                        "volume.beta.kubernetes.io/storage-provisioner": "a",
                        "dittofs.io/claim-metadata": "{}",
                        "dittofs.io.example.com/a": "a",
                        "pv.kubernetes.io": "a",
                    }
                },
            )
        ),
        'storage.cache.annotations must not have "dittofs.io/claim-metadata"',
        'storage.cache.annotations must not have "volume.beta.kubernetes.io/storage-',
        'storage.cache.annotations must not have "volume.kubernetes.io/selected-node"',
        'storage.metadata.annotations must not have "pv.kubernetes.io/bind-completed"',
    ),
    _row("a volume restored from a snapshot", server(**storage(metadata=snapshot()))),
    _row(
        "a volume cloned from a claim", server(**storage(cache=snapshot(kind="PersistentVolumeClaim", apiGroup=None)))
    ),
    _row(
        "a snapshot without its group",
        server(**storage(cache=snapshot(apiGroup=None))),
        "storage.cache.dataSourceRef.apiGroup is required unless the kind is PersistentVolumeClaim",
    ),
    _row("a snapshot of an empty group", server(**storage(cache=snapshot(apiGroup=""))), "apiGroup is required"),
    _row("a data source without a kind", server(**storage(cache=snapshot(kind=None))), "kind is required"),
    _row("a data source without a name", server(**storage(cache=snapshot(""))), "name must not be empty"),
    _row("resources that are no object", server(resources="1Gi"), "resources must be an object"),
    _row(
        "several at once",
        server(nfsPort=0, replicas=3, **storage(metadataSize="0Gi", cacheSize="5G")),
        "nfsPort must be between",
        "replicas must be between",
        "storage.cacheSize must match",
        "storage.metadataSize must be more than zero",
    ),
)

_POSTGRES = {"type": "postgres", "postgresSecretRef": {"name": "dsn", "key": "dsn"}}
_OVERWRITTEN = 'must not be "files-postgres"'

# What the spec alone shows and the CRD admits all the same: the CRD must admit every server that it ever admitted, and
# the Go operator left the connection string where it is instead of writing its parts into a Secret.
ABOUT_REFERENCES = (
    _row("a connection string of its own", server(database=_POSTGRES)),
    _row(
        "a connection string where the operator writes its parts",
        server(database={"postgresSecretRef": {"name": "files-postgres", "key": "dsn"}}),
        f"database.postgresSecretRef.name {_OVERWRITTEN}",
    ),
    _row(
        "a connection string under a key that the operator writes",
        server(database={"type": "postgres", "postgresSecretRef": {"name": "files-postgres", "key": "password"}}),
        f"database.postgresSecretRef.name {_OVERWRITTEN}",
    ),
    _row(
        "S3 credentials where the operator writes",
        server(database=_POSTGRES, **s3(secretName="files-postgres")),
        f"s3.credentialsSecretRef.secretName {_OVERWRITTEN}",
    ),
    _row(
        "a signing secret where the operator writes",
        server(database=_POSTGRES, **jwt(name="files-postgres", key="jwt")),
        f"identity.jwt.secretRef.name {_OVERWRITTEN}",
    ),
    _row(
        "an admin password where the operator writes",
        server(database=_POSTGRES, identity={"admin": {"passwordSecretRef": {"name": "files-postgres", "key": "p"}}}),
        f"identity.admin.passwordSecretRef.name {_OVERWRITTEN}",
    ),
    _row(
        "everything where the operator writes",
        server(
            database={"type": "postgres", "postgresSecretRef": {"name": "files-postgres", "key": "dsn"}},
            **s3(secretName="files-postgres"),
        ),
        f"database.postgresSecretRef.name {_OVERWRITTEN}",
        f"s3.credentialsSecretRef.secretName {_OVERWRITTEN}",
    ),
    _row(
        "the password of the connection string for the admin too",
        server(
            database=_POSTGRES,
            identity={"admin": {"passwordSecretRef": {"name": "files-postgres", "key": "password"}}},
        ),
    ),
    _row(
        "a CA of S3 where the operator writes",
        server(database=_POSTGRES, **s3_ca(name="files-postgres")),
        f"s3.caSecretRef.name {_OVERWRITTEN}",
    ),
    _row("nothing is written without a connection string", server(**s3(secretName="files-postgres"))),
    _row(
        "a connection string that is named as another server's",
        server(database={"type": "postgres", "postgresSecretRef": {"name": "other-postgres", "key": "dsn"}}),
    ),
    _row("a secret that is generated only where there is none", server(**jwt(name="files-jwt-secret", key="k"))),
)

# What only a look at the cluster shows: the CRD admits all of these.
ABOUT_THE_CLUSTER = (
    _row(
        "a StorageClass that does not exist",
        server(**storage(storageClassName="none-such")),
        'StorageClass "none-such" does not exist in cluster; there are: fast (default), slow',
    ),
    _row("a StorageClass that exists", server(**storage(storageClassName="slow"))),
    _row("volumes bound by hand", server(**storage(storageClassName=""))),
    _row(
        "a volume's StorageClass that does not exist",
        server(**storage(cache={"storageClassName": "none-such"}, metadata={"storageClassName": "slow"})),
        'StorageClass "none-such" does not exist in cluster; there are: fast (default), slow',
    ),
    _row(
        "several StorageClasses that do not exist",
        server(**storage(storageClassName="x", cache={"storageClassName": "y"}, metadata={"storageClassName": "y"})),
        'StorageClass "x" does not exist',
        'StorageClass "y" does not exist',
        'StorageClass "y" does not exist',
    ),
    _row("volumes of StorageClasses that exist", server(**storage(cache={"storageClassName": "slow"}))),
    _row(
        "every volume of a StorageClass of its own",
        server(
            storage={
                "metadataSize": "10Gi",
                "metadata": {"storageClassName": "slow"},
                "cache": {"storageClassName": ""},
            }
        ),
    ),
)


def _resources(request: Any, limit: Any, name: str = "memory") -> Manifest:
    return server(resources={"requests": {name: request}, "limits": {name: limit}})


def _in_a_cluster(title: str, manifest: Manifest, *errors: str) -> Row:
    return Row(title, manifest, errors, only_a_cluster_knows=True)


_LOCALHOST = {"seccompProfile": {"type": "Localhost"}}

# What goes verbatim into a pod or a Service, which the API server may reject: the CRD admits all of these.
VERBATIM = (
    _row("requests and limits", _resources("1Gi", "1024Mi")),
    _row("an amount that is a number", _resources(0.5, 1, "cpu")),
    _row("contexts of the restricted profile", server(securityContext={"readOnlyRootFilesystem": True})),
    _row("sections that are empty", server(resources={}, securityContext={"runAsUser": None}, podSecurityContext={})),
    _row(
        "a field in the singular",
        server(resources={"limit": {"memory": "1Gi"}}),
        "resources.limit is not a field of a ResourceRequirements in Kubernetes 1.36; did you mean limits?",
    ),
    _row(
        "unknown fields in every section",
        server(resources={"x": 1}, securityContext={"runasuser": 1}, podSecurityContext={"sysctl": []}),
        "resources.x is not a field",
        "did you mean runAsUser?",
        "did you mean sysctls?",
    ),
    _row(
        "an unknown field deep inside",
        server(podSecurityContext={"seccompProfile": {"typ": "RuntimeDefault"}}),
        "podSecurityContext.seccompProfile.typ is not a field of a SeccompProfile",
    ),
    _row("requests above limits", _resources("2Gi", "1Gi"), "has 2Gi of memory, which is above its limit of 1Gi"),
    _row(
        "two requests above limits",
        server(resources={"requests": {"memory": "2Gi", "cpu": 2}, "limits": {"memory": "1Gi", "cpu": "500m"}}),
        "has 2Gi of memory",
        "has 2 of cpu, which is above its limit of 500m",
    ),
    _row("less of a GPU than its limit", _resources(1, 2, "example.com/gpu"), "has to be its limit of 2"),
    _row("a GPU without a limit", server(resources={"requests": {"example.com/gpu": 1}}), "limits lacks"),
    _row("an amount that is none", _resources("1GB", "1Gi"), "resources.requests[memory] must be a quantity"),
    _row("limits that are a list", server(resources={"limits": ["memory"]}), "resources.limits must be an object"),
    _row("a switch of a section", server(securityContext={"runAsNonRoot": "yes"}), "must be true or false"),
    _row("a user that is text", server(podSecurityContext={"runAsUser": "1000"}), "runAsUser must be an integer"),
    _row("a procMount that there is not", server(securityContext={"procMount": "None"}), "'Default' or 'Unmasked'"),
    _row("a section that is nested endlessly", server(resources=_nested(500)), "resources is nested more than 16 deep"),
    _in_a_cluster(
        "a negative user",
        server(securityContext={"runAsUser": -1}),
        "securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647",
    ),
    _in_a_cluster(
        "a seccomp profile without its file",
        server(podSecurityContext=_LOCALHOST, securityContext=_LOCALHOST),
        "podSecurityContext.seccompProfile.localhostProfile: Required value",
        "securityContext.seccompProfile.localhostProfile: Required value",
    ),
    _in_a_cluster(
        "an unmasked procMount",
        server(securityContext={"procMount": "Unmasked"}),
        "securityContext.procMount: Invalid value",
    ),
    _in_a_cluster(
        "a capability that takes an escalation",
        server(securityContext={"capabilities": {"add": ["CAP_SYS_ADMIN"]}}),
        "securityContext: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
    ),
    _in_a_cluster(
        "a host process",
        server(podSecurityContext={"windowsOptions": {"hostProcess": True}}),
        "podSecurityContext: Invalid value: false: hostNetwork must be true",
        "podSecurityContext: Forbidden: hostProcess containers are disallowed by cluster policy",
    ),
    _in_a_cluster("storage of a container", server(resources={"limits": {"storage": 1}}), "resources.limits[storage]"),
    _in_a_cluster(
        "a claim of nothing", server(resources={"claims": [{"name": "a"}]}), "resources.claims[0]: Not found"
    ),
    _in_a_cluster("part of a byte", server(resources={"limits": {"memory": "500m"}})),
    _row(
        "labels and annotations of no name",
        server(
            **storage(
                metadata={"labels": {"a b": "", "A.b/c": ""}}, cache={"annotations": {"a/b/c": "", "A.b/c": "x y"}}
            )
        ),
        'storage.cache.annotations has "a/b/c", which is no name for an annotation',
        'storage.metadata.labels has "A.b/c", which is no name for a label',
        'storage.metadata.labels has "a b", which is no name for a label',
    ),
    _row(
        "a label of no value",
        server(**storage(cache={"labels": {"team": "a b"}})),
        'storage.cache.labels has "team": its value must be up to 63 letters',
    ),
    _row(
        "too much in annotations of a claim",
        server(**storage(cache={"annotations": {str(number): "x" * 65536 for number in range(3)}})),
        "storage.cache.annotations must have at most 196608 bytes in all",
    ),
    _row(
        "data sources of no name",
        server(**storage(cache=snapshot("A b"), metadata=snapshot(apiGroup="a/b"))),
        'storage.cache.dataSourceRef.name "A b" cannot exist by that name',
        'storage.metadata.dataSourceRef.apiGroup "a/b" cannot exist by that name',
    ),
    _row("an image without a name", server(image=""), "image must not be empty"),
    _row("an image with a line break", server(image="dittofs:1\n"), r'image "dittofs:1\n" contains white space'),
    _row("an image of two words", server(image="a b"), 'image "a b" contains white space'),
    _row("a Secret of no name", server(**s3(secretName="A b")), 'Secret "A b" cannot exist by that name'),
    _row(
        "keys that no Secret has",
        server(**s3(accessKeyIdKey="a b", endpointKey="..")),
        'Secret cannot have a key ".."',
        'Secret cannot have a key "a b"',
    ),
    _row("a token's key that no Secret has", server(**s3(sessionTokenKey="a b")), 'Secret cannot have a key "a b"'),
    _row("a CA Secret of no name", server(**s3_ca(name="A b")), 'S3 CA Secret "A b" cannot exist by that name'),
    _row("a CA key that no Secret has", server(**s3_ca(key="a/b")), 'S3 CA Secret cannot have a key "a/b"'),
    _row("a JWT key that no Secret has", server(**jwt(name="jwt", key="a/b")), 'JWT Secret cannot have a key "a/b"'),
    _row(
        "annotations of no name",
        server(service={"annotations": {"a b": "", "a/b/c": "", "A.b/c": ""}}),
        'service.annotations has "a b"',
        'service.annotations has "a/b/c"',
    ),
    _row(
        "ranges that are none",
        server(
            **service(
                type="LoadBalancer",
                loadBalancerSourceRanges=[
                    "10.0.0.0/8",
                    "10.0.0.1/8",
                    "10.0.0.1",
                    "010.0.0.0/8",
                    "10.0.0.0/08",
                    "10.0.0.0/255.0.0.0",
                    "::ffff:10.0.0.0/120",
                    "fe80::%1/64",
                    "10.0.0.0/8\n",
                ],
            )
        ),
        '[1] has "10.0.0.1/8", an address inside of a range; use 10.0.0.0/8 for the range',
        *(f"service.loadBalancerSourceRanges[{position}] has" for position in range(2, 9)),
    ),
    _row(
        "a class of load balancers of no name",
        server(**service(type="LoadBalancer", loadBalancerClass="a b")),
        'service.loadBalancerClass has "a b", which is no name such as example.com/internal',
    ),
    _row(
        "labels that are none",
        server(**service(labels={"a b": "", "team": "a b", "x": "", "A.b/c": "d"})),
        'service.labels has "a b", which is no name for a label',
        'service.labels has "A.b/c"',
        "service.labels[team] must have up to 63 letters",
    ),
    _row(
        "annotations of the API of no name",
        server(**service(api={"annotations": {"a b": ""}})),
        'service.api.annotations has "a b"',
    ),
    _row(
        "too much in annotations",
        server(service={"annotations": {str(number): "x" * 65536 for number in range(4)}}),
        "service.annotations must have at most 262110 bytes",
    ),
)


@dataclass(frozen=True)
class Edit:
    """A change from one DittoServer to another whose volumes do not exist yet; `errors` as in a Row."""

    title: str
    old: Manifest
    new: Manifest
    errors: tuple[str, ...] = field(default=())

    @property
    def admitted(self) -> bool:
        return not self.errors


_CLASS_IS_KEPT = "storage.storageClassName cannot change"
_TO_ANOTHER_CLASS = "make a new DittoServer with the other class and copy the data"
_CONTENT_IS_KEPT = "storage.contentSize cannot be removed"
_WITHOUT_CONTENT = "make a new DittoServer without it and copy the data"
_SOURCE_IS_KEPT = "dataSourceRef cannot be set or changed"
_WITHOUT_CLASS: Manifest = {"storage": {"metadataSize": "10Gi"}}

# What a change shows without a look at the cluster: CRD and webhook must agree.
EDITS = (
    Edit("nothing", server(), server()),
    Edit("a port", server(), server(nfsPort=2050)),
    Edit("a size raised", server(), server(**storage(cacheSize="9Gi"))),
    Edit("a size lowered", server(**storage(cacheSize="9Gi")), server()),
    Edit("every size", server(**storage(contentSize="1Gi")), server(**storage(contentSize="2Gi", metadataSize="1Ti"))),
    Edit("a size in other words", server(**storage(cacheSize="1024Mi")), server(**storage(cacheSize="1Gi"))),
    Edit("a content volume added", server(), server(**storage(contentSize="50Gi"))),
    Edit("a content volume removed", server(**storage(contentSize="50Gi")), server(), (_CONTENT_IS_KEPT,)),
    Edit(
        "a content volume set to null",
        server(**storage(contentSize="50Gi")),
        server(**storage(contentSize=None)),
        (_WITHOUT_CONTENT,),
    ),
    Edit("another class", server(), server(**storage(storageClassName="slow")), (_TO_ANOTHER_CLASS,)),
    Edit("a class where none was named", server(**_WITHOUT_CLASS), server(), (f"{_CLASS_IS_KEPT}, it was unset",)),
    Edit("no class any more", server(), server(**_WITHOUT_CLASS), (f'{_CLASS_IS_KEPT}, it was "fast"',)),
    Edit("a class bound by hand", server(), server(**storage(storageClassName="")), (_CLASS_IS_KEPT,)),
    Edit("another type", server(), server(**service(type="LoadBalancer", loadBalancerClass="a"))),
    Edit("no longer a load balancer", server(**service(type="LoadBalancer", loadBalancerClass="a")), server()),
    Edit(
        "another class of load balancers",
        server(**service(type="LoadBalancer", loadBalancerClass="a")),
        server(**service(type="LoadBalancer", loadBalancerClass="b")),
        ("service.loadBalancerClass cannot change while the type is LoadBalancer",),
    ),
    Edit(
        "a class of load balancers where there is one",
        server(**service(type="LoadBalancer")),
        server(**service(type="LoadBalancer", loadBalancerClass="b")),
        ("set the type to ClusterIP first, then back",),
    ),
    Edit(
        "no class of load balancers any more",
        server(**service(api={"type": "LoadBalancer"}, loadBalancerClass="b")),
        server(**service(api={"type": "LoadBalancer"})),
        ("service.loadBalancerClass cannot change",),
    ),
    Edit("a second family", server(), server(**service(ipFamilyPolicy="RequireDualStack"))),
    Edit(
        "the second family given up",
        server(**service(ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv4", "IPv6"])),
        server(**service(ipFamilyPolicy="SingleStack")),
    ),
    Edit("no policy any more", server(**service(ipFamilyPolicy="SingleStack")), server()),
    Edit(
        "a second family that is left out",
        server(**service(ipFamilyPolicy="PreferDualStack")),
        server(**service()),
        ("service.ipFamilyPolicy cannot be removed, as Kubernetes would keep both addresses; set SingleStack",),
    ),
    Edit(
        "a second family without the section",
        server(**service(ipFamilyPolicy="PreferDualStack")),
        server(),
        ("service.ipFamilyPolicy cannot be removed",),
    ),
    Edit(
        "another first family",
        server(**service(ipFamilies=["IPv4"])),
        server(**service(ipFamilies=["IPv6"])),
        ("service.ipFamilies must begin with IPv4: Kubernetes never changes the first family of a Service",),
    ),
    Edit(
        "a class moved to the volumes",
        server(),
        server(
            storage={
                "metadataSize": "10Gi",
                "metadata": {"storageClassName": "fast"},
                "cache": {"storageClassName": "fast"},
            }
        ),
    ),
    Edit(
        "another class for volumes to come",
        server(**storage(metadata={"storageClassName": "fast"}, cache={"storageClassName": ""})),
        server(
            **storage(storageClassName="slow", metadata={"storageClassName": "fast"}, cache={"storageClassName": ""})
        ),
    ),
    Edit(
        "another class of a volume",
        server(),
        server(**storage(cache={"storageClassName": "slow"})),
        ('storage.cache.storageClassName cannot change, it was "fast"',),
    ),
    Edit(
        "no class of a volume any more",
        server(**storage(metadata={"storageClassName": "slow"})),
        server(**storage(metadata={})),
        ('storage.metadata.storageClassName cannot change, it was "slow"',),
    ),
    Edit(
        "another class where one volume has its own",
        server(**storage(metadata={"storageClassName": "slow"})),
        server(**storage(storageClassName="slow", metadata={"storageClassName": "slow"})),
        ('storage.storageClassName cannot change, it was "fast"',),
    ),
    Edit("a volume bound by hand", server(), server(**storage(cache={"storageClassName": ""})), ("cannot change",)),
    Edit(
        "a content volume of another class added",
        server(),
        server(**storage(contentSize="50Gi", content={"storageClassName": "slow", "labels": {"a": "b"}})),
    ),
    Edit(
        "another class of the content volume",
        server(**storage(contentSize="50Gi")),
        server(**storage(contentSize="50Gi", content={"storageClassName": "slow"})),
        ('storage.content.storageClassName cannot change, it was "fast"',),
    ),
    Edit(
        "labels and annotations",
        server(**storage(metadata={"labels": {"a": "b"}}, cache={"annotations": {"a": "b"}})),
        server(**storage(metadata={"annotations": {"a": "c"}}, contentSize="50Gi", content={"labels": {"c": "d"}})),
    ),
    Edit("a data source added", server(), server(**storage(cache=snapshot())), (_SOURCE_IS_KEPT,)),
    Edit(
        "another data source",
        server(**storage(metadata=snapshot())),
        server(**storage(metadata=snapshot("weekly"))),
        (_SOURCE_IS_KEPT,),
    ),
    Edit("a data source removed", server(**storage(cache=snapshot())), server()),
    Edit(
        "a data source kept", server(**storage(cache=snapshot())), server(**storage(cache=snapshot(), cacheSize="9Gi"))
    ),
    Edit("a restored content volume", server(), server(**storage(contentSize="50Gi", content=snapshot()))),
    Edit(
        "a content volume to restore that exists",
        server(**storage(contentSize="50Gi")),
        server(**storage(contentSize="50Gi", content=snapshot())),
        (_SOURCE_IS_KEPT,),
    ),
    Edit(
        "class and content volume at once",
        server(**storage(contentSize="50Gi")),
        server(**storage(storageClassName="slow")),
        (_CONTENT_IS_KEPT, _CLASS_IS_KEPT),
    ),
)

CLAIM = "PersistentVolumeClaim"


@dataclass(frozen=True)
class Leftover:
    """A new server whose claims exist already; `errors` as in a Row, and likewise the `warnings`, in order."""

    title: str
    manifest: Manifest
    claims: tuple[Manifest, ...]
    errors: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())

    @property
    def admitted(self) -> bool:
        return not self.errors


def claim(name: str, requested: str, storage_class: str, **metadata: Any) -> Manifest:
    """A PersistentVolumeClaim that has no volume yet."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": requested}},
    }
    about = {"apiVersion": "v1", "kind": CLAIM, "metadata": {"name": name, **metadata}}
    return {**about, "spec": spec, "status": {"phase": "Pending"}}


def bound(name: str, capacity: str, storage_class: str, **metadata: Any) -> Manifest:
    status = {"phase": "Bound", "capacity": {"storage": capacity}}
    return {**claim(name, capacity, storage_class, **metadata), "status": status}


# StorageClasses besides those of ABOUT_THE_CLUSTER, which claims of an earlier server may have.
ELASTIC, LATER = "elastic", "later"
_BY_HAND: Manifest = storage(storageClassName="")
_LABELS = {"app": "dittofs-server"}

# What an earlier server, a restore or an administrator left under the name of a new server: all but the CRD must agree.
LEFTOVERS = (
    Leftover(
        "the same size and class",
        server("same"),
        (bound("cache-same-0", "5Gi", "fast"),),
        warnings=('volume claim cache-same-0 exists and is reused with its data: 5Gi of StorageClass "fast"',),
    ),
    Leftover(
        "the labels of a server",
        server("labelled"),
        (bound("cache-labelled-0", "5Gi", "fast", labels=_LABELS),),
        warnings=('cache-labelled-0 exists and is reused with its data: 5Gi of StorageClass "fast"',),
    ),
    Leftover(
        "every volume",
        server("every", **storage(contentSize="1Ti")),
        (
            bound("cache-every-0", "5Gi", "fast"),
            bound("content-every-0", "1Ti", "slow"),
            bound("metadata-every-0", "10Gi", "fast"),
        ),
        warnings=("metadata-every-0 exists", "content-every-0 exists", "cache-every-0 exists"),
    ),
    Leftover("a content volume that is not asked for", server("unasked"), (bound("content-unasked-0", "9Gi", "slow"),)),
    Leftover(
        "a larger one",
        server("larger"),
        (bound("cache-larger-0", "6Gi", "fast"),),
        errors=(
            "storage.cacheSize must be at least 6Gi, which volume claim cache-larger-0 has; volumes cannot shrink",
        ),
    ),
    Leftover(
        "two larger ones",
        server("larger2"),
        (bound("cache-larger2-0", "6Gi", "fast"), bound("metadata-larger2-0", "11Gi", "slow")),
        errors=("storage.cacheSize must be at least 6Gi", "storage.metadataSize must be at least 11Gi"),
    ),
    Leftover(
        "a smaller one that can grow",
        server("grows", **storage(storageClassName=ELASTIC)),
        (bound("cache-grows-0", "2Gi", ELASTIC),),
        warnings=('is reused with its data: 2Gi, growing to 5Gi, of StorageClass "elastic"',),
    ),
    Leftover(
        "a smaller one of another class that can grow",
        server("otherwise"),
        (bound("cache-otherwise-0", "2Gi", ELASTIC),),
        warnings=('2Gi, growing to 5Gi, of StorageClass "elastic", not "fast"',),
    ),
    Leftover(
        "a smaller one that cannot grow",
        server("fixed", **storage(storageClassName="slow")),
        (bound("cache-fixed-0", "2Gi", "slow"),),
        errors=(
            'storage.cacheSize cannot grow: StorageClass "slow" of volume claim cache-fixed-0 cannot expand volumes',
        ),
    ),
    Leftover(
        "a smaller one that can grow, of a server bound by hand",
        server("handgrown", **_BY_HAND),
        (bound("cache-handgrown-0", "2Gi", ELASTIC),),
        warnings=('2Gi, growing to 5Gi, of StorageClass "elastic", not without one',),
    ),
    Leftover(
        "another class",
        server("other"),
        (bound("cache-other-0", "5Gi", "slow"),),
        warnings=(
            'reused with its data: 5Gi of StorageClass "slow", not "fast"; '
            'for "fast", delete the claim and its data, or choose another server name',
        ),
    ),
    Leftover(
        "another class than the default one",
        server("default", storage={"metadataSize": "10Gi"}),
        (bound("cache-default-0", "5Gi", "slow"),),
        warnings=('5Gi of StorageClass "slow", not "fast"; for "fast", delete',),
    ),
    Leftover(
        "a volume bound by hand",
        server("hand", **_BY_HAND),
        (bound("cache-hand-0", "5Gi", ""),),
        warnings=("volume claim cache-hand-0 exists and is reused with its data: 5Gi without a StorageClass",),
    ),
    Leftover(
        "a volume bound by hand where a class is asked for",
        server("handmade"),
        (bound("cache-handmade-0", "5Gi", ""),),
        warnings=('5Gi without a StorageClass, not "fast"; for "fast", delete',),
    ),
    Leftover(
        "a volume bound by hand that is too small",
        server("handsmall", **_BY_HAND),
        (bound("cache-handsmall-0", "2Gi", ""),),
        errors=("cannot grow: volume claim cache-handsmall-0 is bound to a volume without a StorageClass",),
    ),
    Leftover(
        "one of another class than the volume's own",
        server("owned", **storage(cache={"storageClassName": "slow"})),
        (bound("cache-owned-0", "5Gi", "fast"), bound("metadata-owned-0", "10Gi", "fast")),
        warnings=('10Gi of StorageClass "fast"', '5Gi of StorageClass "fast", not "slow"; for "slow", delete'),
    ),
    Leftover(
        "one that was to be restored",
        server("restored", **storage(cache=snapshot())),
        (bound("cache-restored-0", "5Gi", "fast"),),
        warnings=(
            "is reused with its data",
            "storage.cache.dataSourceRef has no effect: volume claim cache-restored-0 exists; to restore it, delete",
            'VolumeSnapshot "nightly" does not exist; its claim stays Pending until it does',
        ),
    ),
    Leftover(
        "one that was never bound",
        server("unbound"),
        (claim("cache-unbound-0", "7Gi", "slow"),),
        warnings=(
            'is not bound yet: the server waits for 7Gi of StorageClass "slow", not "fast"; '
            "delete the claim unless it is about to be bound, as after a restore",
        ),
    ),
    Leftover(
        "one that is bound when a pod uses it",
        server("waits", **storage(storageClassName=LATER)),
        (claim("cache-waits-0", "5Gi", LATER),),
        warnings=('is reused: 5Gi of StorageClass "later", bound once the pod has a node',),
    ),
    Leftover(
        "one of a class that is gone",
        server("classless"),
        (claim("cache-classless-0", "5Gi", "gone"),),
        warnings=('is not bound yet, and StorageClass "gone" does not exist: delete the claim, or create that class',),
    ),
    Leftover(
        "one that is being deleted",
        server("leaving"),
        (bound("cache-leaving-0", "6Gi", "slow", deletionTimestamp="2026-01-01T00:00:00Z"),),
        warnings=(
            "volume claim cache-leaving-0 is being deleted with its data; the server waits, then gets a new volume",
        ),
    ),
    Leftover(
        "one that has lost its volume",
        server("lost"),
        ({**claim("cache-lost-0", "5Gi", "fast"), "status": {"phase": "Lost"}},),
        warnings=("volume claim cache-lost-0 has lost its volume, and the server waits for it; restore the volume",),
    ),
)


@dataclass(frozen=True)
class Doubtful:
    """A server that is admitted with these `warnings`, one text for each; new, or changed from `old`."""

    title: str
    manifest: Manifest
    warnings: tuple[str, ...] = field(default=())
    old: Manifest | None = None


DIGEST = f"sha256:{'a' * 64}"
LATEST = "marmos91c/dittofs:latest"
RELEASE, LEGACY_RELEASE = "marmos91c/dittofs:v0.29.0", "marmos91c/dittofs:v0.8.3"
_IS_MOVING = "may be a different one at each restart; pin a release, such as v0.29.0, or a digest"
_MIGRATES = "image changes: once the new one has migrated the database, the old image may fail or show no shares"
_NEEDS_BUCKET = "s3.credentialsSecretRef has no effect without s3.bucket on DittoFS 0.13 or newer; set s3.bucket"
# Without the Secret that it names, so that nothing is looked up.
_STATIC: Manifest = {"credentialsSecretRef": {"secretName": "s3-credentials"}}
_NO_IDENTITY = "s3.serviceAccountName gives DittoFS 0.13 or newer no S3 credentials"
_CA_BUNDLE: Manifest = {
    "spec": {"containers": [{"name": "dittofs", "env": [{"name": "AWS_CA_BUNDLE", "value": "/etc/ssl/cert.pem"}]}]}
}
_TEMPORARY: Manifest = {"credentialsSecretRef": {"secretName": "s3-credentials", "sessionTokenKey": "sessionToken"}}
_NO_TOKEN = (
    "s3.credentialsSecretRef.sessionTokenKey has no effect on DittoFS 0.13 or newer; use keys that need no token"
)
# Objects that neither the cluster of the tests nor their snapshot has.
_NAMING_OBJECTS: Manifest = {
    "priorityClassName": "gone",
    "serviceAccountName": "gone",
    "imagePullSecrets": [{"name": "gone"}],
}
_NO_SECRET = 'S3 credentials Secret "s3-credentials" not found'


def exposing(manifest: Manifest, **endpoint: Any) -> Manifest:
    """Returns the server with an endpoint of its API as it was observed."""
    return {**manifest, "status": {"endpoints": [{"protocol": "api", "host": "x", "port": 8080, **endpoint}]}}


def running(manifest: Manifest, **known: Any) -> Manifest:
    """Returns the server with what the operator knows of its image."""
    return {**manifest, "status": {"server": known}}


# Images and fields without effect: webhook, snapshot and check must agree, and the CRD admits all of these.
DOUBTFUL = (
    Doubtful("the default image", server(image=None), (f'image "{LATEST}" {_IS_MOVING}',)),
    Doubtful("an image without a tag", server(image="dittofs"), (f'image "dittofs" {_IS_MOVING}',)),
    Doubtful("the newest of a series", server(image="dittofs:v0.29"), (f'image "dittofs:v0.29" {_IS_MOVING}',)),
    Doubtful("a release", server(image=RELEASE)),
    Doubtful("a digest", server(image=f"dittofs@{DIGEST}")),
    Doubtful("a moving tag with a digest", server(image=f"{LATEST}@{DIGEST}")),
    Doubtful("another image", server(image=RELEASE), (f"{_MIGRATES}; back up the metadata volume first",), server()),
    Doubtful(
        "another image that can move",
        server(image=LATEST),
        (_MIGRATES, f'image "{LATEST}" {_IS_MOVING}'),
        server(image=RELEASE),
    ),
    Doubtful(
        "another image on a known version",
        server(image=RELEASE),
        ("once the new one has migrated the database, 0.8.3 may fail or show no shares",),
        running(server(image=LEGACY_RELEASE), version="0.8.3", family="Legacy"),
    ),
    Doubtful(
        "another image on a version that is none",
        server(image=RELEASE),
        (_MIGRATES,),
        running(server(image=LEGACY_RELEASE), version="$(id)"),
    ),
    Doubtful(
        "the digest of the image that runs",
        server(image=f"dittofs@{DIGEST}"),
        (),
        running(server(image=LATEST), image=LATEST, imageID=f"docker.io/dittofs@{DIGEST}"),
    ),
    Doubtful("an image that stays", server(image=LATEST, nfsPort=2050), (), server(image=LATEST)),
    Doubtful("S3 without a bucket", server(image=RELEASE, s3=_STATIC), (_NO_SECRET, _NEEDS_BUCKET)),
    Doubtful("S3 with a bucket", server(image=RELEASE, s3={**_STATIC, "bucket": "b"}), (_NO_SECRET,)),
    Doubtful("S3 without a bucket up to 0.8", server(image=LEGACY_RELEASE, s3=_STATIC), (_NO_SECRET,)),
    Doubtful("S3 without a bucket in between", server(image="dittofs:v0.10.0", s3=_STATIC), (_NO_SECRET,)),
    Doubtful(
        "a bucket that is removed",
        server(image=RELEASE, s3=_STATIC),
        (_NO_SECRET, _NEEDS_BUCKET),
        server(image=RELEASE, s3={**_STATIC, "bucket": "b"}),
    ),
    Doubtful(
        "S3 without a bucket as before",
        server(image=RELEASE, s3=_STATIC, nfsPort=2050),
        (),
        server(image=RELEASE, s3=_STATIC),
    ),
    Doubtful(
        "S3 without a bucket on a newer image",
        server(image=RELEASE, s3=_STATIC),
        (_MIGRATES, _NEEDS_BUCKET),
        server(image=LEGACY_RELEASE, s3=_STATIC),
    ),
    Doubtful(
        "S3 without a bucket on what answers like 0.13",
        server(s3=_STATIC),
        (_NO_SECRET, _NEEDS_BUCKET),
        running(server(), family="Current"),
    ),
    Doubtful(
        "S3 without a bucket on what only answers like 0.13",
        server(image="dittofs:v0.12.0", s3=_STATIC),
        (_NO_SECRET,),
        running(server(image="dittofs:v0.12.0"), family="Current"),
    ),
    Doubtful(
        "S3 without a bucket where latest is older",
        server(image=LATEST, s3=_STATIC),
        (_NO_SECRET,),
        running(server(image=LATEST), family="Legacy"),
    ),
    Doubtful(
        "a ServiceAccount up to 0.8",
        server(image=LEGACY_RELEASE, s3={"serviceAccountName": "default", "bucket": "b"}),
    ),
    Doubtful(
        "a ServiceAccount in between",
        server(image="dittofs:v0.10.0", s3={"serviceAccountName": "default"}),
    ),
    Doubtful(
        "a ServiceAccount",
        server(image=RELEASE, s3={"serviceAccountName": "default"}),
        (f"{_NO_IDENTITY}; set s3.credentialsSecretRef",),
    ),
    Doubtful(
        "a ServiceAccount as before",
        server(image=RELEASE, nfsPort=2050, s3={"serviceAccountName": "default"}),
        (),
        server(image=RELEASE, s3={"serviceAccountName": "default"}),
    ),
    Doubtful(
        "a ServiceAccount on a newer image",
        server(image=RELEASE, s3={"serviceAccountName": "default"}),
        (_MIGRATES, _NO_IDENTITY),
        server(image=LEGACY_RELEASE, s3={"serviceAccountName": "default"}),
    ),
    Doubtful(
        "a ServiceAccount and keys",
        server(image=LEGACY_RELEASE, s3={**_STATIC, "serviceAccountName": "default"}),
        (_NO_SECRET, "s3.serviceAccountName gives no credentials: the keys of s3.credentialsSecretRef win"),
    ),
    Doubtful(
        "a ServiceAccount that is not there",
        server(image=LEGACY_RELEASE, s3={"serviceAccountName": "gone"}),
        ('ServiceAccount "gone" does not exist',),
    ),
    Doubtful(
        "a session token up to 0.8",
        server(image=LEGACY_RELEASE, s3={**_TEMPORARY, "bucket": "b"}),
        (_NO_SECRET,),
    ),
    Doubtful("a session token", server(image=RELEASE, s3={**_TEMPORARY, "bucket": "b"}), (_NO_SECRET, _NO_TOKEN)),
    Doubtful(
        "a session token as before",
        server(image=RELEASE, nfsPort=2050, s3={**_TEMPORARY, "bucket": "b"}),
        (),
        server(image=RELEASE, s3={**_TEMPORARY, "bucket": "b"}),
    ),
    Doubtful(
        "a session token on a newer image",
        server(image=RELEASE, s3={**_TEMPORARY, "bucket": "b"}),
        (_MIGRATES, _NO_TOKEN),
        server(image=LEGACY_RELEASE, s3={**_TEMPORARY, "bucket": "b"}),
    ),
    Doubtful("a bundle of CAs up to 0.8", server(image=LEGACY_RELEASE, podTemplate=_CA_BUNDLE)),
    Doubtful(
        "a bundle of CAs", server(image=RELEASE, podTemplate=_CA_BUNDLE), ("reaches no S3 with AWS_CA_BUNDLE set",)
    ),
    Doubtful(
        "a bundle of CAs as before",
        server(image=RELEASE, nfsPort=2050, podTemplate=_CA_BUNDLE),
        (),
        server(image=RELEASE, podTemplate=_CA_BUNDLE),
    ),
    Doubtful("a CA of S3 that is not there", server(**s3_ca(name="gone")), ('S3 CA Secret "gone" not found',)),
    Doubtful("a CA of S3 as before", server(nfsPort=2050, **s3_ca(name="gone")), (), server(**s3_ca(name="gone"))),
    Doubtful(
        "a pod that names what is not there",
        server(podTemplate={"spec": _NAMING_OBJECTS}, imagePullSecrets=[{"name": "s3-credentials"}]),
        (
            'PriorityClass "gone" does not exist; the pod cannot be created until it does',
            'ServiceAccount "gone" does not exist; the pod cannot be created until it does',
            'pull Secret "s3-credentials" does not exist; a private image cannot be pulled without it',
            'pull Secret "gone" does not exist; a private image cannot be pulled without it',
        ),
    ),
    Doubtful(
        "a pod that names what is not there as before",
        server(podTemplate={"spec": _NAMING_OBJECTS}, nfsPort=2050),
        (),
        server(podTemplate={"spec": _NAMING_OBJECTS}),
    ),
    Doubtful(
        "another account that is not there",
        server(podTemplate={"spec": _NAMING_OBJECTS}),
        ('ServiceAccount "gone" does not exist',),
        server(podTemplate={"spec": {**_NAMING_OBJECTS, "serviceAccountName": "files"}}),
    ),
    Doubtful(
        "an account that every namespace has",
        server(podTemplate={"spec": {"serviceAccountName": "default", "priorityClassName": "system-node-critical"}}),
    ),
    Doubtful(
        "another administrator",
        server(identity={"admin": {"username": "ops"}}),
        ('identity.admin.username "ops" has no effect; the user is called admin',),
    ),
    Doubtful(
        "another administrator as before",
        server(identity={"admin": {"username": "ops"}}, nfsPort=2050),
        (),
        server(identity={"admin": {"username": "ops"}}),
    ),
    Doubtful(
        "an API that is exposed as before",
        server(**service(type="NodePort"), nfsPort=2050),
        (
            "the API stays exposed by a Service of type NodePort; "
            "set service.api.type to NodePort to keep that, or to ClusterIP",
        ),
        exposing(server(**service(type="NodePort")), nodePort=30080),
    ),
    Doubtful(
        "an API that is no longer exposed like files",
        server(),
        (),
        exposing(server(**service(type="LoadBalancer")), externalAddress="192.0.2.1"),
    ),
    Doubtful(
        "an API whose exposure is wanted",
        server(**service(type="LoadBalancer", api={"type": "LoadBalancer"})),
        (),
        exposing(server(**service(type="LoadBalancer")), externalAddress="192.0.2.1"),
    ),
    Doubtful(
        "an API that was never exposed",
        server(**service(type="LoadBalancer"), nfsPort=2050),
        (),
        exposing(server(**service(type="LoadBalancer"))),
    ),
    Doubtful("a region of a bucket", server(s3={"region": "us-east-1", "bucket": "b"})),
    Doubtful(
        "a region without a bucket",
        server(s3={"region": "us-east-1"}),
        ('s3.region "us-east-1" has no effect without s3.bucket; set s3.bucket',),
    ),
    Doubtful(
        "a region without a bucket as before",
        server(s3={"region": "us-east-1"}, nfsPort=2050),
        (),
        server(s3={"region": "us-east-1"}),
    ),
)
