from typing import Any

import pytest

from app.storage.usage import Usage, usages

CLAIM = {"name": "cache-files-0", "namespace": "media"}


def summary(**volume: Any) -> dict[str, Any]:
    """Returns a kubelet's stats of one pod with one volume."""
    pod = {"name": "files-0", "namespace": "media", "uid": "u-1"}
    return {"node": {"nodeName": "node1"}, "pods": [{"podRef": pod, "volume": [{"name": "cache", **volume}]}]}


def test_usage_is_by_namespace_and_name_of_the_claim() -> None:
    stats = summary(pvcRef=CLAIM, usedBytes=3 * 2**30, capacityBytes=5 * 2**30)

    assert dict(usages(stats)) == {("media", "cache-files-0"): Usage(3 * 2**30, 5 * 2**30)}


@pytest.mark.parametrize(
    "stats",
    [
        summary(usedBytes=1, capacityBytes=2),
        summary(pvcRef=CLAIM),
        summary(pvcRef=CLAIM, usedBytes=0, capacityBytes=0),
        {"pods": [{"podRef": {"name": "files-0"}}]},
        {"node": {}},
    ],
    ids=["no claim", "not measured", "no size", "no volumes", "no pods"],
)
def test_volumes_unmeasured_or_unclaimed_are_left_out(stats: dict[str, Any]) -> None:
    assert dict(usages(stats)) == {}


@pytest.mark.parametrize(("used", "percent"), [(0, 0), (1, 1), (50, 50), (991, 100), (1000, 100)])
def test_a_full_volume_is_not_shown_as_less(used: int, percent: int) -> None:
    assert Usage(used, 1000 if used > 50 else 100).percent == percent
