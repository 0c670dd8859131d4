"""The arguments of device_conformance, on the emulated device, for one case of attention.

Needs SINKFORGE_BUILD_DIR, where cuda_emulated_conformance is built.
"""

import os
import pathlib
import re
import subprocess
import unittest

PROGRAM = pathlib.Path(os.environ["SINKFORGE_BUILD_DIR"], "bin", "cuda_emulated_conformance")
CASE = "Attention_Sink_Exact_B1_T70_"


def conformance(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=300)


def cases_run(*arguments):
    done = conformance(*arguments)
    count = re.search(r"^(\d+) cases, 0 failed$", done.stdout, re.MULTILINE)
    assert done.returncode == 0 and count, done.stdout + done.stderr
    return int(count.group(1))


class DeviceConformanceTest(unittest.TestCase):
    def test_runs_the_paths_that_it_is_told(self):
        others, hopper = cases_run(CASE, "others"), cases_run(CASE, "hopper")
        self.assertEqual(hopper, 1)
        self.assertEqual(others, 4)  # float32, mixed, a warp a row, any order
        self.assertEqual(cases_run(CASE), others + hopper)

    def test_refuses_paths_that_it_does_not_know(self):
        done = conformance(CASE, "Hopper")
        self.assertEqual(done.returncode, 2)
        self.assertIn("[others|hopper]", done.stderr)


if __name__ == "__main__":
    unittest.main()
