from app.storage.events import Event
from app.storage.problem import Problem, Stage
from tests.harness.observations import INVALID_SPEC, events_of, running, starting, status_of


def test_one_reason_of_several_conditions_is_one_event() -> None:
    invalid = running(problems=[INVALID_SPEC])

    assert events_of(status_of(running()), invalid) == [Event("Warning", "InvalidSpec", INVALID_SPEC.message)]


def test_a_namespace_that_is_deleted_gets_no_events() -> None:
    problem = Problem("NamespaceTerminating", "x", Stage.NAME, stalls=True)

    assert events_of(status_of(running()), starting(problems=[problem])) == []


def test_an_unchanged_status_has_no_events() -> None:
    for observation in (starting(), running(), running(problems=[INVALID_SPEC]), running(is_paused=True)):
        assert events_of(status_of(observation), observation) == []
