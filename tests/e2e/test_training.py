"""A job from submit to its exported weights, and what a user sees on the way."""

import json
import math
import struct
import time
import unittest

import harness


class TrainingTest(harness.ClusterTest):

    def test_from_submit_to_exported_weights(self):
        cluster = self.cluster
        start = time.monotonic()
        job_id = cluster.submit()
        harness.wait_until(lambda: cluster.step(job_id) >= 1, "the first step is done")
        print(f"submit to first step: {time.monotonic() - start:.2f} s")
        self.assertEqual(cluster.client("wait", job_id).code, 0)
        job = cluster.job(job_id)
        self.assertEqual(job["attempt"], "1")
        self.assertEqual([c["step"] for c in job["checkpoints"]], ["20", "40", "60"])

        self.check_history(job_id, 60)
        history = cluster.history(job_id, "loss,imbalance,validation_bits_per_byte,importance")
        self.assertLess(float(history["loss"][-1][1]), float(history["loss"][0][1]))
        self.assertEqual([step for step, _ in history["validation_bits_per_byte"]], [30, 60])
        heads = {f"importance/{layer}/{head}" for layer in range(2) for head in range(4)}
        self.assertLessEqual(heads, set(history))
        # Eq. 6 from the importance that the history has.
        last = {name: float(points[-1][1]) for name, points in history.items()}
        imbalance = 0
        for layer in range(2):
            values = [last[f"importance/{layer}/{head}"] for head in range(4)]
            mean = sum(values) / 4
            imbalance += math.sqrt(sum((v - mean) ** 2 for v in values) / 4) / mean / 2
        self.assertAlmostEqual(imbalance, last["imbalance"], delta=1e-5 * max(1, imbalance))

        self.check_export(job_id)

    def check_export(self, job_id):
        metadata, tensors = self.cluster.export(job_id, "model.safetensors")
        self.assertEqual(metadata["sinkforge_schema_version"], "1")
        self.assertEqual(metadata["sinkforge_step"], "60")
        width, vocabulary, heads = 32, 256, 4
        shapes = {"transformer.wte.weight": (vocabulary, width),
                  "lm_head.weight": (vocabulary, width)}
        for layer in range(2):
            prefix = f"transformer.h.{layer}."
            for name in ("c_q", "c_k", "c_v", "c_proj"):
                shapes[f"{prefix}attn.{name}.weight"] = (width, width)
            shapes[f"{prefix}attn.c_gate.weight"] = (heads, width)
            shapes[f"{prefix}mlp.c_fc.weight"] = (4 * width, width)
            shapes[f"{prefix}mlp.c_proj.weight"] = (width, 4 * width)
        self.assertEqual({name: tensor[1] for name, tensor in tensors.items()}, shapes)
        for name, (dtype, _, content) in tensors.items():
            self.assertEqual(dtype, "F32")
            values = struct.unpack(f"<{len(content) // 4}f", content)
            self.assertTrue(all(math.isfinite(value) for value in values), name)
            self.assertTrue(any(values), f"{name} is all zeros after training")
        # An earlier checkpoint is another model; with the optimizer there is more.
        _, earlier = self.cluster.export(job_id, "at20.safetensors", "--step", "20")
        self.assertNotEqual(earlier["lm_head.weight"], tensors["lm_head.weight"])
        _, everything = self.cluster.export(job_id, "all.safetensors", "--with-optimizer")
        self.assertGreater(len(everything), len(tensors))
        self.assertEqual({n: everything[n] for n in tensors}, tensors)

    def test_watch_shows_every_step_as_json(self):
        cluster = self.cluster
        job_id = cluster.submit()
        run = cluster.ok("watch", job_id, "-o", "json", "--after-step", "0")
        steps = [int(record["step"]) for line in run.out.splitlines()
                 for record in json.loads(line)["steps"]]
        self.assertEqual(steps, list(range(1, 61)))

    def test_submit_watch_prints_plain_lines_and_logs_are_kept(self):
        run = self.cluster.ok("submit", self.cluster.write_job(name="watched"), "--watch")
        job_id, *lines = run.out.splitlines()
        self.assertTrue(job_id.startswith("watched-"))
        self.assertIn("succeeded step=60/60", lines[-1])
        self.assertIn("importance=", lines[-1])
        self.assertNotIn("\033", run.out)
        self.assertNotEqual(self.cluster.ok("logs", job_id).out, "")

    def test_a_sweep_ends_with_a_table(self):
        run = self.cluster.ok("sweep", self.cluster.write_job(name="sweep"), "--name", "balance",
                              "--grid", "head_balance.loss=none,cv", "--set", "train.steps=20",
                              "--watch", "-o", "json")
        jobs = run.json()["jobs"]
        self.assertEqual([job["settings"]["head_balance.loss"] for job in jobs], ["none", "cv"])
        for job in jobs:
            self.assertEqual(job["state"], "JOB_STATE_SUCCEEDED")
            for key in ("validation_bits_per_byte", "imbalance", "importance_min",
                        "importance_max", "tokens_per_second"):
                self.assertIsNotNone(job[key], key)
            self.assertLessEqual(job["importance_min"], job["importance_max"])
        table = self.cluster.ok("sweep", "show", "balance").out
        self.assertIn("BITS/BYTE", table)
        self.assertEqual(run.json()["over_seeds"], [])

    def test_a_sweep_over_seeds_ends_with_means_and_spread(self):
        run = self.cluster.ok("sweep", self.cluster.write_job(name="sweep"), "--name", "seeds",
                              "--seeds", "1,2", "--set", "train.steps=20", "--watch", "-o", "json")
        first, second = (job["validation_bits_per_byte"] for job in run.json()["jobs"])
        (row,) = run.json()["over_seeds"]
        self.assertEqual((row["settings"], row["succeeded"]), ({}, 2))
        self.assertAlmostEqual(row["validation_bits_per_byte"]["mean"], (first + second) / 2)
        self.assertAlmostEqual(row["validation_bits_per_byte"]["standard_deviation"],
                               abs(first - second) / 2 ** 0.5)
        self.assertIn(" ± ", self.cluster.ok("sweep", "show", "seeds").out)

    def test_checkpoints_are_deleted_but_not_the_newest_of_a_live_job(self):
        cluster = self.cluster
        job_id = cluster.submit()
        cluster.ok("wait", job_id)
        cluster.ok("checkpoints", "delete", job_id, "20")
        listed = cluster.ok("checkpoints", "list", job_id, "-o", "json").json()["checkpoints"]
        self.assertNotIn("20", [c["step"] for c in listed if not c["deleting"]])
        self.assertEqual(cluster.client("checkpoints", "delete", job_id, "7").code, 3)
        self.assertEqual(cluster.client("checkpoints", "export", job_id, "x.safetensors", "--step",
                                        "20").code, 3)


if __name__ == "__main__":
    unittest.main()
