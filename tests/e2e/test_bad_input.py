"""Bad input through the real client: a clear error that names the thing, and no daemon dies."""

import os
import struct
import unittest

import harness


def bin_shard(tokens, count=None, width=2):
    """A token shard of llm.c's format: 256 int32 of header, then the tokens."""
    magic, version = (20240520, 1) if width == 2 else (20240801, 7)
    header = [magic, version, len(tokens) if count is None else count] + [0] * 253
    letter = "H" if width == 2 else "I"
    return struct.pack("<256i", *header) + struct.pack(f"<{len(tokens)}{letter}", *tokens)


class BadInputTest(harness.ClusterTest):

    def setUp(self):
        self.addCleanup(self.check_daemons)

    def check_daemons(self):
        self.assertTrue(self.cluster.coordinator.alive(), self.cluster.coordinator.log()[-2000:])
        self.assertTrue(self.cluster.workers["w"].alive(), self.cluster.workers["w"].log()[-2000:])

    def write_data(self, name, content):
        with open(os.path.join(self.cluster.data, name), "wb") as file:
            file.write(content)

    def check_refused(self, expected, code=2, **settings):
        """By the client, with the file's line, before anything is submitted."""
        before = self.cluster.ok("list", "-o", "json").json()
        run = self.cluster.client("submit", self.cluster.write_job(**settings))
        self.assertEqual(run.code, code, str(run))
        for text in expected:
            self.assertIn(text, run.err)
        self.assertEqual(run.out, "")
        self.assertEqual(self.cluster.ok("list", "-o", "json").json(), before)

    def check_fails(self, reason, expected, **settings):
        """As a job, at once, and with the reason."""
        job_id = self.cluster.submit(**settings)
        run = self.cluster.client("wait", job_id)
        self.assertEqual(run.code, 10, str(run))
        for text in expected:
            self.assertIn(text, run.err)
        job = self.cluster.job(job_id)
        self.assertEqual(job["reason"], f"REASON_{reason}", job["message"])
        self.assertEqual(job["attempt"], "1", "what cannot work is not tried again")
        return job

    # Refused before anything runs.

    def test_unknown_key(self):
        self.check_refused(["job.yaml:2:", "model.widht", "`width`"],
                           text="name: a\nmodel: {widht: 64}\n")

    def test_wrong_type(self):
        self.check_refused(["job.yaml:3:", "model.width"],
                           text="name: a\nmodel:\n  width: wide\n")

    def test_not_yaml(self):
        self.check_refused(["job.yaml:"], text="name: [a\nmodel: }\n")

    def test_impossible_shape(self):
        self.check_refused(["model", "heads"], model__width=30)

    def test_sink_with_head_norm_is_refused_with_the_reason(self):
        self.check_refused(["head_norm"], model__attention="sink", model__head_norm="rms")

    def test_missing_job_file(self):
        run = self.cluster.client("submit", "none.yaml")
        self.assertEqual(run.code, 3, str(run))
        self.assertIn("none.yaml", run.err)

    def test_a_path_outside_the_data_roots(self):
        with open(self.cluster.path("secret.txt"), "w", encoding="ascii") as file:
            file.write("secret " * 5000)
        os.symlink(self.cluster.path("secret.txt"), os.path.join(self.cluster.data, "link.txt"))
        for path in ("../secret.txt", self.cluster.path("secret.txt"), "link.txt"):
            # Where the path alone shows it, the job is refused; a link only the worker can see.
            run = self.cluster.client("submit", self.cluster.write_job(data__train=[path]))
            if run.code == 0:
                run = self.cluster.client("wait", run.out.strip())
                self.assertEqual(run.code, 10, str(run))
            self.assertNotEqual(run.code, 0)
            self.assertIn(os.path.basename(path), run.err)

    # Refused by the trainer, which sees the data.

    def test_missing_data_file(self):
        self.check_fails("BAD_DATA", ["none.txt"], data__train=["none.txt"])

    def test_empty_data_file(self):
        self.write_data("empty.txt", b"")
        self.check_fails("BAD_DATA", ["empty.txt"], data__train=["empty.txt"])

    def test_truncated_shard(self):
        self.write_data("cut.bin", bin_shard(list(range(200)) * 20, count=100_000))
        self.check_fails("BAD_DATA", ["cut.bin"], data__train=["cut.bin"], data__validation=[])

    def test_token_outside_the_vocabulary(self):
        self.write_data("far.bin", bin_shard([7] * 3000 + [999] + [7] * 3000))
        self.check_fails("BAD_DATA", ["far.bin", "999"], data__train=["far.bin"],
                         data__validation=[])

    def test_a_sequence_longer_than_the_data(self):
        self.write_data("short.txt", b"only a few bytes")
        self.check_fails("BAD_DATA", ["short.txt"], data__train=["short.txt"])

    # Fails later, or waits.

    def test_more_ranks_than_slots_waits_and_says_why(self):
        job_id = self.cluster.submit(resources__ranks=4)
        def waits():
            job = self.cluster.job(job_id)
            return job["reason"] == "REASON_NOT_ENOUGH_SLOTS_EXIST" and job
        job = harness.wait_until(waits, "the job says that there are not enough slots")
        self.assertEqual(job["state"], "JOB_STATE_QUEUED")
        self.assertIn("4", job["message"])
        self.assertIn("not enough slots exist", self.cluster.ok("show", job_id).out)
        # It does not keep others from running.
        self.cluster.ok("wait", self.cluster.submit(name="passes-by", train__steps=5))
        self.cluster.ok("cancel", job_id)

    def test_a_loss_that_is_not_finite_names_step_and_checkpoint(self):
        job = self.check_fails(
            "NON_FINITE_LOSS", ["step"], train__steps=400, train__gradient_clip=0,
            optimizer={"kind": "adamw", "learning_rate": 1000, "weight_decay": 10,
                       "warmup": 1.0, "warmdown": 0},
            checkpoint__every_steps=1, checkpoint__keep=1)
        step = int(job["checkpoints"][-1]["step"])
        self.assertIn(str(step), job["message"])
        history = self.cluster.history(job["job_id"], "loss")["loss"]
        self.assertGreaterEqual(history[-1][0], step)


class FullDiskTest(harness.ClusterTest):
    # More than any disk has free.
    WORKER_OPTIONS = ("--disk-reserve", "4000TB")

    def test_a_full_disk_ends_the_job_and_nothing_else(self):
        job_id = self.cluster.submit()
        run = self.cluster.client("wait", job_id)
        self.assertEqual(run.code, 10, str(run))
        job = self.cluster.job(job_id)
        self.assertEqual(job["reason"], "REASON_CHECKPOINT_FAILED", job["message"])
        self.assertRegex(job["message"], "disk|space|reserve")
        self.assertTrue(self.cluster.workers["w"].alive())
        self.assertTrue(self.cluster.coordinator.alive())
        # What was measured before is all there.
        steps = [step for step, _ in self.cluster.history(job_id, "loss")["loss"]]
        self.assertEqual(steps, list(range(1, len(steps) + 1)))
        self.assertGreaterEqual(len(steps), 20)

    def test_another_worker_may_have_room(self):
        job_id, _ = self.cluster.submit_and_meet(20, train__steps=400)
        self.cluster.start_worker("roomy")
        self.cluster.await_state(job_id, "SUCCEEDED")
        events = self.cluster.events(job_id)
        self.assertEqual([event["reason"] for event in events
                          if event["kind"] == "EVENT_KIND_ATTEMPT_ENDED"],
                         ["REASON_CHECKPOINT_FAILED", "REASON_COMPLETED"])
        starts = [event["message"] for event in events
                  if event["kind"] == "EVENT_KIND_ATTEMPT_STARTED"]
        self.assertTrue(starts[1].startswith("on roomy "), starts)


if __name__ == "__main__":
    unittest.main()
