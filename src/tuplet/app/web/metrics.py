"""What a server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one server; its own registry, so that several servers in one process count apart."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        kept = self._registry
        self.requests = Counter("tuplet_requests", "Requests by path and status.", ["path", "status"], registry=kept)
        self.seconds = Histogram("tuplet_request_seconds", "Time to answer.", ["path"], buckets=_SECONDS, registry=kept)
        self.active = Gauge("tuplet_requests_active", "Requests being answered.", registry=kept)
        self.passes = Counter("tuplet_encoder_passes", "Passes of the encoder.", registry=kept)
        self.embedded = Counter("tuplet_embedded_queries", "Queries that the encoder embedded.", registry=kept)
        self.items = Gauge("tuplet_items", "Items of the index.", ["index"], registry=kept)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
