"""Serves the metrics of each DittoServer while this process reconciles. It keeps nothing of them but the restarts."""

import asyncio
from collections import Counter as Counts
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from time import monotonic

from app.cluster.informers import Informers
from app.reconcile.reconciler import UTC_CLOCK
from app.storage.pod import pod_name
from app.storage.restart_cause import RestartCause
from app.storage.server_samples import FAMILIES, SERVER_LABELS, MetricFamily, s3_secret_name, server_samples
from app.storage.unstructured import Manifest, ObjectKey

# Reviews come in between such steps.
STEP_SECONDS = 0.001
# How many servers' samples of one metric are sent at once, at some hundred bytes each.
SERVERS_PER_PART = 50

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class ServerMetrics:
    """Renders when it is asked, while `is_leading`: only one process knows how the servers are."""

    def __init__(
        self, informers: Informers, is_leading: Callable[[], bool], clock: Callable[[], datetime] = UTC_CLOCK
    ) -> None:
        self._informers = informers
        self._is_leading = is_leading
        self._clock = clock
        self._restarts: dict[ObjectKey, Counts[RestartCause]] = {}
        # However many clients ask, one page is rendered at a time.
        self._rendering = asyncio.Lock()

        def forget_if_gone(key: ObjectKey, _: Manifest) -> None:
            if key not in informers.servers:
                self._restarts.pop(key, None)

        informers.servers.event_handlers.append(forget_if_gone)

    def count_restart(self, key: ObjectKey, cause: RestartCause) -> None:
        # The server may have been deleted while its pod was being restarted.
        if key in self._informers.servers:
            self._restarts.setdefault(key, Counts())[cause] += 1

    async def parts(self) -> AsyncIterator[str]:
        """Yields parts of the page in Prometheus's text format; nothing while another process leads."""
        if not self._is_leading():
            return

        step = _Step()
        async with self._rendering:
            lines = await self._render(step)
        if not self._is_leading():
            return

        for family in FAMILIES:
            yield f"# HELP {family.name} {family.meaning}\n# TYPE {family.name} {family.type}\n"
            texts = lines[family]
            for start in range(0, len(texts), SERVERS_PER_PART):
                yield "".join(texts[start : start + SERVERS_PER_PART])
                await step.end_in_time()

    async def _render(self, step: "_Step") -> dict[MetricFamily, list[str]]:
        """Returns the samples by metric, one text for each server: the format wants those of a metric together."""
        lines: dict[MetricFamily, list[str]] = {family: [] for family in FAMILIES}

        for key in self._informers.servers:
            await step.end_in_time()
            manifest = self._informers.servers.get(key)
            if manifest is None:
                continue

            namespace, name = key
            secret = s3_secret_name(manifest)
            samples = server_samples(
                manifest,
                self._informers.pods.get((namespace, pod_name(name))),
                self._informers.secret_changed((namespace, secret)) if secret else None,
                self._restarts.get(key, {}),
                self._clock(),
            )

            for family, values in samples.items():
                lines[family].append("".join(_line(family, key, *sample) for sample in values))
        return lines


class _Step:
    """Measures a step of the event loop, which must not become long."""

    def __init__(self) -> None:
        self._end = monotonic() + STEP_SECONDS

    async def end_in_time(self) -> None:
        if monotonic() > self._end:
            await asyncio.sleep(0)
            self._end = monotonic() + STEP_SECONDS


def _line(family: MetricFamily, key: ObjectKey, values: Sequence[str], value: float) -> str:
    names = (*SERVER_LABELS, *family.labels)
    labels = ",".join(
        f'{label}="{text.translate(_ESCAPES)}"' for label, text in zip(names, (*key, *values), strict=True)
    )
    return f"{family.name}{{{labels}}} {value}\n"
