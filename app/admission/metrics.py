"""The metrics of admission. All their series are there from the start, so that the first failure is an increase."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, product

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.admission.review import Verdict
from app.storage.finding import Finding
from app.storage.rules import RULES
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH

# The HTTP statuses of answers to a POST.
_CODES = (200, 400, 413, 415, 499)
OPERATIONS = ("CREATE", "UPDATE")
# Whoever calls the webhook for something else is configured wrongly, and must not make up label values.
OTHER_OPERATION = "other"

# The upper bounds of the latencies that are counted together, in seconds.
_BOUNDS = Histogram.DEFAULT_BUCKETS

FINDINGS = Counter(
    "dittofs_operator_admission_findings",
    "Findings of admission reviews, by the rule that was not met and by outcome: rejected or warned.",
    ["rule", "outcome"],
)
# The children are looked up once: `labels` takes longer than the whole rest of counting.
_FINDINGS = {
    (rule.__name__, rejects): FINDINGS.labels(rule.__name__, outcome)
    for rule in RULES
    for rejects, outcome in ((True, "rejected"), (False, "warned"))
}


@dataclass
class WebhookCounts:
    """Counts what one webhook does in plain numbers: those of the library have locks, which only threads need."""

    in_flight: int = 0
    seconds: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    codes: dict[int, int] = field(default_factory=lambda: dict.fromkeys(_CODES, 0))
    reviews: dict[tuple[str, Verdict], int] = field(
        default_factory=lambda: dict.fromkeys(product((*OPERATIONS, OTHER_OPERATION), Verdict), 0)
    )

    def count_answer(self, code: int, seconds: float) -> None:
        self.codes[code] += 1
        self.latencies[bisect_left(_BOUNDS, seconds)] += 1
        self.seconds += seconds

    def count_review(self, operation: str, verdict: Verdict) -> None:
        self.reviews[operation if operation in OPERATIONS else OTHER_OPERATION, verdict] += 1


COUNTS = {webhook: WebhookCounts() for webhook in (MUTATE_PATH, VALIDATE_PATH)}


def count_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        _FINDINGS[finding.rule, finding.rejects].inc()


class WebhookCollector(Collector):
    """Renders COUNTS with controller-runtime's names and labels, so that dashboards and alerts for it work here too."""

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "controller_runtime_webhook_requests", "Admission requests by HTTP status.", labels=["webhook", "code"]
        )
        latency = HistogramMetricFamily(
            "controller_runtime_webhook_latency_seconds", "How long an admission request took.", labels=["webhook"]
        )
        in_flight = GaugeMetricFamily(
            "controller_runtime_webhook_requests_in_flight", "Admission requests being answered.", labels=["webhook"]
        )
        reviews = CounterMetricFamily(
            "dittofs_operator_admission_reviews",
            "Admission reviews by verdict: allowed, warned, patched, denied, or error when the operator failed to "
            "judge the object, which is answered with HTTP 200 as well.",
            labels=["webhook", "operation", "verdict"],
        )

        for webhook, counts in COUNTS.items():
            in_flight.add_metric([webhook], counts.in_flight)
            for code, count in counts.codes.items():
                requests.add_metric([webhook, str(code)], count)
            for labels, count in counts.reviews.items():
                reviews.add_metric([webhook, *labels], count)

            bounds = map(floatToGoString, _BOUNDS)
            latency.add_metric([webhook], [*zip(bounds, accumulate(counts.latencies), strict=True)], counts.seconds)

        yield from (requests, latency, in_flight, reviews)


REGISTRY.register(WebhookCollector())
