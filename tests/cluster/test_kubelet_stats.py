import asyncio
from typing import Any

import pytest

from app.cluster.errors import ClusterError, Unavailable
from app.cluster.kubelet_stats import INTERVAL_SECONDS, remember, within_patience

pytestmark = pytest.mark.anyio


async def test_a_silent_node_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cluster.kubelet_stats.TIMEOUT_SECONDS", 0.01)

    async def never(_: str) -> Any:
        await asyncio.Event().wait()

    with pytest.raises(Unavailable, match="no answer from node n within"):
        await within_patience(never)("n")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_node_is_asked_now_and_then(fails: bool) -> None:
    now, asked = 0.0, []

    async def stats(node: str) -> Any:
        asked.append(node)
        if fails:
            raise Unavailable(f"no answer {len(asked)}")
        return {"answer": len(asked)}

    async def ask(node: str) -> object:
        try:
            return await remembered(node)
        except ClusterError as error:
            return str(error)

    remembered = remember(stats, lambda: now)
    first, again, other = await ask("a"), await ask("a"), await ask("b")
    now = INTERVAL_SECONDS
    later = await ask("a")

    assert first == again
    assert len({str(answer) for answer in (first, other, later)}) == 3
    assert asked == ["a", "b", "a"]
