"""What a trained model is worth: `sinkforge evaluate` on texts and on multiple-choice tasks."""

import json
import os
import pathlib
import random
import unittest

import harness

PAIRS = {"alpha": "river", "gamma": "stone", "delta": "cloud", "sigma": "flame"}


def make_pairs(path, lines, seed):
    """Words that always go with the same other word."""
    chance = random.Random(seed)
    with open(path, "w", encoding="ascii") as file:
        for _ in range(lines):
            word = chance.choice(sorted(PAIRS))
            file.write(f"{word} {PAIRS[word]}.\n")


def make_tasks(folder):
    """The same pairs to be chosen, in each of the forms; 48 items each."""
    chance = random.Random(11)
    forms = {"choices.jsonl": [], "schema.jsonl": [], "hellaswag.jsonl": []}
    for _ in range(48):
        word, other = chance.sample(sorted(PAIRS), 2)
        answers = chance.sample(sorted(PAIRS.values()), 4)
        gold = answers.index(PAIRS[word])
        query = f"sigma flame.\n{word}"
        forms["choices.jsonl"].append({"query": query, "choices": answers, "gold": gold})
        forms["hellaswag.jsonl"].append({"ctx": query, "endings": answers, "label": str(gold)})
        contexts = [f"delta cloud.\n{word}", f"delta cloud.\n{other}"]
        place = chance.randrange(2)
        forms["schema.jsonl"].append({
            "context_options": contexts[::-1] if place else contexts,
            "continuation": PAIRS[word] + ".", "gold": place})
    for name, items in forms.items():
        write_lines(os.path.join(folder, name), items)


def write_lines(path, items):
    pathlib.Path(path).write_text("".join(json.dumps(item) + "\n" for item in items),
                                  encoding="utf-8")


class EvaluateTest(harness.ClusterTest):

    def evaluate(self, *arguments):
        return self.cluster.ok("evaluate", *arguments, "-o", "json").json()

    def train(self, **settings):
        """The id of a job that has succeeded, and its last validation's bits per byte."""
        job_id = self.cluster.submit(**{"evaluation__tokens": 0, **settings})
        self.cluster.await_state(job_id, "SUCCEEDED")
        history = self.cluster.history(job_id, "validation_bits_per_byte")
        return job_id, float(history["validation_bits_per_byte"][-1][1])

    def assert_same(self, measured, recorded):
        """To the rounding of float32, since the batches differ."""
        self.assertAlmostEqual(measured / recorded, 1, delta=1e-6)

    def test_a_text_gives_what_the_training_recorded(self):
        text = os.path.join(self.cluster.data, "validation.txt")
        for settings in (
                {"model__attention": "gated"},
                {"model__attention": "gated", "model__gate": "element", "model__head_norm": "rms"},
                {"model__attention": "sink", "model__mlp": "swiglu"},
                {"model__attention": "vanilla", "model__head_norm": "rms",
                 "model__logit_softcap": 0}):
            with self.subTest(**settings):
                job_id, recorded = self.train(train__steps=20, **settings)
                found = self.evaluate(job_id, "--text", text)
                self.assertEqual(found["job"], job_id)
                self.assertEqual(found["step"], 20)
                self.assertEqual(found["context"], 64)
                (result,) = found["texts"]
                self.assertEqual((result["tokens"], result["bytes"]), (3999, 3999))
                self.assert_same(result["bits_per_byte"], recorded)
                self.assertEqual([len(layer) for layer in result["importance"]], [4, 4])
                self.assertTrue(all(0 < head < 1 for layer in result["importance"]
                                    for head in layer))
                self.assertAlmostEqual(result["imbalance"], sum(result["layer_cv"]) / 2)
                for layer, cv in zip(result["importance"], result["layer_cv"]):
                    mean = sum(layer) / 4
                    variance = sum((head - mean) ** 2 for head in layer) / 4
                    self.assertAlmostEqual(variance ** 0.5 / mean, cv)

    def test_the_best_checkpoint_is_kept_and_read(self):
        """Validated on digits, of which the training text has none, the model gets worse."""
        pathlib.Path(self.cluster.data, "digits.txt").write_text("0123456789" * 200)
        job_id, _ = self.train(data__validation=["digits.txt"], train__steps=60,
                               evaluation__every_steps=10, checkpoint__every_steps=10,
                               checkpoint__keep=1, checkpoint__keep_best=1)
        losses = {int(step): float(loss) for step, loss in
                  self.cluster.history(job_id, "validation_loss")["validation_loss"]}
        best = min(losses, key=losses.get)
        self.assertNotEqual(best, 60)
        kept = self.cluster.job(job_id)["checkpoints"]
        self.assertEqual([int(each["step"]) for each in kept], [best, 60])
        self.assertEqual(kept[0]["validation_loss"], losses[best])
        text = os.path.join(self.cluster.data, "validation.txt")
        self.assertEqual(self.evaluate(job_id, "--best", "--text", text)["step"], best)

    def test_a_job_its_checkpoints_and_its_export_are_one_model(self):
        job_id, recorded = self.train()
        text = os.path.join(self.cluster.data, "validation.txt")
        newest = self.evaluate(job_id, "--text", text, "--threads", "1")
        model = self.cluster.path("model.safetensors")
        self.cluster.ok("checkpoints", "export", job_id, model)
        self.assertEqual(self.evaluate(model, "--text", text, "--threads", "1"), newest)
        earlier = self.evaluate(job_id, "--step", "40", "--text", text)
        self.assertEqual(earlier["step"], 40)
        self.assertGreater(earlier["texts"][0]["bits_per_byte"], recorded)
        best = self.evaluate(job_id, "--best", "--text", text, text)
        self.assertEqual(best["step"], 60)
        self.assertEqual(best["texts"][0], best["texts"][1])
        self.assert_same(best["texts"][0]["bits_per_byte"], recorded)
        # A token sees less before it in shorter rows.
        short = self.evaluate(model, "--text", text, "--context", "4")
        self.assertEqual(short["texts"][0]["tokens"], 3999)
        self.assertGreater(short["texts"][0]["bits_per_byte"], recorded)
        # The trainer's own command, and the table.
        plain = self.cluster.ok("evaluate", model, "--text", text)
        self.assertIn(f"{job_id}, step 60: gated attention, 2 layers of 4 heads", plain.out)
        self.assertIn(f"{recorded:.4f}", plain.out)
        self.assertIn("all heads", plain.out)

    def test_tokens_shards_and_documents_are_one_text(self):
        documents = self.cluster.path("valid.jsonl")
        words = "in the beginning God created heaven and earth".split()
        chance = random.Random(3)
        write_lines(documents, [{"text": " ".join(chance.choices(words, k=30)) + ".\n"}
                                for _ in range(60)])
        file = self.cluster.path("tokenizer.json")
        self.cluster.ok("tokenizer", "train", documents, "--vocab-size", "280", "--to", file)
        shards = os.path.join(self.cluster.data, "shards")
        self.cluster.ok("tokenize", documents, "--tokenizer", file, "--to", shards,
                        "--shard-tokens", "1000")
        self.assertGreater(len(list(pathlib.Path(shards).glob("*.bin"))), 1)
        text = os.path.join(self.cluster.data, "train.txt")
        self.cluster.ok("tokenize", text, "--tokenizer", file, "--to",
                        os.path.join(self.cluster.data, "bpe"))
        job_id, recorded = self.train(
            data__train=["bpe/*.bin"], data__validation=["shards/*.bin"],
            data__tokenizer="bpe/tokenizer.json", model__vocab_size=280, train__steps=20)
        found = self.evaluate(job_id, "--text", shards, documents, "--tokenizer", file)
        for result in found["texts"]:
            self.assert_same(result["bits_per_byte"], recorded)
        self.assertEqual({**found["texts"][0], "file": ""}, {**found["texts"][1], "file": ""})
        # Texts that are not its.
        other = self.cluster.path("other")
        self.cluster.ok("tokenize", documents, "--to", other)
        broken = self.cluster.path("broken.txt")
        pathlib.Path(broken).write_bytes(b"good\nb\xc3\x28d\n")
        empty = self.cluster.path("empty.txt")
        pathlib.Path(empty).write_bytes(b"")
        for path, says in ((other, "made with another tokenizer"),
                           (broken, "broken.txt:2: byte 2 of the line is not UTF-8"),
                           (empty, "holds no text"), (self.cluster.folder, "no .bin token shards"),
                           (file, "ends neither in .txt")):
            run = self.cluster.client("evaluate", job_id, "--tokenizer", file, "--text", path)
            self.assertEqual(run.code, 1, run)
            self.assertIn(says, run.err)
            self.assertEqual(run.out, "")

    def test_a_trained_model_chooses_better_than_chance(self):
        make_pairs(os.path.join(self.cluster.data, "pairs.txt"), 4000, seed=1)
        make_pairs(os.path.join(self.cluster.data, "held-out.txt"), 300, seed=2)
        job_id, _ = self.train(data__train=["pairs.txt"], data__validation=["held-out.txt"],
                               train__steps=200)
        make_tasks(self.cluster.folder)
        tasks = [self.cluster.path(f"{name}.jsonl") for name in ("choices", "schema", "hellaswag")]
        model = self.cluster.path("pairs.safetensors")
        self.cluster.ok("checkpoints", "export", job_id, model)
        found = self.evaluate(model, "--task", *tasks, "--threads", "1")
        choices, schema, hellaswag = found["tasks"]
        for task, guessing in ((choices, 0.25), (schema, 0.5), (hellaswag, 0.25)):
            self.assertEqual(task["items"], 48)
            self.assertEqual(task["guessing"], guessing)
            self.assertEqual(task["items_cut"], 0)
            error = (task["accuracy"] * (1 - task["accuracy"]) / 47) ** 0.5
            self.assertAlmostEqual(task["accuracy_standard_error"], error)
            # Four standard deviations of guessing.
            self.assertGreater(task["accuracy"],
                               guessing + 4 * (guessing * (1 - guessing) / 48) ** 0.5)
            self.assertGreater(task["accuracy_per_byte"], guessing)
            self.assertEqual([len(layer) for layer in task["importance"]], [4, 4])
        # The same items in another form.
        self.assertEqual({**hellaswag, "file": ""}, {**choices, "file": ""})
        # A few of them; with a text; and cut.
        few = self.evaluate(model, "--task", tasks[0], "--limit", "1", "--text",
                            os.path.join(self.cluster.data, "held-out.txt"))
        self.assertEqual(few["tasks"][0]["items"], 1)
        self.assertIsNone(few["tasks"][0]["accuracy_standard_error"])
        self.assertEqual(len(few["texts"]), 1)
        cut = self.cluster.ok("evaluate", model, "--task", tasks[0], "--context", "10")
        self.assertIn("choices.jsonl: 48 of 48 items are longer than the context of 10 tokens: "
                      "the beginning of the query is left out", cut.out)
        parts = self.cluster.ok("evaluate", model, "--task", tasks[0], "--context", "4")
        self.assertIn("48 of 48 items have a choice longer than the context of 4 tokens", parts.out)
        # What a delimiter makes of it is another text.
        other = self.evaluate(model, "--task", tasks[0], "--delimiter", "\nAnswer: ")
        self.assertNotEqual(other["tasks"][0]["importance"], choices["importance"])

    def test_bad_input_is_named(self):
        job_id, _ = self.train(train__steps=5)
        model = self.cluster.path("bad.safetensors")
        self.cluster.ok("checkpoints", "export", job_id, model)
        text = os.path.join(self.cluster.data, "validation.txt")
        task = self.cluster.path("bad.jsonl")
        good = json.dumps({"query": "q", "choices": ["a", "b"], "gold": 0}) + "\n"
        for line, says in (('{"query": ', "bad.jsonl:2: not a JSON document"),
                           ('{"query": "q", "choices": ["a"], "gold": 0}',
                            "bad.jsonl:2: its `choices` has 1 entry"),
                           ('{"query": "q", "choices": ["a", "b"], "gold": 2}',
                            "bad.jsonl:2: its `gold` is 2, not a number from 0 to 1"),
                           ('{"query": "", "choices": ["a", "b"], "gold": 0}',
                            "bad.jsonl:2: nothing stands before the choice")):
            pathlib.Path(task).write_text(good + line + "\n", encoding="utf-8")
            run = self.cluster.client("evaluate", model, "--task", task)
            self.assertEqual(run.code, 1, run)
            self.assertIn(says, run.err)
            self.assertEqual(run.out, "")
        for arguments, code, says in (
                ((job_id,), 2, "there is nothing to evaluate on"),
                ((job_id, "--text", self.cluster.path("no.txt")), 3, "no.txt: there is no such"),
                ((job_id, "--text", text, "--limit", "3"), 2, "--limit is of the items"),
                ((job_id, "--text", text, "--best", "--step", "5"), 2, "--best and --step"),
                ((model, "--text", text, "--best"), 2, "is one model"),
                ((job_id, "--text", text, "--step", "7"), 3, "7"),
                ((job_id, "--text", text, "--context", "65"), 2,
                 "--context 65: the model was trained on rows of 64 tokens"),
                ((job_id, "--text", text, "--context", "0"), 2, "--context"),
                (("no-such-job-1", "--text", text), 3, "no-such-job-1"),
                ((text, "--text", text), 1, "validation.txt")):
            run = self.cluster.client("evaluate", *arguments)
            self.assertEqual(run.code, code, f"{arguments}: {run}")
            self.assertIn(says, run.err)
            self.assertEqual(run.out, "")


if __name__ == "__main__":
    unittest.main()
