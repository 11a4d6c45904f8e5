from app.storage.status_change import StatusChange, status_change
from app.storage.unstructured import Manifest


def status(ready: str, reason: str, message: str = "", **fields: object) -> Manifest:
    stalled = {"type": "Stalled", "status": "False", "reason": "Reconciled", "message": ""}
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": message}
    return {"conditions": [stalled, condition], **fields}


def test_all_conditions_are_new_in_the_first_status() -> None:
    change = status_change({}, status("False", "PodStarting", "the pod starts", phase="Pending"))

    assert change == StatusChange(
        {"Stalled": "False Reconciled", "Ready": "False PodStarting"}, "the pod starts", ("phase",)
    )


def test_only_what_changed_is_in_it() -> None:
    before = status("False", "PodStarting", phase="Pending", volumes=[{"name": "cache", "capacity": "1Gi"}])
    after = status("True", "Available", "serves", phase="Running", volumes=[{"name": "cache", "capacity": "2Gi"}])

    assert status_change(before, after) == StatusChange(
        {"Ready": "True Available"}, "serves", ("phase", "volumes[cache].capacity")
    )


def test_a_time_is_no_change() -> None:
    before = status("True", "Available")
    after = {**before, "conditions": [{**entry, "lastTransitionTime": "now"} for entry in before["conditions"]]}

    assert status_change(before, after) == StatusChange({}, "", ())


def test_another_message_is_a_change() -> None:
    change = status_change(status("False", "PodStarting", "a"), status("False", "PodStarting", "b"))

    assert change == StatusChange({"Ready": "False PodStarting"}, "b", ())
