"""`sinkforge local`: up, status, down, and that nothing is left running."""

import os
import signal
import subprocess
import unittest

import harness


class LocalTest(unittest.TestCase):

    def setUp(self):
        self.cluster = harness.Cluster()  # only its folder, data and job files
        self.state = self.cluster.path("state")
        self.addCleanup(self.cluster.close)
        self.addCleanup(self.client, "local", "down", "--grace", "1")

    def client(self, *arguments):
        environment = dict(os.environ, HOME=self.cluster.folder, XDG_STATE_HOME=self.state)
        environment.pop("SINKFORGE_COORDINATOR", None)
        process = subprocess.run([os.path.join(harness.BIN, "sinkforge"), *arguments],
                                 env=environment, cwd=self.cluster.folder, text=True,
                                 stdin=subprocess.DEVNULL, capture_output=True, check=False,
                                 timeout=2 * harness.WAIT_SECONDS)
        process.code, process.out, process.err = (process.returncode, process.stdout,
                                                  process.stderr)
        return process

    def ok(self, *arguments):
        run = self.client(*arguments)
        self.assertEqual(run.code, 0, f"{arguments}: {run.out}{run.err}")
        return run

    def processes(self):
        """Command lines of whatever mentions this test's folder and is no zombie."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    command = file.read().replace(b"\0", b" ").decode(errors="replace")
                with open(f"/proc/{entry}/environ", "rb") as file:
                    environment = file.read().decode(errors="replace")
            except OSError:
                continue
            if self.cluster.folder in command or f"HOME={self.cluster.folder}" in environment:
                if harness.start_ticks(int(entry)) is not None:
                    found.append(command)
        return found

    def test_up_runs_jobs_and_down_leaves_nothing(self):
        run = self.ok("local", "up", "--slots", "2", "--data-root", self.cluster.data)
        self.assertIn("running", run.out)
        status = harness.json.loads(self.ok("local", "status", "-o", "json").out)
        self.assertEqual(self.ok("list").code, 0)  # found without being told
        again = self.ok("local", "up")
        self.assertIn("already up", again.err)
        self.assertEqual(harness.json.loads(self.ok("local", "status", "-o", "json").out), status)
        job = self.cluster.write_job(train__steps=100_000, checkpoint__every_steps=0,
                                     evaluation__every_steps=0)
        job_id = self.ok("submit", job).out.strip()
        self.ok("wait", job_id, "--until", "first-step")
        self.assertEqual(len(self.processes()), 3)
        self.ok("local", "down")
        self.assertEqual(self.processes(), [])
        self.assertEqual(self.client("local", "status").code, 3)
        # The job was checkpointed, and goes on after the next `up`.
        self.ok("local", "up", "--data-root", self.cluster.data)
        shown = harness.json.loads(self.ok("show", job_id, "-o", "json").out)
        step = int(shown["checkpoints"][-1]["step"])
        harness.wait_until(
            lambda: int(harness.json.loads(self.ok("show", job_id, "-o", "json").out)
                        ["progress"]["step"]) > step, "the job goes on")
        self.ok("cancel", job_id)
        self.ok("local", "down")
        self.assertEqual(self.processes(), [])

    def test_a_killed_daemon_is_noticed_and_up_repairs_it(self):
        self.ok("local", "up")
        status = harness.json.loads(self.ok("local", "status", "-o", "json").out)
        os.kill(status["worker"]["pid"], signal.SIGKILL)
        harness.wait_until(lambda: self.client("local", "status").code == 3, "it is noticed")
        self.ok("local", "up")
        self.assertEqual(self.client("local", "status").code, 0)
        self.ok("local", "down")
        self.assertEqual(self.processes(), [])

    def test_a_start_that_fails_shows_the_log_and_leaves_nothing(self):
        # The coordinator's data folder is a file: it cannot start.
        os.makedirs(os.path.join(self.state, "sinkforge", "local", "coordinator", "jobs"))
        os.rmdir(os.path.join(self.state, "sinkforge", "local", "coordinator", "jobs"))
        blocker = os.path.join(self.state, "sinkforge", "local", "coordinator")
        os.chmod(blocker, 0o700)
        for name in ("jobs", "history", "logs"):
            with open(os.path.join(blocker, name), "w", encoding="ascii") as file:
                file.write("not a folder")
        run = self.client("local", "up")
        self.assertEqual(run.code, 1, run.out + run.err)
        self.assertIn("coordinator.log", run.err)
        self.assertIn("cannot start", run.err)
        self.assertEqual(self.processes(), [])


if __name__ == "__main__":
    unittest.main()
