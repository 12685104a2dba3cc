# SPDX-License-Identifier: MIT
"""An HTTP server that keeps its requests and answers as the test wants: a merchant's endpoint, the provider."""
import base64
import hashlib
import hmac
import http.server
import json
import threading
import time


class Endpoint:
    """answer: a status, or a function of handler and request that returns one, or writes the answer
    to the handler itself and returns None.
    """

    def __init__(self, answer=200, port=0):
        self.requests = []
        self.answer = answer
        self.lock = threading.Lock()
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.command, self.path, dict(self.headers), body)
                with endpoint.lock:
                    endpoint.requests.append(request)
                answer = endpoint.answer
                status = answer(self, request) if callable(answer) else answer
                if status is not None:
                    headers = {}
                    if isinstance(status, tuple):
                        status, headers = status
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"ok")

            do_GET = do_POST

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()

    def url(self, path="/events/s3cret-path"):
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def ids(self):
        return [r.id for r in list(self.requests)]

    def orders(self):
        return [r.order for r in list(self.requests)]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, {k.lower(): v for k, v in headers.items()}, body
        self.at = time.monotonic()

    @property
    def id(self):
        return int(self.headers["webhook-id"].removeprefix("evt_"))

    @property
    def event(self):
        return json.loads(self.body)

    @property
    def order(self):
        return self.event["data"]["order"]["ref"]

    def signed_by(self, secret):
        """By the specification: HMAC-SHA256 of id.timestamp.body with the decoded secret."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        mac = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
        return f"v1,{base64.b64encode(mac).decode()}" in self.headers["webhook-signature"].split(" ")
