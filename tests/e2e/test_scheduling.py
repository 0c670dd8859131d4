"""Jobs that make room, wait for quotas, and leave drained workers; real daemons and trainers."""

import os
import shutil
import unittest

import harness

LONG = {"train__steps": 100000, "checkpoint__every_steps": 50}
SHORT = {"train__steps": 5}


def moment(time):
    """Of protobuf's JSON, where a whole second has no fraction; ordered as time is."""
    return time.rstrip("Z").split(".")


class SchedulingTest(unittest.TestCase):

    def setUp(self):
        self.cluster = harness.Cluster()
        self.addCleanup(self.cluster.close)
        self.cluster.start_coordinator()
        self.cluster.start_worker("a")

    def test_a_preempted_job_checkpoints_and_goes_on_where_it_stopped(self):
        cluster = self.cluster
        low = cluster.submit(name="low", **LONG)
        cluster.await_step(low, 20)
        high = cluster.submit(name="high", priority=1, **SHORT)
        cluster.ok("wait", high)
        cluster.await_step(low, 60)
        job = cluster.job(low)
        ends = [event for event in cluster.events(low)
                if event["kind"] == "EVENT_KIND_ATTEMPT_ENDED"]
        self.assertEqual([event["reason"] for event in ends], ["REASON_PREEMPTED"])
        self.assertIn(high, ends[0]["message"])
        restored = [event for event in cluster.events(low)
                    if event["kind"] == "EVENT_KIND_RESTORED"]
        self.assertEqual(restored[0]["step"], ends[0]["step"], "a step was lost")
        self.assertEqual(int(job["attempt"]), 2)
        cluster.ok("cancel", low)

    def test_a_drained_worker_hands_its_job_over_and_show_says_what_helps(self):
        cluster = self.cluster
        job_id = cluster.submit(name="moves", **LONG)
        cluster.await_step(job_id, 20)
        cluster.ok("drain", "a", "--note", "new disk")
        cluster.await_state(job_id, "QUEUED")
        harness.wait_until(lambda: "draining (new disk): " in cluster.ok("workers").out and
                           "on no worker that stays" in cluster.ok("workers").out,
                           "the worker is known to have the only copies")
        self.assertIn("sinkforge undrain a", cluster.ok("show", job_id).out)
        step = int(cluster.job(job_id)["checkpoints"][-1]["step"])
        cluster.start_worker("b")
        cluster.await_step(job_id, step + 1)
        self.assertEqual(cluster.job(job_id)["placement"][0]["worker"], "b")
        harness.wait_until(lambda: "drained (new disk)" in cluster.ok("workers").out,
                           "the worker can be taken away")
        cluster.ok("undrain", "a")
        cluster.ok("cancel", job_id)
        self.assertEqual(cluster.client("drain", "nobody").code, 3)

    def test_a_worker_without_the_data_fails_no_job_that_another_can_run(self):
        cluster = self.cluster
        mount = cluster.path("mount")
        os.mkdir(mount)
        shutil.copy(os.path.join(cluster.data, "train.txt"), os.path.join(mount, "mounted.txt"))
        cluster.start_worker("b", more=("--data-root", mount))
        harness.wait_until(lambda: len(cluster.ok("workers", "-o", "json").json()["workers"]) == 2,
                           "both workers are there")
        # The one that has the data is busy, so that every job starts at the other one.
        busy = cluster.submit(name="busy", data__train=["mounted.txt"], **LONG)
        cluster.await_step(busy, 1)
        self.assertEqual(cluster.job(busy)["placement"][0]["worker"], "b")
        waiting = [cluster.submit(name=f"waits-{n}", data__train=["mounted.txt"], **SHORT)
                   for n in range(2)]
        for job_id in waiting:
            harness.wait_until(lambda job=job_id: "not on a, where it failed" in
                               cluster.ok("show", job).out, f"{job_id} waits for the other worker")
            self.assertIn("after 1 worker without its data or room", cluster.ok("show", job_id).out)
        other = cluster.submit(name="other", **SHORT)
        cluster.await_state(other, "SUCCEEDED")
        cluster.ok("cancel", busy)
        for job_id in waiting:
            cluster.await_state(job_id, "SUCCEEDED")
            self.assertEqual([event["reason"] for event in cluster.events(job_id)
                              if event["kind"] == "EVENT_KIND_ATTEMPT_ENDED"],
                             ["REASON_BAD_DATA", "REASON_COMPLETED"])
        # What nobody has is said at once, and where it was looked for.
        typo = cluster.submit(name="typo", data__train=["munted.txt"], **SHORT)
        self.assertIn("; before that it failed on ",
                      cluster.await_state(typo, "FAILED")["message"])

    def test_a_quota_holds_a_namespace_back_until_it_is_raised(self):
        cluster = self.cluster
        cluster.ok("namespaces", "set", "team", "--cpu-slots", "0")
        job_id = cluster.submit(namespace="team", **SHORT)
        harness.wait_until(
            lambda: cluster.job(job_id)["reason"] == "REASON_NOT_ENOUGH_SLOTS_EXIST",
            "the job needs more than its quota")
        self.assertIn("sinkforge namespaces set team --cpu-slots 1",
                      cluster.ok("show", job_id).out)
        self.assertIn("0/0", cluster.ok("namespaces").out)
        cluster.ok("wait", cluster.submit(name="other", **SHORT))
        cluster.ok("namespaces", "set", "team", "--cpu-slots", "none")
        cluster.ok("wait", job_id)

    def test_a_sweep_runs_no_more_at_a_time_than_allowed(self):
        cluster = self.cluster
        cluster.start_worker("b")
        file = cluster.write_job(**SHORT)
        out = cluster.ok("sweep", file, "--seeds", "1,2,3", "--max-running", "1",
                         "--name", "one-by-one").out
        jobs = [cluster.await_state(job_id, "SUCCEEDED") for job_id in out.split()]
        self.assertEqual(len(jobs), 3)
        for before, after in zip(jobs, jobs[1:]):
            self.assertLess(moment(before["end_time"]), moment(after["start_time"]))


if __name__ == "__main__":
    unittest.main()
