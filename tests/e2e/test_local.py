"""`sinkforge local`: up, status, down, and that nothing is left running."""

import os
import signal
import socket
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

    def status(self):
        return harness.json.loads(self.ok("local", "status", "-o", "json").out)

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
        status = self.status()
        self.assertEqual(self.ok("list").code, 0)  # found without being told
        again = self.ok("local", "up")
        self.assertIn("already up", again.err)
        self.assertEqual(self.status(), status)
        job = self.cluster.write_job(train__steps=100_000, checkpoint__every_steps=0,
                                     evaluation__every_steps=0)
        job_id = self.ok("submit", job).out.strip()
        self.ok("wait", job_id, "--until", "first-step")
        self.assertEqual(len(self.processes()), 3)
        self.ok("local", "down")
        self.assertEqual(self.processes(), [])
        self.assertEqual(self.client("local", "status").code, 3)
        # The job was checkpointed, and goes on after the next `up`.
        self.ok("local", "up")
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
        status = self.status()
        os.kill(status["worker"]["pid"], signal.SIGKILL)
        harness.wait_until(lambda: self.client("local", "status").code == 3, "it is noticed")
        self.ok("local", "up")
        self.assertEqual(self.client("local", "status").code, 0)
        self.ok("local", "down")
        self.assertEqual(self.processes(), [])

    def test_a_coordinator_that_hangs_is_told_from_one_that_serves(self):
        self.ok("local", "up")
        pid = self.status()["coordinator"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        for command in ("up", "status"):
            run = self.client("local", command)
            self.assertEqual(run.code, 4, run.out + run.err)
            self.assertIn(f"the coordinator runs (pid {pid}), but does not answer", run.err)
            self.assertIn(f"kill -KILL {pid}", run.err)
        os.kill(pid, signal.SIGCONT)
        self.ok("local", "status")
        self.assertIn("already up", self.ok("local", "up").err)

    def kill(self, name):
        os.kill(self.status()[name]["pid"], signal.SIGKILL)
        harness.wait_until(lambda: self.client("local", "status").code == 3, "it is noticed")

    def test_a_worker_and_its_job_outlive_the_coordinator(self):
        self.ok("local", "up", "--data-root", self.cluster.data)
        before = self.status()
        job = self.cluster.write_job(train__steps=100_000, checkpoint__every_steps=0,
                                     evaluation__every_steps=0)
        job_id = self.ok("submit", job).out.strip()
        self.ok("wait", job_id, "--until", "first-step")
        self.kill("coordinator")
        refused = self.client("local", "up", "--slots", "7")
        self.assertEqual(refused.code, 1, refused.out + refused.err)
        self.assertIn("the worker goes on", self.ok("local", "up").err)
        after = self.status()
        self.assertEqual(after["worker"], before["worker"])
        self.assertNotEqual(after["coordinator"]["pid"], before["coordinator"]["pid"])
        for address in ("address", "metrics_address", "page_address"):
            self.assertEqual(after["coordinator"][address], before["coordinator"][address])

        def shown():
            return harness.json.loads(self.ok("show", job_id, "-o", "json").out)

        step = int(shown()["progress"]["step"])
        harness.wait_until(lambda: int(shown()["progress"]["step"]) > step, "the job goes on")
        self.assertEqual(int(shown()["attempt"]), 1)
        self.ok("cancel", job_id)

    def test_what_was_trained_while_nobody_listened_is_shown(self):
        self.ok("local", "up", "--data-root", self.cluster.data)
        job_id = self.ok("submit", self.cluster.write_job(
            train__steps=400, checkpoint__every_steps=0, evaluation__every_steps=0)).out.strip()
        self.ok("wait", job_id, "--until", "first-step")
        worker = self.status()["worker"]["pid"]
        self.kill("coordinator")
        harness.wait_until(lambda: not harness.children_of(worker, "sinkforge-trainer"),
                           "the trainer is done")
        os.kill(worker, signal.SIGKILL)
        self.ok("local", "up")
        self.ok("wait", job_id)
        job = harness.json.loads(self.ok("show", job_id, "-o", "json").out)
        self.assertEqual(job["progress"]["step"], "400")
        self.assertEqual(job["progress"]["loss"], job["checkpoints"][-1]["loss"])

    def test_only_the_worker_is_started_where_only_it_is_missing(self):
        self.ok("local", "up", "--slots", "1")
        before = self.status()
        self.kill("worker")
        self.assertIn("the coordinator goes on", self.ok("local", "up", "--slots", "2").err)
        after = self.status()
        self.assertEqual(after["coordinator"], before["coordinator"])
        self.assertNotEqual(after["worker"]["pid"], before["worker"]["pid"])
        self.assertEqual(after["slots"], 2)
        self.assertEqual(after["data_roots"], before["data_roots"])

    def test_a_drained_worker_starts_again_and_says_so(self):
        self.ok("local", "up", "--slots", "1")
        self.ok("drain", "local")
        self.ok("local", "down")
        self.assertIn("sinkforge undrain local", self.ok("local", "up").err)
        self.ok("undrain", "local")
        self.assertNotIn("undrain", self.ok("local", "up").err)

    def test_a_taken_address_costs_the_worker_too(self):
        self.ok("local", "up")
        before = self.status()
        self.kill("coordinator")
        host, port = before["coordinator"]["address"].split(":")
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((host, int(port)))
            other.listen()
            self.assertIn("taken by another program", self.ok("local", "up").err)
        after = self.status()
        self.assertNotEqual(after["coordinator"]["address"], before["coordinator"]["address"])
        self.assertNotEqual(after["worker"]["pid"], before["worker"]["pid"])
        self.ok("local", "down")
        self.assertEqual(self.processes(), [])

    def test_other_options_are_refused_while_it_is_up(self):
        data, other = self.cluster.data, self.cluster.path("other")
        os.mkdir(other)
        self.ok("local", "up", "--slots", "2", "--data-root", data, "--data-root", other)
        before = self.status()
        for same in ([], ["--slots", "2"], ["--data-root", "other/", "--data-root", "./data"]):
            self.assertIn("already up", self.ok("local", "up", *same).err)
        for arguments, named in ((["--slots", "3"], "--slots 2, not 3"),
                                 (["--data-root", data], other)):
            run = self.client("local", "up", *arguments)
            self.assertEqual(run.code, 1, run.out + run.err)
            self.assertIn(named, run.err)
            self.assertIn("`sinkforge local down` first", run.err)
        self.assertEqual(self.client("local", "up", "--slots", "0").code, 2)
        self.assertEqual(self.status(), before)

    def test_options_are_those_of_the_last_up(self):
        own = os.path.join(self.state, "sinkforge", "local", "data")
        self.ok("local", "up")
        self.assertEqual(self.status()["data_roots"], [self.cluster.folder, own])
        self.ok("local", "down")
        self.ok("local", "up", "--slots", "3", "--data-root", "data")
        self.ok("local", "down")
        self.assertIn(self.cluster.data, self.ok("local", "up").err)
        status = self.status()
        self.assertEqual(status["data_roots"], [self.cluster.data, own])
        self.assertEqual(status["slots"], 3)
        self.ok("local", "down")
        self.ok("local", "up", "--slots", "1")
        self.assertEqual(self.status()["data_roots"], status["data_roots"])
        # A job reads them by its own name for them.
        with open(os.path.join(own, "own.txt"), "w", encoding="ascii") as file:
            file.write("To be or not to be, that is the question.\n" * 500)
        job = self.cluster.write_job(data__train=["train.txt", "own.txt"], train__steps=2)
        job_id = self.ok("submit", job).out.strip()
        self.ok("wait", job_id)

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
