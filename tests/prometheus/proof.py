"""Has promtool evaluate the chart's alerts in a situation, and tells when one of them fires, and with which texts."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from app.storage.unstructured import Manifest
from tests.prometheus.rules import NAMESPACE, RELEASE, rendered_rules, run_promtool, write_rules
from tests.prometheus.timeline import STEPS_PER_MINUTE, Moment, input_series

# What an annotation asks Prometheus for: a reason or names that it looks up, and the value of the expression.
_LOOKED_UP = re.compile(r"\{\{ with .*\{\{ end \}\}")
_VALUE = re.compile(r"\{\{ [^}]*\$value \}\}")
# A window of the rule has to fill with what happens each minute.
SLACK_MINUTES = 7
_UNITS = {"s": 1, "m": 60, "h": 3600}

Test = TypeVar("Test", bound=Callable[..., Any])


def proves(alert: str, *values: str) -> Callable[[Test], Test]:
    """Marks a test as the proof of an alert; `values` are those of the chart, as arguments of --set."""

    def mark(test: Test) -> Test:
        test.__dict__["proof"] = (alert, values)
        return test

    return mark


@dataclass(frozen=True)
class Firing:
    """An alert that is expected: its labels, and what Prometheus puts into its texts."""

    labels: Mapping[str, str]
    value: str = ""
    looked_up: str = ""


@dataclass
class Proof:
    """Proves one alert; a test that ends without that fails."""

    alert: str
    values: Sequence[str]
    folder: Path
    done: bool = False
    rules: Manifest = field(init=False)

    def __post_init__(self) -> None:
        self.rules = rendered_rules(*self.values)

    @property
    def wait_minutes(self) -> float:
        """How long the expression has to hold before all rules of this name fire."""
        return max(_minutes(rule["for"]) for rule in self._rules)

    def fires_and_resolves(
        self, before: Moment, during: Moment, after: Moment, *firing: Firing, start: datetime | None = None
    ) -> None:
        """Fails unless the alert fires in time, only then, keeps firing, and resolves."""
        begun, ended = before.minutes, before.minutes + during.minutes
        first = min(_minutes(rule["for"]) for rule in self._rules)
        silent = [*range(1, begun), begun + first / 2]
        loud = range(int(begun + self.wait_minutes) + SLACK_MINUTES, ended)
        assert loud, f"{self.alert} fires after {self.wait_minutes} minutes, and the situation lasts no longer"

        cases = [self._case(minute) for minute in silent]
        cases += [self._case(minute, *firing) for minute in loud]
        cases += [self._case(ended + after.minutes - 1)]
        self.evaluate([before, during, after], cases, start)
        self.done = True

    def keeps_firing(self, moments: Sequence[Moment], *phases: tuple[range, Firing]) -> None:
        """Fails unless the alert fires at each of these minutes, with the texts that it then has."""
        self.evaluate(moments, [self._case(minute, firing) for minutes, firing in phases for minute in minutes])

    def raises_nothing(self, *moments: Moment) -> None:
        """Fails if any alert fires at the end of the moments."""
        end = sum(moment.minutes for moment in moments) - 1
        alerts = {rule["alert"] for group in self.rules["groups"] for rule in group["rules"]}
        cases = [{"alertname": alert, "eval_time": f"{end}m", "exp_alerts": []} for alert in sorted(alerts)]
        self.evaluate(moments, cases)

    def silent(self, minute: float) -> Manifest:
        """Returns what `evaluate` compares with where the alert must not fire."""
        return self._case(minute)

    def evaluate(self, moments: Sequence[Moment], cases: Iterable[Manifest], start: datetime | None = None) -> None:
        """Has promtool evaluate the rules twice a minute and compare."""
        interval = f"{60 // STEPS_PER_MINUTE}s"
        test = {
            "interval": interval,
            "start_timestamp": (start or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "input_series": list(input_series(moments, RELEASE, NAMESPACE)),
            "alert_rule_test": list(cases),
        }
        file = self.folder / "test.yaml"
        rules = write_rules(self.folder, self.rules)
        file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": interval, "tests": [test]}))

        process = run_promtool("test", "rules", file)

        assert process.returncode == 0, process.stdout + process.stderr

    @property
    def _rules(self) -> list[Manifest]:
        rules = [rule for group in self.rules["groups"] for rule in group["rules"]]
        return [rule for rule in rules if rule["alert"] == self.alert]

    @property
    def _is_about_operator(self) -> bool:
        return all("namespace" in rule["labels"] for rule in self._rules)

    def _case(self, minute: float, *firing: Firing) -> Manifest:
        alerts = [self._expected(one) for one in firing]
        return {"alertname": self.alert, "eval_time": f"{int(minute * 60)}s", "exp_alerts": alerts}

    def _expected(self, firing: Firing) -> Manifest:
        # An alert about the operator has its namespace, and one about a server that of the server.
        labels = {"namespace": NAMESPACE, **firing.labels} if self._is_about_operator else dict(firing.labels)
        [rule] = [rule for rule in self._rules if rule["labels"].items() <= labels.items()]
        texts = {name: self._fill_in(text, firing) for name, text in rule["annotations"].items()}
        return {"exp_labels": labels, "exp_annotations": texts}

    def _fill_in(self, text: str, firing: Firing) -> str:
        text = _VALUE.sub(firing.value, _LOOKED_UP.sub(firing.looked_up, text))
        for label, value in firing.labels.items():
            text = text.replace(f"{{{{ $labels.{label} }}}}", value)
        assert "{{" not in text, text
        return text


def _minutes(duration: str) -> float:
    return int(duration[:-1]) * _UNITS[duration[-1]] / 60
