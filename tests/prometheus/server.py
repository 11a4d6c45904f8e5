"""Runs Prometheus, and asks it what Grafana would ask."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any, Self

import httpx
import yaml

from tests.controlplane.program import Program
from tests.harness.free_ports import free_port
from tests.harness.wait import until
from tests.prometheus.build import prometheus
from tests.prometheus.rules import rendered_rules, write_rules

SCRAPE_SECONDS = 1


@dataclass(frozen=True)
class Target:
    """Something to scrape at a host with a port. As for the chart's ServiceMonitor, the labels it serves are kept."""

    job: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def configuration(self) -> dict[str, Any]:
        targets = [{"targets": [self.address], "labels": dict(self.labels)}]
        return {"job_name": self.job, "honor_labels": True, "static_configs": targets}


class Prometheus:
    """Scrapes the targets and evaluates the chart's alerts each second inside a `with`."""

    def __init__(self, folder: Path, *targets: Target) -> None:
        folder.mkdir()
        rules = write_rules(folder, rendered_rules())
        self._folder = folder
        self._port = free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}/api/v1", trust_env=False, timeout=30)
        names = ("scrape_interval", "scrape_timeout", "evaluation_interval")
        often = dict.fromkeys(names, f"{SCRAPE_SECONDS}s")
        configuration = {
            "global": often,
            "rule_files": [str(rules)],
            "scrape_configs": [target.configuration for target in targets],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))

    def __enter__(self) -> Self:
        self._program = Program(
            prometheus(os.environ),
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            folder=self._folder,
            log=self._folder / "log",
            environ=os.environ,
        )
        until(lambda: self._program.ended() or self._answers())
        if self._program.ended():
            raise self._program.failure("ended")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._program.stop()

    def at_once(self, query: str) -> list[Any]:
        """Returns the series of the query at this moment, each with its labels in `metric`."""
        result: list[Any] = self._ask("/query", query=query)["result"]
        return result

    def over_time(self, query: str, seconds: float, step: float) -> list[Any]:
        """Returns the series of the query in the last seconds."""
        end = time()
        result: list[Any] = self._ask("/query_range", query=query, start=end - seconds, end=end, step=step)["result"]
        return result

    def label_values(self, series: str, label: str) -> Sequence[str]:
        values: list[str] = self._ask(f"/label/{label}/values", **{"match[]": series})
        return values

    def _ask(self, path: str, **parameters: Any) -> Any:
        answer = (
            self._client.post(path, data=parameters) if "query" in path else self._client.get(path, params=parameters)
        )
        content = answer.json()
        assert content["status"] == "success", f"{parameters}: {content}"
        return content["data"]

    def _answers(self) -> bool:
        try:
            return bool(self.at_once("up"))
        except (httpx.TransportError, ValueError):
            return False
