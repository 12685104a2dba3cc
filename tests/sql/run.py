#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""pgTAP: runs tests/sql/*.sql with pg_prove on a private PostgreSQL with the migrated schema.

    B=build tests/sql/run.py [FILE.sql ...] [-- PG_PROVE'S OPTIONS]

Each file begins a transaction and rolls it back. What it needs to know of the rest, the LIMIT_
constants of transfer.h and where the corpus is, it gets as psql variables (limit_email, ..., corpus). pgTAP lives in a
schema of its own, so that nothing of it is found in schema foloosi.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from support import stack  # noqa: E402

LIMIT_S = 900
HEADER = stack.ROOT / "cgi-src" / "lib" / "transfer.h"


def limits():
    """{"limit_email": "320", ...} of transfer.h."""
    found = re.findall(r"^#define (LIMIT_\w+) (\d+)\b", HEADER.read_text(), re.M)
    if not found:
        raise SystemExit(f"{HEADER} has no #define LIMIT_")
    return {name.lower(): value for name, value in found}


def main(arguments):
    mine, theirs = split(arguments)
    files = [pathlib.Path(f).resolve() for f in mine] or sorted(HERE.glob("*.sql"))

    home = pathlib.Path(tempfile.mkdtemp(prefix="fs"))
    try:
        stack.give(home, None, mode=0o711)
        # no autovacuum: what it does between two files, plans and free pages, is no part of what they prove
        with stack.Postgres(home / "pg", home / "logs", {"fsync": "off", "autovacuum": "off"}) as postgres:
            postgres.create_database()
            postgres.migrate()
            with postgres.connect() as c:
                c.execute("create schema tap")
                c.execute("create extension pgtap schema tap")
                c.execute("create extension dblink schema tap")
                c.execute("grant usage on schema tap to public")
            variables = [f"--set={name}={value}" for name, value in {**limits(), "corpus": HERE.parent / "corpus"}.items()]
            return subprocess.run(
                [stack.program("pg_prove"), "--norc", *variables, *theirs, *files],
                env={**os.environ, "PGHOST": str(postgres.socket_dir), "PGPORT": str(postgres.port),
                     "PGUSER": "postgres", "PGDATABASE": stack.DATABASE, "PGOPTIONS": "-c search_path=tap,public -c statement_timeout=120s"},
                timeout=LIMIT_S,
            ).returncode
    except stack.StackError as e:
        sys.exit(str(e))
    except subprocess.TimeoutExpired:
        sys.exit(f"pg_prove has not ended after {LIMIT_S} s")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def split(arguments):
    """What stands before -- and what stands after it."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
