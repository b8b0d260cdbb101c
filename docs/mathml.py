"""A hook of mkdocs: formulas become MathML when the site is built, so a page needs neither script nor network.

The page of the mathematics is written as plain text; there `w_i` and `e^{-z}` become indices and exponents.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

PLAIN = "reference/math.md"
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_NORM = re.compile(r"<mo[^>]*>(&#x02016;|&#x0007C;|&#x02225;|‖|\|)</mo>")
_LEFT_AS_IT_IS = re.compile(r"(<code.*?</code>|<pre.*?</pre>|<math.*?</math>|<[^>]+>)", re.DOTALL)
# after a word of several letters it is no index but part of a name, such as log_ratio
_INDEX = re.compile(r"(?<![A-Za-z_][a-z0-9])(?<=[\w)\]}′⁺⁻̂̄])([_^])(?:\{([^{}]*)\}|([A-Za-z0-9α-ωθ∞]+|[−+-]?\d+))")


def on_page_content(content: str, *, page: Any, **_: Any) -> str:
    """The page with every formula drawn."""
    if page.file.src_uri == PLAIN:
        parts = _LEFT_AS_IT_IS.split(content)
        content = "".join(
            _INDEX.sub(_raise_or_lower, part) if place % 2 == 0 else part for place, part in enumerate(parts)
        )
    return _FORMULA.sub(_draw, content)


def _raise_or_lower(found: re.Match[str]) -> str:
    sign, *words = found.groups()
    tag = "sub" if sign == "_" else "sup"
    return f"<{tag}>{words[0] or words[1]}</{tag}>"


def _draw(found: re.Match[str]) -> str:
    tag, fence, formula = found.groups()
    rendered = convert(html.unescape(formula), display="block" if fence == "[" else "inline")
    # both sides of a norm are one sign, so a browser takes each for an opening one that grows with all that follows
    rendered = _NORM.sub(r'<mo stretchy="false">\1</mo>', rendered)
    # a block that cannot be scrolled by keyboard would hide its end from those who use no mouse
    return f'<{tag} class="formula" tabindex="0">{rendered}</{tag}>' if fence == "[" else f"<{tag}>{rendered}</{tag}>"
