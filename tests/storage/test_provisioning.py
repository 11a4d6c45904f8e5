"""The rotation of S3 keys, decision by decision: which hash the pod template gets, and what the status says."""

from dataclasses import replace
from typing import Any

import pytest

from app.storage.live import LiveState
from app.storage.maintenance import Provisioned
from app.storage.pod import CONFIG_HASH
from app.storage.problem import Problem
from app.storage.provisioning import (
    Hashes,
    awaits_push,
    contents,
    credentials_problem,
    kept_by_server,
    provisioning,
    remote_store,
    share_states,
    template_hash,
)
from app.storage.reading import read
from app.storage.remote_store import (
    ADMIN_LOGIN_FAILED,
    CREDENTIALS_REJECTED,
    IDENTITY_UNSUPPORTED,
    KEPT_BY_SERVER,
    SERVER_UNREACHABLE,
    STORE_NAME,
    RemoteStore,
    StoreResult,
    store_hash,
)
from app.storage.rendering import NEWEST
from app.storage.server_health import Family, ServerHealth
from app.storage.shares import ShareState
from app.storage.spec import DittoServer
from app.storage.status_schema import ServerStatus
from app.storage.unstructured import Manifest
from tests.harness.server_table import s3, server, shares

JWT, ADMIN = "files-jwt-secret", "files-admin-bootstrap-credentials"
GENERATED = {JWT: {"jwt-secret": "1"}, ADMIN: {"password": "2"}}
OLD_KEYS: dict[str, dict[str, str]] = {**GENERATED, "s3": {"accessKeyId": "3", "secretAccessKey": "4"}}
NEW_KEYS: dict[str, dict[str, str]] = {**GENERATED, "s3": {"accessKeyId": "5", "secretAccessKey": "6"}}
STARTED, LATER = "2026-11-27T12:00:00Z", "2026-11-27T13:00:00Z"
CURRENT, LEGACY = ServerHealth(Family.CURRENT, STARTED), ServerHealth(Family.LEGACY, STARTED)
IN_BETWEEN = replace(CURRENT, version="0.12.0")
API: Manifest = {
    "metadata": {"name": "files-api", "namespace": "default"},
    "spec": {
        "clusterIP": "10.0.0.1",
        "ports": [{"name": "api", "port": 8080}],
        "selector": {"app": "dittofs-server", "instance": "files"},
    },
}
REJECTED = Problem(CREDENTIALS_REJECTED, "no")


def with_bucket(bucket: str | None = "media", **spec: Any) -> DittoServer:
    section = s3()["s3"] | ({} if bucket is None else {"bucket": bucket})
    return read(server(**{"s3": section, **spec})).server


def pod(uid: str = "pod", ready: str = "True") -> Manifest:
    return {"metadata": {"uid": uid, "name": "files-0"}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def hashes(of: DittoServer, keys: dict[str, dict[str, str]]) -> Hashes:
    return Hashes.of(of, keys, NEWEST)


def live(of: DittoServer, keys: dict[str, dict[str, str]] = OLD_KEYS, **state: Any) -> LiveState:
    """A server that runs with the old keys, and whose Secret has these."""
    template = {"metadata": {"annotations": {CONFIG_HASH: hashes(of, OLD_KEYS).full}}}
    usual = {
        "uid": "uid",
        "stateful_set": {"metadata": {"name": "files"}, "spec": {"template": template}},
        "pod": pod(),
        "digests": keys,
        "services": {"files-api": API},
        "health": CURRENT,
        "remote_store": RemoteStore(STORE_NAME, digest(of, OLD_KEYS), hashes(of, OLD_KEYS).without_s3),
    }
    return LiveState(**{**usual, **state})


def digest(of: DittoServer, keys: dict[str, dict[str, str]], adopt: str = "") -> str:
    return store_hash(hashes(of, keys).store, of.spec.s3.bucket or "", of.spec.s3.region, adopt)


def told(of: DittoServer, state: LiveState, keys: dict[str, dict[str, str]], **store: Any) -> LiveState:
    """The same server after it was given these keys, with this result."""
    wanted = provisioning(of, state, hashes(of, keys))
    assert wanted
    return replace(state, provisioned=Provisioned(wanted, StoreResult(STORE_NAME, **store)))


def held(of: DittoServer, state: LiveState, keys: dict[str, dict[str, str]] = NEW_KEYS) -> bool:
    """Tells whether the pod template keeps its hash although the Secret has other keys."""
    before, after = hashes(of, OLD_KEYS).full, hashes(of, keys)
    decided = template_hash(of, state, after, before)
    assert decided in (before, after.full)
    return decided == before


class TestARotation:
    def test_waits_until_the_server_accepts_the_keys(self) -> None:
        of = with_bucket()
        state = live(of, NEW_KEYS)
        accepted = told(of, state, NEW_KEYS, verified=digest(of, NEW_KEYS), is_altered=True, is_outdated=True)

        assert held(of, state)
        assert held(of, told(of, state, NEW_KEYS, problem=REJECTED, is_altered=True))
        assert not held(of, accepted)

    def test_that_was_accepted_before_the_operator_ended_goes_on(self) -> None:
        of = with_bucket()
        store = RemoteStore(STORE_NAME, digest(of, NEW_KEYS), hashes(of, OLD_KEYS).without_s3)

        assert not held(of, live(of, NEW_KEYS, remote_store=store))

    @pytest.mark.parametrize("state", [{"health": None, "pod": None}, {"pod": pod(ready="False")}, {"services": {}}])
    def test_waits_for_a_server_that_cannot_be_asked(self, state: Any) -> None:
        of = with_bucket()

        assert held(of, live(of, NEW_KEYS, server=ServerStatus(family="Current"), **state))

    def test_restarts_a_server_that_only_answers_like_a_newer_one(self) -> None:
        of = with_bucket(None)

        assert held(of, live(of, NEW_KEYS))
        assert held(of, live(of, NEW_KEYS, health=replace(CURRENT, version="0.13.0")))
        assert not held(of, live(of, NEW_KEYS, health=IN_BETWEEN))
        assert not held(of, live(of, NEW_KEYS, health=None, server=ServerStatus(family="Current", version="0.10.0")))

    def test_restarts_such_a_server_whose_store_a_person_created(self) -> None:
        of = with_bucket()
        state, other = live(of, NEW_KEYS, health=IN_BETWEEN), live(of, NEW_KEYS)

        assert held(of, state)
        assert not held(of, told(of, state, NEW_KEYS, kept="by a person"))
        assert kept_by_server(of, told(of, state, NEW_KEYS, kept="by a person")) is None
        assert held(of, told(of, other, NEW_KEYS, kept="by a person"))

    @pytest.mark.parametrize("state", [{"health": LEGACY}, {"health": None}])
    @pytest.mark.parametrize("bucket", ["media", None])
    def test_restarts_a_server_that_reads_its_environment(self, state: Any, bucket: str | None) -> None:
        of = with_bucket(bucket)

        assert not held(of, live(of, NEW_KEYS, **state))

    def test_without_a_bucket_restarts_nothing(self) -> None:
        of = with_bucket(None)

        assert held(of, live(of, NEW_KEYS))

    def test_by_which_the_server_answers_outdoes_what_it_was(self) -> None:
        of = with_bucket()

        assert not held(of, live(of, NEW_KEYS, health=LEGACY, server=ServerStatus(family="Current")))

    def test_goes_out_where_nobody_knows_what_else_changed(self) -> None:
        of = with_bucket(None)

        assert not held(of, live(of, NEW_KEYS, remote_store=RemoteStore()))


class TestAnotherChange:
    """The admin password changes together with the keys, say."""

    BOTH = NEW_KEYS | {ADMIN: {"password": "other"}}

    def test_goes_out_with_the_keys_once_they_are_accepted(self) -> None:
        of = with_bucket()
        state = live(of, self.BOTH)

        assert held(of, state, self.BOTH)
        assert not held(of, told(of, state, self.BOTH, verified=digest(of, self.BOTH), is_altered=True), self.BOTH)

    def test_does_not_wait_for_keys_that_are_rejected(self) -> None:
        of = with_bucket()
        state = live(of, self.BOTH)

        assert not held(of, told(of, state, self.BOTH, problem=REJECTED), self.BOTH)

    def test_waits_for_no_server_that_cannot_be_asked(self) -> None:
        of = with_bucket()
        state = live(of, self.BOTH, health=None, server=ServerStatus(family="Current"))

        assert not held(of, state, self.BOTH)

    def test_goes_out_without_a_bucket(self) -> None:
        of = with_bucket(None)

        assert not held(of, live(of, self.BOTH), self.BOTH)


class TestAServiceAccount:
    """It gives credentials to a server that reads them from its environment, and to no other."""

    OF = with_bucket(s3={"bucket": "media", "serviceAccountName": "uploader"})

    def test_stalls_a_server_that_only_takes_keys(self) -> None:
        problem = credentials_problem(self.OF, live(self.OF))

        assert problem
        assert problem.reason == IDENTITY_UNSUPPORTED
        assert problem.stalls
        assert "ServiceAccount uploader" in problem.message

    @pytest.mark.parametrize(
        "state", [{"health": LEGACY}, {"health": IN_BETWEEN}, {"health": None}, {"health": None, "pod": None}]
    )
    def test_is_fine_for_others_and_for_the_unknown(self, state: Any) -> None:
        assert credentials_problem(self.OF, live(self.OF, **state)) is None

    @pytest.mark.parametrize(
        "of",
        [
            with_bucket(s3={**s3()["s3"], "bucket": "media", "serviceAccountName": "uploader"}),
            with_bucket(s3={"serviceAccountName": "uploader"}),
            with_bucket(s3={"bucket": "media"}),
            with_bucket(s3={"bucket": "media", "serviceAccountName": "uploader"}, replicas=0),
        ],
    )
    def test_matters_only_to_a_bucket_without_keys(self, of: DittoServer) -> None:
        assert credentials_problem(of, live(of)) is None

    def test_is_all_that_shares_of_such_a_server_need(self) -> None:
        of = read(server(**shares({"name": "a"}, s3={"bucket": "media", "serviceAccountName": "uploader"}))).server

        wanted = provisioning(of, live(of, health=LEGACY), hashes(of, OLD_KEYS))

        assert wanted
        assert (wanted.s3, wanted.bucket) == (None, None)
        assert [share.name for share in wanted.shares] == ["a"]


class TestAnotherCa:
    """The CA of the S3 endpoint changes: no record has it, and the server reads it when it starts."""

    WITH_CA = with_bucket(s3={**s3()["s3"], "bucket": "media", "caSecretRef": {"name": "ca"}})
    ONE_SECRET = with_bucket(
        s3={**s3()["s3"], "bucket": "media", "caSecretRef": {"name": "s3", "key": "secretAccessKey"}}
    )

    @pytest.mark.parametrize("state", [{}, {"health": LEGACY}, {"pod": pod(ready="False")}])
    def test_restarts_the_server(self, state: Any) -> None:
        of = self.WITH_CA

        assert not held(of, live(of, **state), OLD_KEYS | {"ca": {"ca.crt": "7"}})

    def test_is_no_rotation_of_keys(self) -> None:
        of, keys = self.WITH_CA, OLD_KEYS | {"ca": {"ca.crt": "7"}}

        assert not awaits_push(of, live(of), hashes(of, keys))
        assert hashes(of, keys).store == hashes(of, OLD_KEYS).store

    def test_waits_for_new_keys_that_come_with_it(self) -> None:
        of, keys = self.WITH_CA, NEW_KEYS | {"ca": {"ca.crt": "7"}}
        state = live(of, keys)

        assert held(of, state, keys)
        assert not held(of, told(of, state, keys, verified=digest(of, keys), is_altered=True), keys)

    def test_goes_out_although_the_server_cannot_check_the_keys_without_it(self) -> None:
        of, keys = self.WITH_CA, NEW_KEYS | {"ca": {"ca.crt": "7"}}
        state = live(of, keys)

        assert not held(of, told(of, state, keys, problem=REJECTED, is_altered=True), keys)

    def test_goes_out_from_the_secret_with_the_keys_as_well(self) -> None:
        of = self.ONE_SECRET
        state = live(of, NEW_KEYS)

        assert held(of, state)
        assert not held(of, told(of, state, NEW_KEYS, problem=REJECTED))


class TestAChangeOfThePodTemplate:
    def test_waits_while_the_server_is_told_of_another_region(self) -> None:
        of = with_bucket()
        other = read(server(s3={**s3()["s3"], "bucket": "media", "region": "us-east-1"})).server
        state = live(of)
        accepted = told(other, state, OLD_KEYS, verified=digest(other, OLD_KEYS), is_altered=True)

        assert not awaits_push(of, state, hashes(of, OLD_KEYS))
        assert awaits_push(other, state, hashes(other, OLD_KEYS))
        assert not awaits_push(other, accepted, hashes(other, OLD_KEYS))

    @pytest.mark.parametrize("state", [{"health": None}, {"pod": pod(ready="False")}, {"health": LEGACY}])
    def test_waits_for_nobody_who_cannot_be_told(self, state: Any) -> None:
        of = with_bucket("other")

        assert not awaits_push(of, live(of, **{"remote_store": RemoteStore(), **state}), hashes(of, OLD_KEYS))

    def test_waits_for_no_server_that_stops_or_rejects_it(self) -> None:
        of, stopped = with_bucket(), with_bucket(replicas=0)
        unknown = live(of, remote_store=RemoteStore())

        assert awaits_push(of, unknown, hashes(of, OLD_KEYS))
        assert not awaits_push(stopped, unknown, hashes(stopped, OLD_KEYS))
        assert not awaits_push(of, told(of, unknown, OLD_KEYS, problem=REJECTED), hashes(of, OLD_KEYS))


class TestWhatTheServerShouldHave:
    def test_is_nothing_without_bucket_and_shares(self) -> None:
        of = with_bucket(None)

        assert provisioning(of, live(of), hashes(of, OLD_KEYS)) is None

    def test_is_nothing_for_a_bucket_alone_where_keys_are_read_from_the_environment(self) -> None:
        of = with_bucket()

        assert provisioning(of, live(of, health=LEGACY), hashes(of, OLD_KEYS)) is None

    @pytest.mark.parametrize(
        "state",
        [
            {"health": None},
            {"pod": None},
            {"pod": pod(ready="False")},
            {"services": {}},
            {"uid": None},
            {"pod": {"metadata": {"uid": "pod", "deletionTimestamp": STARTED}}},
        ],
    )
    def test_is_unknown_while_it_cannot_be_asked(self, state: Any) -> None:
        of = with_bucket()

        assert provisioning(of, live(of, **state), hashes(of, OLD_KEYS)) is None

    def test_waits_for_its_secrets(self) -> None:
        of = with_bucket()

        assert provisioning(of, live(of), None) is None

    def test_is_looked_at_again_for_each_run_and_change(self) -> None:
        of, other = with_bucket(), with_bucket("other")
        states = [
            live(of),
            live(of, NEW_KEYS),
            live(of, health=ServerHealth(Family.CURRENT, LATER)),
            live(of, pod=pod("next")),
            live(of, uid="recreated"),
            live(of, adopt_store="by-hand"),
        ]
        all_of_them = [provisioning(of, state, hashes(of, dict(state.digests))) for state in states]  # type: ignore[arg-type]
        all_of_them.append(provisioning(other, live(other), hashes(other, OLD_KEYS)))

        assert all(one != another for at, one in enumerate(all_of_them) for another in all_of_them[:at])

    def test_is_not_looked_at_again_for_what_it_reports_itself(self) -> None:
        of = with_bucket()
        health = replace(CURRENT, shares=5, store_errors=("x",))

        before = provisioning(of, live(of), hashes(of, OLD_KEYS))

        assert provisioning(of, live(of, health=health, remote_store=RemoteStore()), hashes(of, OLD_KEYS)) == before

    def test_is_other_credentials_when_other_keys_of_the_secret_are_named(self) -> None:
        of = with_bucket()
        named = s3(accessKeyIdKey="secretAccessKey")["s3"] | {"bucket": "media"}
        other = with_bucket(s3=named)

        before, after = (
            provisioning(of, live(of), hashes(of, OLD_KEYS)),
            provisioning(other, live(of), hashes(other, OLD_KEYS)),
        )

        assert before is not None
        assert after is not None
        assert before.bucket != after.bucket


class TestTheRemoteStoreInTheStatus:
    def test_names_what_was_accepted(self) -> None:
        of = with_bucket()
        state = live(of, remote_store=RemoteStore())

        after = remote_store(of, told(of, state, OLD_KEYS, verified=digest(of, OLD_KEYS)), hashes(of, OLD_KEYS))

        assert after == RemoteStore(STORE_NAME, digest(of, OLD_KEYS), hashes(of, OLD_KEYS).without_s3)

    def test_forgets_what_was_overwritten_by_rejected_keys(self) -> None:
        of = with_bucket()
        state = live(of, NEW_KEYS)

        after = remote_store(of, told(of, state, NEW_KEYS, problem=REJECTED, is_altered=True), hashes(of, NEW_KEYS))

        assert (after.name, after.config_hash) == (STORE_NAME, "")

    def test_keeps_what_was_accepted_while_the_server_is_unreachable(self) -> None:
        of = with_bucket()
        state = live(of)

        after = remote_store(of, told(of, state, OLD_KEYS, problem=Problem(SERVER_UNREACHABLE, "")), None)

        assert after == state.remote_store

    def test_restarts_the_pod_that_nothing_else_restarts(self) -> None:
        of = with_bucket()
        result = {"verified": digest(of, OLD_KEYS), "is_altered": True, "is_outdated": True}

        quiet = told(of, live(of), OLD_KEYS, **result)

        assert remote_store(of, quiet, hashes(of, OLD_KEYS)).restart_for == "pod"
        assert remote_store(of, replace(quiet, pod=pod("next")), hashes(of, OLD_KEYS)).restart_for == ""

    def test_leaves_the_restart_to_the_template_that_changes(self) -> None:
        of = with_bucket()
        result = {"verified": digest(of, NEW_KEYS), "is_altered": True, "is_outdated": True}

        rotated = told(of, live(of, NEW_KEYS), NEW_KEYS, **result)

        assert remote_store(of, rotated, hashes(of, NEW_KEYS)).restart_for == ""

    def test_remembers_the_restart_until_the_pod_is_another(self) -> None:
        of = with_bucket()
        store = RemoteStore(STORE_NAME, digest(of, OLD_KEYS), restart_for="pod")

        assert remote_store(of, live(of, remote_store=store), None).restart_for == "pod"
        assert remote_store(of, live(of, remote_store=store, pod=pod("next")), None).restart_for == ""
        assert remote_store(of, live(of, remote_store=store, pod=None), None).restart_for == ""

    def test_does_not_learn_from_a_template_that_is_outdated(self) -> None:
        of = with_bucket()
        other = OLD_KEYS | {ADMIN: {"password": "other"}}

        after = remote_store(of, live(of, other), hashes(of, other))

        assert after.pod_hash == hashes(of, OLD_KEYS).without_s3

    @pytest.mark.parametrize("health", [LEGACY, None])
    def test_is_absent_where_keys_are_read_from_the_environment(self, health: ServerHealth | None) -> None:
        of = with_bucket()

        assert remote_store(of, live(of, health=health), hashes(of, OLD_KEYS)).as_status() is None

    def test_is_absent_without_credentials(self) -> None:
        of = read(server()).server

        assert remote_store(of, live(of), hashes(of, OLD_KEYS)).as_status() is None

    def test_of_a_recreated_server_counts_for_nothing(self) -> None:
        of = with_bucket()
        state = told(of, live(of, remote_store=RemoteStore()), OLD_KEYS, verified=digest(of, OLD_KEYS))

        assert remote_store(of, replace(state, uid="recreated"), None) == RemoteStore()


class TestTheCredentials:
    @pytest.mark.parametrize("reason", [CREDENTIALS_REJECTED, SERVER_UNREACHABLE, ADMIN_LOGIN_FAILED])
    def test_are_not_ready_for_what_the_server_said(self, reason: str) -> None:
        of = with_bucket()
        state = told(of, live(of), OLD_KEYS, problem=Problem(reason, "no"))

        assert credentials_problem(of, state) == Problem(reason, "no")
        assert credentials_problem(of, replace(state, uid="recreated")) is None

    def test_are_as_they_are_while_the_server_is_stopped(self) -> None:
        of, stopped = with_bucket(), with_bucket(replicas=0)
        state = told(of, live(of), OLD_KEYS, problem=REJECTED)

        assert credentials_problem(stopped, state) is None

    def test_are_kept_by_a_server_without_a_bucket(self) -> None:
        of = with_bucket(None)
        kept = kept_by_server(of, live(of))

        assert kept
        assert kept.reason == KEPT_BY_SERVER
        assert "dfsctl store block remote edit" in kept.message
        assert kept_by_server(of, live(of, health=IN_BETWEEN)) is None
        assert kept_by_server(of, live(of, health=LEGACY)) is None
        assert kept_by_server(of, live(of, health=None)) is None

    def test_are_kept_in_the_store_of_a_person(self) -> None:
        of = with_bucket()
        state = live(of)
        kept = told(of, state, OLD_KEYS, kept="a person")

        assert kept_by_server(of, kept) == Problem(KEPT_BY_SERVER, "a person", kept_by_server(of, kept).stage)  # type: ignore[union-attr]
        assert remote_store(of, kept, None).name == ""

    def test_wait_for_the_first_answer(self) -> None:
        of = with_bucket()
        state = live(of)

        assert contents(of, state, None).awaits_server
        assert not contents(of, told(of, state, OLD_KEYS), None).awaits_server
        assert not contents(of, replace(state, health=LEGACY), None).awaits_server

    @pytest.mark.parametrize("health", [CURRENT, LEGACY])
    def test_hold_for_shares_until_the_server_was_asked_again(self, health: ServerHealth) -> None:
        of = read(server(shares=[{"name": "a"}])).server
        state = live(of, health=health)

        assert contents(of, state, None).awaits_server
        assert not contents(of, told(of, state, OLD_KEYS), None).awaits_server


class TestTheShares:
    def test_wait_for_the_server(self) -> None:
        of = read(server(**shares({"name": "a"}))).server

        [state] = share_states(of, LiveState())

        assert (state.name, state.phase) == ("a", "Pending")

    def test_are_what_the_server_was_asked_for(self) -> None:
        of = read(server(**shares({"name": "a"}))).server
        state = live(of)
        wanted = provisioning(of, state, hashes(of, OLD_KEYS))
        assert wanted
        ready = (ShareState("a", "Ready"), ShareState("b", "Retained", "x"))

        assert share_states(of, replace(state, provisioned=Provisioned(wanted, shares=ready))) == ready

    def test_keep_their_state_while_nothing_is_known(self) -> None:
        of = read(server(**shares({"name": "a"}, {"name": "b"}))).server
        reported = (ShareState("a", "Ready"), ShareState("old", "Retained", "x"))

        assert [(state.name, state.phase) for state in share_states(of, LiveState(shares=reported))] == [
            ("a", "Ready"),
            ("b", "Pending"),
            ("old", "Retained"),
        ]

    def test_keep_their_message_until_a_running_server_was_asked_again(self) -> None:
        of = read(server(**shares({"name": "a"}))).server
        reported = (ShareState("a", "Pending", "it waits for the server to accept the S3 credentials"),)

        assert share_states(of, live(of, shares=reported)) == reported
        assert share_states(of, live(of, shares=reported, pod=None)) != reported

    def test_wait_with_the_reason_why_nobody_logs_in(self) -> None:
        of = read(server(**shares({"name": "a"}))).server
        state = live(of)
        wanted = provisioning(of, state, hashes(of, OLD_KEYS))
        assert wanted
        failed = Provisioned(wanted, problem=Problem(ADMIN_LOGIN_FAILED, "wrong password"))

        assert share_states(of, replace(state, provisioned=failed)) == (ShareState("a", "Pending", "wrong password"),)
