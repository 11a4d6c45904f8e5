"""Edits of objects that somebody else writes at the same time."""

import pytest

from app.cluster.reader import CONFIG_MAPS
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.editing import edit
from tests.harness.reconciler_namespace import connect


@pytest.mark.anyio
async def test_an_edit_is_repeated_after_a_conflict(control_plane: ControlPlane, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    control_plane.create(path, {"metadata": {"name": "settings"}, "data": {"ours": "1", "theirs": "1"}})
    seen = list[str]()

    def change(live: Manifest) -> Manifest:
        seen.append(live["data"]["theirs"])
        if len(seen) == 1:
            control_plane.patch(f"{path}/settings", {"data": {"theirs": "2"}})
        return {**live, "data": {**live["data"], "ours": "2"}}

    async with connect(control_plane) as cluster:
        written = await edit(cluster, CONFIG_MAPS, (namespace, "settings"), change)

    assert written["data"] == {"ours": "2", "theirs": "2"}
    assert seen == ["1", "2"]
