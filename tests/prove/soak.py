#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Nothing grows: load at a steady rate for a long time, and what the handler needs for it, minute by minute.

  TIME=1800         seconds of it
  RATE=7000         requests a second: half of what make bench finds as the peak on this machine

Each minute (a tenth of TIME, if that is shorter) is one run of tests/bench/pace.c, and one line: answers, those that were
no 200, p50 and p99 in ms, the handler's memory (RSS), descriptors and threads, PostgreSQL's and nginx's memory
(PSS). The result compares the last third with the middle one, for at first caches fill: flat is memory
within 5 % and 1 MiB, descriptors and threads within 3, p99 within a factor of 2 and 5 ms.
"""
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
from support import stack  # noqa: E402
from support.processes import memory_mib  # noqa: E402
from support.site import Site, scratch  # noqa: E402

CONNECTIONS = 256
COLUMNS = ["minute", "answers", "failed", "p50_ms", "p99_ms", "rss_mib", "descriptors", "threads", "postgresql_mib", "nginx_mib"]
# of the handler: (column, relative, absolute): how much more the last third may have than the middle one
FLAT = [("rss_mib", 0.05, 1), ("descriptors", 0, 3), ("threads", 0, 3), ("p99_ms", 1, 5)]


def pace(front, site, rate, seconds):
    payload = TESTS / "bench" / "payload.json"
    argv = [stack.built("bench/pace"), front.port, site.path(), payload, rate, seconds, CONNECTIONS]
    out = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, text=True, check=True).stdout
    answers, failed, p50, p99 = (int(re.search(rf"{word} (\d+)", out).group(1)) for word in ("requests", "errors", "p50", "p99"))
    return answers, failed, p50 / 1000, p99 / 1000


def row(minute, site, nginx, measured):
    pid = site.handler.pid
    return dict(zip(COLUMNS, (
        minute, *measured, memory_mib(pid)[0], len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")),
        memory_mib(site.postgres.pid)[1], memory_mib(nginx.pid)[1]), strict=True))


def show(values):
    print("  ".join(f"{v:{len(c)}.1f}" if isinstance(v, float) else f"{v:{len(c)}}" for c, v in values.items()), flush=True)


def growth(rows):
    """What grew, in words."""
    third = len(rows) // 3
    middle, last = rows[third:2 * third], rows[-third:]
    grown = []
    for column, relative, absolute in FLAT:
        before, after = (statistics.median(r[column] for r in part) for part in (middle, last))
        if after > before * (1 + relative) + absolute:
            grown.append(f"{column} from {before:.1f} to {after:.1f}")
    return grown


def main():
    seconds, rate = int(os.environ.get("TIME") or 1800), int(os.environ.get("RATE") or 7000)
    step = min(60, max(1, seconds // 10))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of "finally": its servers end with it
    site = Site(scratch(), log_level="warning")
    site.postgres.settings.update(stack.TUNED)
    try:
        site.start()
        front = site.front("nginx")
        nginx = site.services[-1]
        print("  ".join(COLUMNS))
        rows = []
        for minute in range(seconds // step):
            rows.append(row(minute + 1, site, nginx, pace(front, site, rate, step)))
            show(rows[-1])
        grown = growth(rows)
        answers, failed = (sum(r[c] for r in rows) for c in ("answers", "failed"))
        kept = site.query("select count(*) from foloosi.deliveries")[0][0]
        print(f"{answers} answers in {len(rows) * step} s, {failed} of them no 200, {kept} deliveries recorded")
        print("not flat: " + ", ".join(grown) if grown else "flat")
        return 1 if grown or failed or kept != answers else 0
    finally:
        for service in reversed(site.services):
            service.stop(60)
        site.close()


if __name__ == "__main__":
    sys.exit(main())
