#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make bench, bench-quick, bench-growth: how fast, next to what a merchant could take instead.

bench.py full     everything; writes tests/bench/RESULTS.md and throughput.svg        < 15 minutes
bench.py quick    the first three ratios                                              < 1 minute
bench.py growth   10 million deliveries against none, in the same run; RESULTS.md too

All servers are private and on this machine: they share its cores with the load generator,
so what counts is the ratio of two lines of one run. Everything is interleaved (A B C A B C) and
the medians are given, with the smallest and the largest value.

Each measurement begins with empty tables and a checkpoint, for otherwise the later one
would have the larger tables. What grown tables cost is what `growth` is for. After each one
it is counted that every 200 has its rows; a measurement with a failed request is an error.
"""
import os
import pathlib
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from support import stack  # noqa: E402
from support.processes import family, memory_mib  # noqa: E402

PAYLOAD = (HERE / "payload.json").read_text()
TOKEN = stack.token()
PATH = f"/webhooks/foloosi/bench/{TOKEN}"
SECONDS = int(os.environ.get("SECONDS") or 0)  # of each measurement; for trying bench.py itself: nothing is written then
ROUNDS = int(os.environ.get("ROUNDS") or 3)
LOAD = os.getloadavg()[0]
TICKS = os.sysconf("SC_CLK_TCK")

# A machine with 10 million deliveries (15 GB) has more memory than that: a quarter of 4 GB, the manual's advice.
GROWN = {"shared_buffers": "1GB"}
SCRIPTS = {"one": "record_deliveries, one event", "scalar": "scalar procedure, one event", "set64": "record_deliveries, sets of 64"}
WARM = 2  # seconds of pgbench that do not count: each of its sessions connects, compiles and plans in them
EMPTIED = "foloosi.orders, foloosi.transactions, foloosi.other_transactions, foloosi.deliveries, foloosi.bodies, foloosi.events, foloosi.paybacks, foloosi.refunds, foloosi.decisions"


class Failure(Exception):
    """A measurement that does not count."""


def say(text):
    print(text, flush=True)


# -- machine ------------------------------------------------------------------------------------


def version(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip().splitlines()[0].strip()


def machine():
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"^MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M).group(1))
    return f"{os.cpu_count()} cores ({model.group(1) if model else platform.machine()}), {memory / 1048576:.0f} GiB memory, " \
           f"Linux {platform.release()}"


def php_fpm():
    """The newest PHP's FPM that is installed: Debian's programs have the version in their name."""
    found = sorted(pathlib.Path("/usr/sbin").glob("php-fpm[0-9]*"), key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)])
    if not found:
        raise stack.StackError("php-fpm is not installed: run  make bench-deps")
    return str(found[-1])


def versions(contenders):
    found = {
        "PostgreSQL": version(stack.pg_program("postgres"), "--version").split()[2],
        "nginx": version(stack.program("nginx"), "-v").split("/")[-1],
        "wrk": version(stack.program("wrk"), "-v").split()[1],
        "gcc": version("gcc", "-dumpfullversion"),
    }
    if "php-fpm" in contenders:
        found["PHP"] = version(php_fpm(), "-v").split()[1]
    if "node" in contenders:
        found["Node.js"] = version(stack.program("node"), "-v").lstrip("v")
        for name in ("fastify", "pg"):
            text = (stack.build_dir() / "bench/node/node_modules" / name / "package.json").read_text()
            found[name] = re.search(r'"version":\s*"([^"]+)"', text).group(1)
    if "go" in contenders:
        found["Go"] = version(stack.program("go"), "version").split()[2].lstrip("go")
        found["pgx"] = version("dpkg-query", "-W", "-f", "${Version}", "golang-github-jackc-pgx-v4-dev").split("-")[0]
    return found


# -- processes ------------------------------------------------------------------------------------


def cpu_seconds(pid):
    """User and system time of a process and its children, those that have ended included."""
    total = 0
    for n, p in enumerate(family(pid)):
        try:
            fields = pathlib.Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
        if n == 0:
            total += int(fields[13]) + int(fields[14])
    return total / TICKS


# -- servers --------------------------------------------------------------------------------------


def install(name, where):
    """A copy of one of the bench's own programs that system users can run."""
    where.mkdir(exist_ok=True)
    where.chmod(0o755)
    copy = where / name
    shutil.copy(stack.built(f"bench/{name}"), copy)
    copy.chmod(0o755)
    return copy


class Postgres(stack.Postgres):
    """With a slow disk, if told so."""

    def __init__(self, home, logs, settings=None):
        super().__init__(home, logs, {**stack.TUNED, **(settings or {})})
        self.preload = None

    def spawn(self, argv, env=None, **more):
        if self.preload:
            env = {**(env or {}), "LD_PRELOAD": str(self.preload), "SLOWDISK_US": "2000"}
        return super().spawn(argv, env, **more)


class Peer(stack.Service):
    """A server of its own on a unix socket, for www-data."""

    def __init__(self, name, home, logs):
        super().__init__(name, home, logs, "www-data")
        stack.give(self.home, "www-data", mode=0o755)
        self.socket = self.home / "peer.sock"

    def up(self):
        try:
            stack.wait_for(self.name, lambda: stack.connects(str(self.socket)), alive=self.alive)
        except stack.StackError as e:
            raise self.failed(e) from None
        return self


class PhpFpm(Peer):
    CHILDREN = 32

    def __init__(self, home, logs, postgres):
        super().__init__("php-fpm", home, logs)
        self.postgres = postgres
        self.user = None  # the master is root, if we are
        self.script = self.home / "handler.php"

    def start(self):
        shutil.copy(HERE / "php/handler.php", self.script)
        self.script.chmod(0o644)
        self.socket.unlink(missing_ok=True)
        p = self.postgres
        conf = (HERE / "php/fpm.conf").read_text()
        for name, value in {
            "LOG": self.logs / "php-fpm-error.log",
            "USER": "user = www-data\ngroup = www-data\nlisten.owner = www-data" if stack.IS_ROOT else "",
            "SOCKET": self.socket,
            "DSN": f"pgsql:host={p.socket_dir};port={p.port};dbname={stack.DATABASE};user=foloosi_handler",
            "TOKEN": TOKEN,
        }.items():
            conf = conf.replace(f"@{name}@", str(value))
        (self.home / "fpm.conf").write_text(conf)
        self.spawn([php_fpm(), "-F", "-y", self.home / "fpm.conf",
                    "-d", "opcache.enable=1", "-d", "opcache.validate_timestamps=0", "-d", "opcache.interned_strings_buffer=16"])
        return self.up()


class Node(Peer):
    POOL = 16

    def __init__(self, home, logs, postgres):
        super().__init__("node", home, logs)
        self.postgres = postgres
        modules = stack.build_dir() / "bench/node/node_modules"
        if not modules.exists():
            raise stack.StackError(f"{modules} is missing: run  make bench-deps")
        shutil.copytree(modules, self.home / "node_modules", symlinks=True)
        shutil.copy(HERE / "node/server.js", self.home)
        stack.give(self.home / "server.js", None, mode=0o644)

    def start(self):
        self.socket.unlink(missing_ok=True)
        p = self.postgres
        self.spawn([stack.program("node"), self.home / "server.js"], env={
            "NODE_ENV": "production", "BENCH_SOCKET": str(self.socket), "BENCH_TOKEN": TOKEN, "BENCH_POOL": str(self.POOL),
            "PGHOST": str(p.socket_dir), "PGPORT": str(p.port), "PGUSER": "foloosi_handler", "PGDATABASE": stack.DATABASE})
        return self.up()


class Go(Peer):
    POOL = 16  # pgx's default would be one for each core, and at least 4; 32 sessions were slower

    def __init__(self, home, logs, postgres):
        super().__init__("go", home, logs)
        self.postgres = postgres
        self.program = install("go-handler", self.home.parent / "bin")

    def start(self):
        self.socket.unlink(missing_ok=True)
        self.spawn([self.program], env={
            "BENCH_SOCKET": str(self.socket), "BENCH_TOKEN": TOKEN,
            "BENCH_DSN": self.postgres.conninfo("foloosi_handler") + f" pool_max_conns={self.POOL}"})
        return self.up()


class Noop(Peer):
    THREADS = 32

    def __init__(self, home, logs):
        super().__init__("noop-fastcgi", home, logs)
        self.program = install("noop", self.home.parent / "bin")

    def start(self):
        import socket

        self.socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.socket))
            stack.give(self.socket, "www-data", mode=0o660)
            listener.listen(4096)
            # FastCGI's convention: the listening socket is descriptor 0
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen([self.program, str(self.THREADS)], stdin=listener, stdout=log, stderr=log,
                                                start_new_session=True, cwd="/", **stack.identity(self.user))
        return self.up()


def location(kind, upstream, extra=""):
    """nginx/'s location file for a contender: the shipped one, with another way to the upstream."""
    text = (stack.ROOT / "nginx/foloosi-webhook-location.conf").read_text()
    if kind == "fastcgi":
        return text.replace("fastcgi_pass foloosi_webhook;", f"fastcgi_pass {upstream};\n{extra}")
    before, rest = text.split("\t# -- to the handler and back", 1)
    after = rest.split("\t# -- what nginx answers by itself", 1)[1]
    proxy = f"""	proxy_pass http://{upstream};
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $host;
	proxy_set_header X-Forwarded-For $remote_addr;
	proxy_request_buffering on;
	proxy_buffering on;
	proxy_max_temp_file_size 0;
	proxy_connect_timeout 5s;
	proxy_send_timeout 10s;
	proxy_read_timeout 10s;

	# -- what nginx answers by itself"""
    return before + proxy + after.replace("fastcgi_intercept_errors", "proxy_intercept_errors")


class Nginx(stack.Service):
    """One nginx, a port for each contender: the shipped files, and for peers the same settings."""

    def __init__(self, home, logs, contenders):
        super().__init__("nginx", home, logs)
        self.contenders = contenders  # name -> (kind, socket, extra)
        self.ports = {name: stack.free_port() for name in contenders}

    def start(self):
        home = self.home
        home.chmod(0o711)
        servers = ""
        for name, (kind, socket, extra) in self.contenders.items():
            upstream = "bench_" + name.replace("-", "_")
            keepalive = "" if kind == "fastcgi" else "keepalive 64;"
            servers += f"upstream {upstream} {{ server unix:{socket}; {keepalive} }}\n"
            servers += f"server {{\n\tlisten 127.0.0.1:{self.ports[name]} backlog=4096;\n"
            servers += location(kind, upstream, extra) + "\tlocation / { return 404; }\n}\n"
        servers = servers.replace("/var/log/nginx/", f"{self.logs}/nginx-")
        common = (stack.ROOT / "nginx/foloosi-webhook.conf").read_text()
        common = common.replace("unix:/run/foloosi-webhook/foloosi-webhook.sock", "unix:/nowhere")
        (home / "nginx.conf").write_text(f"""{"user www-data;" if stack.IS_ROOT else ""}
daemon off;
worker_processes 2;
pid {home}/nginx.pid;
error_log {self.logs}/nginx-error.log;
events {{ worker_connections 2048; }}
http {{
	client_body_temp_path {home}/body; fastcgi_temp_path {home}/fastcgi; proxy_temp_path {home}/proxy;
	scgi_temp_path {home}/scgi; uwsgi_temp_path {home}/uwsgi;
{common}
	access_log {self.logs}/nginx-access.log foloosi_webhook;
{servers}
}}
""")
        self.spawn([stack.program("nginx"), "-e", self.logs / "nginx-error.log", "-p", home, "-c", home / "nginx.conf"])
        try:
            stack.wait_for("nginx", lambda: all(stack.connects(("127.0.0.1", p)) for p in self.ports.values()), alive=self.alive)
        except stack.StackError as e:
            raise self.failed(e) from None
        return self

    def url_of(self, name):
        return f"http://127.0.0.1:{self.ports[name]}{PATH}"


# -- one measurement --------------------------------------------------------------------------------


class Sample(dict):
    """What one measurement gave: rate, p50, p99, p999 (ms), cpu (µs per event by process), wal and fpi per event."""

    __getattr__ = dict.__getitem__


def quote(text):
    return "'" + text.replace("'", "''") + "'"


def body_expression():
    """payload.json as an SQL expression over n13, uuid and h16."""
    parts = re.split(r"@(NO|REFERENCE|ORDER)@", PAYLOAD)
    names = {"NO": "n13", "REFERENCE": "uuid", "ORDER": "h16"}
    return "convert_to(" + " || ".join(names[p] if i % 2 else quote(p) for i, p in enumerate(parts)) + ", 'UTF8')"


class Bench:
    def __init__(self, home, logs, names, settings=None):
        self.home = pathlib.Path(home)
        self.logs = pathlib.Path(logs)
        self.names = names
        self.postgres = Postgres(self.home / "pg", self.logs, settings)
        self.database = stack.DATABASE
        self.peers = {}
        self.nginx = None

    def create(self):
        """The database, the scalar procedure, the scripts for pgbench."""
        self.postgres.start()
        self.create_database(stack.DATABASE)
        for name in ("one", "scalar", "set64"):
            text = (HERE / "pgbench" / f"{name}.sql").read_text().replace("@BODY@", body_expression())
            # pgbench would take a colon before a letter for a variable; there is none in the payload
            (self.home / f"{name}.sql").write_text(text)
        self.same_rows()

    def same_rows(self):
        """One event by each way to commit one by one leaves the same rows, but for what names the event."""
        names = "{id,transaction_id,delivery_id,digest,order_ref,transaction_no,payment_reference,optional1,body,created_at,updated_at,first_seen_at,last_seen_at}"
        rows = {}
        for script in ("one", "scalar"):
            with self.postgres.connect() as c:
                c.execute(f"truncate {EMPTIED}")
                self.run_pgbench(script, ["-c", "1", "-t", "1"])
                rows[script] = {t: c.execute(f"select to_jsonb(t) - '{names}'::text[] from {t} t").fetchall() for t in EMPTIED.split(", ")}
        if rows["one"] != rows["scalar"] or not rows["one"]["foloosi.events"]:
            raise Failure(f"scalar.sql does not write what record_deliveries() writes: {rows}")

    def create_database(self, name):
        self.postgres.create_database(name)
        self.postgres.migrate(name)
        with self.postgres.connect(dbname=name) as c:
            c.execute("select foloosi.set_merchant('bench')")
            c.execute((HERE / "scalar.sql").read_text())

    def start_peers(self):
        h, logs, pg = self.home, self.logs, self.postgres
        make = {
            "handler": lambda: stack.Handler(h / "fw", logs, pg.conninfo("foloosi_handler"), {"bench": {"token": TOKEN}}),
            "php-fpm": lambda: PhpFpm(h / "php", logs, pg),
            "node": lambda: Node(h / "node", logs, pg),
            "go": lambda: Go(h / "go", logs, pg),
            "noop-fastcgi": lambda: Noop(h / "noop", logs),
        }
        for name in self.names:
            if name not in self.peers:
                self.peers[name] = make[name]()
            self.peers[name].start()
        if self.nginx is None:
            ways = {}
            for name, peer in self.peers.items():
                extra = f"\tfastcgi_param SCRIPT_FILENAME {peer.script};\n" if name == "php-fpm" else ""
                ways[name] = ("proxy" if name in ("node", "go") else "fastcgi", peer.socket, extra)
            self.nginx = Nginx(h / "nginx", logs, ways)
            self.nginx.start()

    def stop_peers(self):
        for peer in self.peers.values():
            peer.stop()

    def stop(self):
        for service in [self.nginx, *self.peers.values(), self.postgres]:
            try:
                if service is not None:
                    service.stop()
            except stack.StackError as e:
                say(f"bench: {e}")

    def slow_disk(self):
        """Begin anew with a disk that takes 2 ms longer for each fsync."""
        self.stop_peers()
        self.postgres.stop()
        self.postgres.preload = install("slowdisk.so", self.home / "bin")
        self.postgres.start()
        with self.postgres.connect() as c:
            c.execute("create table if not exists public.slow (i int)")
            took = []
            for i in range(20):
                begin = time.monotonic()
                c.execute("insert into public.slow values (%s)", [i])
                took.append(time.monotonic() - begin)
        if statistics.median(took) < 0.002:
            raise Failure(f"slowdisk.so slows nothing: a commit takes {1000 * statistics.median(took):.2f} ms")
        self.start_peers()

    # -- state before and after --

    def reset(self, empty=True):
        with self.postgres.connect(dbname=self.database) as c:
            if empty:
                c.execute(f"truncate {EMPTIED}")
                c.execute("select foloosi.open_last_ranges()")  # TRUNCATE builds the indexes anew
            c.execute("checkpoint")
        for log in self.logs.glob("*.log"):
            os.truncate(log, 0)

    def state(self, name):
        with self.postgres.connect(dbname=self.database) as c:
            # a session reports what it did to the statistics at most once a second
            wal = c.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone()[0]
            fpi = c.execute("select wal_fpi from pg_stat_wal").fetchone()[0]
        cpu = {"postgres": cpu_seconds(self.postgres.pid)}
        if self.nginx is not None:
            cpu["nginx"] = cpu_seconds(self.nginx.pid)
        if name in self.peers:
            cpu[name] = cpu_seconds(self.peers[name].pid)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu["load"] = usage.ru_utime + usage.ru_stime
        return {"wal": float(wal), "fpi": fpi, "cpu": cpu}

    def last(self):
        """The highest ids given out so far: of everything, of events."""
        with self.postgres.connect(dbname=self.database) as c:
            return c.execute("select last_value, (select coalesce(max(id), 0) from foloosi.events) from foloosi.id_seq").fetchone()

    def recorded_since(self, last):
        """Events that have all their rows: each is a new order here."""
        with self.postgres.connect(dbname=self.database) as c:
            c.execute("set enable_seqscan = off")
            return min(c.execute(f"select count(*) from foloosi.{table} where {column} > %s", [last[table == "events"]]).fetchone()[0]
                       for table, column in (("deliveries", "id"), ("bodies", "delivery_id"), ("transactions", "id"), ("orders", "id"), ("events", "id")))

    def measure(self, name, run, seconds, empty=True, counted=True):
        """run(seconds, warm) returns a Sample without cpu, wal and fpi, and calls warm() when what counts begins.

        Before it connections and plans are made: emptying the tables has invalidated these, and a peer has many
        sessions that plan each for itself. counted: every request must be a new order.
        """
        self.reset(empty)
        marks = []
        sample = run(seconds, lambda: marks.append((self.last(), self.state(name))))
        after = self.state(name)
        [(last, before)] = marks
        if sample.errors:
            raise Failure(f"{name}: {sample.errors} of {sample.requests} requests failed; see {self.logs}")
        recorded = self.recorded_since(last) if counted else sample.requests
        # pgbench counts what it did before warm(), too
        events = sample.requests if name != "pgbench" else recorded
        if recorded < events or events == 0:
            raise Failure(f"{name}: {events} acknowledged, {recorded} recorded")
        sample["cpu"] = {k: (after["cpu"][k] - before["cpu"][k]) / (sample.requests if k == "load" else events) * 1e6 for k in after["cpu"]}
        sample["wal"] = (after["wal"] - before["wal"]) / events
        sample["fpi"] = (after["fpi"] - before["fpi"]) / events
        return sample

    # -- load --

    def parse(self, done):
        found = re.search(r"^bench requests (\d+) us (\d+) errors (\d+) p50 (\d+) p99 (\d+) p999 (\d+) max (\d+)$", done.stdout, re.M)
        if done.returncode or not found:
            raise Failure(f"the load generator failed: {done.stdout[-2000:]}")
        requests, us, errors, p50, p99, p999, longest = map(int, found.groups())
        return Sample(requests=requests, errors=errors, rate=requests / us * 1e6, p50=p50 / 1e3, p99=p99 / 1e3, p999=p999 / 1e3, max=longest / 1e3)

    @staticmethod
    def warmed(load):
        """A run for measure() of a load that can be put on twice."""
        return lambda seconds, warm: (load(1), warm(), load(seconds))[-1]

    def wrk(self, name, connections, seconds, mode="random", known=0):
        threads = 1 if connections < 64 else 2
        return self.parse(subprocess.run(
            [stack.program("wrk"), f"-t{threads}", f"-c{connections}", f"-d{seconds}", "-s", HERE / "post.lua",
             self.nginx.url_of(name), "--", HERE / "payload.json", mode, str(known)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))

    def pace(self, name, rate, seconds):
        return self.parse(subprocess.run(
            [stack.built("bench/pace"), str(self.nginx.ports[name]), PATH, HERE / "payload.json", f"{rate:.0f}", str(seconds), "128"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))

    def run_pgbench(self, script, options, progress=lambda line: None):
        """All that it says; each line is given to progress as it comes."""
        command = [stack.pg_program("pgbench"), "-n", "-M", "prepared", "-f", self.home / f"{script}.sql", *options,
                   "-h", self.postgres.socket_dir, "-p", str(self.postgres.port), "-U", "foloosi_handler", self.database]
        text = ""
        # Our role waits for no lock longer than 300 ms, and the handler asks again; a client of pgbench ends. Where 64
        # of them extend a table at once, one may wait longer.
        env = {**os.environ, "PGOPTIONS": "-c lock_timeout=0"}
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.home) as process:
            for line in process.stdout:
                text += line
                progress(line)
        if process.returncode or not re.search(r"^number of failed transactions: 0 ", text, re.M):
            raise Failure(f"pgbench failed: {text[-2000:]}")
        return text

    def pgbench(self, script, clients, seconds, warm, rate=None, events=1):
        """A run for measure(). Percentiles only with a rate: then each transaction is logged, with its latency from the scheduled time."""
        prefix = self.home / "pgbench_log"
        options = ["-c", str(clients), "-j", str(min(clients, 2)), "-T", str(WARM + seconds), "-P", "1"]
        if rate:
            options += ["-R", f"{rate:.0f}", "-l", f"--log-prefix={prefix}"]
        rates, began = [], [0]

        def progress(line):
            found = re.match(r"progress: ([0-9.]+) s, ([0-9.]+) tps", line)
            if not found:
                return
            if began[0]:
                rates.append(float(found.group(2)))
            elif float(found.group(1)) >= WARM - 0.1:
                began[0] = time.time()
                warm()

        text = self.run_pgbench(script, options, progress)
        count = int(re.search(r"^number of transactions actually processed: (\d+)", text, re.M).group(1))
        latencies = []
        for log in self.home.glob("pgbench_log.*"):
            for line in log.read_text().splitlines():
                fields = line.split()
                if int(fields[4]) + int(fields[5]) / 1e6 > began[0]:
                    latencies.append(int(fields[2]))
            log.unlink()
        latencies.sort()
        at = (lambda q: latencies[int(len(latencies) * q)] / 1e3) if latencies else (lambda q: float("nan"))
        return Sample(requests=count * events, errors=0, rate=statistics.mean(rates) * events, p50=at(0.5), p99=at(0.99),
                      p999=at(0.999), max=latencies[-1] / 1e3 if latencies else float("nan"))

    def bytes_per_event(self):
        with self.postgres.connect(dbname=self.database) as c:
            rows = c.execute("""
                select coalesce(inhparent::regclass::text, c.oid::regclass::text), sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid))
                from pg_class c left join pg_inherits on inhrelid = c.oid
                where relnamespace = 'foloosi'::regnamespace and relkind = 'r' group by 1 order by 2 desc""").fetchall()
            n = c.execute("select count(*) from foloosi.deliveries").fetchone()[0]
        return n, {name.removeprefix("foloosi."): (float(table) / n, float(index) / n) for name, table, index in rows if table + index > n}


# -- many measurements ------------------------------------------------------------------------------


class Series:
    """Samples of the same thing."""

    def __init__(self):
        self.samples = []

    def add(self, sample):
        self.samples.append(sample)

    def median(self, key):
        return statistics.median(s[key] for s in self.samples)

    def low(self, key):
        return min(s[key] for s in self.samples)

    def high(self, key):
        return max(s[key] for s in self.samples)

    def cpu(self):
        return {k: statistics.median(s.cpu[k] for s in self.samples) for k in self.samples[0].cpu}

    def rates(self):
        return f"{self.median('rate'):,.0f} ({self.low('rate'):,.0f}–{self.high('rate'):,.0f})"


class Table:
    """Printed at once, and kept as Markdown."""

    def __init__(self, title, *columns):
        self.title, self.columns, self.rows = title, columns, []

    def row(self, *cells):
        self.rows.append([str(c) for c in cells])

    def text(self):
        widths = [max(len(r[i]) for r in [self.columns, *self.rows]) for i in range(len(self.columns))]
        lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) for r in [self.columns, *self.rows]]
        return "\n".join([self.title, *lines]) + "\n"

    def markdown(self):
        lines = ["| " + " | ".join(r) + " |" for r in [self.columns, *self.rows]]
        lines.insert(1, "|---" + "|--:" * (len(self.columns) - 1) + "|")
        return f"{self.title}\n\n" + "\n".join(lines) + "\n"


class Report:
    def __init__(self):
        self.parts = []
        self.lines = []

    def table(self, table):
        say("\n" + table.text())
        self.parts.append(table.markdown())

    def ratio(self, name, value, what="ratio"):
        line = f"{what} {name} {value:.2f}" if value >= 1 else f"{what} {name} {value:.3f}"
        say(line)
        self.lines.append(line)

    def figure(self, name, value):
        self.ratio(name, value, "figure")

    def write(self, section, title, facts):
        """Replace one section of RESULTS.md; what stands outside of the marks is written by hand."""
        path = HERE / "RESULTS.md"
        begin, end = f"<!-- {section}: written by bench.py -->", f"<!-- {section}: end -->"
        text = path.read_text() if path.exists() else "# Results of the bench\n"
        new = f"{begin}\n## {title}\n\n" + "\n".join(facts) + "\n\n```\n" + "\n".join(self.lines) + "\n```\n\n" + "\n".join(self.parts) + end
        if begin in text:
            text = text.split(begin)[0] + new + text.split(end)[1]
        else:
            text = text.rstrip("\n") + f"\n\n{new}\n"
        path.write_text(text)


def best(series, prefix):
    """(key, series) with the highest median rate among the keys that begin with prefix."""
    return max(((k, s) for k, s in series.items() if k[: len(prefix)] == prefix), key=lambda x: x[1].median("rate"))


def measure_all(bench, series, plan, rounds):
    """plan: (key, contender, run, seconds). Interleaved."""
    for _ in range(rounds):
        for key, contender, run, seconds in plan:
            series.setdefault(key, Series()).add(bench.measure(contender, run, seconds, counted=contender != "noop-fastcgi"))
            print(".", end="", flush=True)
    print(flush=True)


def http(bench, name, connections, seconds):
    return (name, connections), name, bench.warmed(lambda s: bench.wrk(name, connections, s)), seconds


def direct(bench, script, clients, seconds, events=1):
    return (script, clients), "pgbench", lambda s, warm: bench.pgbench(script, clients, s, warm, events=events), seconds


def one_by_one(series):
    """The best of pgbench: ((script, clients), series)."""
    return max((best(series, (script,)) for script in ("one", "scalar")), key=lambda x: x[1].median("rate"))


def facts(contenders, seconds, settings={}):
    return [
        f"- {time.strftime('%Y-%m-%d')}, {machine()}; load average before it {LOAD:.1f}. The run took {seconds / 60:.1f} minutes.",
        "- " + ", ".join(f"{k} {v}" for k, v in versions(contenders).items()) + ".",
        "- PostgreSQL: " + ", ".join(f"{k} = {v}" for k, v in {**stack.TUNED, **settings}.items()) + "; the rest is default.",
    ]


# -- the three commands -------------------------------------------------------------------------------


def run_quick(bench):
    bench.start_peers()
    report, series = Report(), {}
    pgbench = (("one", 8), ("scalar", 16))
    plan = [http(bench, n, 64, 3) for n in bench.names] + [direct(bench, *p, 3) for p in pgbench]
    measure_all(bench, series, plan, 2)

    table = Table("Events a second, 64 connections", "", "rate", "p99 ms", "CPU µs/event: own", "nginx", "postgres", "load")
    for name in bench.names:
        s = series[name, 64]
        cpu = s.cpu()
        table.row(name, s.rates(), f"{s.median('p99'):.1f}", *(f"{cpu[k]:.0f}" for k in (name, "nginx", "postgres", "load")))
    for script, clients in pgbench:
        s = series[script, clients]
        cpu = s.cpu()
        table.row(f"pgbench {script}, {clients} clients", s.rates(), "", "", "", f"{cpu['postgres']:.0f}", f"{cpu['load']:.0f}")
    report.table(table)
    handler = series["handler", 64].median("rate")
    report.ratio("handler/pgbench", handler / one_by_one(series)[1].median("rate"))
    report.ratio("handler/php-fpm", handler / series["php-fpm", 64].median("rate"))
    report.ratio("handler/node", handler / series["node", 64].median("rate"))


def run_full(bench):
    begin = time.monotonic()
    bench.start_peers()
    report, series, slow, half = Report(), {}, {}, {}
    levels, seconds, rounds = (32, 64, 128), SECONDS or 4, ROUNDS
    peers = [n for n in bench.names if n not in ("handler", "noop-fastcgi")]
    say(f"throughput, {rounds} rounds of {seconds} s each")
    plan = [http(bench, n, c, seconds) for c in levels for n in bench.names]
    plan += [direct(bench, s, c, SECONDS or 3) for c in (8, 16, 32, 64) for s in ("one", "scalar")]
    plan += [direct(bench, "set64", 2, SECONDS or 3, events=64)]
    measure_all(bench, series, plan, rounds)
    one_key, one = one_by_one(series)
    peaks = {n: best(series, (n,))[1].median("rate") for n in bench.names}

    # The highest of many medians owes something to luck. So those that the narrow ratios compare meet again, each
    # at its best, and only what they do now counts for these.
    say("the best of each again, in turns")
    again = {}
    handler_key, noop_key = (best(series, (n,))[0] for n in ("handler", "noop-fastcgi"))
    plan = [http(bench, *key, SECONDS or 4) for key in (handler_key, noop_key)]
    plan += [direct(bench, *one_key, SECONDS or 4), direct(bench, "set64", 2, SECONDS or 4, events=64)]
    measure_all(bench, again, plan, 5 if ROUNDS == 3 else ROUNDS)

    say("at half of each one's own peak, arrivals that do not wait for answers")
    script, clients = one_key
    plan = [((n,), n, bench.warmed(lambda s, n=n: bench.pace(n, peaks[n] / 2, s)), SECONDS or 8) for n in bench.names]
    plan += [(("pgbench",), "pgbench", lambda s, warm: bench.pgbench(script, clients, s, warm, rate=one.median("rate") / 2), SECONDS or 8)]
    plan += [(("pgbench at the handler's rate",), "pgbench", lambda s, warm: bench.pgbench(script, clients, s, warm, rate=peaks["handler"] / 2), SECONDS or 8)]
    measure_all(bench, half, plan, min(2, ROUNDS))

    say("memory, WAL and bytes on disk: the handler for a minute without a pause, tables growing")
    handler_pid = bench.peers["handler"].pid
    rss_before = memory_mib(handler_pid)[0]
    long = bench.measure("handler", bench.warmed(lambda s: bench.wrk("handler", 128, s)), 10 * SECONDS or 60)
    rss_after = memory_mib(handler_pid)[0]
    memory = {n: memory_mib(bench.peers[n].pid) for n in bench.names}
    events, sizes = bench.bytes_per_event()
    served = sum(s.requests for k, v in [*series.items(), *half.items()] if k[0] == "handler" for s in v.samples)

    say("the same with 2 ms more for each fdatasync")
    bench.slow_disk()
    plan = [http(bench, "handler", c, SECONDS or 4) for c in (64, 128)]
    plan += [http(bench, n, 64, SECONDS or 4) for n in peers]
    plan += [direct(bench, script, 64, SECONDS or 4) for script in ("one", "scalar")]
    measure_all(bench, slow, plan, rounds)
    seconds_total = time.monotonic() - begin

    table = Table("**Events a second** (median, smallest–largest)", "", *(f"{c} connections" for c in levels), *(f"p99 ms at {c}" for c in levels))
    for n in bench.names:
        table.row(n, *(series[n, c].rates() for c in levels), *(f"{series[n, c].median('p99'):.1f}" for c in levels))
    report.table(table)
    table = Table("**Database alone, events a second**", "pgbench -M prepared", *(f"{c} clients" for c in (8, 16, 32, 64)), "2 clients")
    for script in ("one", "scalar"):
        table.row(SCRIPTS[script], *(series[script, c].rates() for c in (8, 16, 32, 64)), "")
    table.row(SCRIPTS["set64"], "", "", "", "", series["set64", 2].rates())
    report.table(table)
    table = Table("**The best of each, in turns**", "", "clients", "events a second", "CPU µs/event")
    for (n, c), s in again.items():
        cpu = s.cpu()
        table.row(n if n in bench.names else f"pgbench, {SCRIPTS[n]}", c, s.rates(), f"{sum(v for k, v in cpu.items() if k != 'load' and (n in bench.names or k == 'postgres')):.0f}")
    report.table(table)
    table = Table("**CPU of an event, µs** (at the connections with the highest rate)", "", "own processes", "nginx", "PostgreSQL", "load generator", "sum less load")
    for n in bench.names:
        cpu = best(series, (n,))[1].cpu()
        table.row(n, *(f"{cpu[k]:.0f}" for k in (n, "nginx", "postgres", "load")), f"{cpu[n] + cpu['nginx'] + cpu['postgres']:.0f}")
    for script in ("one", "scalar", "set64"):
        cpu = best(series, (script,))[1].cpu()
        table.row(f"pgbench, {SCRIPTS[script]}", "", "", f"{cpu['postgres']:.0f}", f"{cpu['load']:.0f}", f"{cpu['postgres']:.0f}")
    report.table(table)
    table = Table("**Latency at half of the own peak, ms** (open loop, independent arrivals)", "", "rate", "p50", "p99", "p99.9")
    for (n,), s in half.items():
        table.row(n, f"{s.median('rate'):,.0f}", *(f"{s.median(k):.2f}" for k in ("p50", "p99", "p999")))
    report.table(table)
    table = Table("**2 ms more for each fdatasync, events a second**", "", "rate", "p99 ms")
    for (n, c), s in slow.items():
        table.row(f"{n}, {c} {'clients' if n in ('one', 'scalar') else 'connections'}", s.rates(), "–" if n in ("one", "scalar") else f"{s.median('p99'):.1f}")
    report.table(table)
    table = Table("**Memory after the run, MiB**", "", "RSS", "PSS with children")
    for n, (rss, pss) in memory.items():
        table.row(n, f"{rss:.1f}", f"{pss:.1f}")
    report.table(table)
    table = Table(f"**Bytes on disk of an event**, after {events:,} events", "", "table", "indexes")
    for n, (t, i) in sizes.items():
        table.row(n, f"{t:.0f}", f"{i:.0f}")
    total = sum(t + i for t, i in sizes.values())
    table.row("all", f"{sum(t for t, _ in sizes.values()):.0f}", f"{sum(i for _, i in sizes.values()):.0f}")
    report.table(table)

    handler = peaks["handler"]
    report.ratio("handler/pgbench", again[handler_key].median("rate") / again[one_key].median("rate"))
    for n in peers:
        report.ratio(f"handler/{n}", handler / peaks[n])
    report.ratio("handler/noop-fastcgi", again[handler_key].median("rate") / again[noop_key].median("rate"))
    report.ratio("sets-of-64/pgbench", again["set64", 2].median("rate") / again[one_key].median("rate"))
    slow_one = max(slow["one", 64].median("rate"), slow["scalar", 64].median("rate"))
    report.ratio("slowdisk-handler/pgbench", slow["handler", 64].median("rate") / slow_one)
    report.ratio("slowdisk-handler-at-128-connections/pgbench", slow["handler", 128].median("rate") / slow_one)
    for n in peers:
        report.ratio(f"slowdisk-handler/{n}", slow["handler", 64].median("rate") / slow[n, 64].median("rate"))
    report.ratio("p99-handler/pgbench", half["handler",].median("p99") / half["pgbench at the handler's rate",].median("p99"))
    report.ratio("p99-handler/pgbench-at-its-own-half", half["handler",].median("p99") / half["pgbench",].median("p99"))
    # what it cannot carry it answers ever later: then p99 says how long was measured
    report.figure("pgbench-carries-of-the-handlers-half", half["pgbench at the handler's rate",].median("rate") / (peaks["handler"] / 2))
    report.figure("requests-before-the-minute", served)
    report.figure("handler-rss-mib-before-the-minute", rss_before)
    report.figure("requests-of-the-minute", long.requests)
    report.figure("handler-rss-mib-after-the-minute", rss_after)
    report.figure("bytes-on-disk-per-event", total)
    report.figure("wal-bytes-per-event", long.wal)
    report.figure("wal-full-page-images-per-event", long.fpi)
    report.figure("handler-events-a-second-over-a-minute", long.rate)
    report.figure("minutes", seconds_total / 60)
    if SECONDS:
        return
    plot(bench, series, levels, one)
    report.write("bench", "make bench", facts(bench.names, seconds_total) + [
        f"- The best of pgbench: {SCRIPTS[one_key[0]]}, {one_key[1]} clients. A ratio compares the medians at the best number of connections of each (of no-op, pgbench and sets: those of the second meeting); with the slow disk at 64 of each.",
        f"- Fully loaded PHP-FPM has {PhpFpm.CHILDREN} children, Node a pool of {Node.POOL}, Go one of {Go.POOL}, the handler 128 threads.",
    ])


def plot(bench, series, levels, one):
    data = bench.logs / "throughput.dat"
    names = [n for n in bench.names]
    lines = ["# connections, then rate and p99 of each: " + " ".join(names)]
    for c in levels:
        lines.append(" ".join([str(c), *(f"{series[n, c].median('rate'):.0f} {series[n, c].median('p99'):.2f}" for n in names)]))
    data.write_text("\n".join(lines) + "\n")
    subprocess.run([stack.program("gnuplot"), "-e", f"data='{data}'; out='{HERE / 'throughput.svg'}'; names='{' '.join(names)}'; "
                    f"one={one.median('rate'):.0f}", HERE / "plot.gp"], check=True)


def run_growth(bench):
    import growth

    growth.run(bench, Report(), sys.modules[__name__])


def main(arguments):
    commands = {
        "quick": (run_quick, ["handler", "php-fpm", "node"]),
        "full": (run_full, ["handler", "php-fpm", "node", "go", "noop-fastcgi"]),
        "growth": (run_growth, ["handler"]),
    }
    if len(arguments) != 1 or arguments[0] not in commands:
        print("usage: bench.py full|quick|growth", file=sys.stderr)
        return 2
    run, names = commands[arguments[0]]
    logs = stack.build_dir() / "bench/log"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    home = tempfile.mkdtemp(prefix="foloosi-bench.", dir="/var/tmp" if os.access("/var/tmp", os.W_OK) else "/tmp")
    os.chmod(home, 0o711 if stack.IS_ROOT else 0o700)
    bench = None
    try:
        bench = Bench(home, logs, names, GROWN if run is run_growth else None)
        bench.create()
        run(bench)
    except (stack.StackError, Failure, subprocess.CalledProcessError, OSError) as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if bench is not None:
            bench.stop()
        shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
