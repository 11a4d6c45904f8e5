import platform

import pytest

from manifests.release.plugin import plugin_archive, this_architecture
from manifests.release.sbom import locked_versions
from manifests.release.source import ROOT


@pytest.mark.skipif(platform.system() != "Linux", reason="The single file is for Linux")
def test_the_archive_is_named_as_kubernetes_names_this_machine() -> None:
    assert this_architecture() in ("amd64", "arm64")
    assert plugin_archive("1.2.3", "amd64") == "kubectl-dittofs-1.2.3-linux-amd64.tar.gz"


def test_the_single_file_holds_what_a_client_installs() -> None:
    client, plugin = (locked_versions(ROOT / f"requirements-{name}.lock") for name in ("client", "plugin"))

    assert client.items() <= plugin.items()
    assert "pyinstaller" in plugin
    assert "fastapi" not in plugin
