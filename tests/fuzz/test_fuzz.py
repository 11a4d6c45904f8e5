import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI, Request, Response

from app.admission.api import webhook
from app.storage.facts import Facts, Needs
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH
from tests.fuzz.__main__ import run
from tests.fuzz.reviews import PATHS, SEEDS, Failure, Fuzzer, seeds

pytestmark = pytest.mark.anyio

REVIEWS = 4000
FILES = sorted(SEEDS.iterdir())
BODIES = {file.stem: file.read_bytes() for file in FILES}


async def broken(_needs: Needs) -> Facts:
    raise RuntimeError("out of order")


async def test_mutated_reviews_cause_no_internal_error() -> None:
    fuzzer = Fuzzer(seed=14)

    failures = [failure for _ in range(REVIEWS) if (failure := await fuzzer.next())]

    assert failures == []
    # Most of them must be read as reviews, or the rules would never see the mutations.
    assert fuzzer.statuses[200] > REVIEWS * 0.7


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BODIES)
async def test_every_seed_is_answered(name: str, path: str) -> None:
    fuzzer = Fuzzer(seed=0)

    assert await fuzzer.ask(path, BODIES[name]) is None
    assert fuzzer.statuses == {200: 1}


def test_the_corpus_has_one_review_per_file() -> None:
    assert len(seeds()) == len(FILES)
    assert all(seed["kind"] == "AdmissionReview" for seed in seeds())


async def test_equal_seeds_give_equal_reviews() -> None:
    def bodies(seed: int) -> list[bytes]:
        mutator = Fuzzer(seed)._mutator
        return [mutator.body() for _ in range(200)]

    assert bodies(1) == bodies(1)
    assert bodies(1) != bodies(2)


async def test_an_internal_error_is_reported_with_its_cause() -> None:
    body = BODIES["create-minimal"]

    failure = await Fuzzer(0, webhook(broken)).ask(VALIDATE_PATH, body)

    assert failure is not None
    assert (failure.path, failure.body) == (VALIDATE_PATH, body)
    assert "RuntimeError: out of order" in failure.why


def answers(content: Any, status: int = 200) -> FastAPI:
    """Builds an application that gives every request the same answer."""
    api = FastAPI()

    async def answer(_request: Request) -> Response:
        if isinstance(content, Exception):
            raise content
        return Response(orjson.dumps(content), status)

    api.add_route(MUTATE_PATH, answer, methods=["POST"])
    return api


def response(**fields: Any) -> Any:
    return {"response": {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": True, **fields}}


@pytest.mark.parametrize(
    ("application", "why"),
    [
        (answers(RuntimeError("x")), "RuntimeError('x')"),
        (answers({}, 500), "HTTP status 500"),
        (answers({}, 400), "400 without an error"),
        (answers(response(uid="other")), "another uid"),
        (answers(response(allowed=False, status={"code": 500})), "code 500"),
        (answers(response(warnings=["a\x1b[31m"])), "a message with a control character"),
        (answers(response(warnings=["x" * 5000])), "too many warnings"),
        (answers(response(patch="W10=")), "a patch that does more than fill in defaults"),
    ],
)
async def test_a_wrong_answer_is_a_failure(application: FastAPI, why: str) -> None:
    body = BODIES["create-minimal"]

    assert await Fuzzer(0, application).ask(MUTATE_PATH, body) == Failure(MUTATE_PATH, body, why)


def test_a_failing_review_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run(Fuzzer(3, answers({}, 500)), seconds=60, reviews=10) == 1

    assert "it is in fuzz-failure-3.json: HTTP status 500" in capsys.readouterr().out
    assert (tmp_path / "fuzz-failure-3.json").read_bytes()


def test_the_program_runs_and_replays() -> None:
    def program(*arguments: str) -> str:
        command = [sys.executable, "-m", "tests.fuzz", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    assert "200 reviews without an internal error" in program("--reviews", "200", "--seed", "5")
    assert "0 of 2 endpoints failed" in program(str(SEEDS / "create-minimal.json"))
