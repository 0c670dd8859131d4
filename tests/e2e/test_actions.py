"""pause, resume, cancel, delete; a drained worker; two workers with one name."""

import os
import re
import signal
import subprocess
import unittest
import urllib.request

import harness

LONG = {"train__steps": 5000, "evaluation__every_steps": 0, "checkpoint__every_steps": 1000}


class ActionTest(harness.ClusterTest):

    def test_pause_frees_the_slot_and_resume_goes_on_from_there(self):
        cluster = self.cluster
        job_id = cluster.submit(name="paused", **LONG)
        cluster.await_step(job_id, 10)
        cluster.ok("pause", job_id)
        self.assertEqual(cluster.client("wait", job_id).code, 12)
        job = cluster.job(job_id)
        paused_at = int(job["checkpoints"][-1]["step"])
        self.assertGreaterEqual(paused_at, 10)
        self.assertEqual(cluster.trainers(), [])
        # The slot is free for another job.
        cluster.ok("wait", cluster.submit(name="between", train__steps=5))
        cluster.ok("resume", job_id)
        cluster.await_step(job_id, paused_at + 5)
        cluster.ok("cancel", job_id)
        self.assertEqual(cluster.client("wait", job_id).code, 11)
        harness.wait_until(lambda: not cluster.trainers(), "the cancelled trainer has ended")
        history = cluster.history(job_id, "loss")["loss"]
        steps = [step for step, _ in history]
        self.assertEqual(steps, list(range(1, len(steps) + 1)))
        self.assertEqual(cluster.client("resume", job_id).code, 1)

    def test_delete_takes_everything_with_it(self):
        cluster = self.cluster
        job_id = cluster.submit(name="deleted")
        self.assertEqual(cluster.client("delete", job_id).code, 1)  # not while it runs
        cluster.ok("wait", job_id)
        cluster.ok("delete", job_id)
        for command in ("show", "logs", "metrics", "events", "watch"):
            run = cluster.client(command, job_id)
            self.assertEqual(run.code, 3, f"{command}: {run}")
            self.assertIn(job_id, run.err)
        self.assertNotIn(job_id, cluster.ok("list").out)

    def test_interrupting_a_watch_leaves_the_job_running(self):
        cluster = self.cluster
        job_id = cluster.submit(name="interrupted", **LONG)
        cluster.await_step(job_id, 1)
        watch = cluster.start_client("watch", job_id)
        self.assertIn("running", watch.stdout.readline())
        watch.send_signal(signal.SIGINT)
        _, err = watch.communicate(timeout=harness.WAIT_SECONDS)
        self.assertEqual(watch.returncode, 130, err)
        self.assertIn("goes on", err)
        self.assertEqual(cluster.job(job_id)["state"], "JOB_STATE_RUNNING")
        cluster.ok("cancel", job_id)
        self.assertEqual(cluster.client("wait", job_id).code, 11)

    def test_a_higher_priority_goes_first(self):
        cluster = self.cluster
        first = cluster.submit(name="holds-the-slot", **LONG)
        cluster.await_step(first, 1)
        low = cluster.submit(name="low", train__steps=5)
        high = cluster.submit(name="high", train__steps=5, priority=5)
        waiting = cluster.job(low)
        self.assertEqual(waiting["state"], "JOB_STATE_QUEUED")
        self.assertTrue(waiting["message"])
        cluster.ok("cancel", first)
        low_job, high_job = (cluster.await_state(job_id, "SUCCEEDED") for job_id in (low, high))
        self.assertLess(high_job["start_time"], low_job["start_time"])


class WorkerTest(harness.ClusterTest):

    def test_a_drained_worker_hands_its_job_over(self):
        cluster = self.cluster
        job_id = cluster.submit(**{**LONG, "train__steps": 3000})
        cluster.await_step(job_id, 20)
        self.assertEqual(cluster.workers["w"].stop(), 0, cluster.workers["w"].log()[-2000:])
        job = cluster.await_state(job_id, "QUEUED")
        self.assertGreaterEqual(int(job["checkpoints"][-1]["step"]), 20)
        cluster.restart_worker()
        cluster.await_step(job_id, int(job["checkpoints"][-1]["step"]) + 5)
        restored = [event for event in cluster.events(job_id)
                    if event["kind"] == "EVENT_KIND_RESTORED"]
        self.assertEqual(restored[-1]["step"], job["checkpoints"][-1]["step"])
        cluster.ok("cancel", job_id)

    def test_a_stopped_worker_is_gone_a_killed_one_is_lost_until_it_is_drained(self):
        cluster = self.cluster
        for name in ("stopped", "killed"):
            cluster.start_worker(name)

        def states():
            listed = cluster.ok("workers", "-o", "json").json()["workers"]
            return {worker["worker"]: worker["state"] for worker in listed}

        def lost():
            with urllib.request.urlopen(f"http://{cluster.metrics_address}/metrics") as answer:
                page = answer.read().decode()
            return re.search(r'^sinkforge_workers\{state="lost"\} (\d+)$', page, re.MULTILINE)[1]
        harness.wait_until(lambda: {"stopped", "killed"} <= set(states()), "both are known")
        self.assertEqual(cluster.workers["stopped"].stop(), 0)
        cluster.workers["killed"].kill()
        harness.wait_until(lambda: states().get("killed") == "WORKER_STATE_LOST" and
                           "stopped" not in states(), "the coordinator has noticed both")
        self.assertEqual(lost(), "1")
        cluster.ok("drain", "killed", "--note", "burnt down")
        self.assertEqual(lost(), "0")
        self.assertIn("lost (burnt down)", cluster.ok("workers").out)

    def test_a_second_worker_of_the_same_name_is_refused(self):
        cluster = self.cluster
        second = harness.Daemon(
            [os.path.join(harness.BIN, "sinkforge-worker"), "--name", "w", "--coordinator",
             cluster.address, "--data-dir", cluster.path("second"), "--listen", "127.0.0.1:0",
             "--metrics-listen", "127.0.0.1:0"], cluster.path("second.log"))
        self.addCleanup(second.kill)
        harness.wait_until(lambda: not second.alive(), "the second worker has ended")
        self.assertEqual(second.process.returncode, 3, second.log())
        self.assertIn("--name", second.log())
        self.assertTrue(cluster.workers["w"].alive())
        (worker,) = [worker for worker in cluster.ok("workers", "-o", "json").json()["workers"]
                     if worker["worker"] == "w"]
        self.assertEqual(worker["state"], "WORKER_STATE_LIVE")

    def test_a_worker_offers_no_gpu_that_its_trainer_cannot_use(self):
        """This machine has none, or the trainer was built for the CPU alone."""
        cluster = self.cluster
        gpus = subprocess.run([os.path.join(harness.BIN, "sinkforge-trainer"), "gpus"], text=True,
                              capture_output=True, check=False, timeout=harness.WAIT_SECONDS)
        self.assertEqual((gpus.returncode, gpus.stdout), (26, ""), gpus.stderr)
        second = harness.Daemon(
            [os.path.join(harness.BIN, "sinkforge-worker"), "--name", "gpus", "--gpus", "1",
             "--coordinator", cluster.address, "--data-dir", cluster.path("gpus"),
             "--metrics-listen", "127.0.0.1:0"], cluster.path("gpus.log"))
        self.addCleanup(second.kill)
        harness.wait_until(lambda: not second.alive(), "the worker with --gpus has ended")
        self.assertEqual(second.process.returncode, 5, second.log())
        self.assertIn("cannot start: --gpus 1: ", second.log())
        self.assertIn(gpus.stderr.strip().removeprefix("error: "), second.log())
        self.assertNotIn("gpus", cluster.ok("workers").out)

    def test_an_address_in_use_is_named(self):
        cluster = self.cluster
        second = harness.Daemon(
            [os.path.join(harness.BIN, "sinkforge-coordinator"), "--listen", cluster.address,
             "--metrics-listen", "127.0.0.1:0", "--data-dir", cluster.path("other")],
            cluster.path("other.log"))
        self.addCleanup(second.kill)
        harness.wait_until(lambda: not second.alive(), "the second coordinator has ended")
        self.assertEqual(second.process.returncode, 5, second.log())
        self.assertIn(cluster.address, second.log())
        self.assertTrue(cluster.coordinator.alive())
        # The same data directory is not shared either.
        third = harness.Daemon(
            [os.path.join(harness.BIN, "sinkforge-coordinator"), "--listen", "127.0.0.1:0",
             "--metrics-listen", "127.0.0.1:0", "--data-dir", cluster.path("coordinator")],
            cluster.path("third.log"))
        self.addCleanup(third.kill)
        harness.wait_until(lambda: not third.alive(), "the third coordinator has ended")
        self.assertEqual(third.process.returncode, 4, third.log())


if __name__ == "__main__":
    unittest.main()
