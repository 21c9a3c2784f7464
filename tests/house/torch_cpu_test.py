"""benchmarks/peers/torch_cpu.py: targets and tables over stored made-up turns (torch_cpu.json), its command line, and
--quick. Usage: torch_cpu_test.py REPOSITORY [BF BENCH_CLASSIFIER]

Without BF a made-up program answers in its place. Turns of PyTorch are tried where it is installed."""
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from contextlib import redirect_stderr

repository = sys.argv.pop(1)
real = [os.path.abspath(path) for path in sys.argv[1:]]
del sys.argv[1:]
sys.path.insert(0, os.path.join(repository, "benchmarks", "peers"))
import torch_cpu  # noqa: E402

SCRIPT = os.path.join(repository, "benchmarks", "peers", "torch_cpu.py")
STORED = os.path.join(repository, "tests", "house", "torch_cpu.json")
TORCH = importlib.util.find_spec("torch") is not None

# What both of bf's programs answer: exit code 2 for bf16, 1 for inference at batch 3, nothing for a while at batch 4.
MADE_UP = """#!{python}
import json, sys, time
given = dict(zip(sys.argv[1:], sys.argv[2:]))
if given.get("--precision") == "bf16":
    print("bf: error: precision: bf16 is not here", file=sys.stderr)
    sys.exit(2)
if given.get("--batch") == "3" and given.get("--mode") == "inference":
    print("bf: error: broken", file=sys.stderr)
    sys.exit(1)
if given.get("--batch") == "4":
    time.sleep(60)
row = {{"ms": 2.0, "fastest_ms": 1.0, "slowest_ms": 3.0, "peak_mib": 10.0}}
result = {{"version": "made-up", "precision": "f32", "rows": [row], "arguments": sys.argv[1:]}}
text = json.dumps(result)
print("text before" if "--json" in given else text)
if "--json" in given:
    open(given["--json"], "w").write(text)
"""


def stored():
    with open(STORED) as file:
        return json.load(file)


def turns_of(*turns):
    return torch_cpu.Turns(turns or stored()["turns"])


class Stored(unittest.TestCase):
    def test_targets(self):
        want = [
            ("2.00x", "met"),  # training f32, r18: the median of three rounds, 800 over 400
            ("1.99x", "missed"),  # r50: of the mode that did not fail
            ("-", "not measured"),  # bf16, r18: refused
            ("2.50x", "met"),
            ("1.20x", "met"),  # inference f32, r18: the least of three batches
            ("1.50x (1 of 3)", "not measured"),  # one batch of three does not meet it
            ("-", "not measured"),
            ("-", "not measured"),
            ("1.10x (1 of 3)", "missed"),  # but it can miss it
            ("-", "not measured"),
            ("10.0 GiB", "met"),  # the process's, which is more than its tensors
            ("1.45x", "missed"),  # against the faster, compiled mode
            ("4.0x", "met"),  # against the mode with the least memory
        ]
        self.assertEqual([(got, state) for _, _, got, state in torch_cpu.targets(turns_of())], want)

    def test_nothing_measured_meets_nothing(self):
        for turns in (torch_cpu.Turns(), turns_of(stored()["turns"][0])):
            self.assertEqual({state for *_, state in torch_cpu.targets(turns)}, {"not measured"})

    def test_values(self):
        turns = turns_of()
        case = turns.cases("train", "r18")[0]
        self.assertEqual(turns.value(case, ("bf", "f32", ""), "ms"), 400.0)  # of 400, 500, 390
        self.assertEqual(turns.value(case, ("bf", "f32", ""), "peak_mib"), 1003.0)  # the largest
        self.assertEqual(turns.fastest(case, "f32"), ("torch", "f32", "plain"))
        self.assertEqual(turns.cell(case, ("bf", "bf16", ""), ".2f"), "-")
        share, count = turns.spread()
        self.assertAlmostEqual(share, 500 / 390 - 1)
        self.assertEqual(count, 3)
        self.assertEqual(turns.others(), (1, 26, 0.2))

    def test_report(self):
        lines = torch_cpu.report([stored()])
        rows = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
        # B, precision, bf, PyTorch's modes, the fastest, ratio, memory
        for row in (
            "16 f32 40.00 20.00 16.00 plain 2.00 1003 1500 3000 2500",
            "16 bf16 - - 32.00 channels_last - - - 3000 2500",
            "16 f32 16.00 failed 8.04 channels_last 1.99 1000 1500 3000 2500",
        ):
            self.assertIn(row.split(), rows)
        text = "\n".join(lines)
        self.assertLess(text.index("Training steps, r50"), text.index("Training steps, r100"))
        for part in (
            "- made-up numbers",
            "two rounds of one row differ by 28.2% at most",
            "other work took up to 20% of the processors, over 5% in 1 of 26 turns",
            '- bf bf16, 1 x not measured: precision: bf16 wants device = "cuda"',
            "- PyTorch f32, 1 x failed: exit code -9: no message",
            "- out of time: 26 of 30 turns were tried",
        ):
            self.assertIn(part, text)
        self.assertTrue(torch_cpu.report([{"about": "nothing", "turns": []}]))


class CommandLine(unittest.TestCase):
    def test_defaults(self):
        args = torch_cpu.parsed(["--bf", "some/bf"])
        self.assertEqual(args.bench_classifier, os.path.join("some", "benchmarks", "bench_classifier"))
        cases = list(torch_cpu.cases_of(args))
        self.assertEqual(len(cases), 3 * 2 + 3 * 3 + 2 * 2)  # training without batch 1
        last = {"what": "classifier", "network": "-", "classes": 85742, "batch": 64, "queue": 8192}
        self.assertEqual(cases[-1], last)
        modes = list(torch_cpu.modes_of(args, cases[0]))
        turn = (("bf", ""), ("torch", "plain"), ("torch", "channels_last"))
        self.assertEqual(modes, [(engine, p, variant) for p in ("f32", "bf16") for engine, variant in turn])
        self.assertEqual(list(torch_cpu.modes_of(args, cases[-1])), [("bf", "f32", ""), ("torch", "f32", "plain")])
        args = torch_cpu.parsed(["--compile", "--precision", "bf16"])
        self.assertEqual(len(list(torch_cpu.modes_of(args, cases[0]))), 5)

    def test_threads(self):
        before = os.environ.get("BF_THREADS")
        try:
            os.environ["BF_THREADS"] = "3"
            self.assertEqual(torch_cpu.parsed([]).threads, 3)
            self.assertEqual(torch_cpu.parsed(["--threads", "5"]).threads, 5)
            os.environ["BF_THREADS"] = "many"
            self.assertEqual(torch_cpu.parsed([]).threads, len(os.sched_getaffinity(0)))
        finally:
            os.environ.pop("BF_THREADS")
            if before is not None:
                os.environ["BF_THREADS"] = before

    def test_wrong(self):
        for line in (
            "--network r34",
            "--what sleep",
            "--precision f32,f16",
            "--batch 0",
            "--batch 1,x",
            "--batch ,",
            "--rounds 0",
            "--seconds -1",
            "--threads 0",
            "--queue -1",
            "--unknown",
            "--json no/such/folder/out.json",
        ):
            with self.subTest(line), redirect_stderr(io.StringIO()), self.assertRaises(SystemExit) as stopped:
                torch_cpu.parsed(line.split())
            self.assertEqual(stopped.exception.code, 2)


class Program(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.json, self.markdown = (os.path.join(self.folder, name) for name in ("out.json", "out.md"))
        self.bf = os.path.join(self.folder, "bf")
        with open(self.bf, "w") as file:
            file.write(MADE_UP.format(python=sys.executable))
        os.chmod(self.bf, 0o755)
        self.programs = ["--bf", self.bf, "--bench-classifier", self.bf]

    def command(self, *options):
        # -S: no packages beside the standard library, so that PyTorch is not there
        files = ["--json", self.json, "--markdown", self.markdown]
        return [sys.executable, "-S", SCRIPT, *self.programs, *files, *options]

    def run_it(self, *options, code=0):
        run = subprocess.run(self.command(*options), capture_output=True, text=True)
        self.assertEqual(run.returncode, code, run.stderr)
        with open(self.json) as file:
            return run, json.load(file)["turns"]

    def bf_turns(self, turns):
        return [(t["what"], t["batch"], t["precision"], "ms" in t) for t in turns if t["engine"] == "bf"]

    def test_quick_without_torch(self):
        run, turns = self.run_it("--quick")
        want = [("train", 2, "f32", True), ("train", 2, "bf16", False)]
        want += [("inference", 2, "f32", True), ("inference", 2, "bf16", False)]
        self.assertEqual(self.bf_turns(turns), want + [("classifier", 8, "f32", True)] * 2)
        self.assertEqual({t["refused"] for t in turns if t["engine"] == "torch"}, {"PyTorch is not installed"})
        self.assertIn("x not measured: PyTorch is not installed", run.stdout)
        self.assertIn("- bf bf16, 2 x not measured: precision: bf16 is not here", run.stdout)
        with open(self.markdown) as file:
            self.assertEqual(file.read(), run.stdout)
        show = [sys.executable, SCRIPT, "--show", self.json]
        again = subprocess.run(show, capture_output=True, text=True, check=True)
        self.assertEqual(again.stdout, run.stdout)

    def test_one_failure_ends_nothing(self):
        run, turns = self.run_it("--network", "r18", "--batch", "1,3,8", "--rounds", "2", "--what", "inference,train")
        f32 = [t for t in self.bf_turns(turns) if t[2] == "f32"]
        one = [("inference", 1, "f32", True), ("inference", 3, "f32", False), ("inference", 8, "f32", True)]
        self.assertEqual(f32, (one + [("train", 3, "f32", True), ("train", 8, "f32", True)]) * 2)
        self.assertEqual(len(turns) - len(f32), 5 * 5)  # what is refused is not asked again in the second round
        self.assertIn("- bf f32, 2 x failed: exit code 1: bf: error: broken", run.stdout)
        self.assertIn("training at batch 1 is left out", run.stderr)

    def test_nothing_measured(self):
        self.programs = ["--bf", os.path.join(self.folder, "none")]
        run, turns = self.run_it("--quick", code=1)
        self.assertFalse(any("ms" in t for t in turns))
        self.assertIn("FileNotFoundError", run.stdout)

    def test_a_turn_that_hangs(self):
        options = ["--what", "train", "--network", "r18", "--precision", "f32", "--rounds", "1"]
        run, turns = self.run_it(*options, "--batch", "4,8", "--hang", "1")
        self.assertEqual(self.bf_turns(turns), [("train", 4, "f32", False), ("train", 8, "f32", True)])
        self.assertIn("failed: stopped after 1 s", run.stdout)

    def test_time_limit(self):
        options = ["--what", "train", "--network", "r18", "--precision", "f32", "--batch", "2", "--rounds", "1000"]
        run, turns = self.run_it(*options, "--seconds", "0.5")
        self.assertTrue(1 < len(turns) < 1000)
        self.assertIn("- out of time: ", run.stdout)

    def test_stopped_from_outside(self):
        options = ["--what", "train", "--network", "r18", "--precision", "f32", "--batch", "2,4", "--rounds", "1"]
        with subprocess.Popen(self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            for _ in range(200):  # until the first case is stored; the second sleeps
                time.sleep(0.05)
                if os.path.exists(self.json) and os.path.exists(self.markdown):
                    break
            run.send_signal(signal.SIGTERM)
            try:
                text, errors = run.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                run.kill()
                raise
        self.assertEqual(run.returncode, 130, errors)
        self.assertIn("| 2 | f32", text)

    def test_show_what_is_no_result(self):
        for content in ("{", "[]", '{"about": "x", "turns": [{}]}'):
            with open(self.json, "w") as file:
                file.write(content)
            run = subprocess.run([sys.executable, SCRIPT, "--show", self.json], capture_output=True, text=True)
            self.assertEqual(run.returncode, 1)
            self.assertIn("out.json is no result file", run.stderr)

    @unittest.skipUnless(len(real) == 2, "bf and bench_classifier were not given")
    def test_quick_with_bf(self):
        self.programs = ["--bf", real[0], "--bench-classifier", real[1]]
        _, turns = self.run_it("--quick")
        f32 = [t for t in turns if t["engine"] == "bf" and t["precision"] == "f32"]
        self.assertEqual([t["what"] for t in f32 if t.get("ms")], ["train", "inference", "classifier", "classifier"])
        self.assertTrue(all(t["peak_mib"] > 0 and t["rss_mib"] > 0 for t in f32))
        for turn in turns:  # on this CPU bf16 is measured or refused
            self.assertTrue("ms" in turn or "refused" in turn, turn)

    @unittest.skipUnless(TORCH, "PyTorch is not installed")
    def test_quick_with_torch(self):
        command = [c for c in self.command("--quick", "--threads", "1") if c != "-S"]
        run = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        with open(self.json) as file:
            turns = json.load(file)["turns"]
        peers = [t for t in turns if t["engine"] == "torch"]
        self.assertEqual(len(peers), 2 * 2 * 2 + 2)
        self.assertTrue(all(t["ms"] > 0 and t["rss_mib"] > t["beside_mib"] > 0 for t in peers), peers)


if __name__ == "__main__":
    unittest.main(verbosity=2)
