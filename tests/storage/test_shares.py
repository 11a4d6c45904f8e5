from typing import Any

import pytest

from app.storage.reading import read
from app.storage.shares import store_of
from tests.harness.server_table import server, shares


@pytest.mark.parametrize(
    ("share", "s3", "store"),
    [
        ({}, {"bucket": "b"}, "s3"),
        ({}, {}, "local"),
        ({}, {"bucket": ""}, "local"),
        ({"store": "local"}, None, "local"),
    ],
)
def test_content_goes_to_the_bucket_if_there_is_one(share: Any, s3: Any, store: str) -> None:
    spec = read(server(**shares({"name": "media", **share}, **({} if s3 is None else {"s3": s3})))).server.spec

    assert [store_of(each, spec) for each in spec.shares or ()] == [store]
