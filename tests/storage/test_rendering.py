"""What a version has rendered never changes: its pods are running, and would restart."""

import hashlib
import json

import pytest

from app.storage.difference import marked
from app.storage.objects import Owner, config_map, stateful_set
from app.storage.pod import PodRevision
from app.storage.reading import read
from app.storage.rendering import NEWEST, NO_DEFAULTS, Baseline, ObjectDefaults, Rendering
from app.storage.unstructured import Manifest
from tests.harness.server_table import jwt, s3, server, storage

# Rendered by the last version that knew no renderings.
SINGLE_FAMILY: tuple[tuple[Manifest, str], ...] = (
    ({}, "18adcea81ecc565b1f2f3b61848a95585add47b220e0d2de5f25b6783e699602"),
    (
        {"image": "example.com/dittofs:1", "replicas": 0, "metrics": {"enabled": True, "port": 9191}},
        "e77c313fc88bc37b6e75eb138e3f83bfdaaf280ff2e49fd2cd43cb70d89317e5",
    ),
    (
        {
            "database": {"postgresSecretRef": {"name": "db", "key": "dsn"}},
            "cache": {"path": "/data/cache/a", "size": "3GB"},
        },
        "874813dbcb502df7d03fca279cd3679b1357e5dfac6f7e5c394a917e2c267aee",
    ),
    (
        {
            "securityContext": {"readOnlyRootFilesystem": True},
            "podSecurityContext": {"fsGroup": 7},
            **jwt(name="j", key="k"),
        },
        "4a303740d574a0e9767bb64a29821ea686cca7fc9c546adb5f5547462660e8e1",
    ),
    (
        {
            "resources": {"limits": {"cpu": 2}},
            "smb": {"enabled": True},
            **s3(),
            **storage(contentSize="1Ti", cacheSize="9Gi"),
        },
        "3a7912270d36ccd4e3990d7592ea50c40d4caae72ce1e40b28abf766499b2da7",
    ),
)


@pytest.mark.parametrize(("fields", "digest"), SINGLE_FAMILY)
def test_a_released_rendering_stays_byte_for_byte(fields: Manifest, digest: str) -> None:
    owner, spec = (
        Owner("files", "here", "u"),
        read(server(**{"image": "marmos91c/dittofs:latest", **fields})).server.spec,
    )
    revision = PodRevision(Rendering.SINGLE_FAMILY, "0" * 64)

    rendered = [config_map(owner, spec, Rendering.SINGLE_FAMILY), marked(stateful_set(owner, spec, revision))]

    assert hashlib.sha256(json.dumps(rendered).encode()).hexdigest() == digest


def test_pending_changes_are_those_of_later_renderings() -> None:
    assert NEWEST.pending_changes is None
    assert Rendering.SINGLE_FAMILY.pending_changes == Rendering.BOTH_FAMILIES.changes


def test_pending_settings_are_named_but_not_their_values() -> None:
    labels = {f"label-{number}": "x" for number in range(7)}
    many = ObjectDefaults(labels, {"note": "y"}, ("one", "two"))

    assert Baseline().pending_changes(NO_DEFAULTS) is None
    assert Baseline(defaults=many).pending_changes(many) is None
    assert Baseline(defaults=many).pending_changes(ObjectDefaults({**labels, "label-6": "z"}, {}, ("one",))) == (
        "label label-6, annotation note, pull secret two by the operator's settings for all servers"
    )
    assert Baseline(Rendering.SINGLE_FAMILY).pending_changes(many) == (
        f"{Rendering.BOTH_FAMILIES.changes}; labels label-0, label-1, label-2, label-3, label-4 and 2 more, "
        "annotation note, pull secrets one, two by the operator's settings for all servers"
    )
    assert Baseline(defaults=many).pending_changes(ObjectDefaults(labels, {"note": "y"}, ("two", "one"))) == (
        "order of pull secrets by the operator's settings for all servers"
    )
