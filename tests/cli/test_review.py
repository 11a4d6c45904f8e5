import json

from tests.harness.command_line import run


def test_review_wraps_a_manifest_for_curl() -> None:
    wrapped = json.loads(run("review", "tests/demo/defaulted.yaml").stdout)
    assert wrapped["kind"] == "AdmissionReview"
    assert wrapped["request"]["object"]["metadata"]["name"] == "defaulted"
    assert wrapped["request"]["dryRun"] is True
