# SPDX-License-Identifier: MIT
"""The handler as a process: where its socket comes from, how it stops, what its database role may."""
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import psycopg
import pytest

from support import stack
from support.site import SIGNATURE_SECRET, BareFront, Request, encode, numbers, transfer

pytestmark = pytest.mark.skipif(bool(os.environ.get("WRAP")), reason="it is about the bare program")


@pytest.fixture
def handler(site, tmp_path_factory):
    """A second handler on the same database, to be started and stopped as one likes."""
    home = site.home / f"p{next(numbers)}"
    second = stack.Handler(home, site.logs, site.postgres.conninfo("foloosi_handler"), site.merchants, name=home.name)
    yield second
    second.stop()


def run(*argv, **more):
    return subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20, **more)


def works(site, path):
    answer = BareFront(path).send(Request(site.path(), body=encode(transfer())))
    return answer.status == 200 and answer.outcome == "recorded"


# -- the stop ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_handler_stops_at_once(site, handler, number):
    handler.start()
    assert works(site, handler.socket)
    handler.stop_signal = number
    begin = time.monotonic()
    assert handler.stop() == 0
    assert time.monotonic() - begin < 2
    assert not handler.socket.exists()


def test_it_stops_while_peers_say_nothing(site, handler):
    handler.start()
    idle = [socket.socket(socket.AF_UNIX) for _ in range(200)]
    for s in idle:
        s.connect(str(handler.socket))
    begin = time.monotonic()
    assert handler.stop() == 0
    assert time.monotonic() - begin < 4
    for s in idle:
        s.close()


def test_it_stops_while_the_database_is_away(site, handler):
    handler.config.settings["database"] = "host=/nonexistent user=foloosi_handler dbname=foloosi"
    handler.start()
    answer = BareFront(handler.socket).send(Request(site.path(), body=encode(transfer())))
    assert answer.status == 503 and answer.header("Retry-After")
    assert handler.stop(5) == 0


# -- the socket -------------------------------------------------------------------------------------


def test_its_own_socket(site, handler):
    handler.config.settings["socket_mode"] = "0600"
    handler.start()
    mode = handler.socket.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert handler.stop() == 0
    handler.config.settings["socket_mode"] = "0666"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(handler.socket))
    handler.start()
    assert stat.S_IMODE(handler.socket.stat().st_mode) == 0o666
    assert works(site, handler.socket)


def test_a_restart_never_leaves_the_path_leading_nowhere(site, handler):
    """A new one takes the place of one that still runs."""
    handler.start()
    third = stack.Handler(handler.home, site.logs, "", site.merchants, name=handler.name + "b")
    third.config = handler.config
    old = handler.socket.stat().st_ino
    third.start()
    end = time.monotonic() + 10
    while handler.socket.stat().st_ino == old:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert works(site, handler.socket)
    assert handler.stop() == 0
    assert works(site, handler.socket), "the old one must not take the new one's path away"
    assert third.stop() == 0


def test_spawn_fcgi(site, handler):
    """A listening socket on descriptor 0."""
    handler.config.write()
    path = handler.home / "spawned.sock"
    handler.spawn([stack.program("spawn-fcgi"), "-n", "-s", path, "-M", "0666", "--", handler.program, "--config", handler.config.path])
    stack.wait_for("spawn-fcgi", lambda: stack.connects(str(path)), alive=handler.alive)
    assert all(works(site, path) for _ in range(5))
    assert handler.stop() == 0


def test_passed_by_a_service_manager(site, handler):
    """LISTEN_FDS: descriptor 3, sd_listen_fds(3)."""
    handler.config.write()
    path = handler.home / "passed.sock"
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(100); os.chmod(sys.argv[1], 0o666)\n"
        "os.dup2(s.fileno(), 3) if s.fileno() != 3 else os.set_inheritable(3, True)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.argv[2], sys.argv[2:])\n")
    handler.spawn([sys.executable if os.access(sys.executable, os.X_OK) and not stack.IS_ROOT else "/usr/bin/python3",
                   "-c", script, path, handler.program, "--config", handler.config.path])
    stack.wait_for("the handler", lambda: stack.connects(str(path)), alive=handler.alive)
    assert all(works(site, path) for _ in range(5))
    assert handler.stop() == 0
    assert path.exists(), "the socket is the service manager's"


def test_cgi_fcgi_from_a_shell(site, handler):
    """The packaged FastCGI client, with no web server at all."""
    handler.start()
    body = encode(transfer())
    done = subprocess.run(
        [stack.program("cgi-fcgi"), "-bind", "-connect", str(handler.socket)], input=body, stdout=subprocess.PIPE, timeout=20,
        env={"REQUEST_METHOD": "POST", "REQUEST_URI": site.path(), "CONTENT_LENGTH": str(len(body)),
             "CONTENT_TYPE": "application/json", "GATEWAY_INTERFACE": "CGI/1.1"})
    assert b"Status: 200" in done.stdout and b'"outcome":"recorded"' in done.stdout


# -- plain CGI --------------------------------------------------------------------------------------


def cgi(site, handler, *arguments, **variables):
    handler.config.write()
    body = encode(transfer())
    return body, subprocess.run(
        [handler.program, *arguments], input=body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20,
        **stack.identity("www-data"),
        env={"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "POST", "REQUEST_URI": site.path(),
             "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json",
             "FOLOOSI_WEBHOOK_CONFIG": str(handler.config.path), **variables})


def test_cgi_in_the_shell(site, handler):
    body, done = cgi(site, handler)
    assert done.returncode == 0
    assert done.stdout.startswith(b"Status: 200 ")
    assert site.kept(body)[0] == "recorded"


@pytest.mark.parametrize("arguments", [["--help"], ["--listen", "/tmp/nowhere"], ["--check-config"], ["--config", "/etc/passwd"], ["x"]])
def test_a_url_sets_no_options(site, handler, arguments):
    """…/TOKEN?--listen+/tmp/x: a web server makes arguments of a query without an equals sign."""
    body, done = cgi(site, handler, *arguments, QUERY_STRING="+".join(arguments))
    assert done.stdout.startswith(b"Status: 200 "), done
    assert site.kept(body)[0] == "recorded"


# -- what it prints -----------------------------------------------------------------------------------


def test_help_and_version(handler):
    assert run(handler.program, "--help").stdout.startswith("usage: foloosi-webhook")
    assert run(handler.program, "--version").stdout.split()[0] == "foloosi-webhook"
    wrong = run(handler.program, "--nonsense")
    assert wrong.returncode == 2 and "usage:" in wrong.stderr


def test_check_config(site, handler):
    handler.config.write()
    good = run(handler.program, "--config", handler.config.path, "--check-config")
    assert good.returncode == 0, good
    for secret in [*site.tokens.values(), "correct horse", SIGNATURE_SECRET]:
        assert secret not in good.stdout + good.stderr
    handler.config.merchants = {"shop": {}}
    handler.config.write()
    bad = run(handler.program, "--config", handler.config.path, "--check-config")
    assert bad.returncode == 1 and str(handler.config.path) in bad.stderr
    assert run(handler.program, "--config", handler.config.path).returncode == 1, "no credential, no start"


# -- its role in the database -----------------------------------------------------------------------


def test_the_handler_can_do_nothing_but_its_job(site):
    relations = [r for r, in site.query(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = relnamespace"
        " where n.nspname = 'foloosi' and relkind in ('r', 'p', 'v', 'm')")]
    functions = [r for r, in site.query(
        "select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = pronamespace where n.nspname = 'foloosi'")]
    assert len(relations) >= 10 and len(functions) >= 8
    allowed = [f for f in functions
               if site.query("select has_function_privilege('foloosi_handler', %s, 'execute')", [f]) == [(True,)]]
    assert sorted(f.split("(")[0] for f in allowed) == ["foloosi.record_deliveries", "foloosi.schema_serves", "foloosi.schema_version"]
    with site.postgres.connect("foloosi_handler") as c:
        for relation in relations:
            for statement in (f"select * from {relation}", f"select 1 from {relation}", f"delete from {relation}",
                              f"truncate {relation}", f"select 1 from {relation} for update"):
                with pytest.raises(psycopg.Error) as refused:
                    c.execute(statement)
                # a view can refuse a write before rights are looked at
                assert refused.value.sqlstate in (("42501",) if "select" in statement else ("42501", "42809", "55000")), statement
        for statement in ("create table foloosi.x ()", "create table public.x ()", "create schema x", "set role foloosi_owner",
                          "set role foloosi_operator", "copy (select 1) to '/tmp/x'", "select nextval('foloosi.id_seq')",
                          "select pg_read_file('/etc/passwd')"):
            with pytest.raises(psycopg.Error) as refused:
                c.execute(statement)
            assert refused.value.sqlstate == "42501", statement
        assert c.execute("select foloosi.schema_version()").fetchone()[0] >= 1


def test_psql_as_the_handler(site):
    psql = shutil.which("psql")
    done = run(psql, "-X", site.postgres.conninfo("foloosi_handler"), "-c", "select * from foloosi.orders")
    assert done.returncode != 0 and "permission denied" in done.stderr


def test_nobody_but_the_owner_writes_tables(site):
    for role in ("foloosi_operator", "foloosi_consumer"):
        for table in ("orders", "transactions", "deliveries", "events", "paybacks", "merchants"):
            with site.postgres.connect(role) as c:
                for statement in (f"delete from foloosi.{table}", f"insert into foloosi.{table} default values",
                                  f"update foloosi.{table} set created_at = now()"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        c.execute(statement)
    with site.postgres.connect("foloosi_operator") as c:
        for table in ("orders", "transactions", "deliveries", "bodies", "events", "paybacks", "merchants", "order_history", "attention"):
            c.execute(f"select * from foloosi.{table} limit 1")
