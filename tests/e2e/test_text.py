"""From text to text: a tokenizer, token shards, a job that reads them, and samples of its model."""

import json
import math
import os
import pathlib
import random
import resource
import signal
import struct
import unittest

import harness

WORDS = ("in the beginning God created heaven and earth without form void darkness was upon face "
         "of deep spirit moved waters said let there be light").split()


def make_jsonl(path, documents, seed=3):
    state = seed
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(documents):
            words = []
            for _ in range(40):
                state = (state * 1103515245 + 12345) % 2**31
                words.append(WORDS[(state >> 8) % len(WORDS)])
            file.write(json.dumps({"text": " ".join(words) + ".\n"}) + "\n")


def make_rare_words(path, count, seed=5):
    """Words that occur once, each after one that is common."""
    chance = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            rare = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=8))
            file.write(f"{chance.choice(WORDS)} {rare}\n")


def read_shard(path):
    data = pathlib.Path(path).read_bytes()
    magic, version, count = struct.unpack_from("<3i", data)
    width, code = {(20240520, 1): (2, "H"), (20240801, 7): (4, "I")}[magic, version]
    assert len(data) == 1024 + count * width
    return list(struct.unpack_from(f"<{count}{code}", data, 1024))


class TextTest(harness.ClusterTest):

    def path(self, name):
        return self.cluster.path(name)

    def shards(self, name):
        """A folder under the worker's data root."""
        return os.path.join(self.cluster.data, name)

    def prepare(self):
        """A tokenizer of 320 tokens and shards of two texts made with it, once."""
        if os.path.exists(self.shards("valid")):
            return
        make_jsonl(self.path("train.jsonl"), 400)
        make_jsonl(self.path("valid.jsonl"), 40, seed=9)
        self.cluster.ok("tokenizer", "train", self.path("train.jsonl"), "--vocab-size", "320",
                        "--to", self.path("tokenizer.json"))
        for name in ("train", "valid"):
            self.cluster.ok("tokenize", self.path(f"{name}.jsonl"), "--tokenizer",
                            self.path("tokenizer.json"), "--to", self.shards(name))

    def submit(self, **settings):
        self.prepare()
        return self.cluster.submit(**{
            "data__train": ["train/*.bin"], "data__validation": ["valid/*.bin"],
            "data__tokenizer": "train/tokenizer.json", "model__vocab_size": 384, **settings})

    def sample(self, *arguments):
        return self.cluster.ok("sample", *arguments, "--max-tokens", "20", "--tokenizer",
                               self.path("tokenizer.json"), "-o", "json").json()

    def test_a_job_reads_shards_and_its_checkpoints_write_text(self):
        job_id = self.submit()
        self.assertEqual(self.cluster.client("wait", job_id).code, 0)
        history = self.cluster.history(job_id, "validation_bits_per_byte")
        self.assertGreater(float(history["validation_bits_per_byte"][-1][1]), 0)

        newest = self.sample(job_id, "--prompt", "in the", "--temperature", "0")
        self.assertEqual(newest["prompt"], "in the")
        self.assertEqual(newest["prompt_tokens"][0], 0)
        self.assertEqual(newest["stopped_by"], "max_tokens")
        self.assertEqual(len(newest["tokens"]), 20)
        self.assertTrue(all(token < 320 for token in newest["tokens"]))
        # The same model from its export, as a file and as a folder with its tokenizer.
        folder = self.path("exported")
        os.mkdir(folder)
        model = os.path.join(folder, "model.safetensors")
        self.cluster.ok("checkpoints", "export", job_id, model)
        self.assertEqual(self.sample(model, "--prompt", "in the", "--temperature", "0"), newest)
        os.link(self.path("tokenizer.json"), os.path.join(folder, "tokenizer.json"))
        plain = self.cluster.ok("sample", folder, "--prompt", "in the", "--temperature", "0",
                                "--max-tokens", "20")
        self.assertEqual(plain.out, "in the" + newest["text"] + "\n")
        # Another step is another model; the best one is among those that were evaluated.
        steps = [c["step"] for c in self.cluster.job(job_id)["checkpoints"]]
        earlier = self.sample(job_id, "--prompt", "in the", "--step", steps[0])
        self.assertEqual(earlier, self.sample(job_id, "--prompt", "in the", "--step", steps[0]))
        self.assertEqual(self.cluster.client("sample", job_id, "--step", "7", "--tokenizer",
                                             self.path("tokenizer.json")).code, 3)
        best = self.cluster.ok("sample", job_id, "--prompt", "in", "--best", "--tokenizer",
                               self.path("tokenizer.json"), "--max-tokens", "1")
        self.assertIn("checkpoint of step", best.err)
        # Another tokenizer in the place of the job's, which is found where the command runs.
        self.cluster.ok("tokenizer", "train", self.path("valid.jsonl"), "--vocab-size", "320",
                        "--to", os.path.join(folder, "tokenizer.json"), "--force")
        other = self.cluster.client("sample", folder, "--prompt", "in")
        self.assertEqual(other.code, 1)
        self.assertIn("not the tokenizer that the model was trained with", other.err)
        told = self.cluster.ok("sample", job_id, "--prompt", "in", "--tokenizer",
                               os.path.join(folder, "tokenizer.json"))
        self.assertIn("warning: ", told.err)
        # Seeds.
        first, second = (self.sample(job_id, "--prompt", "in", "--seed", str(n))["tokens"]
                         for n in (1, 2))
        self.assertNotEqual(first, second)

    def test_a_job_of_65536_tokens_never_holds_all_logits(self):
        file, text = self.path("large.json"), self.path("large.txt")
        make_rare_words(text, 60_000)
        trained = self.cluster.ok("tokenizer", "train", text, "--vocab-size", "65536", "--to", file,
                                  "-o", "json").json()
        self.assertEqual(trained["vocab_size"], 65536)
        self.cluster.ok("tokenize", text, "--tokenizer", file, "--to", self.shards("large"))
        make_jsonl(self.path("large-valid.jsonl"), 400, seed=9)
        self.cluster.ok("tokenize", self.path("large-valid.jsonl"), "--tokenizer", file, "--to",
                        self.shards("large-valid"))
        tokens = read_shard(os.path.join(self.shards("large"), "shard-00000.bin"))
        self.assertGreater(max(tokens), 60_000)
        # 512 positions of 64 fill a block of logits, 128 MiB; 2048 have four blocks.
        resident = {}
        for rows in (8, 32):
            job_id = self.cluster.submit(
                name=f"large{rows}", data__train=["large/*.bin"],
                data__validation=["large-valid/*.bin"], data__tokenizer="large/tokenizer.json",
                model__vocab_size=65536, model__layers=1, model__width=16, model__heads=2,
                train__steps=6, train__batch_tokens=64 * rows, train__micro_batch=rows,
                evaluation__every_steps=0, evaluation__tokens=1024, checkpoint__every_steps=0)
            self.cluster.await_state(job_id, "SUCCEEDED")
            history = self.cluster.history(job_id, "loss,memory_bytes")
            losses = [float(value) for _, value in history["loss"]]
            self.assertAlmostEqual(losses[0], math.log(65536), delta=0.1)
            self.assertLess(losses[-1], losses[0] - 0.2)
            resident[rows] = max(float(value) for _, value in history["memory_bytes"])
        self.assertLess(resident[32] - resident[8], 64 << 20)  # all logits: 384 MiB more

    def test_a_job_of_bytes_writes_text(self):
        job_id = self.cluster.submit(model__mlp="swiglu")
        self.assertEqual(self.cluster.client("wait", job_id).code, 0)
        self.assertIn(" attention, swiglu, ", self.cluster.ok("show", job_id).out)
        options = ("--prompt", "In", "--max-tokens", "8", "--temperature", "0", "-o", "json")
        written = self.cluster.ok("sample", job_id, *options).json()
        self.assertEqual(len(written["tokens"]), 8)
        model = self.path("model.safetensors")
        self.cluster.ok("checkpoints", "export", job_id, model)
        self.assertEqual(self.cluster.ok("sample", model, *options).json(), written)
        empty = self.cluster.client("sample", job_id)
        self.assertEqual(empty.code, 2)
        self.assertIn("--prompt is empty", empty.err)

    def test_data_of_another_tokenizer_are_refused(self):
        self.prepare()
        self.cluster.ok("tokenize", self.path("valid.jsonl"), "--to", self.shards("other"))
        job_id = self.submit(data__validation=["other/*.bin"])
        self.assertEqual(self.cluster.client("wait", job_id).code, 10)
        self.assertIn("another tokenizer", self.cluster.ok("show", job_id).out)

    def test_shards_do_not_depend_on_threads_and_end_with_no_token_lost(self):
        self.prepare()
        whole = read_shard(os.path.join(self.shards("train"), "shard-00000.bin"))
        self.assertEqual(whole.count(0), 400)
        self.cluster.ok("tokenize", self.path("train.jsonl"), "--tokenizer",
                        self.path("tokenizer.json"), "--to", self.path("parts"), "--threads", "3",
                        "--shard-tokens", "1000")
        parts = sorted(pathlib.Path(self.path("parts")).glob("*.bin"))
        self.assertEqual([token for part in parts for token in read_shard(part)], whole)
        self.assertTrue(all(part.with_suffix(".json").exists() for part in parts))

    def test_a_kill_leaves_nothing_under_the_name(self):
        self.prepare()
        text = self.path("long.txt")
        harness.make_text(text, 1_000_000)
        target = self.path("killed")

        def limit():
            """The system kills the program in the middle of a shard."""
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        run = self.cluster.start_client("tokenize", text, "--tokenizer",
                                        self.path("tokenizer.json"), "--to", target,
                                        preexec_fn=limit)
        run.communicate()
        self.assertEqual(run.returncode, -signal.SIGXFSZ)
        self.assertFalse(os.path.exists(target))
        self.assertTrue(os.path.exists(os.path.join(target + ".partial", "shard-00000.bin")))
        # The next run clears what is left and completes.
        self.cluster.ok("tokenize", self.path("valid.jsonl"), "--tokenizer",
                        self.path("tokenizer.json"), "--to", target)
        self.assertFalse(os.path.exists(target + ".partial"))
        self.assertEqual(sorted(os.listdir(target)),
                         ["shard-00000.bin", "shard-00000.json", "tokenizer.json"])
        again = self.cluster.client("tokenize", self.path("valid.jsonl"), "--to", target)
        self.assertEqual(again.code, 1)
        self.assertIn("--force", again.err)

    def test_bad_input_is_named(self):
        bad = self.path("bad.jsonl")
        pathlib.Path(bad).write_bytes(b'{"text": "a"}\n{"text": }\n')
        for arguments, code, says in (
                (("tokenize", bad, "--to", self.path("x")), 1, "bad.jsonl:2: not a JSON document"),
                (("tokenize", bad), 2, "--to is missing"),
                (("tokenize", self.path("no.txt"), "--to", self.path("x")), 3, "no.txt"),
                (("tokenize", bad, "--to", self.path("x"), "--bos", "<|no|>"), 2, "no token"),
                (("tokenizer", "train", bad, "--to", self.path("y"), "--vocab-size", "9"), 1,
                 "bad.jsonl:2"),
                (("sample", "no-such-job-1", "--prompt", "a"), 3, "no-such-job-1"),
                (("sample", bad, "--prompt", "a"), 1, ""),
                (("sample", bad, "--temperature", "-1"), 2, "--temperature")):
            run = self.cluster.client(*arguments)
            self.assertEqual(run.code, code, f"{arguments}: {run}")
            self.assertIn(says, run.err)
        self.assertFalse(os.path.exists(self.path("x")))
        self.assertFalse(os.path.exists(self.path("x.partial")))


if __name__ == "__main__":
    unittest.main()
