from typing import Any

import pytest

from app.storage.difference import APPLIED
from app.storage.events import Event
from app.storage.objects import config_map
from app.storage.rendering import NEWEST, Rendering
from app.storage.restart_cause import Restart, RestartCause
from app.storage.unstructured import Manifest
from app.storage.workload import decide_workload, rendering_of
from tests.harness.server_table import storage
from tests.storage.test_workload import DIGESTS, OLD, OWNER, known, live_in, of_spec

ROTATED = {"digests": {**DIGESTS, "files-jwt-secret": {"jwt-secret": "9"}}}


def restart_of(stateful_set: Manifest, spec: Manifest, **state: Any) -> Restart | None:
    """Returns the restart of a server whose spec was empty before."""
    rendering = rendering_of(stateful_set["spec"]["template"])
    live = known(stateful_set, config_map=config_map(OWNER, of_spec().spec, rendering), **state)
    return decide_workload(of_spec(**spec), OWNER, live, None, None).restart


def edited(rendering: Rendering = NEWEST) -> Manifest:
    stateful_set = live_in(rendering)
    stateful_set["spec"]["template"]["spec"]["containers"][0]["image"] = "edited:1"
    return stateful_set


def of_go_operator() -> Manifest:
    stateful_set = edited()
    del stateful_set["metadata"]["annotations"][APPLIED]
    return stateful_set


def with_strategy(**strategy: Any) -> Manifest:
    stateful_set = live_in(NEWEST)
    return {**stateful_set, "spec": {**stateful_set["spec"], "updateStrategy": strategy}}


@pytest.mark.parametrize(
    ("stateful_set", "spec", "state", "cause"),
    [
        (live_in(NEWEST), {"image": "new:1"}, {}, RestartCause.SPEC),
        (live_in(OLD), {"image": "new:1"}, {}, RestartCause.SPEC),
        # Of this the template has only a hash.
        (live_in(NEWEST), {"cache": {"size": "2GB"}}, {}, RestartCause.SPEC),
        # What the spec no longer has is in the live template all the same.
        (live_in(NEWEST, resources={"limits": {"cpu": 2}}), {}, {}, RestartCause.SPEC),
        (live_in(NEWEST), {"image": "new:1"}, ROTATED, RestartCause.SPEC),
        (live_in(NEWEST), {}, ROTATED, RestartCause.CREDENTIALS),
        (live_in(OLD), {}, ROTATED, RestartCause.CREDENTIALS),
        (live_in(NEWEST), {}, {"restarted_at": "noon"}, RestartCause.REQUESTED),
        (live_in(OLD), {"image": "new:1"}, {"restarted_at": "noon"}, RestartCause.REQUESTED),
        (edited(), {}, {}, RestartCause.DRIFT),
        (of_go_operator(), {}, {}, RestartCause.TAKEOVER),
    ],
)
def test_each_cause_is_told_from_the_others(
    stateful_set: Manifest, spec: Manifest, state: Manifest, cause: RestartCause
) -> None:
    restart = restart_of(stateful_set, spec, **state)

    assert restart
    assert restart.cause is cause


@pytest.mark.parametrize(
    ("stateful_set", "spec", "state"),
    [
        (live_in(NEWEST), {}, {}),
        (live_in(OLD), {}, {}),
        (live_in(NEWEST), {"nfsPort": 3049}, {}),
        (live_in(NEWEST), {"replicas": 0, "image": "new:1"}, {}),
        (live_in(NEWEST, replicas=0), {"image": "new:1"}, {}),
        (with_strategy(type="OnDelete"), {"image": "new:1"}, {}),
        (with_strategy(type="RollingUpdate", rollingUpdate={"partition": 1}), {"image": "new:1"}, {}),
        # The step that adds the volume restarts the pod.
        (live_in(NEWEST, **storage(contentSize="1Gi")), storage(contentSize="1Gi"), {"pod": {"spec": {}}}),
    ],
)
def test_a_write_that_restarts_nothing_has_no_cause(stateful_set: Manifest, spec: Manifest, state: Manifest) -> None:
    assert restart_of(stateful_set, spec, **state) is None


def test_what_is_pending_goes_out_with_any_cause() -> None:
    restart = restart_of(live_in(OLD), {}, **ROTATED)

    assert restart
    assert restart.event == Event(
        "Normal",
        "Restarting",
        "the pod restarts: the credentials that it consumes have changed; "
        f"pending changes go out with it: {Rendering.BOTH_FAMILIES.changes}",
    )
