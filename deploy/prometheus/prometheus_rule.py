#!/usr/bin/env python3
"""Writes prometheus-rule.yml, which is rules/*.yml as the Prometheus operator takes them."""

import pathlib

import yaml

HERE = pathlib.Path(__file__).resolve().parent
HEADER = "# rules/*.yml for the Prometheus operator; prometheus_rule.py writes it.\n"


def prometheus_rule():
    groups = []
    for path in sorted(HERE.glob("rules/*.yml")):
        groups += yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
            "metadata": {"name": "sinkforge"}, "spec": {"groups": groups}}


if __name__ == "__main__":
    text = HEADER + yaml.safe_dump(prometheus_rule(), sort_keys=False, width=118,
                                   allow_unicode=True)
    (HERE / "prometheus-rule.yml").write_text(text, encoding="utf-8")
