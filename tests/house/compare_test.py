"""benchmarks/compare.py and kernel_times.py over made-up results. Usage: compare_test.py REPOSITORY"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

repository = sys.argv.pop(1)
sys.path.insert(0, os.path.join(repository, "benchmarks"))
import compare  # noqa: E402
import kernel_times  # noqa: E402


def step(queue, ms, **more):
    return {"what": "train", "network": "r100", "batch": 256, "queue": queue, "ms": ms, "peak_mib": 1000.0, **more}


def alone(queue, peak, classes=85742, **more):
    row = {"what": "classifier", "network": "-", "batch": 256, "queue": queue, "classes": classes}
    return {**row, "ms": 2.0 + queue / 8192, "peak_mib": peak, "beside_mib": peak - 10, **more}


def bf(*rows, **head):
    return {"engine": "bf", "precision": "bf16", "classes": 85742, "dim": 512, "rows": rows, **head}


def torch(*rows, compiled=False):
    rows = [{**r, "compile": compiled} for r in rows]
    return {"engine": "torch", "precision": "bf16", "classes": 85742, "dim": 512, "rows": rows}


def rows_of(*results):
    rows = compare.Rows()
    for result in results:
        rows.add_file(result)
    return rows


def states(rows):
    return [(got, state) for _, _, got, state in compare.targets(rows)]


class Compare(unittest.TestCase):
    def test_targets_met(self):
        rows = rows_of(
            bf(step(0, 100.0), step(8192, 107.0), step(32768, 129.0), alone(8192, 500.0), alone(32768, 700.0)),
            torch(step(0, 125.0), step(8192, 150.0), step(32768, 225.0), alone(8192, 2000.0), alone(32768, 9000.0)),
            torch(step(0, 100.0), compiled=True),
        )
        want = ["1.25x", "1.00x", "+7.0%", "+29.0%", "2.9x", "2.8x", "4.0x", "12.9x"]
        self.assertEqual(states(rows), [(v, "met") for v in want])

    def test_targets_missed(self):
        rows = rows_of(
            bf(step(0, 100.0), step(8192, 109.0), step(32768, 131.0), alone(8192, 500.0), alone(32768, 700.0)),
            torch(step(0, 124.0), step(8192, 140.0), step(32768, 190.0), alone(8192, 1990.0), alone(32768, 2700.0)),
            torch(step(0, 99.0), step(8192, 99.0), compiled=True),
        )
        want = ["1.24x", "0.99x", "+9.0%", "+31.0%", "1.4x", "0.0x", "1.7x", "4.0x", "3.9x"]
        self.assertEqual(states(rows), [(v, "missed") for v in want])

    def test_nothing_measured_meets_nothing(self):
        for rows in (rows_of(), rows_of(bf(step(0, 100.0, network="r50"))), rows_of(bf(step(0, 1.0), precision="f32"))):
            self.assertEqual(states(rows), [("-", "not measured")] * 8)

    def test_a_row_alone_gives_no_overhead(self):
        got = states(rows_of(bf(step(8192, 100.0)), torch(step(0, 100.0), step(8192, 200.0))))
        self.assertEqual({state for _, state in got}, {"not measured"})

    def test_turns_give_the_median_time_and_the_largest_peak(self):
        turns = [bf(step(0, ms, peak_mib=peak)) for ms, peak in ((100.0, 7.0), (90.0, 9.0), (300.0, 8.0))]
        rows = rows_of(*turns)
        key = rows.keys("train")[0]
        self.assertEqual(rows.value(key, "bf", "ms"), 100.0)
        self.assertEqual(rows.value(key, "bf", "peak_mib"), 9.0)
        share, count = rows.spread()
        self.assertAlmostEqual(share, 300 / 90 - 1)
        self.assertEqual(count, 3)

    def test_the_faster_of_ours_is_compared(self):
        rows = rows_of(bf(step(0, 100.0)), bf(step(0, 80.0, graph=True)), torch(step(0, 100.0)))
        self.assertEqual(states(rows)[0], ("1.25x", "met"))
        self.assertEqual(rows.variants(rows.keys("train")), ["bf", "bf graph", "eager"])

    def test_other_precisions_stand_beside(self):
        narrow, wide = bf(step(0, 100.0)), bf(step(0, 10.0), precision="f32")
        rows = rows_of(narrow, wide, torch(step(0, 125.0)), {**torch(step(0, 20.0)), "precision": "f32"})
        self.assertEqual(states(rows)[0], ("1.25x", "met"))
        self.assertEqual(rows.variants(rows.keys("train")), ["bf", "bf f32", "eager f32", "eager"])

    def test_failed_rows_and_rows_without_the_stage(self):
        failed = {**step(0, None), "error": "out of memory"}
        rows = rows_of(torch(failed), bf(alone(0, 5.0, stage=False)))
        self.assertIn("failed", "\n".join(compare.report(rows, [], 131)))
        self.assertEqual(rows.keys("classifier"), [])

    def test_ceiling(self):
        # 4 KiB an identity and 20 GiB beside; with 2 KiB of momentum 6 KiB
        sizes = [alone(32768, 20480 + k * 4 / 1024, classes=k) for k in (102400, 1024000)]
        text = compare.ceiling(rows_of(bf(*sizes)), 131)
        self.assertIn("K 1024000, Q 32768, B 256 peaks at 23.9 GiB", text)
        self.assertIn("6.0 KiB", text)
        self.assertIn("about 19.4 million", text)  # (131 * 1024 - 20480) * 1024 / 6
        self.assertIsNone(compare.ceiling(rows_of(bf(sizes[0])), 131))

    def test_program(self):
        with tempfile.TemporaryDirectory() as folder:
            path = {n: os.path.join(folder, n) for n in ("bf.json", "torch.json", "machine.txt", "out.md", "bad.json")}
            for name, content in (("bf.json", bf(step(0, 100.0))), ("torch.json", torch(step(0, 150.0)))):
                with open(path[name], "w") as file:
                    json.dump(content, file)
            with open(path["machine.txt"], "w") as file:
                file.write("a made-up card\n")
            with open(path["bad.json"], "w") as file:
                file.write('{"rows": [')
            program = [sys.executable, os.path.join(repository, "benchmarks", "compare.py")]
            options = ["--machine", path["machine.txt"], "--markdown", path["out.md"]]
            both = [path["bf.json"], path["torch.json"]]
            run = subprocess.run([*program, *options, *both], capture_output=True, text=True)
            self.assertEqual(run.returncode, 0, run.stderr)
            with open(path["out.md"]) as file:
                self.assertEqual(file.read(), run.stdout)
            self.assertIn("- a made-up card", run.stdout)
            line = next(t for t in run.stdout.splitlines() if t.startswith("| 256 |"))
            self.assertEqual([c.strip() for c in line.split("|")[1:-1]][:5], ["256", "0", "2560", "1707", "1.50"])
            merged = os.path.join(folder, "merged.json")
            subprocess.run([*program, "--merge", merged, *both], capture_output=True, check=True)
            with open(path["out.md"]) as file:
                again = subprocess.run([*program, *options, merged], capture_output=True, text=True)
                self.assertEqual(file.read(), again.stdout)
            run = subprocess.run([*program, path["bf.json"], path["bad.json"]], capture_output=True, text=True)
            self.assertEqual(run.returncode, 1)
            self.assertIn("bad.json is no result file", run.stderr)


class KernelTimes(unittest.TestCase):
    def test_nsys(self):
        lines = ["Processing x, y, z, a", "Time (%),Total Time (ns),Instances,Name", '90.0,900,3,"f(a, b)"', "10.0,100,1,g", "a, program, prints, this"]
        self.assertEqual(kernel_times.times(lines), {"f(a, b)": [3, 900.0], "g": [1, 100.0]})

    def test_trace(self):
        lines = ["Name,Instances,Total Time (ns)", '"conv<a, b>(int)",2,2000', '"add",1,250', '"add",1,50']
        self.assertEqual(kernel_times.times(lines), {"conv<a, b>(int)": [2, 2000.0], "add": [2, 300.0]})

    def test_nothing(self):
        self.assertEqual(kernel_times.times(["==ERROR== no", "a,b"]), {})


if __name__ == "__main__":
    unittest.main()
