"""Builds the input series of a rule test from what the operator served in a situation, as if the situation lasted.

Gauges keep the value that was scraped, except that a time of waiting goes on. A counter that rose between two scrapes
rises by as much each minute, as if what happened once happened again each minute.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

STEPS_PER_MINUTE = 2
_WAITING = "_waiting_seconds"
_COUNTED = ("_total", "_bucket", "_count", "_sum")

Series = Mapping[str, float]


@dataclass(frozen=True)
class Moment:
    """Lasts for so many minutes. `served` is what each replica answers at /metrics, by the name of its pod.

    `others`, in the same format, are series of the kubelet, and of Prometheus about a target that does not answer.
    """

    minutes: int
    served: Mapping[str, str] = field(default_factory=dict)
    others: str = ""

    @property
    def steps(self) -> int:
        return self.minutes * STEPS_PER_MINUTE

    def series(self, job: str, namespace: str) -> Series:
        """Returns the values by series, labelled as Prometheus labels what it scrapes with `honorLabels`."""
        series = dict(_parse(self.others))
        for pod, text in self.served.items():
            target = {"job": job, "namespace": namespace, "pod": pod, "instance": f"{pod}:8081"}
            series |= {_notation("up", target): 1.0, **dict(_parse(text, **target))}

        return series


def input_series(moments: Sequence[Moment], job: str, namespace: str) -> Iterator[Mapping[str, str]]:
    """Yields each series with its values in promtool's notation, one value for each step."""
    scrapes = [moment.series(job, namespace) for moment in moments]

    for name in sorted({name for scrape in scrapes for name in scrape}):
        parts: list[str] = []
        scraped: float | None = None
        value = 0.0
        for moment, scrape in zip(moments, scrapes, strict=True):
            if name not in scrape:
                # Prometheus marks the end of a series that is no longer served.
                parts.append(f"stale _x{moment.steps - 1}" if scraped is not None else f"_x{moment.steps}")
                scraped = None
                continue

            per_step, value = _rise(name, scraped, scrape[name], value)
            parts.append(f"{value!r}{per_step:+}x{moment.steps - 1}")
            value += per_step * (moment.steps - 1)
            scraped = scrape[name]

        yield {"series": name, "values": " ".join(parts)}


def _parse(text: str, **target: str) -> Iterator[tuple[str, float]]:
    """Yields the notation of each series with its value."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield _notation(sample.name, target | sample.labels), sample.value


def _rise(name: str, before: float | None, now: float, value: float) -> tuple[float, float]:
    """Returns by how much a series rises with each step, and the value to begin with."""
    metric = name.partition("{")[0]
    if metric.endswith(_WAITING) and now > 0:
        return 60 / STEPS_PER_MINUTE, now
    if not metric.endswith(_COUNTED) or before is None or now < before:
        return 0.0, now

    per_step = (now - before) / STEPS_PER_MINUTE
    return per_step, value + per_step


def _notation(name: str, labels: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{label}={_quoted(value)}" for label, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
