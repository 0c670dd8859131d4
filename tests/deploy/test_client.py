"""Beside the client: completion in the real shells, manual pages in the real man."""

import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ["SINKFORGE_BUILD_DIR"]).resolve()
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # noqa: E402  The end-to-end tests' daemons.

SCRIPTS = {"bash": BUILD / "completion/bash/sinkforge",
           "zsh": BUILD / "completion/zsh/_sinkforge",
           "fish": BUILD / "completion/fish/sinkforge.fish"}
MAN = BUILD / "man"


def environment(**more):
    return dict(os.environ, PATH=f"{BUILD}/bin:{os.environ['PATH']}", LC_ALL="C.UTF-8",
                SINKFORGE_COORDINATOR="127.0.0.1:1", **more)


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, **{"env": environment(), **more})
    if done.returncode != 0:
        raise AssertionError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Completion:
    """One way to ask a shell what it offers for a line whose last word is being typed."""

    def bash(self, line, env):
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        script = (f"source '{SCRIPTS['bash']}'; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1};"
                  " _sinkforge; printf '%s\\n' \"${COMPREPLY[@]}\"")
        return run("bash", "--norc", "-c", script, env=env, cwd=self.folder).stdout.split()

    def fish(self, line, env):
        script = f"source '{SCRIPTS['fish']}'; complete -C '{line}'"
        done = run("fish", "--no-config", "-c", script, env=env, cwd=self.folder)
        return [offer.split("\t")[0] for offer in done.stdout.splitlines()]


class CompletionTest(unittest.TestCase, Completion):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="sinkforge-completion-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        for name in ("job.yaml", "other.txt"):
            (pathlib.Path(self.folder) / name).touch()

    def offers(self, line, env=None):
        """{shell: offers}, of the two shells that can be asked without a terminal."""
        env = env or environment(HOME=self.folder)
        return {"bash": self.bash(line, env), "fish": self.fish(line, env)}

    def test_offers_commands_options_and_choices(self):
        for line, expected in (("sinkforge ch", ["checkpoints"]),
                               ("sinkforge checkpoints e", ["export"]),
                               ("sinkforge list --st", ["--state"]),
                               ("sinkforge list --state q", ["queued"]),
                               ("sinkforge metrics d4-1 -o c", ["csv"]),
                               ("sinkforge completion f", ["fish"]),
                               ("sinkforge checkpoints export d4-1 --wi", ["--with-optimizer"]),
                               # A value is not taken for a command.
                               ("sinkforge --coordinator list sh", ["show"]),
                               ("sinkforge list --namespace show --st", ["--state"])):
            for shell, offers in self.offers(line).items():
                self.assertEqual(offers, expected, f"{shell}: {line}")

    def test_offers_keys_of_the_job_file(self):
        for line, expected in (("sinkforge submit job.yaml --set train.st", ["train.steps="]),
                               ("sinkforge sweep job.yaml --grid model.attention",
                                ["model.attention="]),
                               ("sinkforge metrics d4-1 --series tokens_t", ["tokens_total"])):
            for shell, offers in self.offers(line).items():
                self.assertEqual(offers, expected, f"{shell}: {line}")
        keys = self.bash("sinkforge submit job.yaml --set ", environment(HOME=self.folder))
        for key in ("name=", "model.sink_init=", "head_balance.coefficient=", "resources.ranks="):
            self.assertIn(key, keys)
        self.assertFalse([key for key in keys if "sink_init." in key])

    def test_offers_values_behind_an_equals_sign(self):
        env = environment(HOME=self.folder)
        # As bash splits the line, and as it does without "=" in COMP_WORDBREAKS.
        self.assertEqual(self.bash("sinkforge list --state = qu", env), ["queued"])
        self.assertIn("queued", self.bash("sinkforge list --state =", env))
        self.assertEqual(self.bash("sinkforge list --state=qu", env), ["--state=queued"])
        self.assertEqual(self.bash("sinkforge list --state = queued --nam", env), ["--namespace"])
        self.assertEqual(self.fish("sinkforge list --state=qu", env), ["--state=queued"])

    def test_offers_files_where_a_file_is_meant(self):
        for shell, offers in self.offers("sinkforge submit j").items():
            self.assertEqual(offers, ["job.yaml"], shell)
        for shell, offers in self.offers("sinkforge show j").items():
            self.assertEqual(offers, [], shell)

    def test_a_group_offers_its_commands_once_and_not_behind_one_of_them(self):
        for shell, offers in self.offers("sinkforge checkpoints ").items():
            named = sorted(offer for offer in offers if not offer.startswith("-"))
            self.assertEqual(named, ["delete", "export", "list", "verify"], shell)
        for shell, offers in self.offers("sinkforge checkpoints list ").items():
            self.assertNotIn("export", offers, shell)

    def test_offers_the_jobs_that_there_are(self):
        cluster = harness.Cluster()
        self.addCleanup(cluster.close)
        cluster.start_coordinator()
        job = cluster.submit(name="offered")
        env = environment(HOME=self.folder)
        env["SINKFORGE_COORDINATOR"] = cluster.address
        for line in ("sinkforge show off", "sinkforge checkpoints export off"):
            # A shell waits a moment for the coordinator, not for a machine that is busy.
            expected = {"bash": [job], "fish": [job]}
            harness.wait_until(lambda line=line: self.offers(line, env) == expected,
                               f"both shells offer {job} for: {line}")
        cluster.start_worker("gpu-box-2")
        for line in ("sinkforge drain gpu", "sinkforge undrain gpu", "sinkforge forget gpu"):
            expected = {"bash": ["gpu-box-2"], "fish": ["gpu-box-2"]}
            harness.wait_until(lambda line=line: self.offers(line, env) == expected,
                               f"both shells offer the worker for: {line}")
        with Zsh(self.folder, env) as zsh:
            for line, expected in (("sinkforge show off", f"sinkforge show {job}"),
                                   ("sinkforge drain gpu", "sinkforge drain gpu-box-2")):
                harness.wait_until(lambda line=line, text=expected: zsh.complete(line) == text,
                                   f"zsh offers {expected}")
        series = self.offers("sinkforge metrics offered-1 --series ", env)
        self.assertEqual(sorted(series["bash"]), sorted(series["fish"]))
        self.assertIn("importance", series["bash"])
        cluster.ok("metrics", job, "--series", ",".join(series["bash"]))

    def test_zsh_completes_at_a_terminal(self):
        with Zsh(self.folder, environment(HOME=self.folder)) as zsh:
            for line, expected in (("sinkforge subm", "sinkforge submit"),
                                   ("sinkforge checkpoints exp", "sinkforge checkpoints export"),
                                   ("sinkforge list --stat", "sinkforge list --state"),
                                   ("sinkforge list --state que", "sinkforge list --state queued"),
                                   ("sinkforge list --state=que", "sinkforge list --state=queued"),
                                   ("sinkforge submit jo", "sinkforge submit job.yaml"),
                                   ("sinkforge submit job.yaml --set train.ste",
                                    "sinkforge submit job.yaml --set train.steps="),
                                   ("sinkforge --coordinator list sho",
                                    "sinkforge --coordinator list show")):
                self.assertEqual(zsh.complete(line), expected)


class Zsh:
    """An interactive zsh on a terminal of its own, with the script where packages put it."""

    def __init__(self, folder, env):
        self.output = b""
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.execvpe("zsh", ["zsh", "-f", "-i"], dict(env, TERM="dumb"))
        self.pid = pid
        self.send("PROMPT='ready> '; unsetopt zle_bracketed_paste; setopt no_beep\n")
        self.send(f"fpath=('{SCRIPTS['zsh'].parent}' $fpath); autoload -U compinit\n")
        self.send("compinit -u -D; bindkey -e; print loaded:$_comps[sinkforge]\n")
        self.await_text(r"loaded:_sinkforge\r?\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.terminal)
        os.waitpid(self.pid, 0)  # The end of its terminal is the end of the shell.

    def send(self, text):
        os.write(self.terminal, text.encode())

    def await_text(self, pattern):
        end = time.monotonic() + harness.WAIT_SECONDS
        while not (match := re.search(pattern, self.output.decode("utf-8", "replace"))):
            left = end - time.monotonic()
            readable, _, _ = select.select([self.terminal], [], [], max(0, left))
            if not readable:
                raise AssertionError(f"zsh did not print {pattern}: {self.output!r}")
            self.output += os.read(self.terminal, 65536)
        return match

    def complete(self, line):
        """The line after a Tab: it is made the argument of a print, and run."""
        self.output = b""
        self.send(line + "\t\x01print -r -- 'LINE:\x05:END'\n")
        return self.await_text(r"\nLINE:(.*):END\r?\n").group(1)


class ManPageTest(unittest.TestCase):
    def pages(self):
        return sorted([*MAN.glob("client/*.1"), *MAN.glob("*.[18]")])

    def test_every_page_is_clean_and_has_a_name(self):
        self.assertGreater(len(self.pages()), 20)
        for page in self.pages():
            done = run("groff", "-man", "-Tutf8", "-ww", "-z", str(page))
            self.assertEqual(done.stderr, "", page)
            self.assertIn(page.stem, run("lexgrog", str(page)).stdout)

    def test_man_shows_what_help_says(self):
        text = run("man", "-P", "cat", "-l", str(MAN / "client/sinkforge-submit.1"),
                   env=environment(MANWIDTH="200", MAN_KEEP_FORMATTING="")).stdout
        text = re.sub(r".\x08|\x1b\[[0-9;]*m", "", text)
        for option in re.findall(r"--[a-z][a-z-]+", run(f"{BUILD}/bin/sinkforge", "submit",
                                                       "--help").stdout):
            self.assertIn(option, text)
        self.assertIn("sinkforge submit [OPTION]... JOB.yaml", text)
        for program in ("sinkforge-coordinator.8", "sinkforge-worker.8"):
            daemon = (MAN / program).read_text()
            for option in ("data", "listen", "insecure"):
                self.assertIn(f"\\-\\-{option}", daemon)


if __name__ == "__main__":
    unittest.main()
