"""Checks the StorageClasses of a cluster: is there one default, and what can its volumes do? Looks nothing up."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from app.storage.checkup import Check, CheckResult
from app.storage.facts import StorageClass, StorageClasses, Unknown
from app.storage.next_step import NextStep

CLASS, DRIVER = "storage class", "volume driver"

_GET_CLASSES = "kubectl get storageclasses"
_GET_DRIVERS = "kubectl get csidrivers"
# These need no CSIDriver: those in Kubernetes itself, and what k3s and kind install.
_WITHOUT_DRIVER = ("kubernetes.io/", "rancher.io/local-path")


def class_checks(
    manifests: Sequence[Mapping[str, Any]] | Unknown, drivers: Collection[str] | Unknown
) -> Iterator[Check]:
    """Checks the default class; `drivers` are the names of the CSIDrivers."""
    if isinstance(manifests, Unknown):
        step = NextStep("Ask an administrator for the permission to list StorageClasses.")
        yield Check(CLASS, CheckResult.UNKNOWN, f"StorageClasses are unknown: {manifests.why}", step)
        return

    classes = StorageClasses(tuple(map(StorageClass.read, manifests)))
    default = classes.default
    if default is None:
        others = ", ".join(sorted(known.name for known in classes.known)) or "none"
        message = f"there is no default StorageClass; there are: {others}"
        step = NextStep("Make one the default, or name one in spec.storage.storageClassName.", _GET_CLASSES)
        yield Check(CLASS, CheckResult.WARNING, message, step)
        return

    if len(names := sorted(known.name for known in classes.known if known.is_default)) > 1:
        message = f"{len(names)} StorageClasses are marked as default: {', '.join(names)}; {default.name} is used"
        step = NextStep("Remove the annotation from all but one of them.", _GET_CLASSES)
        yield Check(CLASS, CheckResult.WARNING, message, step)

    [manifest] = [manifest for manifest in manifests if manifest["metadata"]["name"] == default.name]
    binding = "when a pod needs it" if default.waits_for_pod else "at once, wherever the pod will run"
    keeps = manifest.get("reclaimPolicy") == "Retain"
    fate = "is kept" if keeps else "is deleted"
    message = (
        f"{default.name} is the default, of {default.provisioner}: a volume is provisioned {binding}, "
        f"and {fate} when its claim is deleted"
    )
    yield Check(CLASS, CheckResult.OK, message)

    if not default.expandable:
        step = NextStep("Set allowVolumeExpansion: true if the driver can expand volumes.", _GET_CLASSES)
        message = f"volumes of {default.name} cannot be expanded: allowVolumeExpansion is not true"
        yield Check(CLASS, CheckResult.WARNING, message, step)
    yield from _driver_checks(default, drivers)


def _driver_checks(default: StorageClass, drivers: Collection[str] | Unknown) -> Iterator[Check]:
    provisioner = default.provisioner
    if provisioner.startswith(_WITHOUT_DRIVER):
        return

    if isinstance(drivers, Unknown):
        step = NextStep("Ask an administrator for the permission to list CSIDrivers.")
        yield Check(DRIVER, CheckResult.UNKNOWN, f"CSIDrivers are unknown: {drivers.why}", step)
    elif provisioner in drivers:
        yield Check(DRIVER, CheckResult.OK, f"CSIDriver {provisioner} is registered")
    else:
        message = f"no CSIDriver {provisioner} is registered, which StorageClass {default.name} names as provisioner"
        step = NextStep("Install the driver, unless it is a provisioner without CSI.", _GET_DRIVERS)
        yield Check(DRIVER, CheckResult.WARNING, message, step)
