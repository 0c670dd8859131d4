"""Debian's Prometheus against a running job: names, rules, and every query of every dashboard."""

import glob
import json
import math
import os
import re
import socket
import subprocess
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import harness

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy")
LONG = {"train__steps": 100_000, "evaluation__every_steps": 50, "checkpoint__every_steps": 50}
# promtool takes "bits" for a unit that should be bytes; the quantity is called bits per byte.
ACCEPTED = 'sinkforge_job_validation_bits_per_byte use base unit "bytes" instead of "bits"\n'


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def fetch(url):
    """The body, or None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def families(page):
    """{name: (type, help)} of a page in the text format."""
    found = {}
    for kind, name, text in re.findall(r"^# (HELP|TYPE) (\w+) (.*)$", page, re.MULTILINE):
        found.setdefault(name, {})[kind] = text
    return found


class MonitoringTest(harness.ClusterTest):

    SLOTS = 2
    WORKER_OPTIONS = ("--export-importance",)
    ENCRYPTED = True  # for what is exported of certificates

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.job_id = cls.cluster.submit(name="observed", **LONG)
        cls.cluster.await_step(cls.job_id, 5)
        cls.targets = {"sinkforge-coordinator": cls.cluster.metrics_address,
                       "sinkforge-worker": cls.cluster.worker_ports["w"]["metrics_address"]}
        cls.server = cls.start_prometheus()

    @classmethod
    def start_prometheus(cls):
        rules = sorted(glob.glob(os.path.join(DEPLOY, "prometheus", "rules", "*.yml")))
        configuration = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms",
                                    "evaluation_interval": "500ms"},
                         "rule_files": [os.path.abspath(path) for path in rules],
                         "scrape_configs": [{"job_name": name,
                                             "static_configs": [{"targets": [target]}]}
                                            for name, target in cls.targets.items()]}
        path = cls.cluster.path("prometheus.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(configuration, file)
        port = free_port()
        daemon = harness.Daemon(
            ["prometheus", f"--config.file={path}", f"--web.listen-address=127.0.0.1:{port}",
             f"--storage.tsdb.path={cls.cluster.path('prometheus')}"],
            cls.cluster.path("prometheus.log"))
        cls.addClassCleanup(daemon.kill)
        harness.wait_until(lambda: fetch(f"http://127.0.0.1:{port}/-/ready"),
                           "Prometheus is ready")
        return f"http://127.0.0.1:{port}"

    def query(self, expression):
        """Of the last minutes: [(labels, [values that are numbers])]."""
        now = time.time()
        options = urllib.parse.urlencode({"query": expression, "start": now - 300, "end": now,
                                          "step": "1"})
        answer = fetch(f"{self.server}/api/v1/query_range?{options}")
        if answer is None:
            return []
        found = []
        for series in json.loads(answer)["data"]["result"]:
            values = [float(value) for _, value in series["values"]]
            numbers = [value for value in values if math.isfinite(value)]
            if numbers:
                found.append((series["metric"], numbers))
        return found

    def test_prometheus_scrapes_both_and_knows_the_imbalance(self):
        harness.wait_until(lambda: len(self.query("up == 1")) == 2, "both targets are up")
        of_the_job = f'{{sinkforge_job="{self.job_id}"}}'
        ((labels, values),) = harness.wait_until(
            lambda: self.query(f"sinkforge_job_imbalance_ratio{of_the_job}"),
            "the imbalance is there")
        self.assertEqual(labels["sinkforge_job"], self.job_id)
        self.assertEqual(labels["sinkforge_namespace"], "default")
        self.assertGreaterEqual(min(values), 0)
        layers = harness.wait_until(
            lambda: self.query(f"sinkforge_job_layer_cv_ratio{of_the_job}"), "the layers are there")
        self.assertEqual(sorted(series["layer"] for series, _ in layers), ["0", "1"])
        heads = harness.wait_until(
            lambda: self.query(f"sinkforge_job_importance_ratio{of_the_job}"),
            "the heads are there")
        self.assertEqual(len(heads), 8)

    def test_idle_connections_keep_no_scrape_out(self):
        for name, address in self.targets.items():
            host, port = address.rsplit(":", 1)
            idle = [socket.create_connection((host, int(port))) for _ in range(20)]
            try:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
                    self.assertIn("sinkforge_", answer.read().decode(), name)
            finally:
                for connection in idle:
                    connection.close()

    def test_the_names_are_in_order_and_documented(self):
        with open(os.path.join(DEPLOY, "prometheus", "README.md"), encoding="utf-8") as file:
            documented = set(re.findall(r"`(sinkforge_\w+)`", file.read()))
        documented -= {"sinkforge_namespace", "sinkforge_job"}  # labels

        def seen():
            pages = [fetch(f"http://{target}/metrics") or "" for target in self.targets.values()]
            return {name for name in families("\n".join(pages)) if name.startswith("sinkforge_")}
        # With the first validation and the first checkpoint every family is there.
        harness.wait_until(lambda: seen() >= documented, "all that is documented is exported")
        self.assertEqual(seen(), documented)
        for name, target in self.targets.items():
            page = fetch(f"http://{target}/metrics")
            check = subprocess.run(["promtool", "check", "metrics"], input=page, text=True,
                                   capture_output=True, check=False)
            self.assertIn(check.stdout + check.stderr, ("", ACCEPTED), name)
            for family, texts in families(page).items():
                ours = family.startswith("sinkforge_")
                self.assertTrue(not ours or texts.get("HELP", "").endswith("."), family)

    def test_every_panel_of_every_dashboard_has_data(self):
        harness.wait_until(lambda: self.query("sinkforge_job_wait_seconds_count"),
                           "Prometheus has counted the waits so far")
        # A wait and a checkpoint inside the time that Prometheus sees, and a fault.
        self.cluster.ok("wait", self.cluster.submit(name="short", train__steps=20))
        (trainer,) = self.cluster.trainers()
        os.kill(trainer, 9)
        paths = sorted(glob.glob(os.path.join(DEPLOY, "grafana", "dashboards", "*.json")))
        self.assertEqual(len(paths), 3)
        missing = {}
        for path in paths:
            with open(path, encoding="utf-8") as file:
                for panel in json.load(file)["panels"]:
                    for target in panel["targets"]:
                        expression = target["expr"]
                        for name, value in (("$__rate_interval", "5s"), ("$namespace", "default"),
                                            ("$job", ".*"), ("$peak_flops", "1e12")):
                            expression = expression.replace(name, value)
                        name = f"{os.path.basename(path)}: {panel['title']} {target['refId']}"
                        missing[name] = expression

        def all_there():
            for title in [title for title, query in missing.items() if self.query(query)]:
                del missing[title]
            return not missing
        try:
            harness.wait_until(all_there, "every panel has data")
        except AssertionError:
            self.fail(f"without data: {json.dumps(missing, indent=1)}")


if __name__ == "__main__":
    unittest.main()
