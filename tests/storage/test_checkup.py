from app.storage.checkup import Check, CheckResult, has_problem, server_check
from app.storage.next_step import Concern, NextStep, State


def concern(state: State) -> Concern:
    return Concern(state, "Reason", "why", None, NextStep("Do it.", "kubectl do it"))


def test_every_state_of_a_server_has_a_result() -> None:
    results = {state: server_check("media/files", concern(state)).result for state in State}

    assert {state for state, result in results.items() if result == CheckResult.PROBLEM} == {
        State.DOWN,
        State.UNOBSERVED,
        State.BLOCKED,
        State.DEGRADED,
    }
    assert {state for state, result in results.items() if result == CheckResult.OK} == {State.READY, State.STOPPED}


def test_a_problem_has_cause_and_remedy() -> None:
    check = server_check("media/files", concern(State.DOWN))
    assert check == Check("server media/files", CheckResult.PROBLEM, "Reason: why", NextStep("Do it.", "kubectl do it"))


def test_only_a_problem_is_one() -> None:
    others = [Check("a", result, "") for result in CheckResult if result != CheckResult.PROBLEM]

    assert not has_problem(others)
    assert has_problem([*others, Check("b", CheckResult.PROBLEM, "")])
