from typing import Any

import pytest

from app.storage.pause import PAUSED_ANNOTATION, is_paused, is_paused_after, paused_problem
from app.storage.unstructured import Manifest


def annotated(value: Any = None) -> Manifest:
    return {"metadata": {"annotations": {PAUSED_ANNOTATION: value} if value is not None else {}}}


@pytest.mark.parametrize("value", [None, "", "yes", "True", "TRUE", "1", "false", " true", True])
def test_only_true_pauses_a_server(value: Any) -> None:
    assert is_paused(annotated("true"))
    assert not is_paused(annotated(value))
    assert not is_paused({"metadata": {"annotations": None}})


@pytest.mark.parametrize(
    ("old", "new", "paused"),
    [
        (None, "true", True),
        ("true", "true", True),
        ("true", None, True),
        ("true", "false", False),
        (None, None, False),
        (None, "false", False),
    ],
)
def test_a_manifest_without_the_annotation_keeps_it(old: str | None, new: str | None, *, paused: bool) -> None:
    assert is_paused_after(annotated(old), annotated(new)) is paused


def test_the_message_says_how_to_resume() -> None:
    assert paused_problem("files", "here").message == (
        'annotation dittofs.io/paused is "true", so the operator changes nothing; to resume, run: '
        "kubectl annotate dittoserver files --namespace here dittofs.io/paused-"
    )
