"""Whether an alert rule fires for two real scrapes, in Prometheus' own engine: the first for ten minutes, then the second for twenty.

usage: alerts.py RULES BEFORE AFTER ALERT [LABEL=VALUE…]     the alert fires for these labels after the change, and for none before it
A file that does not exist is a scrape that failed.
"""
import json
import os
import subprocess
import sys
import tempfile

rules, before, after, alert, *labels = sys.argv[1:]
OWN = 'instance="r1:9823",job="consoleserver"'
MINUTES_BEFORE, MINUTES_AFTER = 10, 20


def series(path):
    """Of each series its value; `up` as Prometheus makes it."""
    try:
        with open(path) as scrape:
            lines = [line.split() for line in scrape if not line.startswith("#")]
    except FileNotFoundError:
        return {f"up{{{OWN}}}": "0"}
    found = {f"up{{{OWN}}}": "1"}
    for name, value in lines:
        metric, _, rest = name.partition("{")
        found[f"{metric}{{{rest.removesuffix('}')}{',' if rest else ''}{OWN}}}"] = value
    return found


first, second = series(before), series(after)
values = {
    name: " ".join([first.get(name, "_")] * MINUTES_BEFORE + [second.get(name, "stale")] * MINUTES_AFTER)
    for name in first | second
}
matched = "".join(f",{label}" for label in (f'{key}="{value}"' for key, _, value in (word.partition("=") for word in labels)))


def fired(extra, minutes):
    return f'count(max_over_time(ALERTS{{alertname="{alert}",alertstate="firing"{extra}}}[{minutes}m]))'


test = {
    "rule_files": [os.path.abspath(rules)],
    "evaluation_interval": "1m",
    "tests": [{
        "interval": "1m",
        "input_series": [{"series": name, "values": values[name]} for name in values],
        "promql_expr_test": [
            {"expr": fired("", MINUTES_BEFORE), "eval_time": f"{MINUTES_BEFORE - 1}m", "exp_samples": []},
            {"expr": fired(matched, MINUTES_AFTER), "eval_time": f"{MINUTES_BEFORE + MINUTES_AFTER - 1}m",
             "exp_samples": [{"labels": "{}", "value": 1}]},
        ],
    }],
}
with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
    json.dump(test, file)  # JSON is YAML.
    file.flush()
    judged = subprocess.run(["promtool", "test", "rules", file.name], capture_output=True, text=True)
if judged.returncode:
    sys.exit(f"{alert} {' '.join(labels)}: {judged.stdout}{judged.stderr}")
