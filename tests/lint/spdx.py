#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every source file names its license in its first lines: make lint asks for it, `tests/lint/spdx.py --add` writes it.

The line goes below a first line that means something: "#!", "<?php", "// objects:" of unit tests. Left out are
migrations that have landed (their digests are stored in databases), what is generated, corpora, and the sample
of the configuration, which belongs to its reader.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINE = "SPDX-License-Identifier: MIT"
LEFT_OUT = re.compile(r"sql/migrations/|sql/schema\.sql$|tests/corpus/|tests/fuzz/corpus/|cgi-src/foloosi-webhook\.conf$")
COMMENTS = {
    "/* %s */": r"\.[ch]$",
    "// %s": r"\.(js|go|php)$",
    "-- %s": r"\.(sql|psql|lua)$",
    '.\\" %s': r"\.[1578]$",
    "; %s": r"/php/fpm\.conf$",
    "# %s": r"\.(py|sh|gp)$|(^|/)Makefile$|^debian/rules$|^debian/.*\.p(ost|re)(inst|rm)$|^debian/tests/[^.]*$|^\.ci/"
            r"|^(nginx|apache|systemd)/.*|^tests/bench/.*\.conf$|^prometheus/.*\.yml$",
}
MEANT = re.compile(r"#!|<\?php|// objects:")


def comment(path):
    """The comment with which a file of this name says it; None: it need not."""
    if LEFT_OUT.search(path) or path == "debian/tests/control":
        return None
    return next((form % LINE for form, names in COMMENTS.items() if re.search(names, path)), None)


def main(add):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    names = listed.split("\0")[:-1]
    missing = []
    for name in names:
        wanted, path = comment(name), ROOT / name
        if wanted is None or not path.is_file() or path.is_symlink():
            continue
        lines = path.read_text().splitlines(keepends=True)
        if any(LINE in line for line in lines[:3]):
            continue
        missing.append(name)
        if add:
            at = 1 if lines and MEANT.match(lines[0]) else 0
            extra = ["\n"] if name.endswith(".go") else []  # else it would be the package's documentation
            path.write_text("".join([*lines[:at], wanted + "\n", *extra, *lines[at:]]))
    if missing and not add:
        print("without a line", LINE + ":", *missing, "run  tests/lint/spdx.py --add", sep="\n", file=sys.stderr)
    return 1 if missing and not add else 0


if __name__ == "__main__":
    sys.exit(main("--add" in sys.argv[1:]))
