#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make lint: which file of cgi-src/ may include what.

lib/ includes nothing of the programs' folders, and those include nothing of each other. Each foreign library has
one file that includes its header, libpq the pg*.c of lib/. No header includes itself by way of others.

First the check is tried on copies with a mistake in each: if it does not see them, it is worth nothing.
"""
import pathlib
import re
import shutil
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "cgi-src"
FOLDERS = ("lib", "handler", "worker", "ctl")
FOREIGN = {  # header: the files that may include it
    r"json(-c)?/.*|json\.h": r"lib/json\.c",
    r"curl/.*": r"lib/http_client\.c",
    r"fcgi.*\.h": r"lib/http\.c",
    r"libpq-fe\.h|libpq/.*|postgres.*": r"lib/pg\w*\.c",
}
# (file, what it includes): to be mended, and then to be taken out here
EXCEPTIONS: set[tuple[str, str]] = set()


def includes(path):
    """[(line, "<" or '"', name)]"""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if m := re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line):
            found.append((number, m[1], m[2]))
    return found


def resolve(root, folder, name):
    """The file of ours that a quoted name means, as folder/file; None: it is none of ours."""
    for where in (folder, *FOLDERS):
        path = (root / where / name).resolve()
        if path.is_file() and path.is_relative_to(root.resolve()):
            return str(path.relative_to(root.resolve()))
    return None


def check(root):
    """The mistakes, one sentence each."""
    mistakes, graph = [], {}
    for path in sorted(root.glob("*/*.[ch]")):
        folder, file = path.parent.name, f"{path.parent.name}/{path.name}"
        for number, kind, name in includes(path):
            target = resolve(root, folder, name) if kind == '"' else None
            if target:
                graph.setdefault(file, []).append(target)
                if target.split("/")[0] not in (folder, "lib") and (file, target) not in EXCEPTIONS:
                    mistakes.append(f"cgi-src/{file}:{number}: {folder}/ may include lib/ and itself, not {target}")
                continue
            for header, allowed in FOREIGN.items():
                if re.fullmatch(header, name) and not re.fullmatch(allowed, file):
                    mistakes.append(f"cgi-src/{file}:{number}: <{name}> is included by {allowed.replace(chr(92), '')} only")
    return mistakes + circles(graph)


def circles(graph):
    found, done = [], set()

    def visit(file, way):
        if file in way:
            found.append("a circle: " + " includes ".join([*way[way.index(file):], file]))
        elif file not in done:
            for target in graph.get(file, []):
                visit(target, [*way, file])
            done.add(file)

    for file in sorted(graph):
        visit(file, [])
    return found


PLANTED = [  # file, a line at its end; a folder's name in braces is one of its headers
    ("lib/log.c", '#include "../handler/{handler}"'),
    ("lib/log.h", '#include "{worker}"'),
    ("worker/main.c", '#include "{handler}"'),
    ("ctl/main.c", '#\tinclude "../worker/{worker}"'),
    ("handler/main.c", '#include "{ctl}"'),
    ("handler/main.c", "#include <json-c/json.h>"),
    ("lib/log.c", "#include <json.h>"),
    ("worker/main.c", "#include <curl/curl.h>"),
    ("handler/main.c", "#include <fcgiapp.h>"),
    ("lib/log.c", "#include <libpq-fe.h>"),
    ("lib/log.h", '#include "log.h"'),
]


def self_test():
    headers = {folder: min((SOURCE / folder).glob("*.h")).name for folder in FOLDERS}
    with tempfile.TemporaryDirectory() as scratch:
        for n, (file, line) in enumerate(PLANTED):
            line = line.format(**headers)
            copy = pathlib.Path(scratch) / str(n)
            shutil.copytree(SOURCE, copy, ignore=lambda _, names: [x for x in names if "." in x and x[-2:] not in (".c", ".h")])
            with open(copy / file, "a", encoding="utf-8") as f:
                f.write(line + "\n")
            if len(check(copy)) != len(check(SOURCE)) + 1:
                yield f"tests/lint/includes.py does not see {line!r} in {file}"


def main():
    mistakes = check(SOURCE) + list(self_test())
    used = {(f"{p.parent.name}/{p.name}", resolve(SOURCE, p.parent.name, name)) for p in SOURCE.glob("*/*.[ch]") for _, _, name in includes(p)}
    mistakes += [f"tests/lint/includes.py: {file} does not include {target} any more: take the exception out" for file, target in EXCEPTIONS - used]
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
