"""Events as OpenTelemetry metrics and spans. Needs the extra ``opentelemetry`` (its API only; your program sets up the SDK).

=================================  =========  ============  ======================================================================================
metric                             kind       unit          attributes
=================================  =========  ============  ======================================================================================
``pauth.client.events``            counter    ``{event}``   ``pauth.namespace``, ``pauth.event.kind``, ``pauth.event.outcome``, ``server.address``
``pauth.refresh.duration``         histogram  ``s``         ``pauth.namespace``, ``pauth.refresh.outcome``, ``error.type``
``pauth.refresher.records``        counter    ``{record}``  ``pauth.namespace``, ``pauth.refresher.outcome``
``pauth.refresher.expired``        counter    ``{record}``  ``pauth.namespace``
``pauth.refresher.scan.duration``  histogram  ``s``         ``pauth.namespace``
=================================  =========  ============  ======================================================================================

The last three come from a ``TokenRefresher``, after each scan. Its outcomes are those of its progress; ``expired`` counts whom it came too late for.

Each attempt to refresh a token is also a span, ``pauth.refresh``. Nothing of users is in either: neither ids nor fingerprints.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import urlsplit

from pauth.events import (
    BreakerClosed,
    BreakerOpened,
    Event,
    EventStream,
    ReauthorizationNeeded,
    RefreshFailed,
    ServedStale,
    StorageConflict,
    StoreScanned,
    TokenRecovered,
    TokenRefreshed,
)
from pauth.locks import ForkSafeLock
from pauth.version import __version__

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue
except ImportError:
    raise ImportError(
        "pauth.integrations.opentelemetry needs opentelemetry-api, which is not installed: pip install 'pauth[opentelemetry]'"
    ) from None

__all__ = ["HasEvents", "instrument"]

_BOUNDARIES: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds: what the semantic conventions advise for HTTP requests, which refreshes are. The SDK's own are made for milliseconds."""

_SCAN_BOUNDARIES: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
"""Seconds."""

_SCAN_OUTCOMES: Final = ("refreshed", "fresh", "resting", "elsewhere", "failed", "dead", "skipped")

_MAX_FAILED: Final = 1024
"""Failed attempts that are remembered, for links from those that try again."""


class HasEvents(Protocol):
    """What has an event stream: a client."""

    @property
    def events(self) -> EventStream:
        """The stream."""
        ...


def instrument(
    source: EventStream | HasEvents,
    *,
    meter_provider: metrics.MeterProvider | None = None,
    tracer_provider: trace.TracerProvider | None = None,
) -> Callable[[], None]:
    """Turn the events of a client, or of a stream that several share, into metrics and spans. Call it once for each stream.

    A span begins and ends when its attempt did, but is made when that has ended. Its parent is the current span of the caller that began the attempt;
    one that happened behind the scenes is the root of a trace, and has a link to that span. An attempt that sends the refresh token of a failed one
    again has a link to it.

    :param meter_provider: by default the global one, also if it is set later.
    :param tracer_provider: (the same)
    :returns: a function that ends it.
    """
    stream = source if isinstance(source, EventStream) else source.events
    meter = metrics.get_meter("pauth", __version__, meter_provider)
    tracer = trace.get_tracer("pauth", __version__, tracer_provider)
    return stream.subscribe(_Recorder(meter, tracer))


class _Recorder:
    """The handler: counters, histograms, and the spans of the failed attempts that may be tried again."""

    __slots__ = ("_count", "_duration", "_failed", "_lock", "_scan_duration", "_scan_expired", "_scan_records", "_tracer")

    def __init__(self, meter: metrics.Meter, tracer: trace.Tracer) -> None:
        self._count = meter.create_counter("pauth.client.events", unit="{event}", description="What happened to tokens, by kind.")
        self._duration = meter.create_histogram(
            "pauth.refresh.duration",
            unit="s",
            description="Duration of attempts to refresh a token, until the new one is stored.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._scan_records = meter.create_counter(
            "pauth.refresher.records", unit="{record}", description="What became of the records that were due, by outcome."
        )
        self._scan_expired = meter.create_counter(
            "pauth.refresher.expired", unit="{record}", description="Records whose access token had expired when a scan came to them."
        )
        self._scan_duration = meter.create_histogram(
            "pauth.refresher.scan.duration",
            unit="s",
            description="Duration of scans for tokens that are due.",
            explicit_bucket_boundaries_advisory=_SCAN_BOUNDARIES,
        )
        self._tracer = tracer
        self._lock = ForkSafeLock()
        self._failed: OrderedDict[str, trace.SpanContext] = OrderedDict()

    def __call__(self, event: Event) -> None:
        self._count.add(1, _counted(event))
        if isinstance(event, TokenRefreshed | RefreshFailed):
            attributes = _outcome(event)
            span = self._span(event, attributes)
            # in the context of its span, so that an exemplar leads there
            self._duration.record(event.seconds, attributes, trace.set_span_in_context(span))
        elif isinstance(event, StoreScanned):
            client: dict[str, AttributeValue] = {"pauth.namespace": event.namespace}
            for outcome in _SCAN_OUTCOMES:
                self._scan_records.add(getattr(event, outcome), {**client, "pauth.refresher.outcome": outcome})
            self._scan_expired.add(event.expired, client)
            self._scan_duration.record(event.seconds, client)

    def _span(self, event: TokenRefreshed | RefreshFailed, attributes: dict[str, AttributeValue]) -> trace.Span:
        end = int(event.at * 1e9)
        links: list[trace.Link] = []
        if event.retry_of is not None:
            with self._lock:
                earlier = self._failed.get(event.retry_of)
            if earlier is not None:
                links.append(trace.Link(earlier))
        parent: Context | None = None  # the current one
        if event.behind_the_scenes:
            parent = Context()
            begun_in = trace.get_current_span().get_span_context()
            if begun_in.is_valid:
                links.append(trace.Link(begun_in))
        span = self._tracer.start_span(
            "pauth.refresh",
            context=parent,
            attributes={**attributes, **_told_in_spans_only(event)},
            links=links,
            start_time=end - int(event.seconds * 1e9),
        )
        if isinstance(event, RefreshFailed):
            span.set_status(trace.StatusCode.ERROR, event.error)
            self._remember(event.attempt_id, span.get_span_context())
        span.end(end)
        return span

    def _remember(self, attempt_id: str, span: trace.SpanContext) -> None:
        if span.is_valid:
            with self._lock:
                self._failed[attempt_id] = span
                if len(self._failed) > _MAX_FAILED:
                    self._failed.popitem(last=False)


def _counted(event: Event) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {"pauth.namespace": event.namespace, "pauth.event.kind": event.kind}
    match event:
        case RefreshFailed():
            attributes["pauth.event.outcome"] = event.failure
        case StorageConflict():
            attributes["pauth.event.outcome"] = event.outcome
        case ReauthorizationNeeded():
            attributes["pauth.event.outcome"] = event.reason
        case ServedStale():
            attributes["pauth.event.outcome"] = event.why
        case TokenRecovered():
            attributes["pauth.event.outcome"] = event.source
        case BreakerOpened() | BreakerClosed():
            attributes["server.address"] = urlsplit(event.endpoint).hostname or ""
        case _:
            pass
    return attributes


def _outcome(event: TokenRefreshed | RefreshFailed) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {"pauth.namespace": event.namespace, "pauth.refresh.outcome": "refreshed"}
    if isinstance(event, RefreshFailed):
        attributes |= {"pauth.refresh.outcome": event.failure, "error.type": event.error}
    return attributes


def _told_in_spans_only(event: TokenRefreshed | RefreshFailed) -> dict[str, AttributeValue]:
    """What has too many values for a metric."""
    attributes: dict[str, AttributeValue] = {
        "pauth.refresh.attempt_id": event.attempt_id,
        "pauth.refresh.behind_the_scenes": event.behind_the_scenes,
    }
    if event.retry_of is not None:
        attributes["pauth.refresh.retry_of"] = event.retry_of
    if isinstance(event, RefreshFailed):
        if event.status is not None:
            attributes["http.response.status_code"] = event.status
        if event.error_code is not None:
            attributes["pauth.oauth.error"] = event.error_code
    return attributes
