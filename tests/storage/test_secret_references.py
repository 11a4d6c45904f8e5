from typing import Any

import pytest

from app.storage.facts import Secret, Unknown
from app.storage.reading import read
from app.storage.secret_references import (
    consumed_references,
    generated_references,
    secret_findings,
    secret_references,
    why_not_usable,
)
from tests.harness.server_table import jwt, s3, server


def test_a_server_without_references_names_no_secret() -> None:
    assert secret_references(read(server(database={}, identity={"admin": {}}, s3={})).server.spec) == ()


def test_each_reference_has_its_path_and_s3_is_first() -> None:
    spec = read(server(**jwt(name="jwt", key="k"), **s3())).server.spec
    found = [(reference.path, reference.secret) for reference in secret_references(spec)]
    assert found == [("spec.s3.credentialsSecretRef", "s3"), ("spec.identity.jwt.secretRef", "jwt")]


def test_a_finding_has_the_path_of_its_reference() -> None:
    [reference] = secret_references(read(server(**jwt(name="jwt", key="k"))).server.spec)
    [finding] = secret_findings(reference, Secret({}))
    assert finding.path == "spec.identity.jwt.secretRef"
    assert finding.message == 'JWT Secret "jwt" missing key "k"'


def unusable_because(manifest: Any, secret: Secret | Unknown | None) -> str | None:
    [reference] = secret_references(read(manifest).server.spec)
    finding = why_not_usable(reference, secret)
    return finding.message if finding else None


def made(**values: str) -> Secret:
    return Secret.read({"metadata": {}, "stringData": values})


WHOLE = {"accessKeyId": "id", "secretAccessKey": "key"}


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (made(**WHOLE), None),
        (made(**WHOLE, endpoint="http://minio"), None),
        (made(**{**WHOLE, "accessKeyId": " padded "}), None),
        (made(accessKeyId="id"), 'S3 credentials Secret "s3" missing key "secretAccessKey"'),
        (made(**{**WHOLE, "accessKeyId": ""}), 'S3 credentials Secret "s3" key "accessKeyId" is empty'),
        (None, 'S3 credentials Secret "s3" not found; ensure it exists before DittoFS pod starts'),
        (
            Secret(made(**WHOLE).keys, terminating=True),
            'S3 credentials Secret "s3" is being deleted; create it again once it is gone',
        ),
        (Unknown("because"), 'Could not verify S3 credentials Secret "s3": because'),
    ],
)
def test_half_of_a_secret_is_not_used(secret: Secret | Unknown | None, why: str | None) -> None:
    assert unusable_because(server(**s3()), secret) == why


def test_a_signing_secret_that_the_server_would_not_start_with_is_not_used() -> None:
    manifest = server(**jwt(name="jwt", key="k"))
    assert "fewer than 32" in str(unusable_because(manifest, made(k="short")))
    assert unusable_because(manifest, made(k="x" * 32)) is None


def test_what_is_optional_may_be_absent_and_what_is_not_named_is_not_used() -> None:
    assert unusable_because(server(**jwt(name="jwt", key="k", optional=True)), None) is None
    assert unusable_because(server(**jwt(name="jwt", key="k", optional=True)), made()) is None
    database = {"postgresSecretRef": {"key": "dsn"}}
    assert "is not named" in str(unusable_because(server(database=database), None))


def test_what_the_spec_does_not_name_is_generated() -> None:
    names = [reference.secret for reference in generated_references("files", read(server()).server.spec)]

    assert names == ["files-jwt-secret", "files-admin-bootstrap-credentials"]

    nameless = read(server(**jwt(key="k"))).server.spec

    assert [reference.secret for reference in consumed_references("files", nameless)] == names

    spec = read(server(**jwt(name="jwt", key="k"))).server.spec

    assert [reference.secret for reference in consumed_references("files", spec)] == [
        "jwt",
        "files-admin-bootstrap-credentials",
    ]


def test_a_terminating_secret_draws_one_warning() -> None:
    [reference] = secret_references(read(server(**s3())).server.spec)
    deleted = Secret.read({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})

    [finding] = secret_findings(reference, deleted)

    assert finding.message == 'S3 credentials Secret "s3" is being deleted; create it again once it is gone'
    assert not finding.rejects


def test_an_optional_secret_may_not_be_terminating() -> None:
    manifest = server(**jwt(name="jwt", key="k", optional=True))
    assert "is being deleted" in str(unusable_because(manifest, Secret({}, terminating=True)))
