# SPDX-License-Identifier: MIT
"""The stack of the end-to-end tests: a PostgreSQL, a handler, the web servers in front of it; requests and bodies for it."""
import contextlib
import dataclasses
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

from support import fcgi_client, stack

FRONTS = ["nginx", "apache-proxy", "apache-fcgid", "apache-cgi", "bare"]
BODY_LIMIT = 65536
SIGNATURE_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the documentation's example of Standard Webhooks
SANITIZERS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:", "== ERROR SUMMARY", "Assertion")


# -- one request ------------------------------------------------------------------------------


@dataclasses.dataclass
class Answer:
    status: int
    headers: list
    body: bytes
    seconds: float

    def header(self, name):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def outcome(self):
        return self.json["outcome"]


@dataclasses.dataclass
class Request:
    path: str
    method: str = "POST"
    body: bytes = b""
    type: str | None = "application/json"
    headers: list = dataclasses.field(default_factory=list)
    pieces: int = 1  # the body is sent in so many parts …
    delay: float = 0  # … with so many seconds after each
    chunked: bool = False
    announced: int | None = None  # Content-Length, if it shall lie
    timeout: float = 30

    def parts(self):
        size = -(-len(self.body) // self.pieces) or 1
        return [self.body[i:i + size] for i in range(0, len(self.body), size)]

    @property
    def length(self):
        return len(self.body) if self.announced is None else self.announced


class HttpFront:
    """A web server's port."""

    def __init__(self, name, port):
        self.name, self.port = name, port

    def connect(self, request):
        return socket.create_connection(("127.0.0.1", self.port), request.timeout)

    def head(self, request):
        lines = [f"{request.method} {request.path} HTTP/1.1", "Host: localhost", "Connection: close"]
        if request.type is not None:
            lines.append(f"Content-Type: {request.type}")
        if request.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif request.body or request.method in ("POST", "PUT", "PATCH") or request.announced is not None:
            lines.append(f"Content-Length: {request.length}")
        lines += [f"{n}: {v}" for n, v in request.headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def send_body(self, s, request):
        for part in request.parts():
            s.sendall(b"%x\r\n%s\r\n" % (len(part), part) if request.chunked else part)
            if request.delay:
                time.sleep(request.delay)
        if request.chunked:
            s.sendall(b"0\r\n\r\n")

    def send(self, request):
        start = time.monotonic()
        with self.connect(request) as s:
            try:
                s.sendall(self.head(request))
                self.send_body(s, request)
            except (BrokenPipeError, ConnectionResetError):
                pass  # answered before the end of the body; the answer may be there
            response = http.client.HTTPResponse(s, method=request.method)
            response.begin()
            body = response.read()
            return Answer(response.status, response.getheaders(), body, time.monotonic() - start)

    def cut_short(self, request):
        """Announce more than is sent, then leave."""
        with self.connect(request) as s:
            s.sendall(self.head(request) + request.body)
            time.sleep(0.2)


class BareFront:
    """The handler's own socket, as a web server would speak to it."""

    name = "bare"

    def __init__(self, path):
        self.path = path

    def params(self, request):
        pairs = [("GATEWAY_INTERFACE", "CGI/1.1"), ("SERVER_PROTOCOL", "HTTP/1.1"),
                 ("REQUEST_METHOD", request.method), ("REQUEST_URI", request.path)]
        if request.type is not None:
            pairs.append(("CONTENT_TYPE", request.type))
        if not request.chunked:
            pairs.append(("CONTENT_LENGTH", str(request.length)))
        return pairs + [("HTTP_" + n.upper().replace("-", "_"), v) for n, v in request.headers]

    def send(self, request):
        start = time.monotonic()
        connection = fcgi_client.Connection(self.path, request.timeout)
        try:
            try:
                connection.begin(self.params(request))
                connection.stdin(request.parts(), request.delay)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return Answer(*fcgi_client.parse(connection.answer()), time.monotonic() - start)
        finally:
            connection.close()

    def cut_short(self, request):
        connection = fcgi_client.Connection(self.path, request.timeout)
        connection.begin(self.params(request))
        connection.stdin(request.parts(), end=False)
        connection.close()


# -- bodies -----------------------------------------------------------------------------------

numbers = itertools.count(1)
RUN = os.urandom(4).hex()


def transfer(status="success", order=None, number=None, amount="100", currency="AED", **api):
    """The provider's sample, with ids that were never used before."""
    n = next(numbers)
    return {"data": {"transfer": {
        "transaction_status": status,
        "transaction_no": f"FLN{RUN}{n}" if number is None else number,
        "payment_reference": f"{RUN}-ref-{n}",
        "transaction_amount": amount,
        "transaction_currency": currency,
        "transaction_message": "approved" if status == "success" else "declined",
        "api": {
            "optional1": order or new_order(),
            "optional2": "Online Class",
            "optional3": "Foloosi developer",
            "customer_email": "customer@example.com",
            "customer_mobile": "555534533",
            "card_last_four": "1111",
            **api,
        },
    }}}


def new_order():
    return f"E2E-{RUN}-{next(numbers)}"


def encode(value):
    return json.dumps(value).encode()


# -- servers ----------------------------------------------------------------------------------


def scratch():
    """A short path, for sockets. Site.close() removes it, unless KEEP is set."""
    return tempfile.mkdtemp(prefix="fw-e2e.", dir="/tmp")


class Site:
    """Everything behind the fronts, and questions to the database."""

    def __init__(self, home, **settings):
        self.settings = settings  # of the handler
        self.home = pathlib.Path(home)
        self.logs = self.home / "logs"
        self.tokens = {m: stack.token() for m in ("shop", "basic", "signed", "both", "prefixed", "hushed")}
        self.second_token = stack.token()
        self.merchants = {
            "shop": {"token": [self.tokens["shop"], self.second_token]},
            "basic": {"token": self.tokens["basic"], "basic_user": "foloosi", "basic_password": "correct horse"},
            "signed": {"token": self.tokens["signed"], "signature_secret": SIGNATURE_SECRET},
            "both": {"token": self.tokens["both"], "basic_user": "foloosi", "basic_password": "correct horse",
                     "signature_secret": SIGNATURE_SECRET},
            "prefixed": {"token": self.tokens["prefixed"], "order_key": "optional2", "order_prefix": "SHOP-"},
            "hushed": {"token": self.tokens["hushed"]},
        }
        self.postgres = stack.Postgres(self.home / "pg", self.logs, {"max_connections": "300", "fsync": "off"})
        self.services = [self.postgres]
        self.fronts = {}

    def start(self):
        self.home.chmod(0o711)
        self.postgres.start(migrated=True)
        for merchant in self.merchants:
            self.postgres.query("select foloosi.set_merchant(%s)", [merchant], user="foloosi_operator")
        self.handler = stack.Handler(
            self.home / "fw", self.logs, self.postgres.conninfo("foloosi_handler"), self.merchants, **self.settings
        )
        self.run(self.handler)
        self.fronts["bare"] = BareFront(self.handler.socket)
        return self

    def run(self, service):
        service.start()
        self.services.append(service)
        return service

    def front(self, name, include=None):
        """Started when it is first asked for. include: of Apache, a file in place of apache/'s."""
        if name not in self.fronts:
            if name == "nginx":
                server = stack.Nginx(self.home / name, self.logs, self.handler.socket)
            else:
                server = stack.Apache(self.home / name, self.logs, name.removeprefix("apache-"),
                                      handler_socket=self.handler.socket, handler_program=self.handler.program,
                                      config=self.handler.config.path, include=include)
            self.run(server)
            front = self.fronts[name] = HttpFront(name, server.port)
            if name == "apache-cgi":  # Apache listens before its daemon for programs does, and answers 503 until then
                with contextlib.suppress(stack.StackError):
                    stack.wait_for("Apache's daemon for programs", lambda: front.send(Request(self.path(), method="GET")).status != 503, timeout=10)
        return self.fronts[name]

    def path(self, merchant="shop", token=None):
        return f"/webhooks/foloosi/{merchant}/{token or self.tokens[merchant]}"

    def stop(self):
        statuses = {}
        for service in reversed(self.services):
            if service.alive():
                statuses[service.name] = service.stop()
        return statuses

    def close(self):
        """Stop all, and look whether a sanitizer, valgrind or an assertion had something to say."""
        statuses = self.stop()
        complaints = [f"{name} ended with {status}" for name, status in statuses.items()
                      if name.startswith("handler") and status != 0]
        for log in self.logs.glob("*.log"):
            text = log.read_text(errors="replace")
            complaints += [f"{log.name}: …{text[max(0, text.find(w) - 300):][:4000]}" for w in SANITIZERS if w in text]
        if os.environ.get("KEEP"):
            print(f"\nlogs are in {self.logs}")
        else:
            shutil.rmtree(self.home, ignore_errors=True)
        assert not complaints, "\n".join(complaints)

    # what became of it

    def query(self, sql, params=None):
        return self.postgres.query(sql, params)

    def order(self, ref, merchant="shop"):
        """(state, amount, currency, reason), or None."""
        rows = self.query(
            "select state::text, amount, currency::text, reason from foloosi.orders where merchant = %s and order_ref = %s",
            [merchant, ref],
        )
        return rows[0] if rows else None

    def missing(self, bodies):
        """Those that no delivery was recorded for."""
        digests = {hashlib.sha256(b).digest()[:16]: b for b in bodies}
        found = self.query("select digest from foloosi.deliveries where digest = any(%s)", [list(digests)])
        return [digests[d] for d in digests.keys() - {bytes(d) for d, in found}]

    def kept(self, body):
        """(outcome, repeats, bytes) of the delivery with these bytes, or None."""
        digest = hashlib.sha256(body).digest()[:16]
        rows = self.query(
            "select d.outcome::text, d.repeats, b.body from foloosi.deliveries d"
            " left join foloosi.bodies b on b.delivery_id = d.id where d.digest = %s",
            [digest],
        )
        assert len(rows) <= 1
        return (rows[0][0], rows[0][1], bytes(rows[0][2])) if rows else None


PATIENCE = 30


class SpoolSite(Site):
    """A site whose handler has a spool."""

    def __init__(self, home, **settings):
        self.spool = pathlib.Path(home) / "fw" / "spool"
        super().__init__(home, spool_dir=self.spool, **settings)

    def files(self):
        return sorted(self.spool.glob("*.delivery"))

    def aside(self):
        return sorted(p.name for p in (self.spool / "aside").glob("*"))

    def drained(self, patience=PATIENCE):
        """Wait until nothing is left, without reading all of a large directory again and again."""
        end = time.monotonic() + patience
        while self.some():
            assert time.monotonic() < end, f"{len(self.files())} files are left"
            time.sleep(0.05)

    def some(self):
        with os.scandir(self.spool) as entries:
            return any(e.name.endswith(".delivery") for e in entries)

    def source(self, body):
        digest = hashlib.sha256(body).digest()[:16]
        return self.query("select source, repeats from foloosi.deliveries where digest = %s", [digest])

    @contextlib.contextmanager
    def database_away(self):
        self.postgres.stop()
        try:
            yield
        finally:
            self.postgres.start()

    def all_logs(self):
        """mod_fcgid's process drains as well, and its log is Apache's."""
        return "".join(p.read_text(errors="replace") for p in self.logs.glob("*.log"))

    def ctl(self, *argv):
        return subprocess.run([stack.built("foloosictl"), "spool", *argv, "--config", self.handler.config.path],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)


class OperationsSite(Site):
    """A site with a spool, that asks foloosi.monitor()."""

    def __init__(self, home, **settings):
        super().__init__(home, spool_dir=f"{home}/spool", **settings)

    def start(self):
        self.settings["monitor"] = self.postgres.conninfo("foloosi_monitor")
        return super().start()

    def get(self, path, front="bare", **more):
        return ask(self.front(front), path, **more)

    def metrics(self, front="bare"):
        return parse(self.get("/metrics", front).body.decode())

    def post(self, body, merchant="shop", front="nginx"):
        return self.front(front).send(Request(self.path(merchant), body=body))


class OperatorsFront(BareFront):
    """The handler's socket, as the shipped location speaks to it."""

    def params(self, request):
        return [*super().params(request), ("FOLOOSI_OPERATIONS", "on")]


def ask(front, path, method="GET", headers=(), source=None, body=b""):
    """On the bare socket as the shipped location would ask; on a web server from the address source."""
    if front.name == "bare":
        return OperatorsFront(front.path).send(Request(path, method, body, None, list(headers)))
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30,
                                            source_address=(source, 0) if source else None)
    try:
        connection.request(method, path, body or None, dict(headers))
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read(), time.monotonic() - start)
    finally:
        connection.close()


def parse(text):
    """{series: value}; a line that is no sample and no comment is an error."""
    series = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r'([a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\]|\\.)*",?)*\})?) ([-+0-9.e]+|NaN|[+-]Inf)', line)
        assert match, line
        assert match[1] not in series, f"{match[1]} comes twice"
        series[match[1]] = float(match[2])
    return series


# -- harm ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def schema_of_version(site, version):
    """The schema says that it is of this version, and serves only programs that know that one."""
    names = ("schema_version", "schema_serves")
    for name in names:
        site.query(f"alter function foloosi.{name}() rename to hidden_{name}")
        site.query(f"create function foloosi.{name}() returns int language sql as 'select {version}'")
        site.query(f"grant execute on function foloosi.{name}() to foloosi_handler")
    try:
        yield
    finally:
        for name in names:
            site.query(f"drop function foloosi.{name}()")
            site.query(f"alter function foloosi.hidden_{name}() rename to {name}")


@contextlib.contextmanager
def locked(site, order):
    """A session of psql: begin; select … for update."""
    with site.postgres.connect() as c:
        c.execute("begin")
        assert c.execute("select 1 from foloosi.orders where order_ref = %s for update", [order]).fetchall()
        yield
        c.execute("rollback")
