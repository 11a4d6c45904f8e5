import yaml

from app.storage.crd import custom_resource_definition
from tests.harness.command_line import run


def test_crd_prints_what_kubectl_can_apply() -> None:
    assert yaml.safe_load(run("crd").stdout) == custom_resource_definition()
