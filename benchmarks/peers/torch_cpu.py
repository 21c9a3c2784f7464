#!/usr/bin/env python3
"""bf on the CPU beside PyTorch on the CPU: the same training step, inference pass and classifier, in turns.

A round goes through all cases, and a case through its modes: bf, then each of PyTorch's, in f32 (plain, channels_last)
and in bf16 (autocast, its inference with bf16 weights; plain, channels_last); --compile adds torch.compile's. Each turn
is a process of its own with the same number of threads: `bf bench` and `bench_classifier` for bf, this file for
PyTorch, whose network, rule, optimizer and steps are those of torch_arcface.py. A time is the median over a turn's
steps, then over rounds. What bf is compared with is PyTorch's fastest mode of the same precision, named in the table.

Memory: "bf MiB" is what bf's tensors took at most, "bf RSS" its process (with 0.5 GiB that `bf bench` takes to learn
the machine's rates), "PyTorch RSS" the fresh Python process of the fastest mode at most while it was measured, and
"beside" that less what it had when PyTorch was imported.

A row that bf refuses (exit code 2: a precision that the CPU does not have) is "-". Training at batch 1 is left out:
batch norm over one embedding is refused by both. Where PyTorch is not installed, bf is measured alone. Ratios want a
quiet machine: PyTorch's threads spin where they wait for each other, so that other work slows it far beyond its share.
How much of the processors other work took is printed below the tables.

    torch_cpu.py --json cpu.json --markdown cpu.md                 # all of it: hours
    torch_cpu.py --what train --network r18 --batch 16 --rounds 3
    torch_cpu.py --what classifier --seconds 600                   # Q 8,192 of K 85,742: about 10 GiB
    torch_cpu.py --quick                                           # a toy size: does it run
    torch_cpu.py --show cpu.json more.json                         # the tables of stored results, measuring nothing
"""
import argparse
import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from compare import shown, table  # noqa: E402

WHAT = ("train", "inference", "classifier")
NETWORKS = ("r18", "r50", "r100")
PRECISIONS = ("f32", "bf16")
BATCHES = (1, 8, 16)  # those of whose inference the targets speak
CASE = ("what", "network", "classes", "batch", "queue")
NAMES = {"bf": "bf", "torch": "PyTorch"}
REFUSED = 2  # bf's exit code for what it cannot be asked
QUIET = 0.05  # share of the processors that other work may take


# ---- what was measured


class Turns:
    """Measured turns by case (a tuple of CASE) and mode: (engine, precision, variant)."""

    def __init__(self, turns=()):
        self.found = {}  # case -> mode -> turns
        self.notes = {}  # (engine, precision, text) -> how many turns
        for turn in turns:
            self.add(turn)

    def add(self, turn):
        mode = (turn["engine"], turn["precision"], turn["variant"])
        self.found.setdefault(tuple(turn[k] for k in CASE), {}).setdefault(mode, []).append(turn)
        for kind, said in (("refused", "not measured"), ("error", "failed")):
            if kind in turn:
                key = (*mode[:2], f"{said}: {turn[kind]}")
                self.notes[key] = self.notes.get(key, 0) + 1

    def value(self, case, mode, field):
        """Over the rounds: the median of "ms", the largest of the others; None where there is none."""
        values = [t[field] for t in self.found.get(case, {}).get(mode, []) if t.get(field) is not None]
        if not values:
            return None
        return statistics.median(values) if field == "ms" else max(values)

    def cases(self, what, network=None):
        return sorted(c for c in self.found if c[0] == what and network in (None, c[1]))

    def precisions(self, case):
        there = {mode[1] for mode in self.found[case]}
        return [p for p in PRECISIONS if p in there]

    def variants(self, cases):
        """PyTorch's, in the order of their turns."""
        there = [m[2] for c in cases for m in self.found[c] if m[0] == "torch"]
        return list(dict.fromkeys(there))

    def fastest(self, case, precision):
        """PyTorch's fastest mode of that precision; None when none was measured."""
        there = [m for m in self.found.get(case, {}) if m[:2] == ("torch", precision) and self.value(case, m, "ms")]
        return min(there, key=lambda m: self.value(case, m, "ms"), default=None)

    def ratio(self, case, precision):
        """How many times as fast bf is as PyTorch's fastest mode."""
        ours, peer = self.value(case, ("bf", precision, ""), "ms"), self.fastest(case, precision)
        return None if not ours or peer is None else self.value(case, peer, "ms") / ours

    def memory_ratio(self, case, precision):
        """The least memory of PyTorch's modes beside the import over bf's tensors."""
        ours = self.value(case, ("bf", precision, ""), "peak_mib")
        theirs = [self.value(case, m, "beside_mib") for m in self.found.get(case, {}) if m[:2] == ("torch", precision)]
        theirs = [v for v in theirs if v]
        return min(theirs) / ours if ours and theirs else None

    def cell(self, case, mode, form):
        """A rate (or, of the classifier, a time), "failed", or "-" for what was refused or not measured."""
        ms = self.value(case, mode, "ms")
        if ms is None:
            return "failed" if any("error" in t for t in self.found[case].get(mode, [])) else "-"
        return format(ms if case[0] == "classifier" else 1e3 * case[3] / ms, form)

    def spread(self):
        """The most by which two rounds of one mode differ, and the number of rounds; None for one round."""
        rounds = [[t["ms"] for t in turns if t.get("ms")] for by in self.found.values() for turns in by.values()]
        rounds = [r for r in rounds if len(r) > 1]
        return (max(max(r) / min(r) - 1 for r in rounds), max(map(len, rounds))) if rounds else None

    def others(self):
        """(turns that were not quiet, measured turns, the largest share of the processors that other work took)."""
        shares = [t.get("others") for by in self.found.values() for turns in by.values() for t in turns if "ms" in t]
        known = [v for v in shares if v is not None]
        return sum(v > QUIET for v in known), len(shares), max(known, default=0)


def lines_of(turns, cases, lead):
    """The table of some cases; lead: heads and values that say which case a line is of."""
    variants = turns.variants(cases)
    unit, form = ("ms", ".2f") if cases[0][0] == "classifier" else ("img/s", ".2f")
    head = [*lead, "precision", f"bf {unit}", *(f"{v} {unit}" for v in variants), "fastest", "bf/PyTorch"]
    head += ["bf MiB", "bf RSS", "PyTorch RSS", "beside"]
    lines = []
    for case in cases:
        for precision in turns.precisions(case):
            bf, peer = ("bf", precision, ""), turns.fastest(case, precision)
            line = [*(case[CASE.index(k)] for k in lead.values()), precision, turns.cell(case, bf, form)]
            line += [turns.cell(case, ("torch", precision, v), form) for v in variants]
            line += ["-" if peer is None else peer[2], shown(turns.ratio(case, precision), ".2f")]
            line += [shown(turns.value(case, bf, field), ".0f") for field in ("peak_mib", "rss_mib")]
            line += [shown(turns.value(case, peer, field), ".0f") for field in ("rss_mib", "beside_mib")]
            lines.append(line)
    return table(head, lines)


def targets(turns):
    """(what, wanted, got, "met" | "missed" | "not measured") for each target."""
    out = []

    def judge(name, wanted, value, good, form, more=""):
        state = "not measured" if value is None else "met" if good(value) else "missed"
        if more and state == "met":
            state = "not measured"  # a part of it only
        out.append((name, wanted, ("-" if value is None else form(value)) + more, state))

    def one(what, network, batch):
        """The case of the target; of several numbers of identities the smallest."""
        return next((c for c in turns.cases(what, network) if c[3] == batch), None)

    for precision, least in (("f32", 2.0), ("bf16", 2.5)):
        for network in ("r18", "r50"):
            name = f"training {precision}, {network}, B 16: images/s over PyTorch"
            value = turns.ratio(one("train", network, 16), precision)
            judge(name, f">= {least:.1f}x", value, lambda v, least=least: v >= least, "{:.2f}x".format)
    for precision in PRECISIONS:
        for network in NETWORKS:
            values = [turns.ratio(one("inference", network, b), precision) for b in BATCHES]
            values = [v for v in values if v is not None]
            part = f" ({len(values)} of {len(BATCHES)})" if 0 < len(values) < len(BATCHES) else ""
            name = f"inference {precision}, {network}: the least over PyTorch at B {', '.join(map(str, BATCHES))}"
            judge(name, ">= 1.2x", min(values, default=None), lambda v: v >= 1.2, "{:.2f}x".format, part)
    bf, case = ("bf", "f32", ""), one("train", "r100", 16)
    sizes = [turns.value(case, bf, field) for field in ("peak_mib", "rss_mib")]
    size = max((v / 1024 for v in sizes if v), default=None)
    judge("training f32, r100, B 16: memory of the process", "<= 12 GiB", size, lambda v: v <= 12, "{:.1f} GiB".format)
    case = ("classifier", "-", 85742, 64, 8192)
    name = "classifier f32, K 85742, Q 8192, B 64: "
    judge(name + "time, PyTorch's over bf's", ">= 2x", turns.ratio(case, "f32"), lambda v: v >= 2, "{:.2f}x".format)
    memory = turns.memory_ratio(case, "f32")
    judge(name + "memory, PyTorch's over bf's", ">= 4x", memory, lambda v: v >= 4, "{:.1f}x".format)
    return out


def report(results):
    """The whole text, which is Markdown, of results of one run or several."""
    turns = Turns(t for r in results for t in r["turns"])
    out = [*dict.fromkeys(f"- {r['about']}" for r in results), ""]
    for what, title in (("train", "Training steps"), ("inference", "Inference")):
        for network in sorted({c[1] for c in turns.cases(what)}, key=lambda n: (len(n), n)):
            cases = turns.cases(what, network)
            lead = {"K": "classes", "B": "batch"} if len({c[2] for c in cases}) > 1 else {"B": "batch"}
            out += [f"{title}, {network}:", "", *lines_of(turns, cases, lead), ""]
    if cases := turns.cases("classifier"):
        out += ["Classifier alone: forward, both gradients, queue (the rule's two terms in PyTorch):", ""]
        out += [*lines_of(turns, cases, {"K": "classes", "B": "batch", "Q": "queue"}), ""]
    if spread := turns.spread():
        out += [f"Measured in {spread[1]} rounds; two rounds of one row differ by {spread[0]:.1%} at most.", ""]
    loud, count, share = turns.others()
    if loud:
        text = f"Not a quiet machine: other work took up to {share:.0%} of the processors, over {QUIET:.0%} in {loud}"
        out += [f"{text} of {count} turns. PyTorch loses more by that than bf: measure again.", ""]
    notes = [f"- {NAMES[e]} {p}, {n} x {text}" for (e, p, text), n in turns.notes.items()]
    notes += [f"- {r['ended']}" for r in results if r.get("ended")]
    out += [*notes, ""] if notes else []
    return out + ["Targets:", "", *table(["target", "wanted", "got", "state"], targets(turns))]


# ---- measuring


def cases_of(args):
    for what in args.what:
        if what == "classifier":
            for classes in args.identities:
                for queue in args.queue:
                    yield {"what": what, "network": "-", "classes": classes, "batch": args.rows, "queue": queue}
            continue
        for network in args.network:
            for batch in args.batch:
                if what == "inference" or batch > 1:
                    yield {"what": what, "network": network, "classes": args.classes, "batch": batch, "queue": 0}


def modes_of(args, case):
    """Modes of a case in the order of their turns: (engine, precision, variant)."""
    classifier = case["what"] == "classifier"
    variants = ["plain"] if classifier else ["plain", "channels_last"]
    if args.compile:
        variants += ["compiled"] if classifier else ["compiled", "compiled channels_last"]
    for precision in args.classifier_precision if classifier else args.precision:
        yield ("bf", precision, "")
        for variant in variants:
            yield ("torch", precision, variant)


def busy_seconds():
    """Time that all processors worked since the machine started; None on a system that does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq = map(int, file.readline().split()[1:8])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return None


def open_text():
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def run_child(command, threads, limit):
    """(stdout, exit code, stderr, facts) of a process; it is stopped after `limit` seconds."""
    env = {**os.environ, "BF_THREADS": str(threads)}
    start, busy = time.monotonic(), busy_seconds()
    with open_text() as out, open_text() as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        try:
            ended = 0
            while not ended:  # wait4 tells what this child used, and a loop can be interrupted anywhere
                time.sleep(0.02)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
                if not ended and time.monotonic() - start > limit:
                    raise RuntimeError(f"stopped after {limit:.0f} s")
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        facts = {"rss_mib": round(usage.ru_maxrss / 1024, 1)}
        if busy is not None:
            others = busy_seconds() - busy - usage.ru_utime - usage.ru_stime
            share = others / (time.monotonic() - start) / (os.cpu_count() or 1)
            facts["others"] = round(max(0.0, share), 3)
        return out.read(), process.returncode, err.read(), facts


def last_line(text):
    return (text.strip().splitlines() or ["no message"])[-1][:300]


def bf_command(args, case, precision, result_file):
    if case["what"] == "classifier":
        options = {"device": "cpu", "products": precision, "batch": case["batch"], "queue": case["queue"]}
        options |= {"identities": case["classes"], "dim": args.dim, "stage": "on", "repeats": args.steps}
        options |= {"cap-gib": 0, "kept-mib": args.kept_mib, "json": result_file}
        return [args.bench_classifier, *(str(v) for k, w in options.items() for v in (f"--{k}", w))]
    options = {"device": "cpu", "network": case["network"], "batch": case["batch"], "queue": case["queue"]}
    options |= {"identities": case["classes"], "precision": precision, "mode": case["what"]}
    options |= {"steps": args.steps, "warmup": args.warmup, "seconds": args.turn}
    keys = {"image_size": args.size, "embedding_size": args.dim, "clip_norm": 5}
    sets = [v for k, w in keys.items() for v in ("--set", f"{k}={w}")]
    return [args.bf, "bench", *(str(v) for k, w in options.items() for v in (f"--{k}", w)), *sets, "--json"]


def bf_turn(args, case, precision):
    with tempfile.TemporaryDirectory() as folder:
        result_file = os.path.join(folder, "classifier.json")
        command = bf_command(args, case, precision, result_file)
        out, code, err, facts = run_child(command, args.threads, args.hang)
        if code == REFUSED:
            return {"refused": last_line(err.replace("bf: error: ", ""))}
        if code != 0:
            raise RuntimeError(f"exit code {code}: {last_line(err)}")
        if case["what"] == "classifier":
            with open(result_file) as file:
                out = file.read()
    result = json.loads(out)
    for key, want in (("precision", precision), ("threads", args.threads)):
        if result.get(key, want) != want:
            raise RuntimeError(f"asked for {key} {want}, bf had {result[key]}")
    row = result["rows"][0]
    turn = {k: row[k] for k in ("ms", "fastest_ms", "slowest_ms", "peak_mib") if k in row}
    return {**turn, **facts, "version": result["version"], "gemm_gflops": result.get("gemm_gflops")}


def torch_turn(args, case, precision, variant):
    job = {"case": {**case, "compile": "compiled" in variant}, "threads": args.threads, "turn": args.turn}
    job |= {"steps": args.steps, "warmup": args.warmup}
    job["settings"] = {"device": "cpu", "classes": case["classes"], "dim": args.dim, "size": args.size}
    job["settings"] |= {"precision": precision, "compile_mode": "default"}
    job["settings"]["layout"] = "channels_last" if "channels_last" in variant else "plain"
    command = [sys.executable, os.path.abspath(__file__), "--worker", json.dumps(job)]
    out, code, err, facts = run_child(command, args.threads, args.hang)
    if code != 0:
        raise RuntimeError(f"exit code {code}: {last_line(err)}")
    return {**facts, **json.loads(out.strip().splitlines()[-1])}


def memory_mib(name):
    """A line of this process's status, such as VmHWM (peak RSS); None on a system without it."""
    with contextlib.suppress(OSError):
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith(name + ":")), None)
    return None


def worker(job):
    """One turn of PyTorch in this process."""
    import torch
    import torch_arcface

    torch.set_num_threads(job["threads"])
    imported = memory_mib("VmRSS")
    step = torch_arcface.step_of(argparse.Namespace(**job["settings"]), job["case"])
    start = time.monotonic()
    for _ in range(job["warmup"]):
        step()
    with contextlib.suppress(OSError):  # the peak begins anew: what made the network and its statistics is no part
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    times = []
    while len(times) < job["steps"] and (not times or time.monotonic() - start < job["turn"]):
        times += torch_arcface.measure(step, "cpu", 0, 1)[0]
    peak = memory_mib("VmHWM")
    turn = {"ms": statistics.median(times), "fastest_ms": min(times), "slowest_ms": max(times)}
    turn |= {"rss_mib": peak, "beside_mib": None if peak is None or imported is None else peak - imported}
    turn = {k: v if v is None else round(v, 3) for k, v in turn.items()}
    print(json.dumps({**turn, "version": torch.__version__}))


class Store:
    """The results of a run, written after each turn, so that nothing that was measured is lost."""

    def __init__(self, args, about):
        self.args, self.about, self.versions = args, about, {}
        settings = {k: getattr(args, k) for k in ("threads", "size", "dim", "rounds", "steps", "warmup")}
        self.result = {"kind": "torch_cpu", "about": about, "settings": settings, "turns": []}

    def add(self, turn):
        self.result["turns"].append(turn)
        if version := turn.pop("version", None):
            self.versions[turn["engine"]] = version
            what = ", ".join(f"{NAMES[e]} {self.versions[e]}" for e in NAMES if e in self.versions)
            self.result["about"] = f"{what}; {self.about}"
        self.write()

    def write(self):
        texts = {self.args.json: lambda: json.dumps(self.result, indent=1)}
        texts[self.args.markdown] = lambda: "\n".join(report([self.result])) + "\n"
        for path, text in texts.items():
            if not path:
                continue
            try:
                with open(path + ".part", "w") as file:
                    file.write(text())
                os.replace(path + ".part", path)
            except OSError as error:  # a full disk must not end the run: the tables are printed too
                print(f"torch_cpu.py: {path} cannot be written: {error}", file=sys.stderr)


def processor():
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo") as file:
            return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "CPU")
    return "CPU"


def named(case):
    if case["what"] == "classifier":
        return f"classifier K {case['classes']} B {case['batch']} Q {case['queue']}"
    return f"{case['what']} {case['network']} B {case['batch']}"


def measure_all(args, store):
    """Goes through the rounds; what fails, and what there is no time for, is a turn with its reason."""
    start, given_up = time.monotonic(), {}
    if importlib.util.find_spec("torch") is None:
        given_up["torch"] = "PyTorch is not installed"
        print("torch_cpu.py: PyTorch is not installed: bf is measured alone", file=sys.stderr)
    if "train" in args.what and 1 in args.batch:
        print("torch_cpu.py: training at batch 1 is left out: batch norm wants two embeddings", file=sys.stderr)
    plan = [(r + 1, c, m) for r in range(args.rounds) for c in cases_of(args) for m in modes_of(args, c)]
    for number, (turn_round, case, mode) in enumerate(plan, 1):
        engine, precision, variant = mode
        key = (*case.values(), mode)
        turn = {**case, "engine": engine, "precision": precision, "variant": variant, "round": turn_round}
        if reason := given_up.get(engine) or given_up.get(key):
            if turn_round == 1:
                store.add({**turn, "refused": reason})
            continue
        name = f"[{number}/{len(plan)}] {named(case)}, {' '.join(filter(None, (NAMES[engine], precision, variant)))}"
        if args.seconds and time.monotonic() - start > args.seconds:
            store.result["ended"] = f"out of time: {number - 1} of {len(plan)} turns were tried"
            print(f"{name}: this and what follows is not started: out of time", file=sys.stderr)
            return store.write()
        print(f"{name} ... ", end="", file=sys.stderr, flush=True)
        try:
            done = bf_turn(args, case, precision) if engine == "bf" else torch_turn(args, case, precision, variant)
        except Exception as error:  # one case's failure must not end the others
            done = {"error": str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"}
        if "refused" in done:
            given_up[key] = done["refused"]  # it would be so in each round
        text = f"{done['ms']:.1f} ms" if "ms" in done else done.get("refused") or done["error"]
        print(text, file=sys.stderr, flush=True)
        store.add({**turn, **done})


def show(paths):
    results = []
    for path in paths:
        try:
            with open(path) as file:
                result = json.load(file)
            report([result])
            results.append(result)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"torch_cpu.py: {path} is no result file: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
    print("\n".join(report(results)))
    return 0


# ---- the command line


def listed(known=None, least=0):
    """The type of an option that takes a list: words of `known`, or whole numbers from `least`."""

    def parse(text):
        values = [v for v in text.split(",") if v]
        if known is None:
            values = [int(v) for v in values if v.isdecimal() and int(v) >= least]
        wrong = not values or len(values) < len([v for v in text.split(",") if v])
        if wrong or (known and set(values) - set(known)):
            want = f"whole numbers from {least}" if known is None else f"of {', '.join(known)}"
            raise argparse.ArgumentTypeError(f"got {text}, want {want}, with commas between")
        return list(dict.fromkeys(values))

    return parse


def at_least(least, kind=int):
    def parse(text):
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"got {text}, want {least} or more")
        return value

    parse.__name__ = kind.__name__
    return parse


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bf", default=os.path.join("build", "cpu", "bf"), help="the program of bf (build/cpu/bf)")
    p.add_argument("--bench-classifier", help="the program of the classifier (beside bf: benchmarks/bench_classifier)")
    p.add_argument("--what", type=listed(WHAT), default=list(WHAT), help="of train, inference, classifier")
    p.add_argument("--network", type=listed(NETWORKS), default=list(NETWORKS), help="of r18, r50, r100")
    p.add_argument("--batch", type=listed(least=1), default=list(BATCHES), help="of steps and inference (1,8,16)")
    p.add_argument("--precision", type=listed(PRECISIONS), default=list(PRECISIONS), help="of f32, bf16")
    p.add_argument("--classes", type=at_least(2), default=10000, help="identities of a step (10000)")
    p.add_argument("--identities", type=listed(least=2), default=[10000, 85742], help="of the classifier alone")
    p.add_argument("--queue", type=listed(), default=[0, 8192], help="of the classifier alone (0,8192)")
    p.add_argument("--rows", type=at_least(1), default=64, help="batch of the classifier alone (64)")
    p.add_argument("--classifier-precision", type=listed(PRECISIONS), default=["f32"], help="of the classifier alone")
    p.add_argument("--kept-mib", type=at_least(0), default=1536, help="logits that bf's classifier keeps (1536, as bf train of 24 GiB)")
    p.add_argument("--compile", action="store_true", help="PyTorch with torch.compile too")
    p.add_argument("--threads", type=at_least(1), help="of both sides (BF_THREADS, or all cores)")
    p.add_argument("--size", type=at_least(16), default=112, help="pixels a side (112)")
    p.add_argument("--dim", type=at_least(1), default=512, help="of embeddings (512)")
    p.add_argument("--rounds", type=at_least(1), default=3, help="turns of each mode (3)")
    p.add_argument("--steps", type=at_least(1), default=5, help="timed steps of a turn (5)")
    p.add_argument("--warmup", type=at_least(0), default=1, help="steps before them (1)")
    p.add_argument("--turn", type=at_least(0, float), default=30, help="start no step of a turn after this time (30 s)")
    p.add_argument("--hang", type=at_least(1, float), default=1800, help="kill a turn after this time (1800 s)")
    p.add_argument("--seconds", type=at_least(0, float), default=0, help="start no turn after this time; 0: no limit")
    p.add_argument("--quick", action="store_true", help="a toy size")
    p.add_argument("--show", nargs="+", metavar="FILE", help="print the tables of stored results, then end")
    p.add_argument("--json", help="write the turns to this file, after each")
    p.add_argument("--markdown", help="write the tables to this file too, after each turn")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    return p


def parsed(argv):
    p = parser()
    args = p.parse_args(argv)
    if args.quick:
        args.network, args.batch, args.size, args.dim, args.classes = ["r18"], [2], 32, 32, 100
        args.identities, args.queue, args.rows = [100], [0, 16], 8
        args.rounds, args.steps, args.warmup = 1, 2, 1
    if args.threads is None:
        given = os.environ.get("BF_THREADS", "")
        args.threads = int(given) if given.isdecimal() and int(given) > 0 else len(os.sched_getaffinity(0))
    if args.bench_classifier is None:
        args.bench_classifier = os.path.join(os.path.dirname(args.bf), "benchmarks", "bench_classifier")
    for path in filter(None, (args.json, args.markdown)):  # told now, not after hours
        folder = os.path.dirname(path) or "."
        if not os.access(folder, os.W_OK) or os.path.isdir(path):
            p.error(f"{path} cannot be written")
    return args


def interrupt(*_):
    raise KeyboardInterrupt


def main(argv):
    args = parsed(argv)
    if args.worker:
        return worker(json.loads(args.worker))
    if args.show:
        return show(args.show)
    signal.signal(signal.SIGTERM, interrupt)
    about = f"{processor()}, {args.threads} threads, {args.size} pixels, D {args.dim}"
    store = Store(args, f"{about}; {args.rounds} rounds, up to {args.steps} steps each")
    stopped = False
    try:
        measure_all(args, store)
    except KeyboardInterrupt:
        stopped = True
        print("\ntorch_cpu.py: stopped; what was measured so far:", file=sys.stderr)
        store.write()
    print("\n".join(report([store.result])))
    if stopped:
        return 130
    return 0 if any("ms" in turn for turn in store.result["turns"]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
