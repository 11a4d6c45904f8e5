import asyncio

import pytest

from app.cluster.deadline import answer_within
from app.cluster.errors import NotFound, Unavailable

pytestmark = pytest.mark.anyio


async def answer(seconds: float = 0) -> str:
    await asyncio.sleep(seconds)
    return "an answer"


async def fail() -> str:
    raise NotFound("no such object")


async def test_an_answer_in_time_is_returned() -> None:
    assert await answer_within(5, answer()) == "an answer"


async def test_a_late_answer_is_an_error_that_says_so() -> None:
    with pytest.raises(Unavailable, match=r"^no answer within 0\.01 s$"):
        await answer_within(0.01, answer(60))


async def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(NotFound, match="no such object"):
        await answer_within(5, fail())
