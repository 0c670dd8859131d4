"""summary.py on folders as run.sh leaves them, some with what killed processes left in them."""

import pathlib
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent


class SummaryTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.write("card.csv", "name, driver_version\nNVIDIA H200, 580\n")

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def summary(self, command):
        done = subprocess.run([HERE / "summary.py", command, self.folder], timeout=60,
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_leaves_out_lines_of_attention_that_are_cut_short(self):
        self.write("parts.csv", "attention_sdpa,124,60\nattention_tensor_cores,1,9\n")
        self.write("attention_sdpa.log",
                   "torch,cudnn,2048,64,400.0,,300.0\n"
                   "torch,cudnn,4096,64,4killed; it may take 60 seconds\n")
        self.write("attention_tensor_cores.log",
                   "product,8192,,,750.0,,\n"
                   "ours,gated_tensor_cores,2048,64,200.0,150.0,160.0\n"
                   "ours,gated_tensor_cores,4096,64,300.0,160.0,1")
        printed = self.summary("bench")
        self.assertIn("| cudnn | 400 / - / 300 | - | - | - |", printed)
        self.assertIn("| gated_tensor_cores | 200 / 150 / 160 | - | - | - |", printed)

    def test_leaves_out_lines_of_steps_that_are_cut_short(self):
        self.write("parts.csv", "steps_d12_tensor_cores,124,80\n")
        self.write("steps_d12_tensor_cores.log",
                   "ours,d12_tensor_cores_without_loss,135000000,65536,0.200000,9.5,0.0,0.0,0.0\n"
                   "ours,d12_tensor_cores_with_loss,135000000,655\n"
                   "ours,d12_tensor_cores_with_loss_graphs,135000000,65536,0.2,9.5,0.1,0killed;\n")
        printed = self.summary("bench")
        self.assertIn("| ours | d12_tensor_cores_without_loss | 327680 |", printed)
        self.assertNotIn("| d12_tensor_cores_with_loss", printed)
        self.assertIn("| d12, tensor_cores |  | not run |", printed)

    def test_names_a_run_that_made_no_step(self):
        self.write("parts.csv", "d12-sink-0,26,3\nd12-gated-0,0,80\n")
        head = "step,loss,aux_loss,imbalance,smallest,largest,gradient_norm,seconds\n"
        self.write("d12-sink-0-curve.csv", "")
        self.write("d12-gated-0-curve.csv", head + "1,11.0,0,0.5,0.1,0.9,1.0,0.25\n")
        printed = self.summary("train")
        self.assertIn("| d12-sink-0: a real run | 0 steps | NOT MET |", printed)
        self.assertIn("| d12-gated-0: a real run | 1 steps | met |", printed)
        self.assertIn("| d12-gated-0 | 1 | 0 | 11.0000 |", printed)


if __name__ == "__main__":
    unittest.main()
