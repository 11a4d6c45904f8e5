from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prometheus.proof import Proof


@pytest.fixture
def proof(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proof]:
    """Returns what the test has to prove."""
    alert, values = request.function.proof
    proof = Proof(alert, values, tmp_path)

    yield proof

    assert proof.done, f"the test does not prove that {alert} fires and resolves"
