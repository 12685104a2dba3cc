"""The stack of the end-to-end tests, once a session: real servers, private to this run.

`front` is a parameter: the same test through nginx, through Apache in its three ways, and on the
handler's bare socket. WRAP (valgrind) and B (an ASan or TSan build) reach the handler by stack.py.
"""
import contextlib
import dataclasses
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import sys
import tempfile
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import fcgi_client  # noqa: E402
import stack  # noqa: E402

FRONTS = ["nginx", "apache-proxy", "apache-fcgid", "apache-cgi", "bare"]
BODY_LIMIT = 65536
SIGNATURE_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the documentation's example of Standard Webhooks


def pytest_configure(config):
    # `timeout make check` and the like: let fixtures end what they have started
    def ended(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ended)
    config.addinivalue_line("markers", "long: a proof that `make check` has no time for; LONG=1 (make e2e-long) runs it")


def pytest_collection_modifyitems(config, items):
    if not os.environ.get("LONG"):
        longer = [i for i in items if i.get_closest_marker("long")]
        config.hook.pytest_deselected(items=longer)
        items[:] = [i for i in items if i not in longer]


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


# -- the session's servers ------------------------------------------------------------------


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
        self.postgres.start()
        self.postgres.create_database()
        self.postgres.migrate()
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

    def front(self, name):
        """Started when it is first asked for."""
        if name not in self.fronts:
            if name == "nginx":
                server = stack.Nginx(self.home / name, self.logs, self.handler.socket)
            else:
                server = stack.Apache(self.home / name, self.logs, name.removeprefix("apache-"),
                                      handler_socket=self.handler.socket, handler_program=self.handler.program,
                                      config=self.handler.config.path)
            self.run(server)
            self.fronts[name] = HttpFront(name, server.port)
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


@contextlib.contextmanager
def schema_of_version(site, version):
    """The schema says that it is of this version, and serves nobody who does not know that."""
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


def scratch():
    """A short path, for sockets. Site.close() removes it, unless KEEP is set."""
    return tempfile.mkdtemp(prefix="fw-e2e.", dir="/tmp")


SANITIZERS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:", "== ERROR SUMMARY", "Assertion")


@pytest.fixture(scope="session")
def site():
    site = Site(scratch())
    try:
        yield site.start()
    finally:
        site.close()


@pytest.fixture(params=FRONTS)
def front(site, request):
    return site.front(request.param)
