#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""From the commit to the merchant's endpoint: how long an event takes, at a steady rate.

    B=build tests/bench/events.py [RATE [SECONDS [WORKERS]]]

A private PostgreSQL, foloosi-worker, an endpoint in a process of its own. The latency is the endpoint's clock
less the payload's timestamp, which is the beginning of the transaction: the commit is in it.
"""
import asyncio
import base64
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import stack  # noqa: E402

BATCH_S = 0.02


def endpoint(port, queue):
    """Answers 200 at once, keeps connections, notes (order, arrival)."""
    arrived = []

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                now = time.time()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                arrived.append((body, now))
                if len(arrived) % 500 == 0:
                    queue.put(len(arrived))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=512)
        await asyncio.get_running_loop().run_in_executor(None, stop.wait)
        server.close()

    stop = endpoint.stop
    asyncio.run(main())
    late = []
    for body, now in arrived:
        event = json.loads(body)
        then = time.mktime(time.strptime(event["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float("0" + event["timestamp"][19:26])
        late.append((event["data"]["order"]["ref"], now - then))
    queue.put(late)


def main(rate=1000, seconds=20, workers=1):
    home = pathlib.Path(tempfile.mkdtemp(prefix="fw-ev.", dir="/tmp"))
    home.chmod(0o711)
    os.environ["TZ"] = "UTC"
    time.tzset()
    port, queue = stack.free_port(), multiprocessing.Queue()
    endpoint.stop = multiprocessing.Event()
    server = multiprocessing.Process(target=endpoint, args=[port, queue])
    try:
        with stack.Postgres(home / "pg", home / "logs") as pg:
            pg.create_database()
            pg.migrate()
            pg.query("select foloosi.set_merchant('shop')")
            server.start()
            stack.wait_for("the endpoint", lambda: stack.connects(("127.0.0.1", port)))
            secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
            running = [stack.Worker(home / f"w{n}", home / "logs", pg.conninfo("foloosi_worker"),
                                    {"shop": {"event_url": f"http://127.0.0.1:{port}/", "event_secret": secret}}, f"w{n}")
                       for n in range(workers)]
            for w in running:
                w.start()
            stack.wait_for("the consumer", lambda: pg.query("select 1 from foloosi.consumers"))
            sent = write(pg, rate, seconds)
            stack.wait_for("the last event", lambda: pg.query(
                "select 1 where not exists (select from foloosi.dispatches) and (select max(id) from foloosi.events) = (select position from foloosi.consumers)"), 120)
            spent = sum(cpu_ms(w.pid) for w in running)
            backends = sum(cpu_ms(p) for p, in pg.query("select pid from pg_stat_activity where usename = 'foloosi_worker'"))
            endpoint.stop.set()
            late = queue.get()
            while isinstance(late, int):
                late = queue.get()
            server.join()
            for w in running:
                w.stop()
            refs = {r for r, _ in late}
            ms = sorted(1000 * s for _, s in late)
            print(f"{sent} events at {rate}/s, {workers} worker(s): arrived {len(late)} ({len(refs)} orders); latency ms "
                  f"p50 {ms[len(ms) // 2]:.0f}  p99 {ms[len(ms) * 99 // 100]:.0f}  max {ms[-1]:.0f}; "
                  f"CPU a thousand events: worker {1000 * spent / sent:.0f} ms, its PostgreSQL {1000 * backends / sent:.0f} ms")
            if len(refs) < sent:
                sys.exit(f"{sent - len(refs)} events did not arrive")
    finally:
        if server.is_alive():
            server.terminate()
        shutil.rmtree(home, ignore_errors=True)


def cpu_ms(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def write(pg, rate, seconds):
    """Batches of record_deliveries(), as the handler makes them."""
    size = max(1, int(rate * BATCH_S))
    nulls = ", ".join(["array_fill(null::text, array[n])"] * 7)
    sql = f"""select count(*) from (select array_agg('B-' || x) refs, array_agg('N-' || x) nos, array_agg(sha256(x::text::bytea)) digests,
        array_agg(x::text::bytea) bodies, count(*)::int n from generate_series(%s::int, %s::int) x) a, lateral foloosi.record_deliveries(
        array(select generate_series(1, n)), array_fill('shop'::text, array[n]), refs, digests, bodies, array_fill(null::text, array[n]),
        array_fill(null::text, array[n]), array_fill('success'::text, array[n]), nos, array_fill(null::text, array[n]),
        array_fill(100::numeric, array[n]), array_fill('AED'::text, array[n]), {nulls})"""
    sent, began = 0, time.monotonic()
    with pg.connect("foloosi_handler") as c:
        while (now := time.monotonic()) - began < seconds:
            due = int((now - began) * rate)
            while due - sent >= size:
                c.execute(sql, [sent + 1, sent + size])
                sent += size
            time.sleep(0.002)
    return sent


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
