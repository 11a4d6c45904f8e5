from app.storage.ports import Listener, listeners
from app.storage.reading import read
from tests.harness.server_table import server


def test_nfs_and_the_api_always_listen() -> None:
    assert listeners(read(server()).server.spec) == (
        Listener("nfs", "spec.nfsPort", 2049),
        Listener("api", "spec.controlPlane.port", 8080),
    )


def test_smb_and_metrics_listen_when_enabled() -> None:
    spec = read(server(smb={"enabled": True, "port": 4450}, metrics={"enabled": True})).server.spec

    assert listeners(spec)[2:] == (
        Listener("smb", "spec.smb.port", 4450),
        Listener("metrics", "spec.metrics.port", 9090),
    )
