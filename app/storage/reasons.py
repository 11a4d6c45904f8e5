"""Lists every reason of a condition or Event, with its meaning and what to do. A test compares it with the code."""

from typing import NamedTuple

from app.storage.pause import PAUSED_ANNOTATION


class Reason(NamedTuple):
    """`conditions` are the types that have this reason, `event` is the type of the Event; both may be empty.

    `meaning` and `remedy` are Markdown with links relative to docs/reference. `remedy` is empty where nothing needs to
    be done. `command` shows or does what the remedy is about; the next step of a server fills in its names.
    """

    name: str
    conditions: str
    event: str
    meaning: str
    remedy: str = ""
    command: str = ""


EDIT = "kubectl -n {namespace} edit dittoserver {name}"
_RESUME = f"kubectl -n {{namespace}} annotate dittoserver {{name}} {PAUSED_ANNOTATION}-"
_SERVER_LOG = "kubectl -n {namespace} logs {pod}"
_EARLIER_LOG = "kubectl -n {namespace} logs {pod} --previous"
DESCRIBE_POD = "kubectl -n {namespace} describe pod {pod}"
_DESCRIBE_STATEFUL_SET = "kubectl -n {namespace} describe statefulset {name}"
_DESCRIBE_CLAIMS = "kubectl -n {namespace} describe pvc -l {selector}"
_DESCRIBE_QUOTAS = "kubectl -n {namespace} describe resourcequotas"
_DESCRIBE_LIMITS = "kubectl -n {namespace} describe limitranges"
_DESCRIBE_NAMESPACE = "kubectl describe namespace {namespace}"
_DESCRIBE_SERVICES = "kubectl -n {namespace} describe services -l {selector}"
_GET_OBJECTS = "kubectl -n {namespace} get statefulsets,pods -l {selector}"
_GET_LABELS = "kubectl -n {namespace} get sts,svc,cm,secret --show-labels"
_SHOW_CREDENTIALS = "kubectl dittofs credentials -n {namespace} {name}"
_GET_SECRETS = "kubectl -n {namespace} get secrets"
_GET_ACCOUNTS = "kubectl -n {namespace} get serviceaccounts"
_GET_CLASSES = "kubectl get storageclasses"
_GET_ATTACHMENTS = "kubectl get volumeattachments"
_GET_NODES = "kubectl get nodes"
_GET_FINALIZERS = (
    "kubectl -n {namespace} get sts,svc,cm -o custom-columns=NAME:.metadata.name,HELD:.metadata.finalizers"
)

NORMAL = (
    Reason(
        "Available",
        "Ready",
        "Normal",
        "The server serves NFS at the address in the message.",
    ),
    Reason(
        "Recovered",
        "",
        "Normal",
        "The server is ready again after a failure or a long outage, or another condition is in order again. The "
        "message has the former reason and roughly how long that took.",
    ),
    Reason(
        "ServerDeleted",
        "",
        "Normal",
        "The DittoServer is gone. Its volume claims and generated Secrets, which the message names, are kept.",
        "Create a DittoServer of the same name to use them again, or delete them to delete the data.",
    ),
    Reason("Assigned", "EndpointsReady", "", "Every Service exists and has the addresses that its type promises."),
    Reason("Bound", "StorageReady", "", "Every volume claim is bound and has the requested size."),
    Reason("Found", "CredentialsReady", "", "Every Secret exists and has the keys that the server needs."),
    Reason("Reconciled", "Reconciling, Stalled", "", "There is nothing left to do, and nothing blocks the operator."),
    Reason("Loaded", "StoresReady", "", "The server has loaded its shares, and no store that it reports on fails."),
    Reason("Stopped", "Ready, StoresReady", "", "The spec asks for 0 replicas. The volumes are kept."),
    Reason(
        "Paused",
        "Reconciling, Ready, CredentialsReady",
        "Normal",
        'The server has the annotation `dittofs.io/paused: "true"`. The operator changes nothing for it, neither in '
        "the cluster nor inside the server, and keeps its status up to date. `Ready` and `CredentialsReady` have this "
        "reason only where nothing has been created yet.",
        "Remove the annotation to resume: see [Pause a server](../how-to/pause-a-server.md).",
        command=_RESUME,
    ),
    Reason("Resumed", "", "Normal", "The server is no longer paused, and the operator works on it again."),
)

PROGRESS = (
    Reason(
        "NotRunning",
        "StoresReady",
        "",
        "The server is asked about its shares and stores once its pod is ready. The status is Unknown until then.",
        "Look at Ready.",
    ),
    Reason(
        "NotRead",
        "CredentialsReady",
        "",
        "The operator has not looked at the Secrets yet, because something else blocks it.",
        "Look at Stalled and Ready.",
    ),
    Reason(
        "PodStarting",
        "Ready",
        "",
        "The pod is not ready yet, and nothing is known to be wrong.",
        "Wait. If it takes longer than ten minutes, see the log of the server.",
        command=_SERVER_LOG,
    ),
    Reason(
        "PodInitializing",
        "Ready",
        "",
        "The pod waits for an init container that somebody added.",
        "See in its log what the init container does.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "AddingVolumes",
        "Reconciling",
        "",
        "The StatefulSet is being recreated with more volumes. Its pod restarts once to get them.",
        "Wait until the pod runs again.",
    ),
    Reason(
        "RollingOut",
        "Reconciling",
        "",
        "The pod is being replaced by one of the current revision.",
        "Wait until the new pod is ready.",
        command=_GET_OBJECTS,
    ),
    Reason(
        "StatefulSetMissing", "Reconciling", "", "The StatefulSet is being recreated.", "Wait until it exists again."
    ),
    Reason(
        "Stopping",
        "Ready",
        "",
        "The spec asks for 0 replicas, and the pod has not ended yet.",
        "Wait. The server first completes what its clients are writing.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "ImageChanged",
        "",
        "Normal, Warning",
        "The server became ready with another image than before; the message has both digests. It is a warning if the "
        "tag is the same and the image behind it has changed.",
        "[Pin the image](../how-to/choose-an-image.md), so that it only changes when you change it.",
    ),
    Reason(
        "PodReplaced",
        "",
        "Normal",
        "The operator deleted an outdated pod that could not become ready, so that the next one can start.",
    ),
    Reason(
        "Created",
        "",
        "Normal",
        "The operator created the objects in the message: for a new server, after an edit, or because somebody deleted "
        "them.",
    ),
    Reason(
        "Changed",
        "",
        "Normal",
        "The operator changed the fields in the message, because the spec asks for something else than before, or the "
        "operator's settings for all servers do.",
    ),
    Reason(
        "Deleted",
        "",
        "Normal",
        "The operator deleted the objects in the message, because the spec does not ask for them any more.",
    ),
    Reason(
        "Adopted",
        "",
        "Normal",
        "The operator applies the objects in the message from now on: they come from the Go operator, or somebody "
        "created them before.",
    ),
    Reason(
        "Restored",
        "",
        "Warning",
        "Somebody changed fields that the operator sets, and it changed them back. The message names the fields and, "
        "where the API server knows it, the program that wrote them, such as kubectl-edit.",
        "Change the DittoServer instead. If another controller writes the field again and again, make it leave these "
        "objects alone. To change them for a while, [pause the server](../how-to/pause-a-server.md).",
        command=EDIT,
    ),
    Reason(
        "Restarting",
        "",
        "Normal",
        "The pod restarts, and the message says why: an edit of the spec, credentials that have changed, an annotation "
        "that asks for it, a volume, a pod template that somebody changed, or a takeover from the Go operator.",
    ),
    Reason(
        "RolloutPending",
        "",
        "Normal",
        "This version of the operator renders the pod differently. The pod keeps running, and gets the changes in the "
        "message with its next rollout: an edit or a rotation that restarts it, or a restart on request.",
        "Nothing has to be done. [To have the changes now, restart the server](../how-to/restart-a-server.md).",
    ),
)

SPEC = (
    Reason(
        "InvalidSpec",
        "Ready, Stalled",
        "Warning",
        "The spec is invalid. Nothing is created for it, and existing objects stay as they are.",
        "Fix the fields that the message names.",
        command=EDIT,
    ),
    Reason(
        "NameTaken",
        "Ready, Stalled, CredentialsReady",
        "Warning",
        "An object of somebody else has a name that the server needs. The other objects are created.",
        "Delete or rename that object, or give the server another name.",
        command=_GET_LABELS,
    ),
    Reason(
        "SectionRejected",
        "Ready, Stalled",
        "Warning",
        "The API server accepts no pod with resources, securityContext or podSecurityContext as they are. An existing "
        "pod keeps the section unchanged, and everything else is applied.",
        "Correct the field that the message names.",
        command=EDIT,
    ),
    Reason(
        "NamespaceTerminating",
        "Ready, Stalled",
        "",
        "The namespace is being deleted. Nothing can be created in it, and the operator leaves its servers as they "
        "are.",
        "Wait until the namespace is gone, or create the server in another one.",
        command=_DESCRIBE_NAMESPACE,
    ),
    Reason(
        "RestartHeldBack",
        "Stalled",
        "Warning",
        "The pod would restart or stop, and a volume claim that is being deleted, or is gone, would be lost with it.",
        "[Recover the claim](../how-to/recover-a-volume-claim.md), or allow the loss with the annotation "
        '`dittofs.io/allow-data-loss: "true"`.',
        command=_DESCRIBE_CLAIMS,
    ),
    Reason(
        "ChangeHeldBack",
        "",
        "Warning",
        "The spec asks for another pod, and the present one stays as it is, because the next one could not start with "
        "its Secrets.",
        "Correct the Secret that the message names. The change is then applied at once.",
        command=_GET_SECRETS,
    ),
    Reason(
        "FieldsIgnored",
        "",
        "Warning",
        "The spec has fields that this operator does not know, such as those of the Go operator. They have no effect, "
        "and the API server drops them.",
        "See [what becomes of each field](../how-to/migrate-from-the-go-operator.md).",
    ),
    Reason(
        "FinalizerRemoved",
        "",
        "Normal",
        "The operator removed the finalizer of the Go operator. Nothing else would, and the server could never "
        "be deleted.",
    ),
    Reason(
        "GoOperatorRunning",
        "",
        "Warning",
        "The Go operator has put its finalizer back. The two operators undo each other's changes.",
        "Remove the Go operator, see [the migration](../how-to/migrate-from-the-go-operator.md).",
    ),
    Reason(
        "SecretKept",
        "",
        "Normal",
        "A generated Secret no longer belongs to the server, so that it is kept with the volume claims when the server "
        "is deleted: the database on them knows the password.",
    ),
    Reason(
        "SavedStateIgnored",
        "",
        "Warning",
        "An annotation in which earlier versions saved a StatefulSet was ignored and removed.",
        "Find out who wrote it, see [SECURITY.md](../../SECURITY.md).",
    ),
)

WRITES = (
    Reason(
        "WriteFailed",
        "Ready, Reconciling, CredentialsReady",
        "Warning",
        "The API server rejected an object or did not answer. The operator tries again. The condition CredentialsReady "
        "has this reason only if the object is a Secret.",
        "If the API server refuses the object, remove the cause that the message quotes. The operator tries again.",
    ),
    Reason(
        "ServiceMissing",
        "Ready, Reconciling, EndpointsReady",
        "Warning",
        "The server runs, but one of its Services could not be created.",
        "Remove the cause that the message quotes. The operator tries again.",
    ),
    Reason(
        "ServiceOutdated",
        "Ready, Reconciling, EndpointsReady",
        "Warning",
        "The server runs, but one of its Services could not be changed as the spec asks.",
        "Remove the cause that the message quotes. The operator tries again.",
    ),
    Reason(
        "LoadBalancerPending",
        "EndpointsReady",
        "",
        "A Service of type LoadBalancer has no address yet. Clients in the cluster reach the server all the same, and "
        "Ready does not change.",
        "Look at the Events of the Service with `kubectl describe service`, and check that something in the cluster "
        "provides load balancers of its class. See [Expose a server](../how-to/expose-a-server.md).",
        command=_DESCRIBE_SERVICES,
    ),
    Reason(
        "APIExposed",
        "",
        "Warning",
        "The API can be reached from outside of the cluster since an earlier version of the operator exposed it like "
        "files, and the spec does not say whether it should be.",
        "Set service.api.type: to ClusterIP, or to the present type. "
        "See [Expose a server](../how-to/expose-a-server.md).",
    ),
    Reason(
        "ServiceTerminating",
        "Ready, Reconciling, EndpointsReady",
        "Warning",
        "A Service is being deleted and is kept by a finalizer. It is created again once it is gone.",
        "Whoever set the finalizer has to remove it; usually the load balancer is still being removed.",
        command=_GET_FINALIZERS,
    ),
    Reason(
        "ConfigMapTerminating",
        "Ready, Reconciling",
        "Warning",
        "The ConfigMap is being deleted and is kept by a finalizer. It is created again once it is gone.",
        "Whoever set the finalizer has to remove it.",
        command=_GET_FINALIZERS,
    ),
    Reason(
        "StatefulSetTerminating",
        "Ready, Reconciling",
        "",
        "The StatefulSet is being deleted. It is created again once it is gone.",
        "If a finalizer keeps it, whoever set the finalizer has to remove it.",
        command=_GET_FINALIZERS,
    ),
    Reason(
        "StatefulSetRecreated",
        "",
        "Normal",
        "The StatefulSet was recreated around its running pod, with the sizes of the expanded volumes.",
    ),
)

STORAGE = (
    Reason(
        "StorageClassNotFound",
        "Ready, StorageReady",
        "Warning",
        "The StorageClass that a claim needs does not exist.",
        "Create it, or create another server in an existing class.",
        command=_GET_CLASSES,
    ),
    Reason(
        "NoDefaultStorageClass",
        "Ready, StorageReady",
        "Warning",
        "The spec names no StorageClass, and the cluster has no default one.",
        "Make one StorageClass the default.",
        command=_GET_CLASSES,
    ),
    Reason(
        "ClaimPending",
        "Ready, StorageReady",
        "",
        "A volume claim is Pending, usually for the reason that its provisioner gives in the message. A claim that "
        "existed before the server and was never bound is named with its creation time.",
        "Wait. If the message names an earlier claim that was never bound, delete it together with the pod.",
        command=_DESCRIBE_CLAIMS,
    ),
    Reason(
        "ClaimOverdue",
        "Ready, StorageReady",
        "Warning",
        "A volume claim has been Pending for more than five minutes.",
        "Provide what the message says that the claim is waiting for.",
        command=_DESCRIBE_CLAIMS,
    ),
    Reason(
        "ClaimLost",
        "Ready, StorageReady",
        "Warning",
        "A volume claim has lost its PersistentVolume.",
        "Restore the PersistentVolume, or delete the claim.",
        command=_DESCRIBE_CLAIMS,
    ),
    Reason(
        "ClaimTerminating",
        "Ready, StorageReady",
        "Warning",
        "A volume claim is being deleted, and its data with it once the pod ends. The pod is not restarted.",
        "Do not restart the pod. [Recover the claim](../how-to/recover-a-volume-claim.md) first.",
        command=_DESCRIBE_CLAIMS,
    ),
    Reason(
        "ClaimMissing",
        "Ready, StorageReady",
        "Warning",
        "A volume claim does not exist.",
        "If it cannot be created, remove the cause in the message. If a running pod still uses the volume of a deleted "
        "claim, [save the data](../how-to/recover-a-volume-claim.md) before the pod restarts.",
        command=_DESCRIBE_CLAIMS,
    ),
    Reason(
        "ClaimUnknown",
        "Ready, StorageReady",
        "Warning",
        "The operator may not read a volume claim.",
        "Grant the permission that the message names.",
    ),
    Reason(
        "ClaimLarger",
        "StorageReady",
        "Warning",
        "A claim requests more than the spec, because somebody expanded it or an earlier server left it. It stays so.",
        "Raise the size in the spec if you want it to say the same.",
        command=EDIT,
    ),
    Reason(
        "DatabaseClaimNotMounted",
        "StorageReady",
        "Warning",
        "The Go operator left a volume claim with the server's database, and the pod does not mount it: an earlier "
        "version of this operator, which did not know such claims, put an empty database on the metadata volume. "
        "The operator does not switch by itself, because both may be in use.",
        "To go back to the database of the claim, delete the StatefulSet and its pod. To stay with the current one, "
        "delete the claim.",
    ),
    Reason(
        "StorageClassDiffers",
        "StorageReady",
        "Warning",
        "A claim is in another StorageClass than the spec names: an earlier server of the same name left it, or a "
        "restore created it.",
        "Volumes cannot move. To change the class, copy the data to a server of another name.",
    ),
    Reason(
        "ClaimMetadataRejected",
        "Reconciling, StorageReady",
        "Warning",
        "The API server did not accept the labels and annotations that the spec has for a claim; a policy may forbid "
        "them. The claim is used as it is, and nothing else waits for it.",
        "Change them in `spec.storage`, or the policy that the message names.",
        command=EDIT,
    ),
    Reason(
        "Resizing",
        "Reconciling, StorageReady",
        "Normal",
        "A volume is being expanded.",
        "Wait. Clients can go on working.",
        command=_DESCRIBE_CLAIMS,
    ),
    Reason(
        "FileSystemResizePending",
        "Reconciling, StorageReady",
        "",
        "The volume has been expanded, but its file system has not. It is waiting for the node, or for a restart of "
        "the pod.",
        "If the annotation `dittofs.io/restart-for-resize` forbids the restart, delete the pod when it suits you.",
        command=_DESCRIBE_CLAIMS,
    ),
    Reason(
        "ResizeRefused",
        "Stalled, StorageReady",
        "Warning",
        "The API server or the driver refuses to expand a volume. Everything else about the server continues.",
        "Set one of the sizes that the message names.",
        command=EDIT,
    ),
    Reason("Resized", "", "Normal", "Every volume has the size that the spec asks for."),
)

CREDENTIALS = (
    Reason(
        "SecretNotFound",
        "Ready, Reconciling, CredentialsReady",
        "Warning",
        "A Secret does not exist. A running pod stays as it is, and no new one is started. For a generated Secret it "
        "means that somebody deleted it while the server was using it.",
        "Create the Secret. Restore a generated one, or delete the StatefulSet (its claims are kept) to generate a new "
        "one.",
        command=_GET_SECRETS,
    ),
    Reason(
        "SecretIncomplete",
        "Ready, Reconciling, CredentialsReady",
        "Warning",
        "A key of a Secret is missing, empty or malformed. A running pod stays as it is, and no new one is started.",
        "Add or fix the key that the message names.",
    ),
    Reason(
        "SecretUnreadable",
        "Ready, Reconciling, CredentialsReady",
        "Warning",
        "The operator could not read a Secret. The status of CredentialsReady is Unknown.",
        "Let the operator read the Secret again, as far as the message blames permissions. It tries again.",
    ),
    Reason(
        "SecretTerminating",
        "Ready, Reconciling, CredentialsReady",
        "Warning",
        "A Secret is being deleted and is kept by a finalizer. It is no longer used.",
        "Create it again once it is gone.",
        command=_GET_SECRETS,
    ),
    Reason(
        "CredentialsRejected",
        "Reconciling, CredentialsReady",
        "Warning",
        "DittoFS 0.13 or newer got the credentials, but its own check of them against the bucket failed. The pod is "
        "not restarted.",
        "Correct the Secret that the message names, the bucket or its policy. The operator tries again at once when "
        "the Secret changes, otherwise within 5 minutes.",
        command=_SHOW_CREDENTIALS,
    ),
    Reason(
        "ServerUnreachable",
        "Reconciling, CredentialsReady, StoresReady",
        "Warning",
        "The operator could not give the server its credentials, or ask it about its shares and stores, because "
        "the server did not answer as it should. The status of the condition is Unknown. Only CredentialsReady has an "
        "Event.",
        "Look at Ready and at the log of the server. A NetworkPolicy has to let the operator reach the port of the "
        "API. The operator tries again.",
        command=_SERVER_LOG,
    ),
    Reason(
        "AdminLoginFailed",
        "Reconciling, CredentialsReady",
        "Warning",
        "The operator cannot log in to the server as admin, or the server refuses what it asks for.",
        "The password in the Secret only counts when the server starts for the first time: put the current password "
        "of admin into the Secret that the message names. See "
        "[Rotate S3 credentials](../how-to/rotate-s3-credentials.md).",
    ),
    Reason(
        "WorkloadIdentityUnsupported",
        "Stalled, CredentialsReady",
        "Warning",
        "The server is DittoFS 0.13 or newer, which takes S3 credentials from its own records alone, and the spec has "
        "only s3.serviceAccountName.",
        "Name keys in s3.credentialsSecretRef. See [Use workload identity](../how-to/use-workload-identity.md).",
    ),
    Reason(
        "KeptByServer",
        "CredentialsReady",
        "",
        "The server is DittoFS 0.13 or newer and keeps its own copy of the S3 credentials, which a change of the "
        "Secret does not reach: the spec has no bucket, or a person created the block store for it.",
        "Set s3.bucket, or run the command in the message.",
        command=EDIT,
    ),
)

SHARES = (
    Reason(
        "NoShare",
        "StoresReady",
        "Normal",
        "The server has loaded no share, so there is nothing to mount.",
        "List one in spec.shares, or run the commands in the message.",
        command=EDIT,
    ),
    Reason(
        "StoreFailing",
        "StoresReady",
        "Warning",
        "The server cannot use one of its stores. The message says which one and why, as the server reported it: for "
        "example, S3 rejects the credentials, has no such bucket, or cannot be reached.",
        "Correct the Secret with the credentials, or what the message names. See "
        "[Rotate S3 credentials](../how-to/rotate-s3-credentials.md).",
    ),
    Reason(
        "NotReported",
        "StoresReady",
        "",
        "The server answers, but does not say how many shares it has loaded. The status is Unknown.",
        "The log of the server may say why; a server up to 0.9 does not say it while neither NFS nor SMB runs.",
        command=_SERVER_LOG,
    ),
    Reason(
        "ShareFailed",
        "",
        "Warning",
        "A share of the spec cannot be created, or cannot be changed to match the spec. `status.shares` says why.",
        "Do what the message says. The operator tries again within 5 minutes.",
    ),
    Reason(
        "ShareRetained",
        "",
        "Normal",
        "A share was removed from the spec. It stays in the server with its data.",
        "Delete it with the command in the message if nobody needs its data.",
    ),
)

POD = (
    Reason(
        "QuotaExceeded",
        "Ready",
        "Warning",
        "A ResourceQuota of the namespace does not admit the pod.",
        "Raise the quota, or free some of it.",
        command=_DESCRIBE_QUOTAS,
    ),
    Reason(
        "ResourcesNotSpecified",
        "Ready",
        "Warning",
        "A ResourceQuota of the namespace requires resources that the spec does not set.",
        "Set spec.resources as the quota requires.",
        command=_DESCRIBE_QUOTAS,
    ),
    Reason(
        "LimitRangeViolation",
        "Ready",
        "Warning",
        "spec.resources does not fit a LimitRange of the namespace.",
        "Change one of the two.",
        command=_DESCRIBE_LIMITS,
    ),
    Reason(
        "PodSecurityViolation",
        "Ready",
        "Warning",
        "The namespace enforces a Pod Security level, or OpenShift an SCC, that securityContext or podSecurityContext "
        "violates.",
        "Change the security context, or have an administrator change the label of the namespace or grant another SCC.",
        command=_DESCRIBE_NAMESPACE,
    ),
    Reason(
        "ClaimNotCreated",
        "Ready",
        "Warning",
        "A volume claim that the pod needs was refused, for example by a quota or a webhook.",
        "Remove the cause that the message quotes, such as a quota. The claim is then created by itself.",
        command=_DESCRIBE_QUOTAS,
    ),
    Reason(
        "ServiceAccountNotFound",
        "Ready",
        "Warning",
        "The ServiceAccount of the pod does not exist.",
        "Create it again.",
        command=_GET_ACCOUNTS,
    ),
    Reason(
        "PodNotCreated",
        "Ready",
        "Warning",
        "The pod was refused for another reason, such as a webhook.",
        "Remove the cause that the message quotes, such as a policy. The pod is then created by itself.",
        command=_DESCRIBE_STATEFUL_SET,
    ),
    Reason(
        "PodLabelsMissing",
        "Ready, Stalled",
        "Warning",
        "The pod lost the labels by which its StatefulSet finds it: nobody manages it, and no other can be created.",
        "Run the kubectl label command in the message, which needs no restart.",
    ),
    Reason(
        "PodNameTaken",
        "Ready, Stalled",
        "Warning",
        "Somebody else's pod has the name of the server's pod.",
        "Delete that pod, or give the server another name.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "PodTerminating",
        "Ready, Stalled",
        "Warning",
        "The pod should have ended, and its node answers: a finalizer or the kubelet holds it.",
        "Whoever set the finalizer has to remove it; otherwise see kubectl describe pod and the log of the kubelet.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "NotReady",
        "",
        "Warning",
        "The pod is not ready for a reason that another program gave, such as a node that evicted it. The condition "
        "Ready has that reason.",
        "Look at the pod.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "Unschedulable",
        "Ready",
        "Warning",
        "No node accepts the pod; the message quotes the scheduler.",
        "Free resources, add a node, or change the spec.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "ImagePullBackOff",
        "Ready",
        "Warning",
        "The image cannot be pulled; the message quotes the registry.",
        "Fix spec.image, or the image of a sidecar in spec.podTemplate, or name a Secret with credentials in "
        "spec.imagePullSecrets.",
        command=EDIT,
    ),
    Reason(
        "CreateContainerError",
        "Ready",
        "Warning",
        "The container could not be created.",
        "Remove the cause that the message quotes from the node.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "CrashLoopBackOff",
        "Ready",
        "Warning",
        "The server ended; the message has the exit code.",
        "Find the cause in the log of the run that ended.",
        command=_EARLIER_LOG,
    ),
    Reason(
        "DatabaseMigrationFailed",
        "Ready, Stalled",
        "Warning",
        "The server ended because it could not migrate the database, usually after a change of the image. The message "
        "names the image that can open the database.",
        "Set that image with the command in the message, and see "
        "[how to go back](../how-to/troubleshoot-a-server.md#go-back-after-a-failed-migration).",
    ),
    Reason(
        "SidecarFailed",
        "Ready",
        "Warning",
        "A container that somebody added next to the server ended.",
        "Find the cause in its log, with the kubectl logs command in the message.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "InitContainerFailed",
        "Ready",
        "Warning",
        "A container that somebody added to run before the server failed.",
        "Find the cause in its log, with the kubectl logs command in the message.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "Unhealthy",
        "Ready",
        "Warning",
        "The container runs and no longer answers its health check.",
        "See the log of the server.",
        command=_SERVER_LOG,
    ),
    Reason(
        "VolumeAttachFailed",
        "Ready",
        "Warning",
        "The node cannot attach a volume.",
        "Find out which node still holds the volume that the message names.",
        command=_GET_ATTACHMENTS,
    ),
    Reason(
        "MountFailed",
        "Ready",
        "Warning",
        "The node cannot mount a volume.",
        "Remove the cause that the message quotes from the node.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "PodSandboxFailed",
        "Ready",
        "Warning",
        "The pod has no network or no sandbox on its node.",
        "Check the node's network plugin and container runtime.",
        command=DESCRIBE_POD,
    ),
    Reason(
        "NodeLost",
        "Ready",
        "Warning",
        "The node of the pod no longer answers, is deleted or is marked as out of service. No other pod may use the "
        "volumes until the pod is known to have ended.",
        "Bring the node back. Only if its machine is surely powered off, mark it as out of service: see "
        "[The node is lost](../how-to/troubleshoot-a-server.md#the-node-is-lost).",
        command=_GET_NODES,
    ),
    Reason(
        "NodeNotReady",
        "Ready",
        "Warning",
        "The node of the pod answers, and is not ready.",
        "Repair the node, or drain it while its kubelet answers.",
        command=_GET_NODES,
    ),
    Reason(
        "NodeUnknown",
        "Ready",
        "Warning",
        "The pod does not end or lost its readiness, and the operator may not look at its node.",
        "See whether the node is ready: kubectl get node.",
        command=_GET_NODES,
    ),
)

CERTIFICATES = (
    Reason("CertificatesIssued", "", "Normal", "The operator issued its first CA and serving certificate."),
    Reason(
        "CertificatesReplaced",
        "",
        "Warning",
        "The CA was missing, damaged or expired. The operator issued a new CA and a new serving certificate.",
        "Find out who changed the Secret.",
    ),
    Reason(
        "CertificateReplaced",
        "",
        "Normal, Warning",
        "The serving certificate was damaged or expired, or lacked the name of the Service. A new one was issued.",
    ),
    Reason("CertificateRenewed", "", "Normal", "The serving certificate reached two thirds of its lifetime."),
    Reason("CertificateServed", "", "Normal", "A replica serves a new certificate."),
    Reason(
        "CertificateWaiting",
        "",
        "Warning",
        "The operator cannot issue, publish or use a certificate.",
        "The message says what it is waiting for.",
    ),
    Reason("NextCACreated", "", "Normal", "The CA reached two thirds of its lifetime, and the next one is published."),
    Reason("CARotated", "", "Normal", "The next CA signs from now on. The earlier one is trusted until it expires."),
    Reason(
        "CARemoved",
        "",
        "Normal, Warning",
        "An earlier CA expired, or a next CA that could not be used was removed.",
    ),
    Reason(
        "CABundleUpdated",
        "",
        "Normal",
        "The operator wrote the caBundle of a webhook configuration.",
    ),
)

# What `status.volumes[].phase` may be besides the reasons Resizing, FileSystemResizePending and ResizeRefused.
VOLUME_PHASES = (
    ("Bound", "The claim is bound and has the requested size."),
    ("Pending", "The claim is not bound yet."),
    ("Lost", "The claim lost its PersistentVolume."),
    ("Terminating", "The claim is being deleted."),
    ("Missing", "The claim does not exist."),
    ("Unknown", "The claim may not be read, or is not known."),
)

GROUPS = (
    ("When everything is fine", NORMAL),
    ("While something is in progress", PROGRESS),
    ("The spec, or the server as a whole, is blocked", SPEC),
    ("An object cannot be written", WRITES),
    ("Volumes", STORAGE),
    ("Secrets and credentials", CREDENTIALS),
    ("Shares and stores", SHARES),
    ("The pod", POD),
)
# Reasons of Events of the Secret with the operator's certificates.
CERTIFICATE_GROUP = ("Certificates of the operator", CERTIFICATES)
REASONS = tuple(reason for _, reasons in (*GROUPS, CERTIFICATE_GROUP) for reason in reasons)
BY_NAME = {reason.name: reason for reason in REASONS}
