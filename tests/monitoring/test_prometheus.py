"""Rules and alerts: promtool runs their unit tests; each alert has a test and a runbook section."""

import glob
import os
import re
import subprocess
import unittest

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
PROMETHEUS = os.path.join(HERE, "..", "..", "deploy", "prometheus")


def load(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def rules(kind):
    return [rule for path in sorted(glob.glob(os.path.join(PROMETHEUS, "rules", "*.yml")))
            for group in load(path)["groups"] for rule in group["rules"] if kind in rule]


class PrometheusFilesTest(unittest.TestCase):

    def promtool(self, *arguments):
        run = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_promtool_accepts_the_configuration_and_its_rules(self):
        self.promtool("check", "config", os.path.join(PROMETHEUS, "prometheus.yml"))

    def test_the_rules_pass_their_unit_tests(self):
        self.promtool("test", "rules", os.path.join(HERE, "rules_test.yml"))

    def test_every_alert_is_made_to_fire_and_has_a_runbook_section(self):
        fired = {test["alertname"] for case in load(os.path.join(HERE, "rules_test.yml"))["tests"]
                 for test in case.get("alert_rule_test", []) if test["exp_alerts"]}
        with open(os.path.join(PROMETHEUS, "RUNBOOK.md"), encoding="utf-8") as file:
            sections = set(re.findall(r"^## (\w+)$", file.read(), re.MULTILINE))
        alerts = {rule["alert"]: rule for rule in rules("alert")}
        self.assertEqual(set(alerts), fired)
        self.assertEqual(set(alerts), sections)
        for name, rule in alerts.items():
            self.assertEqual(rule["annotations"]["runbook"],
                             f"deploy/prometheus/RUNBOOK.md#{name.lower()}")
            self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
            self.assertTrue(rule["annotations"]["summary"] and rule["annotations"]["description"])

    def test_recording_rules_are_named_level_metric_operations_and_tested(self):
        with open(os.path.join(HERE, "rules_test.yml"), encoding="utf-8") as file:
            tests = file.read()
        for rule in rules("record"):
            self.assertRegex(rule["record"], r"^[a-z_]+:[a-z_]+:[a-z0-9_]+$")
            self.assertIn(rule["record"], tests)


if __name__ == "__main__":
    unittest.main()
