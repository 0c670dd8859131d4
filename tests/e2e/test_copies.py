"""Every checkpoint is on two workers: a job goes on without the worker that wrote it, and what is
corrupt on a disk is found, named and fetched anew."""

import os
import unittest

import harness

STEPS = 300
SETTINGS = {"train__steps": STEPS, "train__batch_tokens": 1024, "checkpoint__every_steps": 25}
SERIES = "loss,aux_loss,imbalance,importance"


def damage(folder):
    """Flips some bytes in the larger data files of a database, where checkpoint data lie."""
    damaged = 0
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not name.endswith(".sst") or os.path.getsize(path) < 50_000:
            continue
        with open(path, "r+b") as file:
            # Neither the first record of a part, which the daemon reads at its start, nor the index
            # at the end, without which the file does not open.
            file.seek(os.path.getsize(path) * 45 // 100)
            content = file.read(64)
            file.seek(-len(content), os.SEEK_CUR)
            file.write(bytes(byte ^ 0xFF for byte in content))
        damaged += 1
    return damaged


class CopiesTest(unittest.TestCase):

    def setUp(self):
        self.cluster = harness.Cluster()
        self.addCleanup(self.cluster.close)
        self.cluster.start_coordinator()
        self.cluster.start_worker("a")

    def await_copies(self, job_id, count=1):
        """Every checkpoint has so many copies; returns them."""
        def copied():
            checkpoints = [checkpoint for checkpoint in self.cluster.job(job_id)["checkpoints"]
                           if not checkpoint.get("deleting")]
            done = all(len(checkpoint.get("copies", [])) == count for checkpoint in checkpoints)
            return done and checkpoints
        return harness.wait_until(copied, f"every checkpoint of {job_id} has {count} copies")

    def test_a_job_goes_on_without_the_worker_that_wrote_its_checkpoint(self):
        undisturbed = self.cluster.submit(name="undisturbed", **SETTINGS)
        self.cluster.ok("wait", undisturbed)
        job_id = self.cluster.submit(name="moved", **SETTINGS)
        self.cluster.await_step(job_id, 30)
        self.cluster.start_worker("b")
        harness.wait_until(
            lambda: any("copies" in checkpoint
                        for checkpoint in self.cluster.job(job_id)["checkpoints"]),
            "the job has a checkpoint on two workers")
        self.cluster.workers["a"].kill()
        self.cluster.await_state(job_id, "SUCCEEDED")
        self.assertEqual(self.cluster.history(job_id, SERIES),
                         self.cluster.history(undisturbed, SERIES))
        self.assertGreaterEqual(int(self.cluster.job(job_id)["attempt"]), 2)

    def test_corrupt_data_are_named_and_repaired_from_the_other_worker(self):
        self.cluster.start_worker("b")
        job_id = self.cluster.submit(name="copied", **SETTINGS)
        self.cluster.ok("wait", job_id)
        before = self.await_copies(job_id)
        self.cluster.ok("checkpoints", "verify", job_id)
        _, tensors = self.cluster.export(job_id, "before.safetensors", "--with-optimizer")
        self.assertEqual(self.cluster.workers["a"].stop(), 0)
        self.assertGreater(damage(os.path.join(self.cluster.path("a"), "store")), 0)
        self.cluster.restart_worker("a")
        found = harness.wait_until(
            lambda: [run for run in [self.cluster.client("checkpoints", "verify", job_id, "-o",
                                                         "json")] if run.code == 1],
            "the damage is found")[0].json()
        bad = [copy for copy in found if not copy["ok"]]
        self.assertEqual({copy["worker"] for copy in bad}, {"a"})
        self.assertTrue(any("copied-" in copy["error"] for copy in bad), bad)
        # Dropped, fetched anew from the other worker, and whole.
        harness.wait_until(
            lambda: self.cluster.client("checkpoints", "verify", job_id).code == 0 and
            self.await_copies(job_id), "the copies are repaired")
        self.assertEqual([checkpoint["step"] for checkpoint in self.await_copies(job_id)],
                         [checkpoint["step"] for checkpoint in before])
        _, after = self.cluster.export(job_id, "after.safetensors", "--with-optimizer")
        self.assertEqual(after, tensors)
        warnings = [event["message"] for event in self.cluster.events(job_id)
                    if event["kind"] == "EVENT_KIND_WARNING"]
        self.assertTrue(any("worker a has the checkpoint" in text for text in warnings), warnings)


if __name__ == "__main__":
    unittest.main()
