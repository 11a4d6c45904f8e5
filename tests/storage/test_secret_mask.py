import base64
import json
from html import escape
from time import process_time
from urllib.parse import quote

import pytest

from app.storage.redaction import LEFT_OUT, MASK
from app.storage.secret_mask import MAX_LINE_CHARACTERS, SecretMask, names_a_secret, secret_values

SECRET = 'K7/+"é&x y'


def encoded(**values: str) -> dict[str, object]:
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"before{SECRET}after",
        json.dumps(SECRET),
        json.dumps(json.dumps(json.dumps({"config": SECRET}))),
        json.dumps(SECRET, ensure_ascii=False),
        f"/keys/{quote(SECRET, safe='')}",
        f"<p>{escape(SECRET)}</p>",
        base64.b64encode(SECRET.encode()).decode(),
        f"Authorization: Basic {base64.b64encode(f'admin:{SECRET}'.encode()).decode()}",
        "x" * (MAX_LINE_CHARACTERS - 3) + SECRET,
    ],
)
def test_no_way_of_writing_reveals_a_known_value(text: str) -> None:
    masked = SecretMask([SECRET]).log(text)

    assert "K7" not in masked
    assert base64.b64encode(SECRET.encode()).decode()[:8] not in masked
    assert "***" in masked or masked == LEFT_OUT


def test_what_is_no_secret_stays() -> None:
    line = "2026-02-01T12:00:00Z INFO serves NFS on port 2049, StorageClass fast, 10Gi"
    assert SecretMask(["other-value"]).log(line) == line


@pytest.mark.parametrize(
    "text",
    [
        "password=MARKER",
        "the admin password is: MARKER and more MARKER",
        "Password: MARKER with spaces",
        'the password of user "admin" is: MARKER',
        "generated a password for admin: MARKER",
        "its password was MARKER and more MARKER",
        '{"level":"INFO","adminPassword":"MARKER","user":"admin"}',
        '{"secret_access_key": "MARK\\"ER"}',
        json.dumps({"msg": json.dumps({"token": "MARKER"})}),
        "DB_PASSWORD='MARKER x'",
        "postgres://dittofs:MARKER@db.example.com/dittofs",
        "GET /bucket?X-Amz-Signature=MARKER&x=1",
        "Authorization: Bearer MARKERMARKER",
        "authorization: MARKER",
        "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJNQVJLRVIifQ.MARKER",
        "hash $2a$10$MARKERMARKERMARKERMARKER",
        "-----BEGIN RSA PRIVATE KEY-----\nMARKER\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMARKER\nand no end",
        "api-key: MARKER",
        "secret_access_key = MARKER",
        "runs dfsctl login --token MARKER --insecure",
        "Set-Cookie: session=MARKER; Path=/",
        "GET https://account.example.com/bucket?se=1&sig=MARKER&sp=r",
        'token="MARKER that never ends',
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    masked = SecretMask().log(text)

    assert "MARKER" not in masked
    assert 'ER"' not in masked
    assert MASK in masked


def test_a_log_that_only_mentions_passwords_stays() -> None:
    line = '{"level":"INFO","msg":"password changed","user":"admin","status": "done"}'
    assert SecretMask().log(line) == line


def test_an_access_key_of_aws_is_masked() -> None:
    assert SecretMask().text("key AKIAIOSFODNN7EXAMPLE used") == f"key {MASK} used"


def test_prose_of_ours_stays_readable() -> None:
    screen = "Secrets   S3 credentials: s3; admin password: files-admin-bootstrap-credentials (generated)"
    assert SecretMask().text(screen) == screen


def test_lines_of_a_longer_value_are_masked() -> None:
    key = "-----BEGIN X-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END X-----\n"
    masked = SecretMask([key]).text("a line MIIEvQIBADANBgkq b\nhkiG9w0BAQEFAASC")

    assert masked == f"a line {MASK} b\n{MASK}"


def test_the_password_of_a_connection_string_is_masked_alone() -> None:
    mask = SecretMask(["postgres://user:p4ssw0rd@db/files", "host=db password=s3cr3t user=u"])
    assert mask.text("failed for p4ssw0rd and s3cr3t") == f"failed for {MASK} and {MASK}"


def test_short_values_are_in_too_many_words() -> None:
    assert SecretMask(["abc", ""]).text("abc") == "abc"


def test_no_end_of_a_value_stays_when_another_is_its_start() -> None:
    assert SecretMask(["abcd", "abcdefgh"]).text("abcdefgh") == MASK


def test_a_long_line_is_cut_and_takes_no_time() -> None:
    started = process_time()
    for text in ("password" * 200_000, "eyJ-" * 400_000, "\\" * 2**20, "://" * 400_000, "%41" * 350_000, "a" * 2**20):
        assert len(SecretMask([SECRET]).log(text)) <= MAX_LINE_CHARACTERS + 100
    assert process_time() - started < 20


def test_values_of_a_secret_are_read_and_certificates_are_not() -> None:
    secret = encoded(password="p", user="u", certificate="-----BEGIN CERTIFICATE-----\n")

    assert list(secret_values(secret, ["user"])) == ["p"]
    assert list(secret_values({"data": {"broken": "not base64", "empty": None}})) == ["not base64", ""]
    assert list(secret_values({})) == []


def test_a_certificate_with_its_key_is_a_secret() -> None:
    file = "-----BEGIN CERTIFICATE-----\nMIIB\n-----BEGIN PRIVATE KEY-----\nmarker-key\n"
    assert list(secret_values(encoded(both=file))) == [file]


def test_names_of_secrets_are_recognized() -> None:
    names = ("DB_PASSWORD", "apiKey", "AWS_SECRET_ACCESS_KEY", "TOKEN", "DATABASE_DSN", "pwd")
    assert [name for name in names if not names_a_secret(name)] == []
    assert not names_a_secret("GOMEMLIMIT")
