# SPDX-License-Identifier: MIT
"""foloosictl send, against a server that keeps its requests and answers as the test wants;
and the frame around all subcommands."""

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support import stack

CTL = stack.build_dir() / "foloosictl"
TOKEN = "a-token-that-is-never-printed"


class Endpoint(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = []
        self.status, self.headers, self.body = 200, {}, b'{"outcome":"recorded","order":{"ref":"x","state":"paid"}}'
        self.url = f"http://127.0.0.1:{self.server_port}/webhooks/foloosi/demo/{TOKEN}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def payloads(self):
        return [json.loads(body)["data"]["transfer"] for _, _, body in self.seen]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers, body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST

    def log_message(self, *args):
        pass


@pytest.fixture
def endpoint():
    e = Endpoint()
    yield e
    e.shutdown()
    e.server_close()


def ctl(*args, **env):
    env = {**{k: v for k, v in os.environ.items() if k != "WEBHOOK_URL"}, **env}
    return subprocess.run([CTL, *args], capture_output=True, text=True, env=env)


def send(endpoint, *args):
    return ctl("send", *args, WEBHOOK_URL=endpoint.url)


def test_the_three_samples(endpoint):
    run = send(endpoint)
    assert (run.returncode, run.stderr) == (0, "")
    success, failed, null = endpoint.payloads()
    names = ["transaction_status", "transaction_no", "payment_reference", "transaction_amount",
             "transaction_currency", "transaction_message", "api"]
    for t in (success, failed, null):
        assert list(t) == names
        assert list(t["api"]) == ["optional1", "optional2", "optional3", "customer_email", "customer_mobile", "card_last_four"]
        assert (t["transaction_amount"], t["transaction_currency"]) == ("100", "AED")
    assert [t["transaction_status"] for t in (success, failed, null)] == ["success", "failed", "failed"]
    assert (null["transaction_no"], null["payment_reference"]) == (None, None)
    for t in (success, failed):
        assert re.fullmatch(r"FLNIAREC[0-9a-f]{13}", t["transaction_no"])
        assert uuid.UUID(t["payment_reference"]).version == 4
    orders = [t["api"]["optional1"] for t in (success, failed, null)]
    assert len(set(orders)) == 3 and success["transaction_no"] != failed["transaction_no"]
    assert [line.split() for line in run.stdout.splitlines()] == [
        [name, "200", "recorded", order, "paid"] for name, order in zip(["success", "failed", "failed-null"], orders)
    ]
    assert all(h["Content-Type"] == "application/json" and "Authorization" not in h for _, h, _ in endpoint.seen)


def test_every_run_is_fresh(endpoint):
    for _ in range(3):
        assert send(endpoint, "--sample", "success").returncode == 0
    payloads = endpoint.payloads()
    assert len({p["api"]["optional1"] for p in payloads}) == len({p["transaction_no"] for p in payloads}) == 3


def test_given_values_arrive_as_they_are(endpoint):
    odd = 'a"b\\c\n\x01é€'
    run = send(endpoint, "--sample", "success", "--order", odd, "--transaction", "T-1", "--amount", "1e5", "--currency", "aed")
    assert run.returncode == 0
    (t,) = endpoint.payloads()
    assert t["api"]["optional1"] == odd
    assert (t["transaction_no"], t["transaction_amount"], t["transaction_currency"]) == ("T-1", "1e5", "aed")


def test_repeats_are_the_same_bytes(endpoint):
    run = send(endpoint, "--sample", "failed-null", "--repeat", "3")
    assert len(run.stdout.splitlines()) == 3
    assert len(endpoint.seen) == 3 and len({body for _, _, body in endpoint.seen}) == 1


def test_argument_wins_over_environment(endpoint):
    assert ctl("send", "--sample", "success", endpoint.url, WEBHOOK_URL="http://127.0.0.1:1/").returncode == 0
    assert len(endpoint.seen) == 1


def test_basic_and_signature(endpoint, tmp_path):
    key = bytes(range(24))
    (tmp_path / "basic").write_text("user:pass:word\nsecond line\n")
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(key).decode() + "\n")
    run = send(endpoint, "--sample", "success", "--basic-file", tmp_path / "basic", "--signature-secret-file", tmp_path / "secret")
    assert run.returncode == 0
    ((_, headers, body),) = endpoint.seen
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"user:pass:word"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


@pytest.mark.parametrize("option, text", [("--basic-file", "nocolon\n"), ("--signature-secret-file", "whsec_c2hvcnQ=\n"), ("--basic-file", "")])
def test_useless_secret_files(endpoint, tmp_path, option, text):
    path = tmp_path / "secret"
    path.write_text(text)
    run = send(endpoint, option, path)
    assert run.returncode == 1 and str(path) in run.stderr and endpoint.seen == []
    if text.strip():
        assert text.strip() not in run.stderr
    assert send(endpoint, option, tmp_path / "missing").returncode == 1


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500, 503])
def test_not_2xx(endpoint, status):
    endpoint.status, endpoint.body = status, b'{"type":"about:blank","title":"no"}'
    run = send(endpoint, "--sample", "success")
    assert run.returncode == 1
    assert re.match(rf"success +{status}  - ", run.stdout)


def test_one_bad_answer_is_enough(endpoint, monkeypatch):
    original = Handler.do_POST

    def second_fails(self):
        self.server.status = 503 if len(self.server.seen) == 1 else 200
        original(self)

    monkeypatch.setattr(Handler, "do_POST", second_fails)
    run = send(endpoint)
    assert run.returncode == 1 and len(endpoint.seen) == 3


def test_redirects_are_not_followed(endpoint):
    other = Endpoint()
    endpoint.status, endpoint.headers = 307, {"Location": other.url}
    run = send(endpoint, "--sample", "success")
    assert run.returncode == 1 and " 307 " in run.stdout
    assert other.seen == []


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00\xff{", b'{"outcome":7,"state":null}', b'{"outcome":"\x1b[31m"}', b'{"outcome":"', b"x" * 300000],
    ids=["empty", "binary", "other types", "terminal control", "cut", "long"],
)
def test_answers_that_are_not_the_handlers(endpoint, answer):
    endpoint.body = answer
    run = send(endpoint, "--sample", "success")
    assert run.returncode == 0
    assert re.fullmatch(r"success +200  -  +DEMO-\S+  -\n", run.stdout)


def test_the_token_is_not_printed(endpoint):
    for url in (endpoint.url, f"http://127.0.0.1:1/{TOKEN}", f"http://nowhere.invalid/{TOKEN}", f"ftp://127.0.0.1/{TOKEN}", f"http://[{TOKEN}"):
        run = ctl("send", WEBHOOK_URL=url)
        assert TOKEN not in run.stdout + run.stderr
        assert run.returncode == (0 if url == endpoint.url else 1)
        assert len(run.stdout.splitlines()) == 3


def test_a_proxy_is_not_told_about_local_tests(endpoint):
    run = ctl("send", "--sample", "success", WEBHOOK_URL=endpoint.url, http_proxy="http://127.0.0.1:1", no_proxy="")
    assert run.returncode == 0


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["nonsense"],
        ["help", "nonsense"],
        ["help", "send", "more"],
        ["version", "more"],
        ["send"],
        ["send", "http://127.0.0.1:1/", "http://127.0.0.1:1/"],
        ["send", "--sample", "none", "http://127.0.0.1:1/"],
        ["send", "--repeat", "0", "http://127.0.0.1:1/"],
        ["send", "--repeat", "1x", "http://127.0.0.1:1/"],
        ["send", "--repeat", "99999999999999999999", "http://127.0.0.1:1/"],
        ["send", "--amount"],
        ["migrate", "--nonsense"],
        ["migrate", "surplus"],
    ],
)
def test_usage(args):
    run = ctl(*args)
    assert run.returncode == 2 and run.stdout == "" and run.stderr != ""


def test_help():
    overview = ctl("help").stdout
    names = re.findall(r"^  (\w+) ", overview, flags=re.M)
    assert len(names) == len(set(names)) and {"migrate", "check", "orders", "send", "spool", "events", "help", "version"} <= set(names)
    assert ctl("--help").stdout == overview
    for name in names:
        run = ctl("help", name)
        assert run.returncode == 0 and run.stdout.startswith(f"usage: foloosictl {name}")
        assert ctl(name, "--help").stdout == run.stdout
    assert re.fullmatch(r"foloosictl \S+\n", ctl("version").stdout)
    assert ctl("--version").stdout == ctl("version").stdout


def test_the_manual_knows_every_option():
    manual = (stack.ROOT / "cgi-src" / "man" / "foloosictl.1").read_text()
    for name in ("migrate", "send"):
        for option in re.findall(r"--([a-z-]+)", ctl("help", name).stdout):
            assert f"Fl -{option}" in manual, option


def test_a_full_disk_is_not_success():
    with open("/dev/full", "w") as full:
        run = subprocess.run([CTL, "version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 1 and "standard output" in run.stderr
