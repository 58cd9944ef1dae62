#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What README.md and docs/ point at is there, and the code that docs quote stands so in the sources.

A relative link must name a file or folder of the tree; every ```cpp block of docs/*.md must stand, line for line, in a
source file that its page links."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
QUOTE = re.compile(r"^```cpp\n(.*?)^```", re.S | re.M)


def complaints(page):
    text = page.read_text()
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.S | re.M)
    links = [link for link in LINK.findall(prose) if "://" not in link]
    targets = {link: (page.parent / link).resolve() for link in links}
    for link, target in targets.items():
        if not target.exists():
            yield f"links {link}, which is not there"
    if page.parent.name != "docs":
        return  # README's example is built by a test of its own
    sources = [t.read_text() for t in targets.values() if t.is_file() and t.suffix in (".cpp", ".h", ".cu", ".cuh")]
    for quote in QUOTE.findall(text):
        if not any(quote in source for source in sources):
            yield "quotes what no linked source holds: " + quote.splitlines()[0].strip()


def main():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    wrong = [f"{page.relative_to(ROOT)}: {what}" for page in pages for what in complaints(page)]
    print("\n".join(wrong) or f"{len(pages)} pages: every link and quote holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
