"""Writes docs/configuration.md and docs/cli.md from the code; ``--check`` says if they are stale.

python tools/generate_docs.py            write them
python tools/generate_docs.py --check    change nothing; 1 if one is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from describe_cli import describe_cli  # noqa: E402 - the folder above is no package
from describe_configuration import describe_configuration  # noqa: E402

PAGES = {
    ROOT / "docs" / "configuration.md": describe_configuration,
    ROOT / "docs" / "cli.md": describe_cli,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them with what would be written."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = []
    for path, describe in PAGES.items():
        text = describe()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    if arguments and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        print(f"out of date: {names}; run python tools/generate_docs.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
