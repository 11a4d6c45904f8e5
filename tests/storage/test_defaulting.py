from typing import Any

import pytest
from hypothesis import given

from app.storage.defaulting import set_defaults
from tests.harness.json_strategies import ANY_JSON
from tests.harness.server_table import server, storage


def test_a_cache_size_is_kept() -> None:
    assert set_defaults(server(**storage(cacheSize="7Gi")))["spec"]["storage"]["cacheSize"] == "7Gi"


def test_an_absent_cache_size_is_five_gibibytes() -> None:
    assert set_defaults(server())["spec"]["storage"]["cacheSize"] == "5Gi"


def test_a_null_is_filled_like_an_absent_field() -> None:
    assert set_defaults(server(nfsPort=None))["spec"]["nfsPort"] == 2049


def test_only_sections_that_were_written_are_filled() -> None:
    filled = set_defaults(server(smb={"timeouts": {}}))["spec"]

    assert filled["smb"]["timeouts"] == {"read": "5m", "write": "30s", "idle": "5m", "shutdown": "30s"}
    assert filled["smb"]["port"] == 445
    assert "credits" not in filled["smb"]
    assert "controlPlane" not in filled


def test_every_share_is_filled() -> None:
    filled = set_defaults(server(shares=[{"name": "a", "readOnly": True}, {"name": "b"}], **storage(contentSize="1Gi")))

    assert filled["spec"]["shares"] == [
        {"name": "a", "readOnly": True, "defaultPermission": "read-write"},
        {"name": "b", "readOnly": False, "defaultPermission": "read-write"},
    ]


def test_unknown_fields_survive() -> None:
    manifest = server(fromTheFuture={"a": [1]}) | {"status": {"phase": "Running"}}

    filled = set_defaults(manifest)

    assert filled["spec"]["fromTheFuture"] == {"a": [1]}
    assert filled["status"] == {"phase": "Running"}


@pytest.mark.parametrize("broken", [None, [], {}, server(smb="on"), server(nfsPort="x"), server(storage={})])
def test_a_broken_object_is_passed_through(broken: Any) -> None:
    assert set_defaults(broken) is broken


@given(ANY_JSON, ANY_JSON)
def test_filling_twice_changes_nothing(section: Any, field: Any) -> None:
    once = set_defaults(server(smb=section, resources=field))

    assert set_defaults(once) == once


def test_every_default_of_the_contract_is_filled() -> None:
    written: dict[str, Any] = {
        "database": {"sqlite": {}},
        "identity": {"admin": {}, "jwt": {"secretRef": {"name": "n", "key": "k"}}},
        "smb": {"timeouts": {}, "credits": {}},
        "s3": {"credentialsSecretRef": {"secretName": "s"}},
        "cache": {},
        "metrics": {},
        "controlPlane": {},
        "service": {},
    }

    assert set_defaults(server(image=None, **written))["spec"] == {
        "image": "marmos91c/dittofs:latest",
        "replicas": 1,
        "storage": {"metadataSize": "10Gi", "storageClassName": "fast", "cacheSize": "5Gi"},
        "database": {"type": "sqlite", "sqlite": {"path": "/data/controlplane/controlplane.db"}},
        "cache": {"path": "/data/cache", "size": "1GB"},
        "metrics": {"enabled": False, "port": 9090},
        "controlPlane": {"port": 8080},
        "identity": {
            "type": "memory",
            "jwt": {
                "secretRef": {"name": "n", "key": "k"},
                "accessTokenDuration": "15m",
                "refreshTokenDuration": "168h",
                "issuer": "dittofs",
            },
            "admin": {"username": "admin"},
        },
        "service": {"type": "ClusterIP"},
        "nfsPort": 2049,
        "smb": {
            "enabled": False,
            "port": 445,
            "maxConnections": 0,
            "maxRequestsPerConnection": 100,
            "timeouts": {"read": "5m", "write": "30s", "idle": "5m", "shutdown": "30s"},
            "credits": {
                "strategy": "adaptive",
                "minGrant": 16,
                "maxGrant": 8192,
                "initialGrant": 256,
                "maxSessionCredits": 65535,
                "loadThresholdHigh": 1000,
                "loadThresholdLow": 100,
                "aggressiveClientThreshold": 256,
            },
            "metricsLogInterval": "5m",
        },
        "s3": {
            "credentialsSecretRef": {
                "secretName": "s",
                "accessKeyIdKey": "accessKeyId",
                "secretAccessKeyKey": "secretAccessKey",
                "endpointKey": "endpoint",
            },
            "region": "eu-west-1",
        },
    }
