"""Renders the objects with which pods mount a share: a volume, its claim, and a pod that tries it."""

import re

from app.storage.mounting import Mount
from app.storage.server_health import Family
from app.storage.unstructured import Manifest

# NFS has no sizes; a quota counts this one.
NOMINAL_SIZE = "1Gi"
TRIAL_IMAGE = "docker.io/library/busybox:1.37"
MOUNT_PATH, TRIAL_FILE = "/share", "hello-from-kubernetes.txt"
ORDINARY_USER = 1000


def volume(mount: Mount) -> Manifest:
    """Renders the PersistentVolume; a volume of a pod could not say with which options to mount it."""
    inside = mount.nfs.inside

    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _volume_name(mount)},
        "spec": {
            "capacity": {"storage": NOMINAL_SIZE},
            "accessModes": _access_modes(mount),
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": mount.namespace,
                "name": _claim_name(mount),
            },
            "mountOptions": list(mount.nfs_options(inside)),
            # An address and no name: kubelets do not ask the DNS of the cluster.
            "nfs": {"server": inside.address, "path": mount.path, "readOnly": mount.read_only},
        },
    }


def claim(mount: Mount) -> Manifest:
    """Renders the claim that pods in the server's namespace name; it is bound to that volume and to no other."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": _claim_name(mount), "namespace": mount.namespace},
        "spec": {
            "accessModes": _access_modes(mount),
            # Empty, so that no class provisions another volume.
            "storageClassName": "",
            "volumeName": _volume_name(mount),
            "resources": {"requests": {"storage": NOMINAL_SIZE}},
        },
    }


def trial_pod(mount: Mount) -> Manifest:
    """Renders a pod that lists the share, and writes and reads a file where that is permitted, and ends."""
    steps = [f"ls -la {MOUNT_PATH}"]
    if mount.is_writable:
        file = f"{MOUNT_PATH}/{TRIAL_FILE}"
        steps = [f"date > {file}", f"cat {file}", *steps]

    # In DittoFS up to 0.8 the top of a share belongs to root, and nobody else may write there.
    is_root = mount.family is Family.LEGACY and mount.is_writable
    user = {} if is_root else {"runAsNonRoot": True, "runAsUser": ORDINARY_USER, "runAsGroup": ORDINARY_USER}

    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{_base_name(mount)}-trial", "namespace": mount.namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "trial",
                    "image": TRIAL_IMAGE,
                    "command": ["sh", "-exc", "\n".join(steps)],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "share", "mountPath": MOUNT_PATH, "readOnly": mount.read_only}],
                }
            ],
            "volumes": [{"name": "share", "persistentVolumeClaim": {"claimName": _claim_name(mount)}}],
        },
    }


def _access_modes(mount: Mount) -> list[str]:
    return ["ReadOnlyMany" if mount.read_only else "ReadWriteMany"]


def _volume_name(mount: Mount) -> str:
    # None of the three has a dot in it, so that no other share gets this name.
    return ".".join((mount.namespace, mount.server, _share_name(mount)))


def _claim_name(mount: Mount) -> str:
    # The claims of servers end with the number of their pod.
    return f"{_base_name(mount)}-nfs"


def _base_name(mount: Mount) -> str:
    return f"{mount.server}-{_share_name(mount)}"


def _share_name(mount: Mount) -> str:
    """Returns the share's name as objects can be called; one that is not in the spec may have other characters."""
    return re.sub(r"[^a-z0-9]+", "-", mount.share.lower()).strip("-")
