from dataclasses import replace

from app.storage.held_back import held_back
from app.storage.live import LiveState
from app.storage.pause import paused_problem
from app.storage.problem import Stage
from app.storage.reading import read
from app.storage.status import Observation
from tests.harness.observations import NAME_TAKEN, SECRET_NOT_FOUND, dittoserver

SERVER = read(dittoserver()).server


def reasons(observation: Observation) -> list[str]:
    return [problem.reason for problem in held_back(SERVER, observation)]


def test_nothing_is_held_back_of_a_server_that_runs() -> None:
    assert reasons(Observation()) == []


def test_problems_keep_their_order() -> None:
    assert held_back(SERVER, Observation([NAME_TAKEN, SECRET_NOT_FOUND])) == [NAME_TAKEN, SECRET_NOT_FOUND]


def test_a_pause_holds_back_everything_once() -> None:
    metadata = SERVER.metadata
    awaited = paused_problem(metadata.name, metadata.namespace, Stage.CREDENTIALS)
    assert reasons(Observation([awaited], live=LiveState(is_paused=True))) == ["Paused"]
    assert reasons(Observation([NAME_TAKEN], live=LiveState(is_paused=True))) == [NAME_TAKEN.reason, "Paused"]


def test_a_rollout_that_is_pending_is_held_back() -> None:
    assert reasons(Observation(pending_rollout="labels wait for a restart")) == ["RolloutPending"]


def test_each_claim_that_is_refused_is_named() -> None:
    live = replace(LiveState(), refused={"metadata-files-0": "quota", "cache-files-0": "no"})
    assert [(problem.message, problem.stalls) for problem in held_back(SERVER, Observation(live=live))] == [
        ("volume claim metadata-files-0: quota", True),
        ("volume claim cache-files-0: no", True),
    ]
