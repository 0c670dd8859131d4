"""A disk that cannot be written: training waits for it, and everybody is told."""

import os
import unittest

import harness


class OutageTest(unittest.TestCase):

    def setUp(self):
        self.cluster = harness.Cluster()
        self.addCleanup(self.cluster.close)
        self.cluster.start_coordinator()
        self.cluster.start_worker()

    def move(self, store, source, target):
        os.rename(self.cluster.path(store) + source, self.cluster.path(store) + target)

    def test_stores_are_away_and_come_back(self):
        job_id = self.cluster.submit(train__steps=100_000, checkpoint__every_steps=100_000)
        self.cluster.await_step(job_id, 10)
        (trainer,) = self.cluster.trainers()
        self.assertEqual(self.cluster.ok("health").err, "")
        self.assertEqual(self.cluster.ok("list").err, "")

        # The worker's: the job waits, and says for what.
        self.move("w/store", "", ".away")
        harness.wait_until(lambda: "cannot keep its step records" in
                           self.cluster.ok("show", job_id).out, "the job says why it waits")
        shown = self.cluster.ok("show", job_id).out
        self.assertIn("running (training)", shown)
        self.assertIn(self.cluster.path("w/store"), shown)
        self.assertNotIn("ETA", shown)

        # The coordinator's as well: it says that it is of no use, and still shows what it has.
        self.move("coordinator/jobs", "", ".away")
        harness.wait_until(lambda: self.cluster.client("health").code == 1, "it is not healthy")
        health = self.cluster.client("health")
        self.assertEqual(health.code, 1, str(health))
        self.assertIn("is not serving: the coordinator's store cannot be written", health.out)
        self.assertIn(self.cluster.path("coordinator/jobs"), health.out)
        for command in (("list",), ("show", job_id), ("workers",)):
            run = self.cluster.ok(*command)
            self.assertEqual(run.err.count("store cannot be written"), 1, str(run))
            self.assertIn(self.cluster.path("coordinator/jobs"), run.err)
        workers = self.cluster.ok("workers", "-o", "json").json()["workers"]
        self.assertEqual([(worker["worker"], worker["state"]) for worker in workers],
                         [("w", "WORKER_STATE_LIVE")])
        refused = self.cluster.client("cancel", job_id, "--retry-for", "0.1")
        self.assertEqual(refused.code, 1, str(refused))
        self.assertIn("nothing was kept", refused.err)
        self.assertNotIn("jobs go on", refused.err)

        # Both are back, and so is everything, in the same process.
        self.move("coordinator/jobs", ".away", "")
        self.move("w/store", ".away", "")
        harness.wait_until(lambda: self.cluster.client("health").code == 0, "it is healthy")
        self.assertEqual(self.cluster.trainers(), [trainer])
        held_at = self.cluster.step(job_id)
        self.cluster.await_step(job_id, held_at + 10)
        self.assertNotIn("cannot keep", self.cluster.ok("show", job_id).out)
        self.cluster.ok("cancel", job_id)
        self.assertEqual(self.cluster.job(job_id)["attempt"], "1")
        losses = self.cluster.history(job_id, "loss")["loss"]
        self.assertEqual([step for step, _ in losses], list(range(1, len(losses) + 1)))
        self.assertGreater(len(losses), held_at)
        messages = [event["message"] for event in self.cluster.events(job_id)]
        self.assertEqual(sum("cannot keep its step records" in text for text in messages), 1)


if __name__ == "__main__":
    unittest.main()
