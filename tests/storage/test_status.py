from app.storage.schema import structural
from app.storage.status import Status


def test_conditions_and_volumes_are_maps_for_server_side_apply() -> None:
    fields = structural(Status)["properties"]
    assert fields["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert fields["volumes"]["x-kubernetes-list-map-keys"] == ["name"]


def test_a_condition_is_one_of_meta_v1() -> None:
    condition = structural(Status)["properties"]["conditions"]["items"]
    assert condition["required"] == ["type", "status", "lastTransitionTime", "reason"]
    assert condition["properties"]["lastTransitionTime"]["format"] == "date-time"
