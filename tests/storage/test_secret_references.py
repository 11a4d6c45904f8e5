from typing import Any

import pytest

from app.storage.facts import Secret, Unknown
from app.storage.reading import read
from app.storage.secret_references import (
    consumed_references,
    generated_references,
    harmless_keys,
    pod_secret_names,
    secret_findings,
    secret_references,
    why_not_usable,
)
from tests.harness.server_table import CERTIFICATE, jwt, s3, s3_ca, server


def test_a_server_without_references_names_no_secret() -> None:
    assert secret_references(read(server(database={}, identity={"admin": {}}, s3={})).server.spec) == ()


def test_each_reference_has_its_path_and_s3_is_first() -> None:
    spec = read(server(**jwt(name="jwt", key="k"), **s3())).server.spec

    references = [(reference.path, reference.secret) for reference in secret_references(spec)]

    assert references == [("spec.s3.credentialsSecretRef", "s3"), ("spec.identity.jwt.secretRef", "jwt")]


def test_a_finding_has_the_path_of_its_reference() -> None:
    [reference] = secret_references(read(server(**jwt(name="jwt", key="k"))).server.spec)

    [finding] = secret_findings(reference, Secret({}))

    assert finding.path == "spec.identity.jwt.secretRef"
    assert finding.message == 'JWT Secret "jwt" missing key "k"'


def refusal(manifest: Any, secret: Secret | Unknown | None) -> str | None:
    [reference] = secret_references(read(manifest).server.spec)
    finding = why_not_usable(reference, secret)
    return finding.message if finding else None


def secret_with(**values: str) -> Secret:
    return Secret.read({"metadata": {}, "stringData": values})


WHOLE = {"accessKeyId": "id", "secretAccessKey": "key"}


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (secret_with(**WHOLE), None),
        (secret_with(**WHOLE, endpoint="http://minio"), None),
        (secret_with(**{**WHOLE, "accessKeyId": " padded "}), None),
        (secret_with(accessKeyId="id"), 'S3 credentials Secret "s3" missing key "secretAccessKey"'),
        (secret_with(**{**WHOLE, "accessKeyId": ""}), 'S3 credentials Secret "s3" key "accessKeyId" is empty'),
        (None, 'S3 credentials Secret "s3" not found; ensure it exists before DittoFS pod starts'),
        (
            Secret(secret_with(**WHOLE).keys, terminating=True),
            'S3 credentials Secret "s3" is being deleted; create it again once it is gone',
        ),
        (Unknown("because"), 'Could not verify S3 credentials Secret "s3": because'),
    ],
)
def test_half_of_a_secret_is_not_used(secret: Secret | Unknown | None, why: str | None) -> None:
    assert refusal(server(**s3()), secret) == why


def test_a_session_token_that_is_named_has_to_be_there() -> None:
    manifest = server(**s3(sessionTokenKey="token"))

    assert refusal(manifest, secret_with(**WHOLE)) == 'S3 credentials Secret "s3" missing key "token"'
    assert refusal(manifest, secret_with(**WHOLE, token="t")) is None


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (secret_with(**{"ca.crt": CERTIFICATE}), None),
        (secret_with(**{"ca.crt": f"\n{CERTIFICATE}\n\n"}), None),
        (secret_with(**{"tls.crt": CERTIFICATE}), 'S3 CA Secret "ca" missing key "ca.crt"'),
        (secret_with(**{"ca.crt": ""}), 'S3 CA Secret "ca" key "ca.crt" is empty'),
        (
            secret_with(**{"ca.crt": "rubbish"}),
            'S3 CA Secret "ca" key "ca.crt" has no certificate in PEM (-----BEGIN CERTIFICATE-----) in it',
        ),
        (None, 'S3 CA Secret "ca" not found; ensure it exists before DittoFS pod starts'),
    ],
)
def test_a_pod_keeps_the_ca_that_it_has(secret: Secret | None, why: str | None) -> None:
    assert refusal(server(**s3_ca()), secret) == why


def test_a_short_signing_secret_is_not_used() -> None:
    manifest = server(**jwt(name="jwt", key="k"))

    assert "fewer than 32" in str(refusal(manifest, secret_with(k="short")))
    assert refusal(manifest, secret_with(k="x" * 32)) is None


def test_only_an_optional_secret_may_be_absent() -> None:
    manifest = server(**jwt(name="jwt", key="k", optional=True))

    assert refusal(manifest, None) is None
    assert refusal(manifest, secret_with()) is None


def test_a_secret_that_is_not_named_is_not_used() -> None:
    database = {"postgresSecretRef": {"key": "dsn"}}

    assert "is not named" in str(refusal(server(database=database), None))


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


def test_values_of_users_and_endpoints_are_harmless() -> None:
    spec = read(server(s3={"credentialsSecretRef": {"secretName": "s3"}})).server.spec
    generated = {"files-jwt-secret", "files-admin-bootstrap-credentials"}

    assert pod_secret_names("files", spec) == {"s3", "files-postgres", *generated}
    assert harmless_keys("files", spec, "s3") == {"endpoint"}
    assert harmless_keys("files", spec, "files-admin-bootstrap-credentials") == {"username"}
    assert harmless_keys("files", spec, "files-postgres") == {"host", "port", "database", "user", "sslmode"}
    assert harmless_keys("files", spec, "other") == set()


def test_a_terminating_secret_is_one_warning() -> None:
    [reference] = secret_references(read(server(**s3())).server.spec)
    deleted = Secret.read({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})

    [finding] = secret_findings(reference, deleted)

    assert finding.message == 'S3 credentials Secret "s3" is being deleted; create it again once it is gone'
    assert not finding.rejects


def test_an_optional_secret_may_not_be_terminating() -> None:
    manifest = server(**jwt(name="jwt", key="k", optional=True))

    assert "is being deleted" in str(refusal(manifest, Secret({}, terminating=True)))
