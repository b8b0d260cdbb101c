"""An index behind HTTP: a JSON API and a page."""

from tuplet.app.web.server import Served, serve
from tuplet.app.web.settings import Settings

__all__ = ["Served", "Settings", "serve"]
