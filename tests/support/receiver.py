#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A merchant's endpoint for the demo: takes events, checks their signatures, prints a line for each.

    EVENT_SECRET=whsec_… receiver.py PORT
"""
import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import time

KEY = base64.b64decode(os.environ["EVENT_SECRET"].removeprefix("whsec_"))


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def signed(self, body):
        number, moment = self.headers["webhook-id"] or "", self.headers["webhook-timestamp"] or ""
        mac = hmac.new(KEY, f"{number}.{moment}.".encode() + body, hashlib.sha256).digest()
        ours = "v1," + base64.b64encode(mac).decode()
        return moment.isdecimal() and abs(time.time() - int(moment)) < 300 and any(
            hmac.compare_digest(ours, theirs) for theirs in (self.headers["webhook-signature"] or "").split(" "))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        good = self.signed(body)
        if good:
            event = json.loads(body)
            order = event["data"].get("order", {})
            print(self.headers["webhook-id"], event["type"], "-> order", order.get("state"), order.get("amount"), order.get("currency"), flush=True)
        self.send_response(204 if good else 401)
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
