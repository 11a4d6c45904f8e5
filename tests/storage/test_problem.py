from app.storage.problem import Problem, Stage, first

SERVICE, APPLY = Problem("A", "a", Stage.SERVICES), Problem("B", "b", Stage.APPLY)


def test_the_first_problem_follows_the_stages() -> None:
    assert first([SERVICE, APPLY], Stage.APPLY, Stage.SERVICES) is APPLY
    assert first([SERVICE, APPLY], Stage.SERVICES, Stage.APPLY) is SERVICE


def test_of_one_stage_the_first_problem_counts() -> None:
    assert first([APPLY, Problem("C", "c", Stage.APPLY)], Stage.APPLY) is APPLY


def test_other_stages_do_not_count() -> None:
    assert first([SERVICE, APPLY], Stage.POD) is None


def test_a_problem_is_one_of_the_pod_that_passes() -> None:
    assert (Problem("A", "a").stage, Problem("A", "a").stalls) == (Stage.POD, False)
