from app.storage.schema import structural
from app.storage.status_schema import Status
from tests.harness.observations import running, status_of


def test_conditions_and_volumes_are_lists_by_key() -> None:
    fields = structural(Status)["properties"]

    assert fields["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert fields["volumes"]["x-kubernetes-list-map-keys"] == ["name"]


def test_a_condition_is_one_of_meta_v1() -> None:
    condition = structural(Status)["properties"]["conditions"]["items"]

    assert condition["required"] == ["type", "status", "lastTransitionTime", "reason"]
    assert condition["properties"]["lastTransitionTime"]["format"] == "date-time"


def test_the_schema_knows_what_the_operator_writes() -> None:
    Status.model_validate(status_of(running()))
