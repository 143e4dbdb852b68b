"""Metrics and spans out of events, read back from the SDK's exporters in memory."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pauth.events import EventStream, RefreshFailed
from pauth.integrations.opentelemetry import instrument
from pauth.version import __version__
from tests.events.kit import NAMESPACE, NOW, PREVIOUS, SAMPLES, TOKEN, USER, refreshed
from tests.support.canary import excerpt


class Telemetry:
    """An SDK of its own for each test, and what has come of it."""

    def __init__(self) -> None:
        self.reader: Final = InMemoryMetricReader()
        self.exporter: Final = InMemorySpanExporter()
        self.meters: Final = MeterProvider([self.reader])
        self.tracers: Final = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.stream: Final = EventStream()
        self.stop: Final = instrument(self.stream, meter_provider=self.meters, tracer_provider=self.tracers)

    def metrics(self) -> dict[str, Metric]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        ((scope,),) = [each.scope_metrics for each in data.resource_metrics]
        assert (scope.scope.name, scope.scope.version) == ("pauth", __version__)
        return {metric.name: metric for metric in scope.metrics}

    def counts(self) -> dict[str, float]:
        """By kind and outcome."""
        metric = self.metrics()["pauth.client.events"]
        assert metric.unit == "{event}"
        return {_label(point): point.value for point in metric.data.data_points if isinstance(point, NumberDataPoint)}

    def durations(self) -> list[HistogramDataPoint]:
        metric = self.metrics()["pauth.refresh.duration"]
        assert metric.unit == "s"
        return [point for point in metric.data.data_points if isinstance(point, HistogramDataPoint)]

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


def _label(point: NumberDataPoint) -> str:
    attributes = dict(point.attributes or {})
    assert attributes.pop("pauth.namespace") in {NAMESPACE, ""}
    return " ".join(str(value) for value in attributes.values())


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.meters.shutdown()
    telemetry.tracers.shutdown()


def failed(**changes: Any) -> RefreshFailed:
    event = SAMPLES["refresh_failed"]
    assert isinstance(event, RefreshFailed)
    return dataclasses.replace(event, **changes)


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_events_are_counted_by_kind_and_outcome(telemetry: Telemetry) -> None:
    for event in SAMPLES.values():
        telemetry.stream.emit(event)
    telemetry.stream.emit(SAMPLES["token_issued"])
    assert telemetry.counts() == {
        "token_issued": 2,
        "token_refreshed": 1,
        "refresh_failed transient": 1,
        "served_stale refresh_failed": 1,
        "ambiguous_refresh": 1,
        "reauthorization_needed invalid_grant": 1,
        "token_revoked": 1,
        "storage_conflict adopted": 1,
        "lease_lost": 1,
        "token_unsaved": 1,
        "token_recovered journal": 1,
        "breaker_opened login.example": 1,
        "breaker_closed login.example": 1,
        "key_rotated": 1,
        "version_regressed": 1,
        "store_scanned": 1,
    }


def test_the_duration_of_refreshes_is_measured_by_outcome(telemetry: Telemetry) -> None:
    telemetry.stream.emit(refreshed())
    telemetry.stream.emit(refreshed("a-9"))
    telemetry.stream.emit(failed())
    good, bad = sorted(telemetry.durations(), key=lambda point: point.count, reverse=True)
    assert (good.count, good.sum, good.min, good.max) == (2, 0.5, 0.25, 0.25)
    assert dict(good.attributes or {}) == {"pauth.namespace": NAMESPACE, "pauth.refresh.outcome": "refreshed"}
    assert (bad.count, bad.sum) == (1, 0.5)
    assert dict(bad.attributes or {}) == {"pauth.namespace": NAMESPACE, "pauth.refresh.outcome": "transient", "error.type": "ProviderUnavailable"}
    assert good.explicit_bounds[0] == 0.005, "buckets for seconds, not for milliseconds"
    assert good.explicit_bounds[-1] == 10.0


def test_a_scan_of_a_refresher_is_counted_by_what_became_of_the_records(telemetry: Telemetry) -> None:
    telemetry.stream.emit(SAMPLES["store_scanned"])
    telemetry.stream.emit(SAMPLES["store_scanned"])
    metrics = telemetry.metrics()
    records, expired, duration = (metrics[f"pauth.refresher.{name}"] for name in ("records", "expired", "scan.duration"))
    assert {_label(point): point.value for point in records.data.data_points if isinstance(point, NumberDataPoint)} == {
        "refreshed": 180,
        "fresh": 8,
        "resting": 20,
        "elsewhere": 6,
        "failed": 4,
        "dead": 2,
        "skipped": 0,
    }
    assert [(point.value, dict(point.attributes or {})) for point in expired.data.data_points if isinstance(point, NumberDataPoint)] == [
        (10, {"pauth.namespace": NAMESPACE})
    ]
    (point,) = [point for point in duration.data.data_points if isinstance(point, HistogramDataPoint)]
    assert (point.count, point.sum, duration.unit) == (2, 2.5, "s")


def test_an_exemplar_of_a_duration_leads_to_the_span(telemetry: Telemetry) -> None:
    telemetry.stream.emit(refreshed())
    ((exemplar,),) = [point.exemplars for point in telemetry.durations()]
    (span,) = telemetry.spans()
    assert span.context is not None
    assert (exemplar.trace_id, exemplar.span_id) == (span.context.trace_id, span.context.span_id)


def test_a_refresh_is_a_span_as_long_as_its_attempt(telemetry: Telemetry) -> None:
    telemetry.stream.emit(refreshed())
    (span,) = telemetry.spans()
    assert span.name == "pauth.refresh"
    assert span.kind is trace.SpanKind.INTERNAL
    assert (span.start_time, span.end_time) == (int(NOW * 1e9) - 250_000_000, int(NOW * 1e9))
    assert span.status.status_code is trace.StatusCode.UNSET
    assert attributes_of(span) == {
        "pauth.namespace": NAMESPACE,
        "pauth.refresh.outcome": "refreshed",
        "pauth.refresh.attempt_id": "a-1",
        "pauth.refresh.behind_the_scenes": False,
    }
    assert span.links == ()
    assert span.parent is None


def test_a_failed_refresh_is_a_span_that_says_why(telemetry: Telemetry) -> None:
    telemetry.stream.emit(failed())
    (span,) = telemetry.spans()
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "ProviderUnavailable")
    assert attributes_of(span) == {
        "pauth.namespace": NAMESPACE,
        "pauth.refresh.outcome": "transient",
        "error.type": "ProviderUnavailable",
        "pauth.refresh.attempt_id": "a-2",
        "pauth.refresh.behind_the_scenes": False,
        "pauth.refresh.retry_of": "a-1",
        "http.response.status_code": 503,
        "pauth.oauth.error": "temporarily_unavailable",
    }


def test_a_failure_without_an_answer_has_neither_status_nor_code(telemetry: Telemetry) -> None:
    telemetry.stream.emit(failed(status=None, error_code=None, retry_of=None))
    (span,) = telemetry.spans()
    assert set(attributes_of(span)) == {
        "pauth.namespace",
        "pauth.refresh.outcome",
        "error.type",
        "pauth.refresh.attempt_id",
        "pauth.refresh.behind_the_scenes",
    }


def test_the_attempt_that_tries_again_links_to_the_failed_one(telemetry: Telemetry) -> None:
    telemetry.stream.emit(failed(attempt_id="first", retry_of=None))
    telemetry.stream.emit(failed(attempt_id="other", retry_of=None))
    telemetry.stream.emit(refreshed("second", retry_of="first"))
    first, _, second = telemetry.spans()
    assert [link.context for link in second.links] == [first.context]
    assert attributes_of(second)["pauth.refresh.retry_of"] == "first"


def test_an_attempt_of_another_process_is_named_but_not_linked(telemetry: Telemetry) -> None:
    telemetry.stream.emit(refreshed("second", retry_of="of another process"))
    (span,) = telemetry.spans()
    assert span.links == ()
    assert attributes_of(span)["pauth.refresh.retry_of"] == "of another process"


def test_p19_failed_attempts_are_remembered_in_a_bounded_number(telemetry: Telemetry) -> None:
    for number in range(1025):
        telemetry.stream.emit(failed(attempt_id=f"a-{number}", retry_of=None))
    telemetry.exporter.clear()
    telemetry.stream.emit(refreshed("again", retry_of="a-0"))
    telemetry.stream.emit(refreshed("again", retry_of="a-1"))
    forgotten, remembered = telemetry.spans()
    assert (len(forgotten.links), len(remembered.links)) == (0, 1)


def test_the_callers_span_is_the_parent(telemetry: Telemetry) -> None:
    with telemetry.tracers.get_tracer("app").start_as_current_span("request") as request:
        telemetry.stream.emit(refreshed())
    span = telemetry.spans()[0]
    assert span.parent == request.get_span_context()
    assert span.links == ()


def test_what_happens_behind_the_scenes_is_a_trace_of_its_own(telemetry: Telemetry) -> None:
    """Its caller's trace may be over by then; so it has a link to it."""
    behind = dataclasses.replace(refreshed(), behind_the_scenes=True)
    with telemetry.tracers.get_tracer("app").start_as_current_span("request") as request:
        telemetry.stream.emit(behind)
    telemetry.stream.emit(behind)
    began, _, alone = telemetry.spans()
    assert began.parent is None
    assert began.context is not None
    assert began.context.trace_id != request.get_span_context().trace_id
    assert [link.context for link in began.links] == [request.get_span_context()]
    assert (alone.parent, alone.links) == (None, ())
    assert attributes_of(alone)["pauth.refresh.behind_the_scenes"] is True


def test_sh1_p17_nothing_of_users_is_exported(telemetry: Telemetry) -> None:
    """Neither ids nor fingerprints: metrics of low cardinality, and traces that can be shown to others."""
    for event in SAMPLES.values():
        telemetry.stream.emit(event)
    data = telemetry.reader.get_metrics_data()
    assert data is not None
    exported = data.to_json() + "".join(span.to_json() for span in telemetry.spans())
    assert "token_refreshed" in exported
    assert "a-2" in exported
    assert excerpt(exported) is None
    assert [text for text in (USER, TOKEN, PREVIOUS) if text in exported] == []


def test_low_cardinality_a_thousand_users_are_one_series(telemetry: Telemetry) -> None:
    for number in range(1000):
        telemetry.stream.emit(dataclasses.replace(refreshed(f"a-{number}"), user=f"{number:016x}", user_id=f"CANARY-{number}", token=f"{number:x}"))
    assert telemetry.counts() == {"token_refreshed": 1000}
    assert [point.count for point in telemetry.durations()] == [1000]


def test_it_can_be_ended(telemetry: Telemetry) -> None:
    telemetry.stream.emit(refreshed())
    telemetry.stop()
    telemetry.stream.emit(refreshed())
    assert telemetry.counts() == {"token_refreshed": 1}
    assert len(telemetry.spans()) == 1


class Client:
    events = EventStream(log=False)


def test_a_client_is_instrumented_by_its_stream() -> None:
    telemetry, client = Telemetry(), Client()
    instrument(client, meter_provider=telemetry.meters, tracer_provider=telemetry.tracers)
    client.events.emit(refreshed())
    assert telemetry.counts() == {"token_refreshed": 1}


def test_p15_threads_may_emit_at_once(telemetry: Telemetry) -> None:
    threads, rounds = 4, 50

    def work(number: int) -> None:
        token = context.attach(context.Context())
        for turn in range(rounds):
            telemetry.stream.emit(failed(attempt_id=f"{number}-{turn}", retry_of=None))
            telemetry.stream.emit(refreshed("again", retry_of=f"{number}-{turn}"))
        context.detach(token)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert telemetry.counts() == {"token_refreshed": threads * rounds, "refresh_failed transient": threads * rounds}
    assert [len(span.links) for span in telemetry.spans() if span.status.is_unset] == [1] * threads * rounds


GLOBAL = """
from opentelemetry import metrics, trace
from pauth.events import EventStream
from pauth.integrations.opentelemetry import instrument
from tests.events.kit import SAMPLES

stream = EventStream(log=False)
instrument(stream)
for event in SAMPLES.values():
    stream.emit(event)  # there is no SDK yet: nothing happens

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
metrics.set_meter_provider(MeterProvider([reader]))
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(tracers)
stream.emit(SAMPLES["token_refreshed"])
import json
print(json.dumps([reader.get_metrics_data().to_json(), [span.name for span in exporter.get_finished_spans()]]))
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """In an interpreter of its own, beside the tests."""
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])


def test_without_an_sdk_it_does_nothing_and_the_global_one_may_come_later(canary: Any) -> None:
    done = run(GLOBAL)
    canary.check(done.stdout + done.stderr, "what the program wrote")
    assert (done.returncode, done.stderr) == (0, "")
    exported, spans = json.loads(done.stdout)
    assert spans == ["pauth.refresh"]
    ((metrics,),) = [each["scope_metrics"] for each in json.loads(exported)["resource_metrics"]]
    assert [metric["data"]["data_points"][0].get("value", 1) for metric in metrics["metrics"]] == [1, 1]


def test_only_the_api_is_needed() -> None:
    loaded = run("import sys, pauth.integrations.opentelemetry; print([name in sys.modules for name in ('opentelemetry.sdk', 'aiohttp')])")
    assert (loaded.stdout, loaded.stderr) == ("[False, False]\n", "")


def test_who_lacks_the_api_is_told_how_to_get_it() -> None:
    done = run("import sys; sys.modules['opentelemetry'] = None; import pauth.integrations.opentelemetry")
    assert done.stderr.rstrip().endswith("pip install 'pauth[opentelemetry]'")
    assert "During handling" not in done.stderr
