"""Each alert about the operator fires and resolves: the real operator is brought into the situation and scraped.

Only `up` is not scraped: Prometheus writes it, with 0 while a target does not answer.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event

import httpx
import pytest

from app.admission.api import health
from app.admission.review import wrap_in_review
from app.cluster.reader import DITTO_SERVERS
from app.storage.facts import Facts, Needs
from app.storage.webhook_configurations import VALIDATE_PATH
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Proxy, Request
from tests.harness.fleet import create_all, is_busy, metric, numbered_servers
from tests.harness.operator_namespace import OperatorNamespace, registration
from tests.harness.operator_process import Operator
from tests.harness.server_table import server
from tests.harness.wait import until
from tests.harness.webhook_site import REVIEW, Site, at_once, serving
from tests.prometheus.proof import Firing, Proof, proves
from tests.prometheus.rules import NAMESPACE, RELEASE
from tests.prometheus.timeline import Moment

POD = "dittofs-operator-a"
TARGET = f'job="{RELEASE}",namespace="{NAMESPACE}",pod="{POD}",instance="{POD}:8081"'


# What the chart had before, with the `for` of zero that is the easiest to reach.
BY_HTTP_STATUS = {
    "alert": "ByHTTPStatus",
    "expr": f'sum(rate(controller_runtime_webhook_requests_total{{job="{RELEASE}", code=~"5.."}}[5m])) > 0',
}


def scrape(operator: Operator) -> str:
    return operator.health("/metrics").text


def moment(minutes: int, text: str) -> Moment:
    return Moment(minutes, {POD: text})


@pytest.fixture
def proxy(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(control_plane, tmp_path) as running:
        yield running


@pytest.fixture
def behind_proxy(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, proxy: Proxy
) -> Iterator[OperatorNamespace]:
    """Runs an operator that reaches the API server through the proxy."""
    with OperatorNamespace(control_plane, namespace, tmp_path, proxy=proxy) as running:
        yield running


def is_write_to(plural: str, request: Request) -> bool:
    return request.method in ("POST", "PATCH", "PUT") and f"/{plural}" in request.path


@proves("DittofsOperatorDown")
def test_an_operator_that_is_down(operated: OperatorNamespace, proof: Proof) -> None:
    served = moment(10, scrape(operated.operator))
    silent = Moment(15, others=f"up{{{TARGET}}} 0\n")

    proof.fires_and_resolves(served, silent, served, Firing({"severity": "critical"}))
    # One alert is enough: nobody leads where nobody runs.
    nobody_leads = {"alertname": "DittofsOperatorNoLeader", "eval_time": "20m", "exp_alerts": []}
    proof.evaluate([served, silent], [nobody_leads])


@proves("DittofsOperatorNoLeader")
def test_a_lease_that_somebody_else_holds(operated: OperatorNamespace, proof: Proof) -> None:
    def leads() -> bool:
        return metric(operated.operator, "leader_election_master_status") == 1

    until(leads)
    before = scrape(operated.operator)
    renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    operated.patch("lease", "dittofs-operator", spec={"holderIdentity": "somebody-else", "renewTime": renewed})
    until(lambda: not leads())
    during = scrape(operated.operator)
    # As when it is released; without the Lease, the operator would wait for a quarter of a minute.
    operated.patch("lease", "dittofs-operator", spec={"holderIdentity": ""})
    until(leads)
    after = scrape(operated.operator)

    proof.fires_and_resolves(
        moment(10, before), moment(10, during), moment(10, after), Firing({"severity": "critical"})
    )


@proves("DittofsReconcileErrors")
def test_writes_that_fail(behind_proxy: OperatorNamespace, proxy: Proxy, proof: Proof) -> None:
    operator = behind_proxy.operator
    before = scrape(operator)

    # Two writes fail, and the third one waits until the scrape.
    scraped = Event()
    is_config = partial(is_write_to, "configmaps")
    with proxy.fault(is_config, times=2, answer=500), proxy.fault(is_config, times=1, before=scraped.wait):
        behind_proxy.apply(server("films"))
        waits = re.compile(r"^dittofs_operator_server_waiting_seconds{.*} (?!0\.0$)", re.MULTILINE)
        until(lambda: waits.search(scrape(operator)) is not None)
        until(lambda: metric(operator, "controller_runtime_reconcile_errors_total") == 2)
        during = scrape(operator)
        scraped.set()
        until(lambda: bool(behind_proxy.get("configmap", "films-config")))

    after = scrape(operator)

    servers = f" These servers have waited for longest: {behind_proxy.namespace}/films."
    firing = Firing({"severity": "warning"}, looked_up=servers)
    proof.fires_and_resolves(moment(30, before), moment(60, during), moment(30, after), firing)


@proves("DittofsQueueBacklog")
def test_an_api_server_that_does_not_answer_writes(behind_proxy: OperatorNamespace, proxy: Proxy, proof: Proof) -> None:
    operator = behind_proxy.operator
    before = scrape(operator)

    with proxy.fault(lambda request: is_write_to("configmaps", request), hang=True):
        # Far more than the 16 workers that there may be.
        servers = numbered_servers(80, behind_proxy.namespace)
        create_all(behind_proxy.control_plane, DITTO_SERVERS, servers)
        until(lambda: metric(operator, "workqueue_depth") > 50)
        during = scrape(operator)
        # Otherwise everybody would be busy with the objects of these for half a minute.
        behind_proxy.kubectl("delete", "dittoservers", "--all", "--wait=false")

    until(lambda: not is_busy(operator))
    after = scrape(operator)

    proof.fires_and_resolves(moment(10, before), moment(30, during), moment(10, after), Firing({"severity": "warning"}))


@proves("DittofsCertificateRenewalOverdue")
def test_certificates_that_were_not_renewed(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, proof: Proof
) -> None:
    def served(*flags: str) -> str:
        operated = OperatorNamespace(control_plane, namespace, tmp_path, *flags, self_managed=True)
        operated.register()
        with operated:
            text = scrape(operated.operator)
        # While the operator runs, it creates the Secret again at once.
        operated.kubectl("delete", "secret", f"{namespace}-tls")
        return text

    # These last for as long as others have left after they were not renewed.
    begun = datetime.now(UTC)
    before, during, after = served(), served("--certificate-days=3", "--ca-days=30"), served()

    firing = [
        Firing({"severity": "warning", "certificate": "serving"}),
        Firing({"severity": "critical", "certificate": "serving"}),
        Firing({"severity": "warning", "certificate": "ca"}),
    ]
    proof.fires_and_resolves(moment(10, before), moment(30, during), moment(10, after), *firing, start=begun)


@pytest.mark.anyio
@proves("DittofsAdmissionErrors")
async def test_reviews_that_cannot_be_judged(tmp_path: Path, proof: Proof) -> None:
    fails = False

    async def gather(needs: Needs) -> Facts:
        if fails:
            raise RuntimeError("a mistake in a rule")
        return await at_once(needs)

    site = Site(tmp_path)
    metrics = httpx.AsyncClient(transport=httpx.ASGITransport(health(lambda: None)), base_url="http://operator")
    async with serving(site, gather), site.client() as client, metrics:

        async def review() -> str:
            answer = await client.post(site.url, content=REVIEW)
            assert (answer.status_code, answer.json()["response"]["allowed"]) == (200, not fails)
            return (await metrics.get("/metrics")).text

        before = moment(10, await review())
        fails = True
        during = moment(30, await review())
        fails = False
        after = moment(30, await review())

    # The alert that looked at HTTP statuses could not fire.
    proof.rules["groups"].append({"name": "earlier", "rules": [BY_HTTP_STATUS]})
    silent = [{"alertname": "ByHTTPStatus", "eval_time": f"{minute}m", "exp_alerts": []} for minute in range(70)]
    proof.evaluate([before, during, after], silent)

    proof.fires_and_resolves(before, during, after, Firing({"severity": "warning"}))


@proves("DittofsWebhookUnreachable")
def test_a_webhook_that_the_api_server_cannot_call(operated: OperatorNamespace, proof: Proof) -> None:
    """The API server counts that, and is scraped for it."""

    def failures() -> str:
        lines = operated.control_plane.kubectl("get", "--raw", "/metrics").stdout.splitlines(keepends=True)
        return "".join(line for line in lines if line.startswith("apiserver_admission_webhook_rejection_count"))

    def complaint() -> str:
        review = ("create", "--dry-run=server", "-f", "-", "--namespace", operated.namespace)
        return operated.control_plane.kubectl(*review, input=json.dumps(server("films")), check=False).stderr

    operated.apply(*registration("https://localhost:1", operated.namespace))
    # A first failure is where it begins to count.
    until(lambda: "failed calling webhook" in complaint())
    before = failures()
    assert "failed calling webhook" in complaint()
    during = failures()
    operated.kubectl("delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", operated.namespace)
    until(lambda: not complaint())
    after = failures()

    firing = Firing({"severity": "warning"})
    moments = [Moment(30, others=text) for text in (before, during, after)]
    proof.fires_and_resolves(moments[0], moments[1], moments[2], firing)


@proves("DittofsAdmissionHighLatency")
def test_lookups_without_an_answer(control_plane: ControlPlane, tmp_path: Path, proxy: Proxy, proof: Proof) -> None:
    review = wrap_in_review(server(), "u-1")
    with Operator(tmp_path, "--kubeconfig", proxy.kubeconfig, "--no-reconcile") as operator:
        operator.post(VALIDATE_PATH, review)
        before = scrape(operator)

        with proxy.fault(lambda request: "/storageclasses" in request.path, hang=True):
            operator.post(VALIDATE_PATH, review)
            during = scrape(operator)

        operator.post(VALIDATE_PATH, review)
        after = scrape(operator)

    proof.fires_and_resolves(moment(10, before), moment(30, during), moment(15, after), Firing({"severity": "warning"}))
