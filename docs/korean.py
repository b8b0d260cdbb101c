"""A hook of mkdocs: pages in Korean lie under `ko/` by the names of the English ones, and both lead to each other.

A chapter of the course that has no Korean page yet gets one that says so and leads to the English text.
"""

import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files

FOLDER = "ko/"
NAME = "한국어"
MISSING = """# {title}

이 장은 아직 한국어로 옮기지 않았다. [영어로 읽기]({address}).
"""


def on_files(files: Files, *, config: Any) -> Files:
    """With a page for every chapter that waits for its translation."""
    for file in list(files.documentation_pages()):
        address = FOLDER + file.src_uri
        if file.src_uri.startswith("course/") and files.get_file_from_path(address) is None:
            title = re.search(r"^# (.+)$", file.content_string, re.MULTILINE)
            text = MISSING.format(title=title[1] if title else file.name, address=_way(address, file.src_uri))
            files.append(File.generated(config, address, content=text))
            section = next(entry[NAME] for entry in config.nav if isinstance(entry, dict) and NAME in entry)
            if address not in section:
                section.append(address)
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """The page with a link to its other language below the heading."""
    here = page.file.src_uri
    is_korean = here.startswith(FOLDER)
    other = here.removeprefix(FOLDER) if is_korean else FOLDER + here
    if files.get_file_from_path(other) is None:
        return markdown
    word, language = ("English", "en") if is_korean else ("한국어", "ko")
    link = f"[{word}]({_way(here, other)}){{ .language lang={language} hreflang={language} }}"
    return re.sub(r"^(# .+\n)", lambda found: f"{found[1]}\n{link}\n", markdown, count=1, flags=re.MULTILINE)


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Korean pages say so, for screen readers, hyphenation and the words of the figures."""
    if not page.file.src_uri.startswith(FOLDER):
        return output
    return re.sub(r'<html lang="\w+"', '<html lang="ko"', output, count=1)


def _way(start: str, end: str) -> str:
    return posixpath.relpath(end, posixpath.dirname(start))
