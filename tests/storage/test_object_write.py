import pytest

from app.storage.difference import APPLIED
from app.storage.object_write import ObjectWrite, WriteCause, write_cause
from app.storage.unstructured import Manifest


def test_writes_are_equal_however_long_they_took() -> None:
    one, other = (ObjectWrite("create", "Service", "default", "files", seconds=seconds) for seconds in (1.0, 2.0))
    assert one == other


def with_digest(digest: str | None) -> Manifest:
    return {"metadata": {"annotations": {APPLIED: digest} if digest else None}}


@pytest.mark.parametrize(
    ("live", "cause"),
    [("new", WriteCause.DRIFT), ("old", WriteCause.DESIRED), (None, WriteCause.ADOPTION)],
)
def test_the_digest_tells_why_an_object_differs(live: str | None, cause: WriteCause) -> None:
    assert write_cause(with_digest("new"), with_digest(live)) is cause
