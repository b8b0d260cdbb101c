"""What a server allows, and the secret that requests carry."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from tuplet.errors import DataError

_SHORTEST = 16  # characters of a token


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


def read_token(path: Path) -> str:
    """The token in a file, which only its owner can read; a file that is not there is made.

    Raises:
        DataError: If the file cannot be read or written, or holds no token.
    """
    try:
        if not path.exists():
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(secrets.token_urlsafe(32) + "\n", encoding="ascii")
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as problem:
        raise DataError(
            f"The token in {path} cannot be read: {problem}.",
            hint="Name a file that you may read, or one that is not there.",
            reference="token-required",
        ) from problem
    if len(token) < _SHORTEST or not token.isprintable() or " " in token:
        raise DataError(
            f"{path} holds no token: {_SHORTEST} characters at least, in one line, without spaces.",
            hint="Name a file that is not there, and one is made.",
            reference="token-required",
        )
    return token
