# SPDX-License-Identifier: MIT
"""What an answer of the handler has to look like."""
import base64
import os

DEADLINE = 3.0
SLACK = 5.0 if not os.environ.get("WRAP") else 15.0  # for a busy machine; a request that hangs takes longer


def basic(user="foloosi", password="correct horse"):
    return ("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


def is_problem(answer, status, title=None):
    assert answer.status == status, answer
    assert answer.header("Content-Type") == "application/problem+json", answer
    assert answer.json["status"] == status
    assert answer.json["type"] == "about:blank"
    if title:
        assert answer.json["title"] == title
    return answer.json


def is_unavailable(answer, slack=SLACK):
    is_problem(answer, 503, "Service Unavailable")
    assert 1 <= int(answer.header("Retry-After")) <= 60
    assert answer.seconds < DEADLINE + slack


def is_spooled(answer):
    assert answer.status == 200
    assert answer.json.keys() == {"outcome", "request"}
    assert answer.outcome == "spooled"
    assert answer.seconds < DEADLINE + SLACK
