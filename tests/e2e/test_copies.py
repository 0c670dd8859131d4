"""Every checkpoint is on two workers: a job goes on without the worker that wrote it, and what is
damaged on a disk is found, named and fetched anew."""

import os
import shutil
import signal
import unittest

import harness

STEPS = 400
SETTINGS = {"train__steps": STEPS, "checkpoint__every_steps": 25}
SERIES = "loss,aux_loss,imbalance,importance"


def data_files(folder):
    """The larger data files of a database, where checkpoint data lie."""
    paths = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".sst")]
    return sorted(path for path in paths if os.path.getsize(path) > 50_000)


def flip_bytes(path):
    """In several places, but not at the end, without which the file does not open."""
    for percent in (3, 25, 45, 65, 85):
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) * percent // 100)
            content = file.read(16)
            file.seek(-len(content), os.SEEK_CUR)
            file.write(bytes(byte ^ 0xFF for byte in content))


def cut(path):
    os.truncate(path, os.path.getsize(path) // 2)


class CopiesTest(unittest.TestCase):

    def setUp(self):
        self.cluster = harness.Cluster()
        self.addCleanup(self.cluster.close)
        self.cluster.start_coordinator()
        self.cluster.start_worker("a")

    def checkpoints(self, job_id):
        return [checkpoint for checkpoint in self.cluster.job(job_id)["checkpoints"]
                if not checkpoint.get("deleting")]

    def await_copies(self, job_id):
        """Every checkpoint is on two workers; returns their steps."""
        def copied():
            checkpoints = self.checkpoints(job_id)
            done = all(len(checkpoint.get("copies", [])) == 1 for checkpoint in checkpoints)
            return done and checkpoints
        found = harness.wait_until(copied, f"every checkpoint of {job_id} is on two workers")
        return [checkpoint["step"] for checkpoint in found]

    def freeze_trainer(self, worker):
        """The job makes no more steps there, however fast the machine is."""
        trainers = self.cluster.trainers(worker)
        self.assertEqual(len(trainers), 1, "the job has ended, or has not begun")
        os.kill(trainers[0], signal.SIGSTOP)

    def undisturbed(self):
        job_id = self.cluster.submit(name="undisturbed", **SETTINGS)
        self.cluster.ok("wait", job_id)
        return self.cluster.history(job_id, SERIES)

    def test_a_job_goes_on_without_the_worker_that_wrote_its_checkpoint(self):
        expected = self.undisturbed()
        job_id = self.cluster.submit(name="moved", **SETTINGS)
        self.cluster.await_step(job_id, 30)
        self.freeze_trainer("a")
        self.cluster.start_worker("b")
        self.await_copies(job_id)
        self.cluster.workers["a"].kill()
        self.cluster.ok("wait", job_id)
        self.assertEqual(self.cluster.history(job_id, SERIES), expected)
        self.assertGreaterEqual(int(self.cluster.job(job_id)["attempt"]), 2)

    def test_what_is_committed_outlives_its_worker_from_the_first_moment(self):
        self.cluster.start_worker("b")
        expected = self.undisturbed()
        job_id = self.cluster.submit(name="lost", **SETTINGS)
        harness.wait_until(lambda: self.cluster.job(job_id).get("checkpoints"),
                           "a checkpoint is committed")
        (worker,) = {rank["worker"] for rank in self.cluster.job(job_id)["placement"]}
        self.cluster.workers[worker].kill()
        if any("is committed with one copy" in event["message"]
               for event in self.cluster.events(job_id)):
            self.cluster.restart_worker(worker)  # on a machine so busy, the job may need it
        # Nothing that had been committed by then waits for the lost worker.
        committed = [int(event["step"]) for event in self.cluster.events(job_id)
                     if event["kind"] == "EVENT_KIND_CHECKPOINT_COMMITTED"]
        self.cluster.ok("wait", job_id)
        restored = [int(event["step"]) for event in self.cluster.events(job_id)
                    if event["kind"] == "EVENT_KIND_RESTORED"]
        self.assertGreaterEqual(restored[0], committed[-1])
        self.assertEqual(self.cluster.history(job_id, SERIES), expected)

    def test_a_worker_that_is_stopped_leaves_what_it_alone_had_to_another(self):
        expected = self.undisturbed()
        job_id = self.cluster.submit(name="left", **{**SETTINGS, "checkpoint__every_steps": 0})
        self.cluster.await_step(job_id, 30)
        self.cluster.start_worker("b")
        harness.wait_until(lambda: "b" in self.cluster.ok("workers").out, "b is known")
        # Its trainer stops with a checkpoint that is nowhere else, and the worker never comes back.
        self.assertEqual(self.cluster.workers["a"].stop(), 0, self.cluster.workers["a"].log())
        self.cluster.ok("wait", job_id)
        self.assertEqual(self.cluster.history(job_id, SERIES), expected)
        kinds = [event["kind"] for event in self.cluster.events(job_id)]
        self.assertEqual(kinds.count("EVENT_KIND_RESTORED"), 1, "nothing was done twice")

    def test_a_job_goes_on_when_the_only_worker_with_its_checkpoint_is_given_up(self):
        job_id = self.cluster.submit(name="orphan", **SETTINGS)
        harness.wait_until(lambda: self.checkpoints(job_id), "a checkpoint is committed")
        self.freeze_trainer("a")
        refused = self.cluster.client("forget", "a")
        self.assertEqual(refused.code, 1, refused)
        self.assertIn("sinkforge drain a", refused.err)
        self.cluster.workers["a"].kill()
        shutil.rmtree(self.cluster.path("a"))
        self.cluster.start_worker("b")
        harness.wait_until(lambda: "sinkforge forget a" in self.cluster.ok("show", job_id).out,
                           "show names what helps")
        forgotten = self.cluster.ok("forget", "a", "-o", "json").json()
        self.assertEqual(forgotten["worker"], "a")
        self.assertGreaterEqual(forgotten["checkpoints_lost"], 1)
        self.cluster.ok("wait", job_id)
        kinds = [event["kind"] for event in self.cluster.events(job_id)]
        self.assertNotIn("EVENT_KIND_RESTORED", kinds, "it began anew")
        listed = self.cluster.ok("workers", "-o", "json").json()["workers"]
        self.assertEqual([worker["worker"] for worker in listed], ["b"])
        self.assertEqual(self.cluster.client("forget", "a").code, 3)

    def test_damage_is_named_and_repaired_from_the_other_worker(self):
        job_id = self.cluster.submit(name="copied", **SETTINGS)
        self.cluster.await_step(job_id, 1)
        self.cluster.start_worker("b")
        self.cluster.await_state(job_id, "SUCCEEDED")
        before = self.await_copies(job_id)
        self.cluster.ok("checkpoints", "verify", job_id)
        _, tensors = self.cluster.export(job_id, "before.safetensors", "--with-optimizer")
        for number, (what, damage) in enumerate(
                [("bytes flipped", flip_bytes), ("cut", cut), ("missing", os.remove),
                 ("bytes flipped again", flip_bytes)], 1):
            with self.subTest(what):
                self.damage_and_repair(job_id, number, damage)
                self.assertEqual(self.await_copies(job_id), before)
                _, after = self.cluster.export(job_id, f"after-{number}.safetensors",
                                               "--with-optimizer")
                self.assertEqual(after, tensors)
        warnings = [event["message"] for event in self.cluster.events(job_id)
                    if event["kind"] == "EVENT_KIND_WARNING"]
        self.assertTrue(any("worker a has the checkpoint" in text for text in warnings), warnings)

    def damage_and_repair(self, job_id, number, damage):
        self.assertEqual(self.cluster.workers["a"].stop(), 0)
        files = data_files(os.path.join(self.cluster.path("a"), "store"))
        self.assertTrue(files)
        for path in files:
            damage(path)
        self.cluster.restart_worker("a")
        set_aside = os.path.join(self.cluster.path("a"), f"store.damaged-{number}")
        # Reading every copy finds what opening the database has not.
        harness.wait_until(
            lambda: self.cluster.client("checkpoints", "verify", job_id) and
            os.path.exists(os.path.join(set_aside, "SALVAGED")), "the damage is found")
        log = self.cluster.workers["a"].log()
        self.assertIn(set_aside, log)
        self.assertIn(f"job {job_id}, attempt 1, step", log)
        harness.wait_until(
            lambda: self.await_copies(job_id) and
            self.cluster.client("checkpoints", "verify", job_id).code == 0,
            "the copies are repaired")

    def test_what_one_worker_alone_has_is_salvaged(self):
        job_id = self.cluster.submit(name="alone", **SETTINGS)
        self.cluster.await_state(job_id, "SUCCEEDED")
        steps = [checkpoint["step"] for checkpoint in self.checkpoints(job_id)]
        _, tensors = self.cluster.export(job_id, "before.safetensors", "--with-optimizer")
        self.assertEqual(self.cluster.workers["a"].stop(), 0)
        # Nothing says any more which files are the database's.
        store = os.path.join(self.cluster.path("a"), "store")
        for name in os.listdir(store):
            if name.startswith("MANIFEST"):
                os.truncate(os.path.join(store, name), 60)
        self.cluster.restart_worker("a")
        harness.wait_until(lambda: self.cluster.client("checkpoints", "verify", job_id).code == 0,
                           "every checkpoint can be read")
        self.assertEqual([checkpoint["step"] for checkpoint in self.checkpoints(job_id)], steps)
        _, after = self.cluster.export(job_id, "after.safetensors", "--with-optimizer")
        self.assertEqual(after, tensors)
        self.assertIn("is set aside", self.cluster.workers["a"].log())


if __name__ == "__main__":
    unittest.main()
