# SPDX-License-Identifier: MIT
"""Private servers for the tests and the demo: PostgreSQL, PgBouncer, the handler, nginx, Apache.

Everything lives below one directory and is reached by unix sockets, but for the web servers'
ports on 127.0.0.1. Standard library and psycopg only.

The hard part is who runs as whom. An ordinary user runs everything as himself. PostgreSQL and
PgBouncer refuse root, web servers give root up: so for root, PostgreSQL and PgBouncer run as
postgres, handler and web workers as www-data, and the directories between them let each
other in (0711, or 0710 with the group that must come through). Programs are copied below the
directory, because a checkout below /root is closed to all of these.

The web servers run the very files of nginx/ and apache/. nginx has no variables for paths, so
two strings are replaced in a copy: where the socket is, and where logs go.
"""
import atexit
import contextlib
import functools
import grp
import os
import pathlib
import pwd
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENV_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
IS_ROOT = os.geteuid() == 0
DATABASE = "foloosi"
READY_S = 30
# What a small shop on two cores would set; everything else is Debian's default.
# fsync, synchronous_commit and full_page_writes are on, as they are by default.
TUNED = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "max_connections": "200",
    "wal_compression": "off",
    "track_wal_io_timing": "off",
    "fsync": "on",
    "synchronous_commit": "on",
}


class StackError(Exception):
    """A sentence for the person at the terminal."""


def build_dir():
    """Where the programs under test are: B, relative to the checkout."""
    return (ROOT / os.environ.get("B", "build")).resolve()


def program(name):
    """Absolute path of an installed program, sbin included."""
    found = shutil.which(name, path=ENV_PATH)
    if found is None:
        raise StackError(f"{name} is not installed: run  make deps")
    return found


def built(name):
    """A program under test."""
    path = build_dir() / name
    if not path.exists():
        raise StackError(f"{path} is missing: run  make")
    return path


def pg_program(name):
    """A program of the newest PostgreSQL server that is installed."""
    versions = sorted(
        pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"),
        key=lambda p: int(p.parts[-3]),
    )
    if not versions:
        raise StackError(f"PostgreSQL's {name} is not installed: run  make deps")
    return str(versions[-1])


def identity(user):
    """Popen's arguments to run as a system user, if we are root; nothing otherwise."""
    if not IS_ROOT or user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def give(path, user, group=None, mode=None):
    """chown, if we are root, and chmod."""
    if IS_ROOT and user is not None:
        gid = grp.getgrnam(group).gr_gid if group else pwd.getpwnam(user).pw_gid
        os.chown(path, pwd.getpwnam(user).pw_uid, gid)
    if mode is not None:
        os.chmod(path, mode)


def free_port():
    """A TCP port that is free at the moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def port_is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def birth(pid):
    """When a process began, in clock ticks since the boot; None if there is none (or a zombie)."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def wait_for(what, ready, timeout=READY_S, alive=lambda: True):
    """Poll until ready() is true."""
    end = time.monotonic() + timeout
    while not ready():
        if not alive():
            raise StackError(f"{what} ended while it was starting")
        if time.monotonic() > end:
            raise StackError(f"{what} was not ready after {timeout} s")
        time.sleep(0.02)


def connects(address):
    """Does a server listen there? (host, port), or the path of a unix socket."""
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with socket.socket(family) as s:
        s.settimeout(1)
        try:
            s.connect(address)
        except OSError:
            return False
    return True


class Service:
    """One process, in a session of its own, with its output in a log file.

    Known by pid and time of birth, so that a later run of the demo can end it without ever
    hitting somebody else's process that has got the same number.
    """

    stop_signal = signal.SIGTERM

    def __init__(self, name, home, logs, user=None):
        self.name = name
        self.home = pathlib.Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        self.logs = pathlib.Path(logs)
        self.logs.mkdir(parents=True, exist_ok=True)
        self.user = user
        self.process = None

    @property
    def log(self):
        return self.logs / f"{self.name}.log"

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def spawn(self, argv, env=None, **more):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={"PATH": ENV_PATH, "LC_ALL": "C.UTF-8", **(env or {})},
                **{**identity(self.user), **more},
            )
        return self.process

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def stop(self, timeout=20):
        """End it; returns its exit status. Kills it, which is an error, if it does not go."""
        if self.process is None:
            return None
        self.signal(self.stop_signal)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise StackError(f"{self.name} did not stop within {timeout} s") from None
        self.process = None
        return status

    def failed(self, error):
        """A StackError with the end of the log, for one that did not come up."""
        tail = self.log.read_text(errors="replace").splitlines()[-5:] if self.log.exists() else []
        return StackError("\n".join([f"{error} ({self.log})", *tail]))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(StackError):
            self.stop()


@functools.cache
def new_cluster():
    """What initdb makes, once a process: it takes a second of CPU, a copy of it a sixth."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="foloosi-initdb."))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    give(home, "postgres", mode=0o700)
    done = subprocess.run(
        [pg_program("initdb"), "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
         "--locale=C.UTF-8", "--no-sync"],
        cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={"PATH": ENV_PATH, "LC_ALL": "C.UTF-8"}, **identity("postgres"),
    )
    if done.returncode:
        raise StackError(f"initdb failed:\n{done.stdout}")
    return home / "data"


@functools.cache
def migrated_cluster():
    """The same with the database and its schema, once a process: to migrate takes as long as to start."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="foloosi-migrated."))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    home.chmod(0o711)
    with Postgres(home / "pg", home / "logs", {"fsync": "off"}) as postgres:
        postgres.create_database()
        postgres.migrate()
    subprocess.run(["cp", "-a", new_cluster() / "postgresql.auto.conf", postgres.data], check=True)
    return postgres.data


class Postgres(Service):
    """A cluster of its own: no TCP, trust authentication, only we and www-data reach the socket."""

    stop_signal = signal.SIGINT  # "fast": close the clients' connections
    port = 5432

    def __init__(self, home, logs, settings=None):
        super().__init__("postgresql", home, logs, "postgres")
        self.kept = threading.local()
        self.data = self.home / "data"
        self.socket_dir = self.home / "s"
        self.settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_dir),
            "port": str(self.port),
            "max_connections": "100",
            "shared_buffers": "64MB",
            "logging_collector": "off",
            "timezone": "UTC",
            **(settings or {}),
        }

    def create(self, cluster=None):
        """A data directory as initdb leaves it, or a copy of another cluster's."""
        give(self.home, "postgres", mode=0o711)
        self.socket_dir.mkdir()
        give(self.socket_dir, "postgres", "www-data" if IS_ROOT else None, 0o710 if IS_ROOT else 0o700)
        subprocess.run(["cp", "-a", cluster or new_cluster(), self.data], check=True)
        with open(self.data / "postgresql.auto.conf", "a", encoding="utf-8") as conf:
            for name, value in self.settings.items():
                conf.write(f"{name} = '{value}'\n")

    def start(self, migrated=False):
        """migrated: a new one begins with the database and its schema."""
        if not self.data.exists():
            self.create(*[migrated_cluster()] if migrated else [])
        self.spawn([pg_program("postgres"), "-D", self.data])
        try:
            wait_for("PostgreSQL", self.ready, alive=self.alive)
        except StackError as e:
            raise self.failed(e) from None
        return self

    def ready(self):
        import psycopg

        try:
            psycopg.connect(self.conninfo("postgres", "postgres", connect_timeout=2)).close()
        except psycopg.OperationalError:
            return False
        return True

    def conninfo(self, user, dbname=DATABASE, **more):
        pairs = {"host": self.socket_dir, "port": self.port, "user": user, "dbname": dbname, **more}
        return " ".join(f"{k}={v}" for k, v in pairs.items())

    def connect(self, user="postgres", dbname=DATABASE, **more):
        """A psycopg connection in autocommit mode; the superuser's by default."""
        import psycopg

        return psycopg.connect(self.conninfo(user, dbname), autocommit=True, **more)

    def query(self, sql, params=None, user="postgres"):
        """All rows of one statement, by a connection that each thread keeps: to wait is to ask again and again."""
        kept = self.kept.__dict__
        c = kept.get(user)
        if c is None or c.closed or select.select([c], [], [], 0)[0]:  # readable: the server has ended it
            c = kept[user] = self.connect(user, prepare_threshold=None)
        try:
            cursor = c.execute(sql, params)
            return cursor.fetchall() if cursor.description else []
        except BaseException:
            kept.pop(user).close()  # it may be in the middle of the statement
            raise

    def create_database(self, dbname=DATABASE):
        with self.connect(dbname="postgres") as c:
            c.execute(f'create database "{dbname}"')

    def migrate(self, dbname=DATABASE):
        """foloosictl migrate, as the superuser of this cluster."""
        done = subprocess.run(
            [built("foloosictl"), "migrate", "--database", self.conninfo("postgres", dbname),
             "--sql", ROOT / "sql"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        with open(self.logs / "migrate.log", "a", encoding="utf-8") as log:
            log.write(done.stdout)
        if done.returncode:
            raise StackError(f"foloosictl migrate failed:\n{done.stdout}")


class PgBouncer(Service):
    """Transaction pooling before a Postgres; every client becomes the handler's role."""

    stop_signal = signal.SIGINT

    def __init__(self, home, logs, postgres, pool_size=4):
        super().__init__("pgbouncer", home, logs, "postgres")
        self.postgres = postgres
        self.pool_size = pool_size
        self.port = 6432
        self.socket_dir = self.home / "s"

    def start(self):
        give(self.home, "postgres", mode=0o711)
        self.socket_dir.mkdir(exist_ok=True)
        give(self.socket_dir, "postgres", "www-data" if IS_ROOT else None, 0o710 if IS_ROOT else 0o700)
        ini = self.home / "pgbouncer.ini"
        ini.write_text(f"""[databases]
{DATABASE} = {self.postgres.conninfo("foloosi_handler")}
[pgbouncer]
listen_addr =
listen_port = {self.port}
unix_socket_dir = {self.socket_dir}
auth_type = any
pool_mode = transaction
default_pool_size = {self.pool_size}
max_client_conn = 500
query_wait_timeout = 5
server_login_retry = 1
""")
        self.spawn([program("pgbouncer"), ini])
        wait_for("PgBouncer", lambda: connects(str(self.socket_dir / f".s.PGSQL.{self.port}")), alive=self.alive)
        return self

    def conninfo(self, user="foloosi_handler"):
        return f"host={self.socket_dir} port={self.port} user={user} dbname={DATABASE}"


def token():
    """Such a token as an operator makes."""
    return os.urandom(24).hex()


class Config:
    """The configuration file of handler and worker. worker: settings of [foloosi-worker]."""

    def __init__(self, path, database, listen=None, merchants=None, worker=None, **settings):
        self.path = pathlib.Path(path)
        self.worker = worker or {}
        self.settings = {"database": database, **({"listen": listen} if listen else {}), **settings}
        self.merchants = merchants or {}

    def write(self):
        lines = ["[foloosi-webhook]"]
        lines += [f"{name} = {value}" for name, value in self.settings.items()]
        if self.worker:
            lines += ["", "[foloosi-worker]", *(f"{name} = {value}" for name, value in self.worker.items())]
        for merchant, entries in self.merchants.items():
            lines += ["", f"[merchant {merchant}]"]
            for name, value in entries.items():
                lines += [f"{name} = {v}" for v in (value if isinstance(value, list) else [value])]
        new = self.path.with_suffix(".new")
        new.touch(0o600)
        new.write_text("\n".join(lines) + "\n")
        give(new, "www-data", mode=0o600)
        new.rename(self.path)
        return self


def install(name, where):
    """A copy of a built program that system users can run."""
    source = built(name)
    where = pathlib.Path(where)
    where.mkdir(parents=True, exist_ok=True)
    where.chmod(0o755)
    copy = where / name
    new = where / f"{name}.new"
    shutil.copy(source, new)
    new.chmod(0o755)
    new.rename(copy)  # one that runs cannot be written to
    return copy


class Handler(Service):
    """foloosi-webhook on a socket. WRAP, a command such as valgrind's, runs it."""

    def __init__(self, home, logs, database, merchants, name="handler", **settings):
        super().__init__(name, home, logs, "www-data")
        give(self.home, "www-data", mode=0o700)
        self.program = install("foloosi-webhook", self.home.parent / "bin")
        self.socket = self.home / "fw.sock"
        self.config = Config(self.home / "fw.conf", database, self.socket, merchants, **settings)

    def make_spool(self):
        directory = self.config.settings.get("spool_dir")
        if directory and not os.path.lexists(directory):
            os.mkdir(directory)
            give(directory, "www-data", mode=0o700)

    def start(self):
        self.config.write()
        self.make_spool()
        wrap = shlex.split(os.environ.get("WRAP", ""))
        env = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        self.spawn([*wrap, self.program, "--config", self.config.path], env=env)
        try:
            wait_for("the handler", lambda: connects(str(self.socket)), alive=self.alive)
        except StackError as e:
            raise self.failed(e) from None
        return self


class Worker(Service):
    """foloosi-worker. merchants: settings beside a token, which the worker does not use."""

    def __init__(self, home, logs, database, merchants, name="worker", **settings):
        super().__init__(name, home, logs, "www-data")
        give(self.home, "www-data", mode=0o700)
        self.program = install("foloosi-worker", self.home.parent / "bin")
        merchants = {m: {"token": token(), **entries} for m, entries in merchants.items()}
        self.config = Config(self.home / f"{name}.conf", "", None, merchants, worker={"database": database, **settings})

    def start(self):
        self.config.write()
        env = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        self.spawn([self.program, "--config", self.config.path], env=env)
        try:
            wait_for("the worker", lambda: b"event=started" in self.log.read_bytes(), alive=self.alive)
        except StackError as e:
            raise self.failed(e) from None
        return self


class Script(Service):
    """A server of tests/support/: files, the first of which is run, copied to where a system user may read them."""

    def __init__(self, name, home, logs, files, arguments, env=None):
        super().__init__(name, home, logs, "www-data")
        self.files, self.arguments, self.env = files, arguments, env
        self.port = free_port()

    def start(self):
        give(self.home, "www-data", mode=0o700)
        package = self.home / "support"
        package.mkdir(exist_ok=True)
        give(package, "www-data", mode=0o700)
        for file in self.files:
            give(shutil.copy(ROOT / "tests" / "support" / file, package), "www-data", mode=0o600)
        self.spawn(["/usr/bin/python3", package / self.files[0], *self.arguments, self.port], env=self.env)
        try:
            wait_for(self.name, lambda: connects(("127.0.0.1", self.port)), alive=self.alive)
        except StackError as e:
            raise self.failed(e) from None
        return self

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"


class Receiver(Script):
    """tests/support/receiver.py: a merchant's endpoint that prints the events which reach it."""

    def __init__(self, home, logs, secret):
        super().__init__("receiver", home, logs, ["receiver.py"], [], {"EVENT_SECRET": secret})


class Provider(Script):
    """tests/support/provider.py: a stand-in for the provider, which takes payments and sends webhooks."""

    def __init__(self, home, logs, key, webhook):
        super().__init__("provider", home, logs, ["provider.py", "endpoint.py"], ["--key", key, "--webhook", webhook, "--port"])


class Nginx(Service):
    """nginx/'s files, in a server of their own."""

    stop_signal = signal.SIGTERM

    def __init__(self, home, logs, handler_socket, port=None, texts=None):
        """texts: of the two files, in place of nginx/'s."""
        super().__init__("nginx", home, logs)
        self.handler_socket = handler_socket
        self.texts = texts or {}
        self.port = port or free_port()

    def start(self):
        home = self.home
        home.chmod(0o711)
        log_format = None
        for name in ("foloosi-webhook.conf", "foloosi-webhook-location.conf", "foloosi-webhook-operations.conf"):
            text = self.texts.get(name, (ROOT / "nginx" / name).read_text())
            text = text.replace("/run/foloosi-webhook/foloosi-webhook.sock", str(self.handler_socket))
            text = text.replace("/var/log/nginx/", f"{self.logs}/nginx-")
            log_format = re.search(r"^log_format (\w+)", text, re.M) or log_format
            (home / name).write_text(text)
        (home / "nginx.conf").write_text(f"""{"user www-data;" if IS_ROOT else ""}
daemon off;
worker_processes 2;
pid {home}/nginx.pid;
error_log {self.logs}/nginx-error.log;
events {{ worker_connections 2048; }}
http {{
	client_body_temp_path {home}/body; fastcgi_temp_path {home}/fastcgi; proxy_temp_path {home}/proxy;
	scgi_temp_path {home}/scgi; uwsgi_temp_path {home}/uwsgi;
	include {home}/foloosi-webhook.conf;
	access_log {self.logs}/nginx-access.log {log_format[1]};
	server {{
		listen 127.0.0.1:{self.port} backlog=4096;
		include {home}/foloosi-webhook-location.conf;
		include {home}/foloosi-webhook-operations.conf;
		location / {{ return 404; }}
	}}
}}
""")
        self.spawn([program("nginx"), "-e", self.logs / "nginx-error.log", "-p", home, "-c", home / "nginx.conf"])
        try:
            wait_for("nginx", lambda: connects(("127.0.0.1", self.port)), alive=self.alive)
        except StackError as e:
            raise self.failed(e) from None
        return self

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"


class Apache(Service):
    """apache/'s files, in a server of their own. mode: proxy, fcgid or cgi."""

    MODULES = {"proxy": ["proxy", "proxy_fcgi"], "fcgid": ["fcgid"], "cgi": ["cgid"]}

    def __init__(self, home, logs, mode, port=None, handler_socket=None, handler_program=None, config=None, include=None):
        """include: a file in place of apache/'s."""
        super().__init__(f"apache-{mode}", home, logs)
        self.include = include or f"{ROOT}/apache/foloosi-webhook-{mode}.conf"
        self.mode = mode
        self.port = port or free_port()
        self.handler_socket = handler_socket
        self.handler_program = handler_program
        self.config = config

    def start(self):
        home = self.home
        home.chmod(0o711)
        modules = ["mpm_event", "authz_core", "authz_host", "headers", "reqtimeout", "alias", "env"] + self.MODULES[self.mode]
        defines = {"FOLOOSI_WEBHOOK_SOCKET": self.handler_socket, "FOLOOSI_WEBHOOK_PROGRAM": self.handler_program,
                   "FOLOOSI_WEBHOOK_CONFIG": self.config, "APACHE_LOG_DIR": self.logs}
        lines = [f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so" for m in modules]
        lines += [f"Define {name} {value}" for name, value in defines.items() if value]
        if IS_ROOT:
            lines += ["User www-data", "Group www-data"]
        if self.mode == "cgi":
            lines += [f"ScriptSock {home}/cgid.sock"]
        if self.mode == "fcgid":
            lines += [f"FcgidIPCDir {home}/fcgid", f"FcgidProcessTableFile {home}/fcgid_shm"]
            (home / "fcgid").mkdir(exist_ok=True)
            give(home / "fcgid", "www-data", mode=0o700)
        (home / "apache.conf").write_text("\n".join(lines) + f"""
ServerRoot {home}
DefaultRuntimeDir {home}
PidFile {home}/apache.pid
ServerName localhost
Listen 127.0.0.1:{self.port}
ListenBacklog 4096
StartServers 4
ThreadsPerChild 50
MaxRequestWorkers 400
ErrorLog {self.log.with_suffix("")}-error.log
# Debian's apache2.conf
<Directory />
	Options FollowSymLinks
	AllowOverride None
	Require all denied
</Directory>
<VirtualHost *>
	LogLevel warn core:crit
	CustomLog {self.log.with_suffix("")}-access.log "%h %l %u %t \\"%r\\" %>s %b \\"%{{Referer}}i\\"" "expr=! %{{THE_REQUEST}} =~ /foloosi/i && ! %{{REQUEST_URI}} =~ /foloosi/i"
	Include {self.include}
	{f"Include {ROOT}/apache/foloosi-webhook-operations.conf" if self.mode == "proxy" else ""}
</VirtualHost>
""")
        self.spawn([program("apache2"), "-f", home / "apache.conf", "-DFOREGROUND"])
        try:
            wait_for("Apache", lambda: connects(("127.0.0.1", self.port)), alive=self.alive)
            if self.mode == "cgi":
                wait_for("mod_cgid", lambda: list(home.glob("cgid.sock*")), alive=self.alive)
        except StackError as e:
            raise self.failed(e) from None
        return self

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"


def manual_example(name):
    """A program that foloosi-events(7) prints: what stands below the comment with its name."""
    page = (ROOT / "cgi-src" / "man" / "foloosi-events.7").read_text()
    text = re.search(rf'^\.\\" example: {name}\n\.Bd -literal\n(.*?)^\.Ed$', page, re.S | re.M).group(1)
    return text.replace("\\e", "\\")
