"""Decides by what a server has reported whether its shares and stores are in order (the condition StoresReady)."""

from app.storage.live import LiveState
from app.storage.objects import service_name
from app.storage.problem import Problem, Verdict
from app.storage.rollout import is_ready
from app.storage.server_health import ServerHealth, command_line_tool
from app.storage.spec import DittoServer
from app.storage.status_schema import ServerStatus

NO_SHARE = "NoShare"
STORE_FAILS = "StoreFailing"
NOT_RUNNING: Verdict = (
    "Unknown",
    Problem("NotRunning", "the server is asked about its shares and stores once its pod is ready"),
)


def stores_ready(server: DittoServer, live: LiveState) -> Verdict | None:
    """Returns None while the server runs and has not been asked yet: then what was known before still holds."""
    if server.spec.replicas == 0:
        return "Unknown", Problem("Stopped", "stopped as asked; its shares and stores are kept")

    if live.pod is None or not is_ready(live.pod):
        return NOT_RUNNING

    if live.unanswered:
        port = server.spec.control_plane.port
        advice = f"its shares and stores are unknown; the operator must be able to reach port {port} of its pod"
        return "Unknown", Problem(
            "ServerUnreachable", f"the server's API does not answer the operator: {live.unanswered}; {advice}"
        )
    if live.health is None:
        return None

    if live.health.store_errors:
        return "False", Problem(STORE_FAILS, "; ".join(live.health.store_errors))
    if live.health.shares == 0:
        return "False", Problem(NO_SHARE, _no_share(server, live.health))
    if live.health.shares is None:
        return "Unknown", Problem("NotReported", "the server does not say how many shares it has loaded")

    count = "1 share is" if live.health.shares == 1 else f"{live.health.shares} shares are"
    if not live.health.reports_stores:
        advice = "the server does not report whether S3 answers; DittoFS 0.18 or newer does with metrics.enabled"
        return "True", Problem("Loaded", f"{count} loaded; {advice}")
    return "True", Problem("Loaded", f"{count} loaded, and no store fails")


def observe_server(live: LiveState) -> ServerStatus:
    """Returns the status of the server with what it has reported; what it reported before stays until then."""
    health = live.health
    if health is None:
        return live.server

    reported = {
        "family": str(health.family),
        "version": health.version,
        "started_at": health.started_at,
        "shares": health.shares,
    }
    return live.server.model_copy(update=reported)


def _no_share(server: DittoServer, health: ServerHealth) -> str:
    if server.spec.shares:
        return "the server has loaded none of spec.shares yet; status.shares says why"

    name, namespace = server.metadata.name, server.metadata.namespace
    tool = command_line_tool(health.family, health.version)
    service, port = service_name(name, "api"), server.spec.control_plane.port
    return (
        "the server has no share yet, so there is nothing to mount: list one in spec.shares, or create one by hand: "
        f"kubectl port-forward -n {namespace} service/{service} 8080:{port}, then "
        f"{tool} login --server http://localhost:8080 --username admin, and {tool} share create --help"
    )
