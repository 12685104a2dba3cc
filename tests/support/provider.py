#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A stand-in for the provider: its API, and the sender of its webhooks.

    provider.py [--port PORT] [--key KEY] [--webhook URL]

    curl -d '{"order": "A-1", "amount": 100}' http://127.0.0.1:PORT/pay             a payment, and its webhook
    curl -d '{"order": "A-2", "amount": 100, "lost": true}' http://127.0.0.1:PORT/pay   … whose webhook is lost
    curl -d '{"transaction_no": "NUMBER", "amount": 30}' http://127.0.0.1:PORT/refund   a part goes back, and its webhook; without amount all
    curl -H 'secret_key: KEY' http://127.0.0.1:PORT/v1/api/transaction-detail/NUMBER

It speaks the documented shapes of transaction-detail and transaction-list, v1 and v2, and it lies, fails,
hangs, is slow or silent, shifts its pages and limits the rate when a test tells it to. Standard library only.
"""
import argparse
import datetime
import itertools
import json
import os
import pathlib
import sys
import threading
import time
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.endpoint import Endpoint  # noqa: E402

KEY = "live_s3cret_key"


def send(handler, body, status=200, **headers):
    body = body.encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class Provider:
    """What it knows and how it answers.

    transactions  by number, oldest first: status, amount, currency, order, created (a date), refunded (how much
                  went back); said: what the list says instead; lie: what the detail says instead
    says_refunded whether its answers tell how much went back
    slow          seconds before each answer
    silent        numbers about which it does not answer: the connection is closed
    fault         what it answers instead: a status, or a function of handler and request, which may return
                  NotImplemented: this request is answered well
    midnight      dates of a list are the beginnings of their days
    most          rows of a page, whatever it is asked for
    before        called with the number of a page before it is made
    per_minute    more requests than these are refused with 429
    """

    def __init__(self, port=0, key=KEY, webhook=None):
        self.key, self.webhook = key, webhook
        self.transactions, self.fault = {}, None
        self.says_refunded, self.slow, self.silent = True, 0, set()
        self.midnight, self.most, self.before, self.per_minute = False, 100, None, None
        self.times = []
        self.numbers = itertools.count(1)
        self.prefix = "FLSAPI" + os.urandom(4).hex()
        self.lock = threading.Lock()
        self.endpoint = Endpoint(self.answer, port)
        self.port = self.endpoint.port
        self.url = self.endpoint.url("")

    @property
    def requests(self):
        return self.endpoint.requests

    def asked(self, what):
        """The requests of one kind: detail or list."""
        return [r for r in list(self.requests) if f"/transaction-{what}" in r.path]

    def close(self):
        self.endpoint.close()

    # -- its customers

    def new(self, number=None, **known):
        """A transaction; returns its number."""
        number = number or f"{self.prefix}{next(self.numbers)}"
        with self.lock:
            self.transactions[number] = {"created": datetime.date.today().isoformat(), **known}
        return number

    def body(self, number):
        """The webhook of a transaction."""
        known = {"status": "success", "amount": 100, "currency": "AED", "order": None, **self.transactions[number]}
        return json.dumps({"data": {"transfer": {
            "transaction_status": known["status"], "transaction_no": number, "payment_reference": None,
            "transaction_amount": str(known["amount"]), "transaction_currency": known["currency"],
            "transaction_message": "approved" if known["status"] == "success" else "declined",
            "api": {"optional1": known["order"], "optional2": "Online Class", "optional3": "Foloosi developer",
                    "customer_email": "customer@example.com", "customer_mobile": "555534533", "card_last_four": "1111"}}}}).encode()

    def refund(self, number, amount=None):
        """Money goes back, all or so much more; the webhook of it."""
        known = self.transactions[number]
        captured = known.get("amount", 100)
        with self.lock:
            known.update(status="refund", refunded=captured if amount is None else known.get("refunded", 0) + amount)
        body = json.loads(self.body(number))
        body["data"]["transfer"]["transaction_amount"] = str(captured if amount is None else amount)
        return json.dumps(body).encode()

    def deliver(self, number, body=None):
        """Send it; the answer's JSON."""
        request = urllib.request.Request(self.webhook, body or self.body(number), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def pay(self, handler, wanted):
        lost = wanted.pop("lost", False)
        number = self.new(**wanted)
        answer = None if lost or self.webhook is None else self.deliver(number)
        send(handler, json.dumps({"transaction_no": number, "webhook": answer}) + "\n")

    def give_back(self, handler, wanted):
        body = self.refund(wanted["transaction_no"], wanted.get("amount"))
        answer = None if wanted.get("lost") or self.webhook is None else self.deliver(None, body)
        send(handler, json.dumps({"transaction_no": wanted["transaction_no"], "webhook": answer}) + "\n")

    # -- its API

    def answer(self, handler, request):
        if self.fault is not None:
            fault = self.fault(handler, request) if callable(self.fault) else self.fault
            if fault is not NotImplemented:
                return fault
        path, _, query = request.path.partition("?")
        if (request.method, path) == ("POST", "/pay"):
            self.pay(handler, json.loads(request.body))
            return None
        if (request.method, path) == ("POST", "/refund"):
            self.give_back(handler, json.loads(request.body))
            return None
        time.sleep(self.slow)
        if request.headers.get("secret_key") != self.key:
            return 401
        if self.per_minute is not None:
            self.times = [t for t in self.times if time.monotonic() - t < 60] + [time.monotonic()]
            if len(self.times) > self.per_minute:
                return 429, {"Retry-After": "1"}
        _, version, api, call, *rest = path.split("/")
        if (version, api) not in (("v1", "api"), ("v2", "api")):
            return 404
        if call == "transaction-list" and not rest:
            return self.list(handler, version, json.loads(urllib.parse.parse_qs(query)["q"][0]))
        known = self.transactions.get(urllib.parse.unquote(rest[0])) if call == "transaction-detail" and rest else None
        if known is None:
            return 404
        if urllib.parse.unquote(rest[0]) in self.silent:
            handler.close_connection = True
            return None
        known = {**known, **known.get("lie", {})}
        data = self.row(version, urllib.parse.unquote(rest[0]), known)
        if version == "v1":
            data["api_transaction"] = {"sender_currency": data["sender_currency"],
                                       "payable_amount_in_sender_currency": data["send_amount"], "optional1": known.get("order")}
        if self.says_refunded and "refunded" in known:
            data["refunded_amount"] = known["refunded"]
        send(handler, json.dumps({"message": "Transaction detail", "data": data}))
        return None

    @staticmethod
    def row(version, number, known):
        amount, currency, status = known.get("amount", 100), known.get("currency", "AED"), known.get("status", "success")
        more = {"v1": {"send_amount": amount, "sender_currency": currency, "receive_amount": amount, "receive_currency": "AED"},
                "v2": {"request_amount": amount, "request_currency": currency, "payment_failed_reason": None, "card": {}}}
        return {"transaction_no": number, "status": status, "created": known.get("created"), **more[version]}

    def list(self, handler, version, q):
        first, last = (datetime.datetime.strptime(q[name], "%m/%d/%Y").date().isoformat() for name in ("fromDate", "toDate"))
        page, limit = int(q["page"]), min(int(q["limit"]), self.most)
        if self.before is not None:
            self.before(page)
        with self.lock:
            rows = [self.row(version, n, {**known, **known.get("said", {})}) for n, known in reversed(self.transactions.items())
                    if first <= known["created"] and (known["created"] < last if self.midnight else known["created"] <= last)]
        rows = rows[(page - 1) * limit:page * limit]
        send(handler, json.dumps({"message": "Transaction list", "data": {"transactions": rows} if rows else []}))


def main():
    parser = argparse.ArgumentParser(description="A stand-in for the provider.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default=KEY)
    parser.add_argument("--webhook", help="where webhooks go")
    arguments = parser.parse_args()
    provider = Provider(arguments.port, arguments.key, arguments.webhook)
    print(provider.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
