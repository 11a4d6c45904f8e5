"""Bounds the time for which a person waits for one answer of the API server. It retries nothing."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from app.cluster.errors import Unavailable

Value = TypeVar("Value")


async def answer_within(seconds: float, request: Awaitable[Value]) -> Value:
    """Returns what the request does. Raises Unavailable when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await request
    except TimeoutError:
        raise Unavailable(f"no answer within {seconds:g} s") from None
