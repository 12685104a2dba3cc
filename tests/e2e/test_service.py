# SPDX-License-Identifier: MIT
"""Under a service manager: the notifications, when its watchdog ends it, and a restart that no client notices.

The manager is played by the test, in the protocol of sd_notify(3) and sd_listen_fds(3): a datagram
socket that listens, and a listening socket that is handed on.
"""
import ctypes
import os
import pathlib
import signal
import socket
import threading

import pytest

from support import stack
from support.processes import frozen
from support.site import BareFront, HttpFront, Request, encode, numbers, transfer

pytestmark = pytest.mark.skipif(bool(os.environ.get("WRAP")), reason="it is about the bare program")


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, home, abstract=False):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(20)
        name = f"{home}/notify-{next(numbers)}"
        self.name = "@" + name if abstract else name
        self.socket.bind("\0" + name if abstract else name)
        if not abstract:
            os.chmod(name, 0o666)

    def next(self):
        return self.socket.recv(4096).decode()

    def until(self, prefix):
        """All that came up to the message that begins like this."""
        heard = [self.next()]
        while not heard[-1].startswith(prefix):
            heard.append(self.next())
        return heard

    def drop(self):
        """Forget what has come so far."""
        self.socket.setblocking(False)
        try:
            while True:
                self.next()
        except BlockingIOError:
            self.socket.settimeout(20)

    def environment(self, watchdog_s=None):
        usec = {} if watchdog_s is None else {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        return {"NOTIFY_SOCKET": self.name, **usec, **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}


@pytest.fixture
def handler(site):
    home = site.home / f"s{next(numbers)}"
    second = stack.Handler(home, site.logs, site.postgres.conninfo("foloosi_handler"), site.merchants, name=home.name)
    second.config.write()
    yield second
    second.stop()


def spawn(handler, env):
    handler.spawn([handler.program, "--config", handler.config.path], env=env)


def post(site, path):
    return BareFront(path).send(Request(site.path(), body=encode(transfer())))


# -- notifications -------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_it_tells_the_manager(site, handler, abstract):
    manager = Manager(site.home, abstract)
    spawn(handler, manager.environment(watchdog_s=2))
    assert manager.next() == "READY=1"
    assert post(site, handler.socket).outcome == "recorded"
    manager.until("WATCHDOG=1")
    assert manager.next().startswith("STATUS=recording; ")
    manager.drop()
    handler.signal(signal.SIGHUP)
    assert manager.until("RELOADING=1")[-1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert manager.next() == "READY=1"
    assert handler.stop() == 0
    assert manager.until("STOPPING=1")


def test_the_database_is_no_ground_for_the_watchdog(site, handler):
    """Away from the start, then hanging: the handler answers 503 and shows life."""
    manager = Manager(site.home)
    database = handler.config.settings["database"]
    handler.config.settings["database"] = "host=/nonexistent"
    handler.config.write()
    spawn(handler, manager.environment(watchdog_s=2))
    manager.until("READY=1")
    assert post(site, handler.socket).status == 503
    for _ in range(3):
        manager.until("WATCHDOG=1")
    assert manager.until("STATUS=")[-1].startswith("STATUS=the database is away; ")
    assert handler.stop() == 0

    handler.config.settings["database"] = f"{database} application_name={handler.name}"
    handler.config.write()
    spawn(handler, manager.environment(watchdog_s=8))
    stack.wait_for("the handler", lambda: stack.connects(str(handler.socket)), alive=handler.alive)
    assert post(site, handler.socket).status == 200
    backends = [pid for pid, in site.query("select pid from pg_stat_activity where application_name = %s", [handler.name])]
    manager.drop()
    with frozen(*backends):
        assert post(site, handler.socket).status == 503  # after its deadline, with the writer in the call for as long
    manager.until("WATCHDOG=1")
    assert b"writer_stuck" not in handler.log.read_bytes()
    assert handler.stop() == 0


class Frozen:
    """One thread of a process is stopped, the others run on: ptrace(2), as a debugger does it."""

    SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
    WALL = 0x40000000

    def __init__(self, pid, name):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.libc.ptrace.restype = ctypes.c_long
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        self.tid, = (int(t.name) for t in tasks if (t / "comm").read_text().strip() == name)

    def ptrace(self, request):
        if self.libc.ptrace(request, self.tid, None, None) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def __enter__(self):
        self.ptrace(self.SEIZE)
        self.ptrace(self.INTERRUPT)
        os.waitpid(self.tid, self.WALL)

    def __exit__(self, *_):
        self.ptrace(self.DETACH)


@pytest.mark.parametrize("thread", ["writer main", "answers"])
def test_a_thread_that_is_lost_ends_the_signs_of_life(site, handler, thread):
    manager = Manager(site.home)
    spawn(handler, manager.environment(watchdog_s=2))
    manager.until("READY=1")
    assert post(site, handler.socket).outcome == "recorded"
    answer = []
    with Frozen(handler.pid, thread):
        sender = threading.Thread(target=lambda: answer.append(post(site, handler.socket)))
        sender.start()
        stack.wait_for("the complaint", lambda: b"event=writer_stuck" in handler.log.read_bytes(), alive=handler.alive)
        manager.drop()
        assert manager.next().startswith("STATUS="), "no more WATCHDOG=1, while the main thread goes on"
        assert manager.next().startswith("STATUS=")
    manager.until("WATCHDOG=1")
    sender.join()
    assert answer[0].status in (200, 503)
    assert handler.stop() == 0


def test_the_worker_tells_the_manager(site):
    manager = Manager(site.home)
    worker = stack.Worker(site.home / "sw", site.logs, site.postgres.conninfo("foloosi_worker"), {"shop": {}}, name="service-worker")
    worker.config.write()
    worker.spawn([worker.program, "--config", worker.config.path], env=manager.environment(watchdog_s=1))
    assert manager.next() == "READY=1"
    manager.until("WATCHDOG=1")
    manager.until("WATCHDOG=1")
    worker.signal(signal.SIGHUP)
    manager.until("RELOADING=1")
    manager.until("READY=1")
    assert worker.stop() == 0
    manager.until("STOPPING=1")


def test_a_mail_server_that_hangs_is_no_ground_for_the_watchdog(site):
    """At a reload the mail under way is waited for, and the manager hears of it."""
    manager, office = Manager(site.home), socket.create_server(("127.0.0.1", 0))
    merchant = f"sm{next(numbers)}"
    worker = stack.Worker(site.home / merchant, site.logs, site.postgres.conninfo("foloosi_worker"),
                          {merchant: {"mail_from": "orders@shop.example", "mail_success": "paid.txt"}}, name=merchant,
                          smtp_url=f"smtp://127.0.0.1:{office.getsockname()[1]}", smtp_tls="no", smtp_timeout="4s")
    stack.give(worker.home, "www-data", mode=0o700)
    (worker.home / "paid.txt").write_text("Subject: Paid\n\nThank you.\n")
    worker.config.write()
    worker.spawn([worker.program, "--config", worker.config.path], env=manager.environment(watchdog_s=1))
    manager.until("READY=1")
    stack.wait_for("the consumer", lambda: site.query("select 1 from foloosi.consumers where merchant = %s", [merchant]), alive=worker.alive)
    site.query("select foloosi.record_delivery(%s, 'success', 'A-1', 'NO-1', amount => 100, currency => 'AED', customer_email => 'a@shop.example')",
               [merchant])
    office.settimeout(30)
    hung, _ = office.accept()
    worker.signal(signal.SIGHUP)
    manager.until("RELOADING=1")
    assert manager.until("READY=1").count("WATCHDOG=1") >= 3, "it was silent while the mail was waited for"
    hung.close()
    office.close()
    assert worker.stop() == 0


# -- restarts -----------------------------------------------------------------------------------------

PASS_ON = """
import os, sys
fd = int(sys.argv[1])
os.set_inheritable(3, True) if fd == 3 else os.dup2(fd, 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Activated(stack.Handler):
    """foloosi-webhook on a listening socket that it inherits."""

    def __init__(self, listener, *args, **settings):
        super().__init__(*args, **settings)
        self.listener = listener

    def start(self):
        fd = self.listener.fileno()
        started = self.log.read_bytes().count(b"event=started") if self.log.exists() else 0
        self.spawn(["/usr/bin/python3", "-c", PASS_ON, fd, self.program, "--config", self.config.path], pass_fds=(fd,),
                   env={k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        stack.wait_for("the handler", lambda: self.log.read_bytes().count(b"event=started") > started, alive=self.alive)
        return self


def test_a_restart_under_load_costs_no_request(site):
    """The socket stays the manager's, so its queue survives: each handler takes what the last one left in it."""
    home = site.home / "act"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site.home / "act.sock"))
        os.chmod(site.home / "act.sock", 0o666)
        listener.listen(4096)
        handler = Activated(listener, home, site.logs, site.postgres.conninfo("foloosi_handler"), site.merchants, name="activated")
        handler.config.write()
        handler.start()
        nginx = stack.Nginx(site.home / "act-nginx", site.logs, site.home / "act.sock")
        nginx.start()
        front = HttpFront("nginx", nginx.port)
        enough = threading.Event()
        sent, wrong = [], []

        def client():
            while not enough.is_set():
                body = encode(transfer())
                answer = front.send(Request(site.path(), body=body))
                sent.append(body)
                if answer.status != 200 or answer.outcome != "recorded":
                    wrong.append((answer.status, answer.body))

        clients = [threading.Thread(target=client) for _ in range(16)]
        try:
            for c in clients:
                c.start()
            for _ in range(6):
                before = len(sent)
                stack.wait_for("traffic", lambda: len(sent) > before + 50)  # noqa: B023
                assert handler.stop() == 0
                handler.start()
        finally:
            enough.set()
            for c in clients:
                c.join()
            nginx.stop()
            handler.stop()
    assert not wrong, wrong[:3]
    assert len(sent) > 300
    assert not site.missing(sent)
