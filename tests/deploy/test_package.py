"""The Debian packages: what is in them, what they need, their scripts and their systemd units."""

import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["SINKFORGE_BUILD_DIR"]).resolve()
SOURCE = pathlib.Path(os.environ["SINKFORGE_SOURCE_DIR"]).resolve()
WAIT_SECONDS = 120  # A bound against hanging, not an expectation.

JOBS = sorted(path.name for path in (SOURCE / "deploy/jobs").iterdir())
FILES = {
    "sinkforge": [
        "/usr/bin/sinkforge",
        "/usr/share/bash-completion/completions/sinkforge",
        "/usr/share/zsh/vendor-completions/_sinkforge",
        "/usr/share/fish/vendor_completions.d/sinkforge.fish",
        *(f"/usr/share/man/man1/{path.name}" for path in (BUILD / "man/client").iterdir()),
        "/usr/share/doc/sinkforge/README.md",
        "/usr/share/doc/sinkforge/copyright",
        *(f"/usr/share/doc/sinkforge/examples/jobs/{name}" for name in JOBS),
    ],
    "sinkforge-coordinator": [
        "/etc/default/sinkforge-coordinator",
        "/usr/bin/sinkforge-coordinator",
        "/usr/lib/systemd/system/sinkforge-coordinator.service",
        "/usr/share/doc/sinkforge-coordinator/README.md",
        "/usr/share/doc/sinkforge-coordinator/copyright",
        "/usr/share/man/man8/sinkforge-coordinator.8",
    ],
    "sinkforge-worker": [
        "/etc/default/sinkforge-worker",
        "/usr/bin/sinkforge-trainer",
        "/usr/bin/sinkforge-worker",
        "/usr/lib/systemd/system/sinkforge-worker.service",
        "/usr/share/doc/sinkforge-worker/README.md",
        "/usr/share/doc/sinkforge-worker/copyright",
        "/usr/share/man/man1/sinkforge-trainer.1",
        "/usr/share/man/man8/sinkforge-worker.8",
    ],
}
SERVICES = ["sinkforge-coordinator", "sinkforge-worker"]


def output_of(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        raise AssertionError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class PackageTest(unittest.TestCase):
    """Packs once; the tests of the units are in the same class for that reason."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="sinkforge-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        output_of("cpack", "--config", str(BUILD / "CPackConfig.cmake"), "-B", str(cls.folder))
        cls.root = cls.folder / "root"  # Where all packages are unpacked together.
        cls.control = {}
        cls.scripts = {}
        for name in FILES:
            package = str(cls.package(name))
            cls.control[name] = output_of("dpkg-deb", "--field", package)
            cls.scripts[name] = cls.folder / f"{name}.control"
            output_of("dpkg-deb", "--control", package, str(cls.scripts[name]))
            output_of("dpkg-deb", "--extract", package, str(cls.root))

    @classmethod
    def package(cls, name):
        (path,) = cls.folder.glob(f"{name}_*.deb")
        return path

    def test_holds_exactly_the_listed_files_owned_by_root(self):
        self.assertEqual(len(list(self.folder.glob("*.deb"))), len(FILES))
        for name, files in FILES.items():
            lines = output_of("dpkg-deb", "--contents", str(self.package(name))).splitlines()
            found = {line.split()[5].removeprefix("."): line for line in lines
                     if not line.startswith("d")}
            self.assertEqual(sorted(found), sorted(files))
            for path, line in found.items():
                mode = "-rwxr-xr-x" if path.startswith("/usr/bin/") else "-rw-r--r--"
                self.assertEqual(line.split()[:2], [mode, "root/root"], line)

    def test_programs_are_stripped_and_need_only_what_the_package_depends_on(self):
        for name in FILES:
            depends = re.search(r"^Depends: (.*)$", self.control[name], re.M).group(1)
            self.assertIn("libgrpc++1.51", depends)
            self.assertEqual("adduser" in depends, name in SERVICES)
            self.assertEqual("librocksdb" in depends, name in SERVICES)
            for path in FILES[name]:
                if not path.startswith("/usr/bin/"):
                    continue
                program = str(self.root) + path
                self.assertNotIn(".symtab", output_of("readelf", "--sections", program))
                self.assertIn("0.", output_of(program, *self.version_option(path)))

    @staticmethod
    def version_option(path):
        return ["version"] if path.endswith("/sinkforge") else ["--version"]

    def test_versions_agree(self):
        for name, control in self.control.items():
            version = re.search(r"^Version: (.*)-1$", control, re.M).group(1)
            text = output_of(str(self.root / "usr/bin/sinkforge"), "version")
            self.assertIn(f"sinkforge {version} ", text, name)

    def test_maintainer_scripts_are_valid_and_whole(self):
        for name in SERVICES:
            self.assertEqual((self.scripts[name] / "conffiles").read_text(),
                             f"/etc/default/{name}\n")
            for script in ("postinst", "prerm", "postrm"):
                path = self.scripts[name] / script
                output_of("sh", "-n", str(path))
                self.assertTrue(os.access(path, os.X_OK), path)
                text = path.read_text()
                self.assertIn(f"{name}.service", text)
                self.assertNotIn("@", text, "a variable that was not filled in")
        self.assertEqual(sorted(path.name for path in self.scripts["sinkforge"].iterdir()),
                         ["control", "md5sums"])

    def unit(self, name):
        return self.root / f"usr/lib/systemd/system/{name}.service"

    def test_systemd_accepts_the_units(self):
        # This machine has no /usr/bin/sinkforge-*: the paths lead to the unpacked ones.
        folder = self.folder / "units"
        folder.mkdir()
        for name in SERVICES:
            text = self.unit(name).read_text().replace("=/usr/bin/", f"={self.root}/usr/bin/")
            (folder / f"{name}.service").write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *(str(path) for path in folder.iterdir())],
            capture_output=True, text=True, check=False)
        complaints = [line for line in done.stderr.splitlines() if "sinkforge" in line]
        self.assertEqual((done.returncode, complaints), (0, []), done.stderr)

    def test_every_option_of_the_units_exists(self):
        for name in SERVICES:
            help_text = output_of(str(self.root / "usr/bin" / name), "--help")
            defaults = (self.root / "etc/default" / name).read_text()
            used = set(re.findall(r"--[a-z-]+", self.unit(name).read_text() + defaults))
            for option in sorted(used):
                self.assertIn(f"  {option}", help_text, name)

    def test_the_daemons_tell_systemd_when_they_serve_and_when_they_stop(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(self.folder / "notify"))
            coordinator = self.start(["sinkforge-coordinator", "--listen", "127.0.0.1:0"])
            self.await_message(manager, "READY=1", coordinator)
            worker = self.start(["sinkforge-worker", "--coordinator", "127.0.0.1:1", "--listen",
                                 "127.0.0.1:0", "--grace", "1s"])
            self.await_message(manager, "READY=1", worker)
            for daemon in (worker, coordinator):
                daemon.terminate()
                self.await_message(manager, "STOPPING=1", daemon)
                self.assertEqual(daemon.wait(timeout=WAIT_SECONDS), 0)

    def start(self, command):
        command = [str(self.root / "usr/bin" / command[0]), *command[1:], "--metrics-listen",
                   "127.0.0.1:0", "--data-dir", str(self.folder / f"{command[0]}.data")]
        with open(self.folder / "daemons.log", "ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(
                os.environ, NOTIFY_SOCKET=str(self.folder / "notify")))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def await_message(self, manager, message, daemon):
        readable, _, _ = select.select([manager], [], [], WAIT_SECONDS)
        log = (self.folder / "daemons.log").read_text()
        self.assertTrue(readable, f"no {message} of {daemon.args}\n{log}")
        self.assertEqual(manager.recv(4096).decode(), message)


if __name__ == "__main__":
    unittest.main()
