#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make demo, make demo-stop: the whole stack under .demo/, with a few orders in it.

start  ends a running demo, starts PostgreSQL, the handler, nginx (PORT, 8080 by default) and,
       if the next port is free, Apache; sends the provider's sample payloads; prints the
       orders and what to try next; leaves it running. Each start begins with an empty database.
stop   ends what start has started, known by pid and start time, and nothing else.

.demo/ holds env (a file to source, with which foloosictl is found and finds everything) and all logs as
*.log. Data, sockets and state.json are in a directory of their own below /var/tmp (or /tmp): a checkout may
be below /root, where PostgreSQL as an ordinary system user cannot go; socket paths must be short; and a
stop finds what runs also after .demo/ was removed.
"""
import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from support import stack

DEMO = stack.ROOT / ".demo"
PARENTS = ("/var/tmp", "/tmp")
PREFIX = "foloosi-demo."
ENV = DEMO / "env"
ORDERS = "select order_ref, state, amount, currency, created_at::time(0) as at from foloosi.orders order by id"


def states():
    """What the demos of this checkout, and of this user, have noted of themselves."""
    for parent in PARENTS:
        for path in pathlib.Path(parent).glob(f"{PREFIX}*/state.json"):
            try:
                state = json.loads(path.read_text())
                mine = path.stat().st_uid == path.parent.stat().st_uid == os.geteuid()
            except (OSError, ValueError):
                continue
            if mine and state.get("root") == str(stack.ROOT):
                yield {**state, "home": path.parent}


def write_state(state):
    new = pathlib.Path(state["home"], "state.new")
    new.touch(0o600)
    new.write_text(json.dumps(state, indent=1) + "\n")
    new.rename(new.with_suffix(".json"))


def is_ours(entry):
    return stack.birth(entry["pid"]) == entry["birth"]


def stop():
    """End the demo of this checkout. Returns whether one was running."""
    ended = False
    for state in states():
        for entry in reversed(state["processes"]):
            if not is_ours(entry):
                continue
            ended = True
            os.kill(entry["pid"], entry["signal"])
            end = time.monotonic() + 15
            while is_ours(entry) and time.monotonic() < end:
                time.sleep(0.02)
            if is_ours(entry):
                os.kill(entry["pid"], signal.SIGKILL)
        shutil.rmtree(state["home"], ignore_errors=True)
    ENV.unlink(missing_ok=True)
    return ended


def scratch():
    """A directory of our own with a short name, on a disk that other system users can reach."""
    for parent in PARENTS:
        if os.access(parent, os.W_OK | os.X_OK):
            home = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
            os.chmod(home, 0o711 if stack.IS_ROOT else 0o700)
            return home
    raise stack.StackError("neither /var/tmp nor /tmp can be written to")


def write_env(postgres, token, handler, nginx, apache, provider, worker):
    lines = {
        "PGHOST": postgres.socket_dir,
        "PGPORT": postgres.port,
        "PGUSER": "foloosi_operator",
        "PGDATABASE": stack.DATABASE,
        "FOLOOSI_WEBHOOK_CONFIG": handler.config.path,
        "WEBHOOK_URL": nginx.url(f"/webhooks/foloosi/demo/{token}"),
        "PROVIDER_URL": provider.url(""),
        "WORKER_CONFIG": worker.config.path,
    }
    if apache:
        lines["APACHE_WEBHOOK_URL"] = apache.url(f"/webhooks/foloosi/demo/{token}")
    ENV.touch(0o600)
    ENV.chmod(0o600)
    ENV.write_text("# . .demo/env\n" + "".join(f"export {k}='{v}'\n" for k, v in lines.items())
                   + f"export PATH='{stack.build_dir()}':\"$PATH\"\n")
    return {k: str(v) for k, v in lines.items()}


def start(port):
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise stack.StackError("python3-psycopg is not installed: run  make deps") from None
    for name in ("nginx", "psql", "curl"):
        stack.program(name)
    stack.built("foloosictl")

    stop()
    if not stack.port_is_free(port):
        raise stack.StackError(f"port {port} is in use: choose another one, for instance  make demo PORT={port + 1000}")
    DEMO.mkdir(mode=0o755, exist_ok=True)
    for log in DEMO.glob("*.log"):
        log.unlink()
    home = scratch()
    state = {"home": home, "root": str(stack.ROOT), "processes": []}
    write_state(state)

    def run(service):
        service.start()
        state["processes"].append(
            {"name": service.name, "pid": service.pid, "birth": stack.birth(service.pid), "signal": int(service.stop_signal)}
        )
        write_state(state)
        return service

    postgres = run(stack.Postgres(f"{home}/pg", DEMO))
    postgres.create_database()
    postgres.migrate()

    token = stack.token()
    handler = run(stack.Handler(f"{home}/fw", DEMO, postgres.conninfo("foloosi_handler"), {"demo": {"token": token}},
                                spool_dir=f"{home}/fw/spool", monitor=postgres.conninfo("foloosi_monitor")))
    nginx = run(stack.Nginx(f"{home}/nginx", DEMO, handler.socket, port))
    apache = None
    if shutil.which("apache2", path=stack.ENV_PATH) and stack.port_is_free(port + 1):
        apache = run(stack.Apache(f"{home}/apache", DEMO, "proxy", port + 1, handler.socket))
    secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    receiver = run(stack.Receiver(f"{home}/receiver", DEMO, secret))
    key = stack.token()
    provider = run(stack.Provider(f"{home}/provider", DEMO, key, nginx.url(f"/webhooks/foloosi/demo/{token}")))
    worker = run(stack.Worker(f"{home}/worker", DEMO, postgres.conninfo("foloosi_worker"), {"demo": {
        "event_url": receiver.url(), "event_secret": secret, "provider_url": provider.url(""), "provider_secret": key, "provider_per_minute": 6000}}))
    stack.wait_for("the worker", lambda: postgres.query("select 1 from foloosi.consumers"), alive=worker.alive)
    env = {**os.environ, **write_env(postgres, token, handler, nginx, apache, provider, worker)}

    psql = [stack.program("psql"), "-X", "-q", "-P", "pager=off"]
    subprocess.run([*psql, "-At", "-o", os.devnull, "-c", "select foloosi.set_merchant('demo')"], env=env, check=True)
    print("The provider's sample payloads, sent through nginx:\n", flush=True)
    subprocess.run([stack.built("foloosictl"), "send"], env=env, check=True)
    print("\nThe orders, as psql prints them:\n", flush=True)
    subprocess.run([*psql, "-c", ORDERS], env=env, check=True)
    print("The events, as they reached the merchant's endpoint, signed:\n", flush=True)
    stack.wait_for("the events", lambda: not postgres.query(
        "select 1 from foloosi.events e, foloosi.consumers c where e.id > c.position union all select 1 from foloosi.dispatches limit 1"))
    print(receiver.log.read_text())

    body = DEMO / "body.json"
    body.write_text(json.dumps({"data": {"transfer": {
        "transaction_status": "success",
        "transaction_no": "FLNIAREC61a859e4a8977",
        "payment_reference": "e8807a6b-4496-4b4d-a101-7eec0cf60754",
        "transaction_amount": "100",
        "transaction_currency": "AED",
        "transaction_message": "approved",
        "api": {
            "optional1": "FLSSUB_298617f8667047bb",
            "optional2": "Online Class",
            "optional3": "Foloosi developer",
            "customer_email": "customer@example.com",
            "customer_mobile": "555534533",
            "card_last_four": "1111",
        },
    }}}, indent=2) + "\n")
    print(f"""It runs, nginx on port {port}{f", Apache on port {port + 1}" if apache else ""}. Try next:

  . .demo/env
  curl -sS --json @.demo/body.json "$WEBHOOK_URL"
  foloosictl orders
  foloosictl attention
  tail .demo/receiver.log
  # paid, and its webhook is lost
  curl -sS -d '{{"order":"LOST-1","amount":100,"lost":true}}' "$PROVIDER_URL/pay"
  foloosi-worker --config "$WORKER_CONFIG" reconcile
  foloosictl check
  foloosictl order LOST-1
  foloosictl top
  curl -sS {nginx.url("/readyz")}
  curl -sS {nginx.url("/metrics")}
  make demo-stop""")


def main(arguments):
    if arguments == ["stop"]:
        print("The demo is stopped." if stop() else "No demo was running.")
        return 0
    if arguments != ["start"]:
        print("usage: demo.py start|stop", file=sys.stderr)
        return 2
    port = os.environ.get("PORT") or "8080"
    if not port.isdecimal() or not 0 < int(port) < 65535:
        print(f"make demo: PORT={port} is no port number from 1 to 65534", file=sys.stderr)
        return 1
    try:
        start(int(port))
    except (stack.StackError, subprocess.CalledProcessError, OSError) as error:
        stop()
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        stop()
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
