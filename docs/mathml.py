"""A hook of mkdocs: formulas become MathML when the site is built, so a page needs neither script nor network."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """The page with every formula drawn."""
    return _FORMULA.sub(_draw, content)


def _draw(found: re.Match[str]) -> str:
    tag, fence, formula = found.groups()
    rendered = convert(html.unescape(formula), display="block" if fence == "[" else "inline")
    # a block that cannot be scrolled by keyboard would hide its end from those who use no mouse
    return f'<{tag} class="formula" tabindex="0">{rendered}</{tag}>' if fence == "[" else f"<{tag}>{rendered}</{tag}>"
