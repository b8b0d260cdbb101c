"""What a server allows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Where a server listens, and its limits.

    Args:
        host: Address to listen on.
        port: Port; 0 for any that is free.
        token: What requests must carry; empty for no token.
        max_body: Largest body of a request in bytes.
        max_pixels: Largest picture, width times height.
        max_requests: Requests that are answered at once; more are refused.
        max_batch: Queries that are embedded in one pass.
        timeout: Seconds until a request is given up, for reading it and again for answering it.
        stop_timeout: Seconds that running requests have when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    max_body: int = 16 << 20
    max_pixels: int = 50_000_000
    max_requests: int = 64
    max_batch: int = 64
    timeout: float = 30.0
    stop_timeout: float = 10.0
