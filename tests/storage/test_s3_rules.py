from typing import Any

import pytest

from app.storage.change import Change
from app.storage.facts import Facts
from app.storage.s3_rules import ca_bundles_leave_s3_reachable
from tests.harness.judgements import secret, warned
from tests.harness.server_table import (
    s3,
    server,
)


@pytest.mark.parametrize(
    ("endpoint", "warns"),
    [("https://s3.example.com", True), ("https://s3.eu-west-1.amazonaws.com", False), ("https://192.0.2.1", False)],
)
def test_an_endpoint_by_name_needs_a_bucket(endpoint: str, *, warns: bool) -> None:
    facts = secret(accessKeyId="AKIA", secretAccessKey="value", endpoint=endpoint)
    named = server(**s3())
    named["spec"]["s3"]["bucket"] = "media"
    complaint = "has a host name; without s3.bucket the server sends its requests to BUCKET.HOST"

    assert warned(named, facts=facts) == []
    assert warned(server(**s3()), facts=facts) == (
        [f'S3 credentials Secret "s3" key "endpoint" {complaint}'] if warns else []
    )
    # Without the bucket, the endpoint of before is another matter.
    assert bool(warned(server(**s3()), named, facts)) is warns


@pytest.mark.parametrize(
    "containers",
    [None, 5, [5], [{}], [{"name": "sidecar", "env": [{"name": "AWS_CA_BUNDLE"}]}]]
    + [[{"name": "dittofs", "env": env}] for env in (None, 5, "AWS_CA_BUNDLE", [None], [{"name": ["AWS_CA_BUNDLE"]}])],
)
def test_only_the_servers_own_variable_breaks_s3(containers: Any) -> None:
    change = Change.read(server(image="dittofs:v0.29.0", podTemplate={"spec": {"containers": containers}}))

    assert list(ca_bundles_leave_s3_reachable(change, Facts())) == []
