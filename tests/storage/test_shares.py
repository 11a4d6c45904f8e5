import json
from typing import Any

import pytest

from app.storage.dialogue import Answer, ServerRequest
from app.storage.reading import read
from app.storage.server_health import Family
from app.storage.shares import SharesResult, ShareState, WantedShares, maintain_shares, reported_shares, store_of
from tests.harness.dialogues import NO_ANSWER, converse, ok, refused, store
from tests.harness.server_table import server, shares

METADATA = store("dittofs-operator", "badger")
CACHE, CONTENT = store("dittofs-operator-cache", "fs"), store("dittofs-operator-content", "fs")
STORES = ok([METADATA]), ok([CACHE, CONTENT])
CREATED = Answer(201, METADATA)


def wanted(family: Family, *entries: Any, remote: str = "dittofs-operator", **options: Any) -> WantedShares:
    spec = read(server(**shares(*entries))).server.spec
    return WantedShares(family, tuple(spec.shares or ()), spec, remote=remote, **options)


def current(*entries: Any, **options: Any) -> WantedShares:
    return wanted(Family.CURRENT, *entries, **options)


def legacy(*entries: Any, **options: Any) -> WantedShares:
    return wanted(Family.LEGACY, *entries, **options)


def share(name: str, *, remote: str | None = "id", **fields: Any) -> dict[str, Any]:
    """Builds a share as DittoFS 0.13 or newer returns it."""
    defaults = {"read_only": False, "default_permission": "read-write", "remote_block_store_id": remote}
    return {"id": f"id-{name}", "name": f"/{name}", **defaults, **fields}


def writes(requests: list[ServerRequest]) -> list[tuple[str, str, Any]]:
    """Returns what the requests would change, with the configurations of stores as objects."""
    changing = [request for request in requests if request.method != "GET"]
    bodies = [dict(request.body or {}) for request in changing]
    for body in bodies:
        if "config" in body:
            body["config"] = json.loads(body["config"])
    return [(one.method, "/".join(one.path), body) for one, body in zip(changing, bodies, strict=True)]


@pytest.mark.parametrize(
    ("entry", "s3", "expected"),
    [
        ({}, {"bucket": "b"}, "s3"),
        ({}, {}, "local"),
        ({}, {"bucket": ""}, "local"),
        ({"store": "local"}, None, "local"),
    ],
)
def test_content_goes_to_the_bucket_if_there_is_one(entry: Any, s3: Any, expected: str) -> None:
    spec = read(server(**shares({"name": "media", **entry}, **({} if s3 is None else {"s3": s3})))).server.spec

    assert [store_of(one, spec) for one in spec.shares or ()] == [expected]


def test_a_new_server_gets_stores_and_shares() -> None:
    local = share("tmp", remote=None, read_only=True, default_permission="none")

    requests, result = converse(
        maintain_shares(
            current({"name": "media"}, {"name": "tmp", "store": "local", "readOnly": True, "defaultPermission": "none"})
        ),
        ok([]),
        ok([]),
        CREATED,
        ok([]),
        CREATED,
        CREATED,
        Answer(201, share("media")),
        Answer(201, local),
    )

    assert writes(requests) == [
        (
            "POST",
            "store/metadata",
            {"name": "dittofs-operator", "type": "badger", "config": {"path": "/data/metadata/dittofs-operator"}},
        ),
        (
            "POST",
            "store/block/local",
            {"name": "dittofs-operator-cache", "type": "fs", "config": {"path": "/data/cache/dittofs-operator"}},
        ),
        (
            "POST",
            "store/block/local",
            {"name": "dittofs-operator-content", "type": "fs", "config": {"path": "/data/content/dittofs-operator"}},
        ),
        (
            "POST",
            "shares",
            {
                "name": "/media",
                "metadata_store_id": "dittofs-operator",
                "read_only": False,
                "default_permission": "read-write",
                "local_block_store": "dittofs-operator-cache",
                "remote_block_store": "dittofs-operator",
            },
        ),
        (
            "POST",
            "shares",
            {
                "name": "/tmp",
                "metadata_store_id": "dittofs-operator",
                "read_only": True,
                "default_permission": "none",
                "local_block_store": "dittofs-operator-content",
            },
        ),
    ]
    assert result == SharesResult((ShareState("media", "Ready"), ShareState("tmp", "Ready")))


def test_shares_as_they_should_be_are_only_listed() -> None:
    requests, result = converse(
        maintain_shares(current({"name": "media"}, {"name": "tmp", "store": "local"})),
        ok([share("media"), share("tmp", remote=None), share("of-a-person")]),
    )

    assert [request.method for request in requests] == ["GET"]
    assert [state.phase for state in result.states] == ["Ready", "Ready"]


def test_settings_that_differ_are_changed() -> None:
    entry = {"name": "media", "readOnly": True, "defaultPermission": "read", "squash": "all_to_guest"}

    requests, result = converse(
        maintain_shares(current(entry)),
        ok([share("media")]),
        ok(share("media")),
        ok({"squash": "root_to_guest"}),
        ok({"squash": "all_to_guest"}),
    )

    assert writes(requests) == [
        ("PUT", "shares/media", {"read_only": True, "default_permission": "read"}),
        ("PATCH", "shares/media/adapters/nfs/config", {"squash": "all_to_guest"}),
    ]
    assert result.states == (ShareState("media", "Ready"),)


def test_a_squash_that_is_set_is_left_alone() -> None:
    requests, _ = converse(
        maintain_shares(current({"name": "media", "squash": "none"})), ok([share("media")]), ok({"squash": "none"})
    )

    assert writes(requests) == []


def test_a_share_stays_read_only() -> None:
    """A server stores the change, and refuses writes for ever all the same."""
    requests, result = converse(maintain_shares(current({"name": "media"})), ok([share("media", read_only=True)]))

    assert writes(requests) == []
    assert result.states == (
        ShareState("media", "Failed", "it stays read-only: the server cannot undo that; use a new share"),
    )


@pytest.mark.parametrize(
    ("entry", "remote"), [({"name": "a"}, None), ({"name": "a", "store": "local"}, "id"), ({"name": "a"}, "")]
)
def test_content_is_never_moved(entry: Any, remote: str | None) -> None:
    requests, result = converse(maintain_shares(current(entry)), ok([share("a", remote=remote)]))

    assert writes(requests) == []
    assert result.states[0].phase == "Failed"
    assert "the operator does not move it" in result.states[0].message


def test_a_share_in_s3_waits_for_the_credentials() -> None:
    requests, result = converse(
        maintain_shares(current({"name": "a"}, {"name": "b", "store": "local"}, remote="")),
        ok([]),
        *STORES,
        Answer(201, share("b", remote=None)),
    )

    assert [body["name"] for _, _, body in writes(requests)] == ["/b"]
    assert [state.phase for state in result.states] == ["Pending", "Ready"]
    assert "CredentialsReady" in result.states[0].message


@pytest.mark.parametrize("answer", [NO_ANSWER, refused(409), ok(), ok({"id": 1})])
def test_a_share_without_an_answer_is_looked_for(answer: Answer) -> None:
    _, result = converse(maintain_shares(current({"name": "a"})), ok([]), *STORES, answer, ok([share("a")]))

    assert result.states == (ShareState("a", "Ready"),)


@pytest.mark.parametrize("answer", [NO_ANSWER, ok([])])
def test_a_share_that_may_still_come_is_pending(answer: Answer) -> None:
    _, result = converse(maintain_shares(current({"name": "a"})), ok([]), *STORES, NO_ANSWER, answer)

    assert [state.phase for state in result.states] == ["Pending"]


def test_a_share_that_is_refused_has_failed() -> None:
    _, result = converse(
        maintain_shares(current({"name": "a"}, {"name": "b"})),
        ok([]),
        *STORES,
        refused(400, "bad name"),
        Answer(201, share("b")),
    )

    assert [(state.phase, state.message) for state in result.states] == [
        ("Failed", "it could not be created: bad name"),
        ("Ready", ""),
    ]


@pytest.mark.parametrize(
    "answers",
    [
        (ok([]), refused(400, "locked"), ok([CACHE, CONTENT])),
        (ok([METADATA]), ok([CONTENT]), refused(400, "locked")),
    ],
)
def test_without_its_stores_no_share_is_created(answers: tuple[Answer, ...]) -> None:
    requests, result = converse(maintain_shares(current({"name": "a"})), ok([]), *answers)

    assert "shares" not in [path for _, path, _ in writes(requests)]
    assert result.states[0].phase == "Failed"
    assert "could not be created: locked" in result.states[0].message


@pytest.mark.parametrize("answers", [(NO_ANSWER,), (refused(500),), (ok("x"),), (ok([]), NO_ANSWER)])
@pytest.mark.parametrize("family", Family)
def test_without_lists_every_share_is_pending(answers: tuple[Answer, ...], family: Family) -> None:
    _, result = converse(maintain_shares(wanted(family, {"name": "a"})), *answers)

    assert [state.phase for state in result.states] == ["Pending"]


@pytest.mark.parametrize(("answer", "phase"), [(NO_ANSWER, "Pending"), (refused(400, "no"), "Failed")])
def test_a_change_that_fails_is_reported(answer: Answer, phase: str) -> None:
    _, result = converse(
        maintain_shares(current({"name": "a", "defaultPermission": "read", "squash": "none"})),
        ok([share("a")]),
        answer,
    )

    assert [state.phase for state in result.states] == [phase]


@pytest.mark.parametrize(
    ("family", "version", "command"),
    [
        (Family.CURRENT, None, "dfsctl share remove /old"),
        (Family.CURRENT, "0.23.2", "dfsctl share delete /old"),
        (Family.LEGACY, "0.5.0", "dfsctl share delete /old"),
        (Family.LEGACY, None, "dittofsctl share delete /old"),
    ],
)
def test_a_share_that_left_the_spec_is_kept(family: Family, version: str | None, command: str) -> None:
    requests, result = converse(
        maintain_shares(wanted(family, mentioned=("old", "gone"), version=version)),
        ok([share("old"), share("of-a-person")]),
    )

    assert writes(requests) == []
    assert [(state.name, state.phase) for state in result.states] == [("old", "Retained")]
    assert command in result.states[0].message


class TestUpTo08:
    S3 = {"name": "dittofs-operator", "type": "s3", "config": '{"bucket":"media","region":"eu-west-1"}'}  # noqa: RUF012

    def test_a_new_server_gets_stores_and_shares(self) -> None:
        requests, result = converse(
            maintain_shares(legacy({"name": "media"}, endpoint="http://minio:9000")),
            ok([]),
            ok([]),
            CREATED,
            ok([]),
            CREATED,
            Answer(201, share("media")),
        )

        assert writes(requests) == [
            (
                "POST",
                "payload-stores",
                {
                    "name": "dittofs-operator",
                    "type": "s3",
                    "config": {"bucket": "media", "region": "eu-west-1", "endpoint": "http://minio:9000"},
                },
            ),
            (
                "POST",
                "metadata-stores",
                {
                    "name": "dittofs-operator",
                    "type": "badger",
                    "config": {"db_path": "/data/metadata/dittofs-operator"},
                },
            ),
            (
                "POST",
                "shares",
                {
                    "name": "/media",
                    "metadata_store_id": "dittofs-operator",
                    "read_only": False,
                    "default_permission": "read-write",
                    "payload_store_id": "dittofs-operator",
                },
            ),
        ]
        assert result == SharesResult((ShareState("media", "Ready"),))

    def test_local_content_is_on_the_content_volume(self) -> None:
        requests, _ = converse(
            maintain_shares(legacy({"name": "a", "store": "local"})),
            ok([]),
            ok([]),
            CREATED,
            ok([METADATA]),
            Answer(201, share("a")),
        )

        assert writes(requests)[0][2] == {
            "name": "dittofs-operator",
            "type": "filesystem",
            "config": {"path": "/data/content/dittofs-operator"},
        }

    @pytest.mark.parametrize(
        ("entries", "stores"),
        [
            (({"name": "a"},), [{"name": "by-hand", "type": "s3"}]),
            (({"name": "a"},), [S3, {"name": "by-hand", "type": "memory"}]),
            (({"name": "a"}, {"name": "b", "store": "local"}), []),
            (({"name": "a", "store": "local"},), [S3]),
        ],
    )
    def test_content_goes_to_no_other_store_than_asked(self, entries: Any, stores: Any) -> None:
        requests, result = converse(maintain_shares(legacy(*entries)), ok([]), ok(stores))

        assert writes(requests) == []
        assert {state.phase for state in result.states} == {"Failed"}
        assert "DittoFS up to 0.8" in result.states[0].message

    def test_another_endpoint_takes_a_restart(self) -> None:
        requests, result = converse(
            maintain_shares(legacy({"name": "a"}, endpoint="http://new:9000")), ok([share("a")]), ok([self.S3]), ok()
        )

        [(method, path, body)] = writes(requests)
        assert (method, path) == ("PUT", "payload-stores/dittofs-operator")
        assert body["config"] == {"bucket": "media", "region": "eu-west-1", "endpoint": "http://new:9000"}
        assert result.is_outdated

    def test_squash_is_reported_as_ignored(self) -> None:
        requests, result = converse(
            maintain_shares(legacy({"name": "a", "squash": "none"})), ok([share("a")]), ok([self.S3])
        )

        assert writes(requests) == []
        assert result.states == (ShareState("a", "Ready", "squash has no effect in DittoFS up to 0.8"),)

    def test_a_share_becomes_writable_again(self) -> None:
        requests, _ = converse(
            maintain_shares(legacy({"name": "a"})), ok([share("a", read_only=True)]), ok([self.S3]), ok()
        )

        assert writes(requests) == [("PUT", "shares/a", {"read_only": False})]


@pytest.mark.parametrize("status", [None, "x", {}, {"shares": "x"}, {"shares": [None, 5, {}, {"name": "a"}]}])
def test_a_made_up_status_reports_no_share(status: Any) -> None:
    assert reported_shares({"status": status}) == ()


@pytest.mark.parametrize("name", ["../x", "a" * 64, 5, "", "a\n", ["a"]])
@pytest.mark.parametrize("phase", ["Ready", "Gone", ["Ready"], None])
def test_a_made_up_share_is_not_reported(name: Any, phase: Any) -> None:
    assert reported_shares({"status": {"shares": [{"name": name, "phase": phase}]}}) == ()


def test_a_status_is_read_as_it_was_written() -> None:
    states = (ShareState("a", "Ready"), ShareState("b", "Failed", "it could not be created: no"))

    assert reported_shares({"status": {"shares": [state.as_status() for state in states]}}) == states


def test_a_flood_of_shares_is_cut_short() -> None:
    flood = [{"name": f"a{number}", "phase": "Ready"} for number in range(1000)]

    assert len(reported_shares({"status": {"shares": flood}})) == 256


def test_no_endpoint_is_in_a_representation() -> None:
    assert "marker" not in repr(legacy({"name": "a"}, endpoint="http://marker"))
