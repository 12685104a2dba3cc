# SPDX-License-Identifier: MIT
"""prometheus/: the alert rules fire when they should and not a little before; rules and dashboard speak of metrics that exist."""
import json
import re
import subprocess

from support import stack
from support.site import OperationsSite, Request, encode, parse, scratch, transfer

ALERTS = stack.ROOT / "prometheus" / "alerts.yml"
DASHBOARD = stack.ROOT / "prometheus" / "dashboard.json"
WEB = 'instance="web:80",job="foloosi-webhook"'
UP = (f"foloosi_database_up{{{WEB}}}", "1x900")
OLD = (f"process_start_time_seconds{{{WEB}}}", "-900000x900")
M = WEB + ',merchant="shop"'

# alert: (minute, series by which it fires then, others by which it does not, labels of the alert)
# A series is a name and values by minute in promtool's notation: 0+2x9 goes up from 0 by 2, nine times.
CASES = {
    "FoloosiHandlerDown": (5, [(f"up{{{WEB}}}", "0x9")], [(f"up{{{WEB}}}", "0 1 0 1 0 1")], WEB),
    "FoloosiDatabaseDown": (5, [(f"foloosi_database_up{{{WEB}}}", "0x9")], [(f"foloosi_database_up{{{WEB}}}", "0 0 1 0 0 1")], WEB),
    "FoloosiRefusing": (9, [(f'foloosi_unavailable_total{{{WEB},reason="spool_full"}}', "0x5 1x9")],
                        [(f'foloosi_unavailable_total{{{WEB},reason="spool_full"}}', "7x20")], 'instance="web:80",reason="spool_full"'),
    "FoloosiServerErrors": (20, [(f'foloosi_answers_total{{{WEB},status="200"}}', "0+90x30"), (f'foloosi_answers_total{{{WEB},status="503"}}', "0+10x30")],
                            [(f'foloosi_answers_total{{{WEB},status="200"}}', "0+99x30"), (f'foloosi_answers_total{{{WEB},status="503"}}', "0+1x30")],
                            'instance="web:80"'),
    "FoloosiNoDeliveries": (400, [(f'foloosi_requests_total{{{M},outcome="recorded"}}', "5x500"), (f'foloosi_requests_total{{{M},outcome="not_json"}}', "0+1x500"), OLD],
                            [(f'foloosi_requests_total{{{M},outcome="recorded"}}', "5x300 6x200"), OLD], 'instance="web:80",merchant="shop"'),
    "FoloosiUnauthorized": (16, [(f'foloosi_requests_total{{{M},outcome="unauthorized"}}', "0+1x30")],
                            [(f'foloosi_requests_total{{{M},outcome="unauthorized"}}', "0x10 2x20")], 'instance="web:80",merchant="shop"'),
    "FoloosiRejecting": (16, [(f'foloosi_requests_total{{{M},outcome="not_transfer"}}', "0+1x30")],
                         [(f'foloosi_requests_total{{{M},outcome="not_transfer"}}', "0x10 2x20")], 'instance="web:80",merchant="shop"'),
    "FoloosiSlow": (30, [(f'foloosi_request_duration_seconds_bucket{{{WEB},le="{le}"}}', f"0+{n}x40") for le, n in (("1", 90), ("2", 100), ("+Inf", 100))],
                    [(f'foloosi_request_duration_seconds_bucket{{{WEB},le="{le}"}}', f"0+{n}x40") for le, n in (("1", 999), ("2", 1000), ("+Inf", 1000))],
                    'instance="web:80"'),
    "FoloosiSpoolNotDraining": (20, [(f"foloosi_spool_oldest_seconds{{{WEB}}}", "0+60x30"), UP],
                                [(f"foloosi_spool_oldest_seconds{{{WEB}}}", "0+60x30"), (f"foloosi_database_up{{{WEB}}}", "0x30")], WEB),
    "FoloosiSpoolFilling": (1, [(f"foloosi_spool_files{{{WEB}}}", "6x3"), (f"foloosi_spool_max_files{{{WEB}}}", "10x3")],
                            [(f"foloosi_spool_files{{{WEB}}}", "4x3"), (f"foloosi_spool_max_files{{{WEB}}}", "10x3")], WEB),
    "FoloosiSpoolAside": (1, [(f"foloosi_spool_aside_files{{{WEB}}}", "1x3")], [(f"foloosi_spool_aside_files{{{WEB}}}", "0x3")], WEB),
    "FoloosiReloadFailed": (3, [(f'foloosi_config_reloads_total{{{WEB},result="failed"}}', "0 0 1 1")],
                            [(f'foloosi_config_reloads_total{{{WEB},result="ok"}}', "0 0 1 1")], WEB + ',result="failed"'),
    "FoloosiMonitorDown": (11, [(f"foloosi_monitor_up{{{WEB}}}", "0x20")], [(f"foloosi_monitor_up{{{WEB}}}", "0x5 1x20")], WEB),
    "FoloosiAttentionAgeing": (1, [(f'foloosi_attention_oldest_seconds{{{M},kind="order"}}', "86401x3")],
                               [(f'foloosi_attention_oldest_seconds{{{M},kind="order"}}', "86400x3")], 'kind="order",merchant="shop"'),
    "FoloosiPaybackDue": (1, [(f'foloosi_paybacks_oldest_seconds{{{M},state="due"}}', "172801x3")],
                          [(f'foloosi_paybacks_oldest_seconds{{{M},state="check"}}', "172801x3")], 'merchant="shop"'),
    "FoloosiVerificationsLate": (8, [(f"foloosi_verifications_oldest_seconds{{{M}}}", "3601x9")],
                                 [(f"foloosi_verifications_oldest_seconds{{{M}}}", "3599x9")], 'merchant="shop"'),
    "FoloosiCancelLate": (8, [(f"foloosi_orders_overdue_oldest_seconds{{{M}}}", "3601x9")],
                          [(f"foloosi_orders_overdue_oldest_seconds{{{M}}}", "3599x9")], 'merchant="shop"'),
    "FoloosiEventsBehind": (8, [(f'foloosi_events_oldest_seconds{{{M},consumer="erp"}}', "901x9")],
                            [(f'foloosi_events_oldest_seconds{{{M},consumer="erp"}}', "899x9")], 'consumer="erp",merchant="shop"'),
    "FoloosiDeadLetters": (1, [(f'foloosi_events_dead{{{M},consumer="erp"}}', "2x3")],
                           [(f'foloosi_events_dead{{{M},consumer="erp"}}', "0x3")], 'consumer="erp",merchant="shop"'),
}


def promtool(*arguments):
    run = subprocess.run([stack.program("promtool"), *map(str, arguments)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def rules():
    """The names of the alerts, and each one's severity; the file is YAML of our own hand."""
    found = re.findall(r"- alert: (\w+)\n.*?severity: (\w+)", ALERTS.read_text(), re.S)
    assert len(found) == ALERTS.read_text().count("- alert:")
    return dict(found)


def expressions(value):
    """Everything in the dashboard that is a query."""
    if isinstance(value, dict):
        yield from (v for k, v in value.items() if k == "expr")
        yield from (e for v in value.values() for e in expressions(v))
    elif isinstance(value, list):
        yield from (e for v in value for e in expressions(v))


def test_alerts_fire(tmp_path):
    severity = rules()
    assert severity.keys() == CASES.keys(), "an alert without a case, or a case without an alert"
    tests = []
    for alert, (minute, fires, quiet, labels) in CASES.items():
        firing = f'ALERTS{{alertname="{alert}",alertstate="firing",severity="{severity[alert]}",{labels}}}'
        for series, expected in ((fires, [{"labels": firing, "value": 1}]), (quiet, [])):
            tests.append({"interval": "1m", "input_series": [{"series": s, "values": v} for s, v in series],
                          "promql_expr_test": [{"expr": f'ALERTS{{alertname="{alert}",alertstate="firing"}}', "eval_time": f"{minute}m",
                                                "exp_samples": expected}]})
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))  # JSON is YAML
    promtool("test", "rules", file)


def test_a_healthy_shop_is_quiet(tmp_path):
    """Fifteen hours in which nothing happens but payments."""
    series = [(f"up{{{WEB}}}", "1x900"), UP, OLD, (f"foloosi_monitor_up{{{WEB}}}", "1x900"),
              (f'foloosi_requests_total{{{M},outcome="recorded"}}', "0+1x900"), (f'foloosi_answers_total{{{WEB},status="200"}}', "0+1x900"),
              (f'foloosi_answers_total{{{WEB},status="503"}}', "0x900"), (f'foloosi_unavailable_total{{{WEB},reason="database"}}', "0x900"),
              (f"foloosi_spool_files{{{WEB}}}", "0x900"), (f"foloosi_spool_max_files{{{WEB}}}", "500000x900"),
              (f"foloosi_spool_oldest_seconds{{{WEB}}}", "0x900"), (f'foloosi_attention_oldest_seconds{{{M},kind="order"}}', "0+60x900")]
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [
        {"interval": "1m", "input_series": [{"series": s, "values": v} for s, v in series],
         "promql_expr_test": [{"expr": "ALERTS", "eval_time": t, "exp_samples": []} for t in ("1h", "7h", "14h")]}]}))
    promtool("test", "rules", file)


def test_rules_and_dashboard_are_valid(tmp_path):
    """As promtool sees them: every query of the dashboard as a rule of its own."""
    promtool("check", "rules", ALERTS)
    queries = list(expressions(json.loads(DASHBOARD.read_text())))
    assert len(queries) > 15
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": [
        {"record": f"query:{i}", "expr": q.replace("$__rate_interval", "5m")} for i, q in enumerate(queries)]}]}))
    promtool("check", "rules", file)


def test_every_metric_exists():
    """What rules and dashboard ask for is in a real answer, with the labels by which they ask."""
    site = OperationsSite(scratch())
    try:
        site.start()
        site.postgres.query("select foloosi.add_consumer('erp')")
        assert site.fronts["bare"].send(Request(site.path(), body=encode(transfer()))).outcome == "recorded"
        stack.wait_for("the facts", lambda: any(s.startswith("foloosi_events_backlog") for s in site.metrics()))
        facts = {m for m, in site.query("select distinct metric from foloosi.monitor()")}
        real = parse(site.get("/metrics").body.decode())
    finally:
        site.close()
    names = {re.match("[a-z_]+", s)[0] for s in real}
    labels = {name: {k for s in real if s.startswith(name + "{") for k in re.findall(r'(\w+)="', s)} | {"instance", "job"} for name in names}
    text = ALERTS.read_text()
    asked = [*expressions(json.loads(DASHBOARD.read_text())), *re.findall(r"expr: (?:>-\n)?((?:.|\n)*?)\n        (?:for|labels):", text)]
    assert len(asked) > 15 + text.count("- alert:") - 1
    seen = set()
    for query in asked:
        for name, selector in re.findall(r"\b((?:foloosi|process)_[a-z_]+)(\{[^}]*\})?", query):
            assert name in names, f"{name} is in no answer: {query}"
            assert set(re.findall(r'(\w+)(?:=~|!=|=)"', selector)) <= labels[name], query
            seen.add(name)
    assert len(seen) > 20
    assert facts <= names, "monitor() says what stats.c does not know"
