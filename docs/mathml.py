"""A hook of mkdocs: formulas become MathML when the site is built, so a page needs neither script nor network.

The page of the mathematics is written as plain text; there `w_i` and `e^{-z}` become indices and exponents. So are the
docstrings behind the reference, of which one letter is an index and anything longer part of a name.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

REFERENCE = "reference/"
PLAIN = "reference/math.md"
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_NORM = re.compile(r"<mo[^>]*>(&#x02016;|&#x0007C;|&#x02225;|‖|\|)</mo>")
_LEFT_AS_IT_IS = re.compile(r"(<code.*?</code>|<pre.*?</pre>|<math.*?</math>|<[^>]+>)", re.DOTALL)
# after a word of several letters it is no index but part of a name, such as log_ratio
_INDEX = re.compile(r"(?<![A-Za-z_][a-z0-9])(?<=[\w)\]}′⁺⁻̂̄])([_^])(?:\{([^{}]*)\}|([A-Za-z0-9α-ωθ∞]+|[−+-]?\d+))")
_LETTER = re.compile(r"(?<![\w.])([A-Za-zα-ωΔ])_([A-Za-z0-9])\b")


def on_page_content(content: str, *, page: Any, **_: Any) -> str:
    """The page with every formula drawn."""
    content = _FORMULA.sub(_draw, content)  # first: the index of a formula is not one of the prose
    if page.file.src_uri.startswith(REFERENCE):
        parts = _LEFT_AS_IT_IS.split(content)
        for place in range(0, len(parts), 2):
            if page.file.src_uri == PLAIN:
                parts[place] = _INDEX.sub(_raise_or_lower, parts[place])
            else:
                parts[place] = _LETTER.sub(r"\1<sub>\2</sub>", parts[place])
        content = "".join(parts)
    return content


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
