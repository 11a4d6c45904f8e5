import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.pod_paths import path_in_patch
from tests.harness.json_strategies import ANY_JSON

POD = {
    "containers": [{"name": "dittofs", "args": ["a"], "env": [{"name": "A"}, {"name": "B"}]}, {"name": "sidecar"}],
    "tolerations": [{"key": "a"}, {"key": "b"}],
    "dnsConfig": {"searches": ["a", "b"]},
}
PATCH = {
    "containers": [{"name": "sidecar"}, {"name": "dittofs", "env": [{"name": "B"}]}],
    "tolerations": [{"key": "b"}],
    "dnsConfig": {"searches": ["a", "b"]},
    "nodeSelector": {"a b": "c"},
}


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("containers[1].name", ("containers[0].name", True)),
        ("containers[1].image", ("containers[0].image", False)),
        ("containers[0].env[1].name", ("containers[1].env[0].name", True)),
        ("containers[0].env[0].name", None),
        ("containers[0].args", None),
        ("containers[5]", None),
        ("containers[x]", None),
        ("tolerations[1].key", ("tolerations[0].key", True)),
        ("tolerations[0].key", None),
        ("dnsConfig.searches[1]", ("dnsConfig.searches[1]", True)),
        ("dnsConfig.nameservers", ("dnsConfig.nameservers", False)),
        ("nodeSelector[a b]", ("nodeSelector[a b]", True)),
        ("hostNetwork", None),
        ("", None),
    ],
)
def test_a_path_leads_to_what_the_user_wrote(path: str, own: tuple[str, bool] | None) -> None:
    assert path_in_patch(path, POD, PATCH) == own


@given(st.text() | st.sampled_from(["containers[0].env[1].a", "tolerations[0]", "a.b[0]"]), ANY_JSON, ANY_JSON)
def test_no_path_and_no_value_breaks_it(path: str, pod: object, patch: object) -> None:
    path_in_patch(path, pod, patch)
