"""An index behind HTTP: a JSON API and a page."""

from tuplet.app.web.server import serve
from tuplet.app.web.settings import Settings

__all__ = ["Settings", "serve"]
