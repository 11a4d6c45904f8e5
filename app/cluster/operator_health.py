"""Looks up for a person who asks once whether an operator looks after the servers of a namespace. It never writes.

What may not be read, or does not answer in time, stays unknown: most people may not read what belongs to the operator.
"""

import asyncio
from collections.abc import Awaitable

from app.cluster.deadline import Value, answer_within
from app.cluster.errors import ClusterError
from app.cluster.reader import DITTO_SERVERS, ENDPOINT_SLICES, LEASE_NAME, LEASES, VALIDATING_WEBHOOKS, Reader
from app.storage.operator_health import OperatorHealth, Webhook, count_ready, trial_server, webhook_of
from app.storage.unstructured import Manifest, ObjectKey

# A person waits for the slowest of the lookups.
ANSWER_SECONDS = 3.0
# The API server gives both webhooks together 7 seconds before it says that they do not answer.
TRIAL_SECONDS = 9.0


async def look_up_operator_health(
    reader: Reader, servers: list[ObjectKey], *, tries: bool
) -> dict[str, OperatorHealth]:
    """Returns what is known about the operator of each namespace with servers.

    With `tries`, the API server is asked what it would do with another server, which stores nothing.
    """
    listing = await _answer(reader.list(VALIDATING_WEBHOOKS))
    configurations = listing.items if listing else ()
    # In files nothing runs, and what runs outside of a cluster is not known there.
    webhooks = {namespace: webhook_of(configurations, namespace) for namespace, _ in servers}

    async with asyncio.TaskGroup() as group:
        states = {webhook: group.create_task(_state(reader, webhook)) for webhook in {*webhooks.values()} if webhook}
        trials = {namespace: group.create_task(_try(reader, namespace, name)) for namespace, name in servers if tries}

    operators = {}
    for namespace, webhook in webhooks.items():
        ready, lease = states[webhook].result() if webhook else (None, None)
        trial = trials.get(namespace)
        operators[namespace] = OperatorHealth(webhook, ready, lease, trial.result() if trial else None)
    return operators


async def _state(reader: Reader, webhook: Webhook) -> tuple[int | None, Manifest | None]:
    """Returns how many pods are ready behind the webhook, and the Lease of the operator."""
    if not webhook.namespace:
        return None, None

    label = f"kubernetes.io/service-name={webhook.service}"
    async with asyncio.TaskGroup() as group:
        slices = group.create_task(_answer(reader.list(ENDPOINT_SLICES, webhook.namespace, label)))
        lease = group.create_task(_answer(reader.get(LEASES, LEASE_NAME, webhook.namespace)))
    listing = slices.result()
    return count_ready(listing.items) if listing else None, lease.result()


async def _try(reader: Reader, namespace: str, name: str) -> str | None:
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            await reader.dry_run(DITTO_SERVERS, trial_server(namespace, name))
    except TimeoutError:
        return None
    except ClusterError as error:
        return str(error)
    return ""


async def _answer(request: Awaitable[Value]) -> Value | None:
    try:
        return await answer_within(ANSWER_SECONDS, request)
    except ClusterError:
        return None
