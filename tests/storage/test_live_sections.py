from typing import Any, ClassVar

from app.storage.live_sections import with_live_sections
from app.storage.objects import Owner, stateful_set
from app.storage.pod import PodRevision, server_container
from app.storage.reading import read
from app.storage.sections import POD_TEMPLATE, SECTIONS
from app.storage.unstructured import Manifest
from tests.harness.server_table import s3, server

OWNER = Owner("files", "default")
BAD = {"limit": {"memory": "1Gi"}}
RESOURCES = SECTIONS[0]


def template(**sections: Any) -> Any:
    return stateful_set(OWNER, read(server(**sections)).server.spec, None)


def test_a_kept_section_is_as_it_lives() -> None:
    live = template(resources={"limits": {"cpu": "1"}}, securityContext={"runAsUser": 1})
    wanted = template(resources=BAD, securityContext={"runAsUser": 2}, image="example.com/new")

    kept = with_live_sections(wanted, live, (RESOURCES,))["spec"]["template"]["spec"]["containers"][0]

    assert kept["resources"] == {"limits": {"cpu": "1"}}
    assert kept["securityContext"]["runAsUser"] == 2
    assert kept["image"] == "example.com/new"
    assert wanted["spec"]["template"]["spec"]["containers"][0]["resources"] == BAD


def test_a_section_that_the_live_one_lacks_is_left_out() -> None:
    kept = with_live_sections(template(resources=BAD), template(), SECTIONS)

    assert kept == template()


def test_a_sidecar_is_not_taken_for_the_server() -> None:
    live = template(resources={"limits": {"cpu": "1"}})
    live["spec"]["template"]["spec"]["containers"].insert(0, {"name": "sidecar", "resources": {}})

    kept = with_live_sections(template(resources=BAD), live, (RESOURCES,))

    assert kept == template(resources={"limits": {"cpu": "1"}})


class TestAKeptPodTemplate:
    POD: ClassVar[Manifest] = {
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
        "containers": [
            {"name": "sidecar", "image": "a"},
            {"name": "dittofs", "env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": 1}}},
        ],
        "volumes": [{"name": "extra", "emptyDir": {}}],
    }

    def keep(self, live: Manifest, **wanted: Any) -> Any:
        revision = PodRevision(config_hash="new")
        rendered = stateful_set(OWNER, read(server(**wanted)).server.spec, revision)
        return with_live_sections(rendered, live, (POD_TEMPLATE,))["spec"]["template"]

    def live(self, **sections: Any) -> Manifest:
        patch = {"metadata": {"labels": {"team": "a"}}, "spec": self.POD}
        return template(podTemplate=patch, **sections)  # type: ignore[no-any-return]

    def test_keeps_everything_that_it_has_added(self) -> None:
        live = self.live()

        kept = self.keep(live)

        assert kept["metadata"] == {
            **live["spec"]["template"]["metadata"],
            "annotations": {"dittofs.io/config-hash": "new"},
        }
        assert kept["spec"] == live["spec"]["template"]["spec"]

    def test_holds_up_neither_an_image_nor_a_rotation(self) -> None:
        kept = self.keep(self.live(), image="example.com/new", **s3())

        container = server_container(kept)
        assert container["image"] == "example.com/new"
        assert {"A", "AWS_ACCESS_KEY_ID"} <= {variable["name"] for variable in container["env"]}
        assert kept["metadata"]["annotations"] == {"dittofs.io/config-hash": "new"}

    def test_leaves_nothing_of_what_the_operator_no_longer_renders(self) -> None:
        live = self.live(metrics={"enabled": True}, s3={"caSecretRef": {"name": "ca", "key": "k"}})

        kept = self.keep(live)

        assert kept["spec"] == self.live()["spec"]["template"]["spec"]
