"""The secret that requests carry."""

import secrets
from pathlib import Path

from tuplet.errors import DataError

_SHORTEST = 16


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
