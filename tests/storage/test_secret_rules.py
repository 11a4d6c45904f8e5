from collections.abc import Mapping

import pytest

from app.storage.change import Change
from app.storage.facts import Facts, Needs, Unknown
from app.storage.rules import needs
from tests.harness.judgements import CLASSES, rejected, secret, warned
from tests.harness.server_table import (
    jwt,
    s3,
    server,
)


@pytest.mark.parametrize(
    "value", ["AKIA\nX", "\ufeffAKIA", "AK IA", "AKIA\0", "AKIA\u00e4", "AK\tIA", "AKIA\x7f", "AK\u200bIA"]
)
@pytest.mark.parametrize("key", ["accessKeyId", "secretAccessKey"])
def test_a_key_that_no_header_carries_is_a_warning(key: str, value: str) -> None:
    whole = {"accessKeyId": "AKIA", "secretAccessKey": "s3cr3t", key: value}

    assert warned(server(**s3()), facts=secret(**whole)) == [
        f'S3 credentials Secret "s3" key "{key}" has characters that no HTTP header can carry; '
        "look for a line break, a byte order mark or a space inside it"
    ]


@pytest.mark.parametrize(
    "value", ["\ufeffhttps://s3.example.com", "https://s3.exa mple.com", "https://s3\n.example.com"]
)
def test_an_endpoint_has_one_warning_per_cause(value: str) -> None:
    facts = secret(accessKeyId="AKIA", secretAccessKey="s3cr3t", endpoint=value)

    [message] = warned(server(**s3()), facts=facts)

    assert message.startswith('S3 credentials Secret "s3" key "endpoint" has characters that no HTTP header can carry')


def test_white_space_around_a_key_is_one_warning() -> None:
    [message] = warned(server(**s3()), facts=secret(accessKeyId=" AKIA\n", secretAccessKey="s3cr3t"))

    assert message.endswith('key "accessKeyId" has white space around its value')


def test_a_generated_name_collides_with_no_secret() -> None:
    database = {"type": "postgres", "postgresSecretRef": {"name": "-postgres", "key": "dsn"}}

    messages = rejected(server(database=database) | {"metadata": {"generateName": "files-"}})

    assert not [message for message in messages if "must not be" in message]


class TestSecrets:
    def test_one_that_is_absent_is_a_warning(self) -> None:
        assert warned(server(**s3()), facts=Facts(CLASSES, secrets={"s3": None})) == [
            'S3 credentials Secret "s3" not found; ensure it exists before DittoFS pod starts'
        ]

    def test_missing_keys_are_named_access_key_first(self) -> None:
        assert warned(server(**s3(accessKeyIdKey="z")), facts=secret()) == [
            'S3 credentials Secret "s3" missing key "z"',
            'S3 credentials Secret "s3" missing key "secretAccessKey"',
        ]

    def test_one_that_could_not_be_looked_up_is_a_warning(self) -> None:
        assert warned(server(**s3()), facts=Facts(CLASSES, secrets={"s3": Unknown("forbidden")})) == [
            'Could not verify S3 credentials Secret "s3": forbidden'
        ]

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            ({"accessKeyId": ""}, 'key "accessKeyId" is empty'),
            ({"accessKeyId": " \n"}, 'key "accessKeyId" is empty'),
            ({"secretAccessKey": "value\n"}, 'key "secretAccessKey" has white space around its value'),
            ({"endpoint": "s3.example.com"}, 'key "endpoint" is not a URL that starts with https:// or http://'),
            ({"endpoint": "https://"}, 'key "endpoint" is not a URL that starts with https:// or http://'),
            ({"endpoint": "https://[x"}, 'key "endpoint" is not a URL that starts with https:// or http://'),
            ({"endpoint": "http://[2001:db8::1]:9000"}, 'key "endpoint" is plain http; data travels unencrypted'),
        ],
    )
    def test_a_questionable_value_is_named_by_its_key(self, data: Mapping[str, str], complaint: str) -> None:
        good = {"accessKeyId": "AKIA", "secretAccessKey": "value", "endpoint": "https://192.0.2.1"}
        assert warned(server(**s3()), facts=secret(**{**good, **data})) == [f'S3 credentials Secret "s3" {complaint}']

    def test_a_short_signing_secret_will_not_start_the_server(self) -> None:
        manifest = server(**jwt(name="s3", key="k"))
        [message] = warned(manifest, facts=secret(k="x" * 31))

        assert message == 'JWT Secret "s3" key "k" has fewer than 32 characters; the server will not start'
        assert warned(manifest, facts=secret(k="x" * 32)) == []

    def test_a_password_that_looks_like_a_hash_is_a_warning(self) -> None:
        reference = {"passwordSecretRef": {"name": "s3", "key": "k"}}
        manifest = server(identity={"admin": reference})
        [message] = warned(manifest, facts=secret(k="$2b$12$abcdefghijklmnopqrstuv"))

        assert 'admin password Secret "s3" key "k" looks like a bcrypt hash' in message

    @pytest.mark.parametrize("optional", [True, False])
    def test_an_optional_reference_may_lead_nowhere(self, optional: bool) -> None:
        database = {"type": "postgres", "postgresSecretRef": {"name": "s3", "key": "dsn", "optional": optional}}
        absent = warned(server(database=database), facts=Facts(CLASSES, secrets={"s3": None}))
        incomplete = warned(server(database=database), facts=secret())

        assert bool(absent) is bool(incomplete) is not optional

    def test_a_reference_without_a_name_is_a_warning(self) -> None:
        [message] = warned(server(**jwt(key="k")))
        assert message == "identity.jwt.secretRef.name is not set; there is no Secret to read"

    def test_a_changed_reference_is_looked_up_again(self) -> None:
        change = Change.read(server(**s3(endpointKey="url")), server(**s3()))
        assert needs(change).secrets == {"s3"}

    def test_every_reference_is_looked_up_for_a_new_server(self) -> None:
        reference = {"key": "k"}
        manifest = server(
            database={"type": "postgres", "postgresSecretRef": {"name": "dsn", **reference}},
            identity={
                "jwt": {"secretRef": {"name": "jwt", **reference}},
                "admin": {"passwordSecretRef": {"name": "admin", **reference}},
            },
            **s3(),
        )
        manifest["metadata"]["namespace"] = "files"
        secrets = frozenset({"dsn", "jwt", "admin", "s3"})
        claims = frozenset({"metadata-files-0", "cache-files-0"})
        wanted = Needs(
            "files", storage_classes=True, class_names=frozenset({"fast"}), secrets=secrets, leftovers=claims
        )

        assert needs(Change.read(manifest)) == wanted
