import pytest

from app.storage.mounting import Mount, plan_mount
from app.storage.mounting_objects import claim, trial_pod, volume
from tests.storage.test_mounting import manifest, service


def mount_of(family: str = "Current", **share: object) -> Mount:
    shares = [{"name": "media", **share}]
    return plan_mount(manifest(shares, status={"server": {"family": family}}), service(), None, None)


def test_a_volume_says_with_which_options_it_is_mounted() -> None:
    spec = volume(mount_of())["spec"]

    assert spec["nfs"] == {"server": "10.0.0.7", "path": "/media", "readOnly": False}
    assert spec["mountOptions"] == ["vers=3", "tcp", "port=2049", "mountport=2049", "nolock"]
    assert spec["accessModes"] == ["ReadWriteMany"]


def test_only_its_own_claim_gets_the_volume() -> None:
    persistent, wanted = volume(mount_of()), claim(mount_of())

    assert persistent["spec"]["claimRef"]["name"] == wanted["metadata"]["name"]
    assert persistent["metadata"]["name"] == wanted["spec"]["volumeName"]
    assert wanted["spec"]["storageClassName"] == ""


def test_a_read_only_share_is_not_written_to() -> None:
    mount = mount_of(readOnly=True)
    [container] = trial_pod(mount)["spec"]["containers"]

    assert volume(mount)["spec"]["accessModes"] == claim(mount)["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert container["command"][-1] == "ls -la /share"
    assert trial_pod(mount_of(defaultPermission="read"))["spec"]["containers"][0]["command"] == container["command"]


@pytest.mark.parametrize(("family", "user"), [("Current", 1000), ("Legacy", None)])
def test_only_root_writes_at_the_top_of_an_old_share(family: str, user: int | None) -> None:
    assert trial_pod(mount_of(family))["spec"]["securityContext"].get("runAsUser") == user
    assert trial_pod(mount_of(family, readOnly=True))["spec"]["securityContext"]["runAsUser"] == 1000


def test_no_two_shares_get_the_same_volume() -> None:
    def name(namespace: str, server: str) -> str:
        located = {**manifest(), "metadata": {"name": server, "namespace": namespace}}
        live = service()
        live["metadata"]["name"] = f"{server}-file"
        live["spec"]["selector"]["instance"] = server
        return str(volume(plan_mount(located, live, None, None))["metadata"]["name"])

    assert name("a-b", "c") != name("a", "b-c")
