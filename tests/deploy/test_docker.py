"""deploy/docker: what can be known of the images without an engine that builds them."""

import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import unittest

import yaml

SOURCE = pathlib.Path(os.environ["SINKFORGE_SOURCE_DIR"]).resolve()
BUILD = pathlib.Path(os.environ["SINKFORGE_BUILD_DIR"]).resolve()
DOCKER = SOURCE / "deploy/docker"
DOCKERFILES = {path.stem: path for path in sorted(DOCKER.glob("*.Dockerfile"))}
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
OURS = {"coordinator": "sinkforge-coordinator", "worker": "sinkforge-worker"}


def instructions(path):
    """[(instruction, rest)] with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    return [tuple(line.split(None, 1)) for line in text.splitlines()
            if line and not line.startswith("#")]


def last_stage(path):
    lines = instructions(path)
    first = max(number for number, (word, _) in enumerate(lines) if word == "FROM")
    return lines[first:]


def values(lines, wanted):
    return [rest for word, rest in lines if word == wanted]


def options_of(program):
    return subprocess.run([BUILD / "bin" / program, "--help"], capture_output=True, text=True,
                          check=True).stdout


class DockerfileTest(unittest.TestCase):
    def test_there_is_one_for_each_daemon(self):
        self.assertEqual(sorted(DOCKERFILES), ["coordinator", "worker", "worker-cuda"])

    def test_images_are_pinned_small_and_not_root(self):
        for name, path in DOCKERFILES.items():
            (base,) = values(instructions(path), "ARG")
            self.assertRegex(base, r"^DEBIAN=debian:bookworm-\d{8}-slim$", name)
            self.assertEqual({rest.split()[0] for rest in values(instructions(path), "FROM")},
                             {"${DEBIAN}"}, name)
            stage = last_stage(path)
            self.assertEqual(values(stage, "USER"), ["10001:10001"], name)
            self.assertEqual(values(stage, "COPY") + values(stage, "ADD"), [], name)
            self.assertEqual(values(stage, "STOPSIGNAL"), ["SIGTERM"], name)

    def test_every_step_is_a_script_that_exists_and_is_valid(self):
        for name, path in DOCKERFILES.items():
            for rest in values(instructions(path), "RUN"):
                scripts = re.findall(r"(\w+\.sh)", rest)
                self.assertEqual(len(scripts), 1, f"{name}: {rest}")
                script = DOCKER / "stages" / scripts[0]
                self.assertTrue(os.access(script, os.X_OK), script)
                subprocess.run(["bash", "-n", script], check=True)

    def test_entry_points_name_options_that_exist(self):
        for name, path in DOCKERFILES.items():
            stage = last_stage(path)
            program, *options = yaml.safe_load(values(stage, "ENTRYPOINT")[0])
            self.assertEqual(program, OURS[name.removesuffix("-cuda")])
            help_text = options_of(program)
            for option in options + yaml.safe_load(values(stage, "CMD")[0]):
                self.assertIn("  " + option.split("=")[0], help_text, name)
            health = yaml.safe_load(values(stage, "HEALTHCHECK")[0].split("CMD ", 1)[1])
            self.assertEqual(health[:2], ["sinkforge", "health"])
            port = health[2].rpartition(":")[2]
            self.assertIn(port, values(stage, "EXPOSE")[0].split())
            self.assertIn(f":{port}", values(stage, "CMD")[0])

    def test_the_build_leaves_nothing_of_this_machine_in_the_image(self):
        ignored = (SOURCE / ".dockerignore").read_text(encoding="utf-8").splitlines()
        for name in (".git", "build"):
            self.assertIn(name, ignored)


class ComposeTest(unittest.TestCase):
    def test_services_are_pinned_restricted_and_healthy(self):
        self.assertEqual(sorted(COMPOSE["services"]),
                         ["coordinator", "grafana", "prometheus", "worker"])
        for name, service in COMPOSE["services"].items():
            self.assertRegex(service["image"], r":v?\d+\.\d+\.\d+$", name)
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertTrue(service["read_only"], name)
            self.assertEqual("healthcheck" in service, name not in OURS, "ours have their own")
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), f"{name}: {port}")

    def test_every_folder_and_volume_that_is_mounted_is_there(self):
        for name, service in COMPOSE["services"].items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source in COMPOSE["volumes"] or source.startswith("$"):
                    continue
                self.assertTrue((DOCKER / source).exists(), f"{name}: {source}")
            for other in service.get("depends_on", {}):
                self.assertIn(other, COMPOSE["services"])
            if "build" in service:
                self.assertEqual((DOCKER / service["build"]["context"]).resolve(), SOURCE)
                self.assertTrue((SOURCE / service["build"]["dockerfile"]).is_file())

    def test_the_dashboards_have_what_they_show(self):
        self.assertIn("--export-importance", COMPOSE["services"]["worker"]["command"])

    def test_commands_name_options_that_exist(self):
        for option in COMPOSE["services"]["worker"]["command"]:
            self.assertIn("  " + option.split("=")[0], options_of("sinkforge-worker"))

    def test_prometheus_accepts_its_configuration_and_knows_the_services(self):
        config = (DOCKER / "prometheus.yml").read_text(encoding="utf-8")
        rules = SOURCE / "deploy/prometheus/rules"
        with tempfile.TemporaryDirectory(prefix="sinkforge-compose-") as folder:
            path = pathlib.Path(folder) / "prometheus.yml"
            path.write_text(config.replace("/etc/prometheus/rules", str(rules)), encoding="utf-8")
            done = subprocess.run(["promtool", "check", "config", path], capture_output=True,
                                  text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for job in yaml.safe_load(config)["scrape_configs"]:
            host, _, port = job["static_configs"][0]["targets"][0].partition(":")
            daemon = last_stage(DOCKERFILES[host])
            self.assertIn(port, shlex.split(values(daemon, "EXPOSE")[0]))


if __name__ == "__main__":
    unittest.main()
