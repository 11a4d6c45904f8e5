from typing import Any

import pytest

from app.storage.checkup import CheckResult
from app.storage.class_checks import class_checks
from app.storage.facts import Unknown
from app.storage.unstructured import Manifest

DRIVER = "disks.example.com"


def storage_class(name: str, *, default: bool = True, **fields: Any) -> Manifest:
    annotations = {"storageclass.kubernetes.io/is-default-class": str(default).lower()}
    whole = {"provisioner": DRIVER, "allowVolumeExpansion": True, **fields}
    return {"metadata": {"name": name, "annotations": annotations}, **whole}


def messages(result: CheckResult, *manifests: Manifest, drivers: Any = (DRIVER,)) -> list[str]:
    return [check.message for check in class_checks(manifests, drivers) if check.result == result]


def test_a_good_default_is_described() -> None:
    fast = storage_class("fast", volumeBindingMode="WaitForFirstConsumer", reclaimPolicy="Retain")
    [described, driver] = class_checks([fast], [DRIVER])

    assert described.message == (
        f"fast is the default, of {DRIVER}: a volume is provisioned when a pod needs it, "
        "and is kept when its claim is deleted"
    )
    assert (described.result, driver.result) == (CheckResult.OK, CheckResult.OK)


@pytest.mark.parametrize("manifests", [(), (storage_class("slow", default=False),)])
def test_a_missing_default_is_a_warning(manifests: tuple[Manifest, ...]) -> None:
    [message] = messages(CheckResult.WARNING, *manifests)
    assert message.startswith("there is no default StorageClass; there are: ")


def test_two_defaults_are_a_warning() -> None:
    [message] = messages(CheckResult.WARNING, storage_class("b"), storage_class("a"))
    assert message == "2 StorageClasses are marked as default: a, b; a is used"


def test_a_class_that_cannot_expand_is_a_warning() -> None:
    [message] = messages(CheckResult.WARNING, storage_class("fast", allowVolumeExpansion=False))
    assert message == "volumes of fast cannot be expanded: allowVolumeExpansion is not true"


def test_a_driver_that_is_missing_is_a_warning() -> None:
    [message] = messages(CheckResult.WARNING, storage_class("fast"), drivers=())
    assert message.startswith(f"no CSIDriver {DRIVER} is registered")


@pytest.mark.parametrize("provisioner", ["rancher.io/local-path", "kubernetes.io/no-provisioner"])
def test_some_provisioners_need_no_driver(provisioner: str) -> None:
    assert messages(CheckResult.WARNING, storage_class("local", provisioner=provisioner), drivers=()) == []


def test_what_may_not_be_listed_is_unknown() -> None:
    [classes] = class_checks(Unknown("forbidden"), ())
    [drivers] = messages(CheckResult.UNKNOWN, storage_class("fast"), drivers=Unknown("forbidden"))

    assert (classes.result, classes.message) == (CheckResult.UNKNOWN, "StorageClasses are unknown: forbidden")
    assert drivers == "CSIDrivers are unknown: forbidden"
