"""peers.py where PyTorch is older than what FlexAttention is asked for: a stub of its modules."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PEERS = pathlib.Path(__file__).parent / "peers.py"

# What the script names when it is loaded, and what it calls before FlexAttention.
MODULES = {
    "torch/__init__.py": """
def same(function): return function
def compile(**_): return same
def no_grad(): return same
def randn(*_, **__): return None
def randn_like(_): return None
bfloat16 = None
""",
    "torch/nn/__init__.py": "class Module: pass\nclass Linear: pass\n",
    "torch/nn/functional.py": "",
    "torch/nn/attention/__init__.py": "SDPBackend = sdpa_kernel = None\n",
    "torch/nn/attention/flex_attention.py": "create_block_mask = flex_attention = None\n",
    "torch/_functorch/__init__.py": "",
    "torch/_functorch/config.py": "",
    "torch/utils/__init__.py": "",
    "torch/utils/deterministic.py": "",
}


class OldPyTorchTest(unittest.TestCase):
    def peers(self, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in MODULES.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return subprocess.run([sys.executable, "-B", PEERS, *arguments], capture_output=True,
                                  text=True, timeout=60,
                                  env={**os.environ, "PYTHONPATH": folder})

    def test_says_that_flex_attention_lacks_something(self):
        done = self.peers("flex")
        lines = done.stdout.splitlines()
        self.assertEqual((done.returncode, done.stderr, len(lines)), (0, "", 8))
        self.assertRegex(lines[0], r"^NOT RUN flex_sink 2048 64: ImportError: .*AuxRequest")

    def test_keeps_what_does_not_need_it(self):
        done = self.peers()
        self.assertEqual(done.returncode, 2)
        self.assertIn("Usage: peers.py sdpa|flex|model", done.stderr)


if __name__ == "__main__":
    unittest.main()
