#!/usr/bin/env python3
"""One table of bf's benchmarks and of the PyTorch peer, and which targets are met.

    compare.py [--machine FILE] [--markdown FILE] [--merge FILE] [--card-gib N] bf.json peer.json ...

Reads the result files of bench_step, bench_classifier and peers/torch_arcface.py, and lists of them that --merge wrote.
Files of several turns (bf, peer, bf, peer) may be given: of a row that was measured more than once the median time and
the largest memory count. Rows in bf16 are compared; those in other precisions stand beside them under their own
name. A row that was not measured is shown as "-", and a target that wants it as "not measured".
"""
import argparse
import json
import statistics
import sys

OURS = ("bf", "bf graph")  # with and without CUDA graph
PEERS = ("eager", "compile")
TARGET = {"network": "r100", "batch": 256}  # the rows that the targets speak of
QUEUES = (8192, 32768)


class Rows:
    """Measured rows by what was done (a key) and by whom (a variant)."""

    def __init__(self):
        self.found = {}  # (what, network, classes, batch, queue) -> variant -> rows, one a turn
        self.errors = {}  # (key, variant) -> text
        self.dim = 512

    def add_file(self, result):
        self.dim = result.get("dim", self.dim)
        for row in result["rows"]:
            if row.get("stage") is False:
                continue  # a classifier without the queue's work is no part of a step
            key = (row["what"], row["network"], row.get("classes", result.get("classes")), row["batch"], row["queue"])
            variant = self.variant(result, row)
            if row.get("ms"):
                self.found.setdefault(key, {}).setdefault(variant, []).append(row)
            else:
                self.errors[key, variant] = row.get("error", "failed")
                self.found.setdefault(key, {})

    @staticmethod
    def variant(result, row):
        if result["engine"] == "torch":
            name = "compile" if row["compile"] else "eager"
        else:
            name = "bf graph" if row.get("graph") else "bf"
        return name if result["precision"] == "bf16" else f"{name} {result['precision']}"

    def value(self, key, variant, field):
        """Over all turns: the median of "ms", the largest of the others; None where there is none."""
        values = [row[field] for row in self.found.get(key, {}).get(variant, []) if row.get(field) is not None]
        if not values:
            return None
        return statistics.median(values) if field == "ms" else max(values)

    def keys(self, what, network=None):
        return sorted(k for k in self.found if k[0] == what and network in (None, k[1]))

    def variants(self, keys):
        """Those that measured or tried one of the keys, bf first."""
        there = {v for k in keys for v in self.found[k]} | {v for k, v in self.errors if k in keys}
        others = sorted(there - set(OURS) - set(PEERS))
        return [v for v in (*OURS, *others, *PEERS) if v in there]

    def best_of_ours(self, key):
        """bf's faster way to do what the key says."""
        there = [v for v in OURS if self.value(key, v, "ms")]
        return min(there, key=lambda v: self.value(key, v, "ms"), default="bf")

    def overhead(self, key, variant):
        """Time of a row over the same one without a queue, less 1."""
        plain, full = self.value((*key[:4], 0), variant, "ms"), self.value(key, variant, "ms")
        return None if plain is None or full is None else full / plain - 1

    def spread(self):
        """The most by which two turns of one row differ, and the number of turns; None for one turn."""
        turns = [[row["ms"] for row in rows] for by in self.found.values() for rows in by.values() if len(rows) > 1]
        return (max(max(t) / min(t) - 1 for t in turns), max(map(len, turns))) if turns else None


def shown(value, form):
    return "-" if value is None else format(value, form)


def table(head, lines):
    """A Markdown table whose columns are aligned, so that it reads as plain text too."""
    columns = range(len(head))
    widths = [max(len(str(line[i])) for line in [head, *lines]) for i in columns]
    words = [any(str(line[i])[:1] not in "+-0123456789" for line in lines) for i in columns]
    pad = [str.ljust if text else str.rjust for text in words]
    out = ["| " + " | ".join(p(str(c), w) for c, w, p in zip(line, widths, pad)) + " |" for line in [head, *lines]]
    rule = ["-" * (w + 2) if text else "-" * (w + 1) + ":" for w, text in zip(widths, words)]
    return [out[0], "|" + "|".join(rule) + "|", *out[1:]]


def ratio(rows, key, peer):
    ours, theirs = rows.value(key, rows.best_of_ours(key), "ms"), rows.value(key, peer, "ms")
    return None if ours is None or theirs is None else theirs / ours


def rates(rows, keys, with_queue):
    """Images/s, ratios, what the queue adds, and peak memory."""
    variants = rows.variants(keys)
    peers = [v for v in PEERS if v in variants]
    head = ["B", "Q"] if with_queue else ["B"]
    head += [f"{v} img/s" for v in variants] + [f"bf/{v}" for v in peers]
    head += [f"{v} +Q" for v in variants] if with_queue else []
    head += [f"{v} MiB" for v in variants]
    lines = []
    for key in keys:
        line = [key[3], key[4]] if with_queue else [key[3]]
        for v in variants:
            ms = rows.value(key, v, "ms")
            speed = None if ms is None else 1e3 * key[3] / ms
            line.append("failed" if ms is None and (key, v) in rows.errors else shown(speed, ".0f"))
        line += [shown(ratio(rows, key, v), ".2f") for v in peers]
        if with_queue:
            line += [shown(rows.overhead(key, v) if key[4] else None, "+.1%") for v in variants]
        line += [shown(rows.value(key, v, "peak_mib"), ".0f") for v in variants]
        lines.append(line)
    return table(head, lines)


def classifier(rows, keys):
    """Milliseconds, what the queue costs over none, peak memory, and memory beside W, dW, queue and embeddings."""
    variants = rows.variants(keys)
    head = ["K", "B", "Q"] + [f"{v} ms" for v in variants] + [f"{v} x Q0" for v in variants]
    head += [f"{v} MiB" for v in variants] + [f"{v} beside" for v in variants]
    lines = []
    for key in keys:
        line = [key[2], key[3], key[4]]
        for v in variants:
            ms = rows.value(key, v, "ms")
            line.append("failed" if ms is None and (key, v) in rows.errors else shown(ms, ".2f"))
        for v in variants:
            more = rows.overhead(key, v) if key[4] else None
            line.append(shown(None if more is None else more + 1, ".1f"))
        line += [shown(rows.value(key, v, field), ".0f") for field in ("peak_mib", "beside_mib") for v in variants]
        lines.append(line)
    return table(head, lines)


def target_keys(rows, what, network):
    """The target's rows by queue; of several numbers of identities the smallest."""
    keys = [k for k in rows.keys(what, network) if k[3] == TARGET["batch"]]
    return {k[4]: k for k in reversed(keys)}


def targets(rows):
    """(what, wanted, got, "met" | "missed" | "not measured") for each target."""
    out = []

    def judge(name, wanted, value, good, form):
        text = "-" if value is None else form(value)
        out.append((name, wanted, text, "not measured" if value is None else "met" if good(value) else "missed"))

    steps = target_keys(rows, "train", TARGET["network"])
    alone = target_keys(rows, "classifier", "-")
    where = f"{TARGET['network']} bf16, B {TARGET['batch']}"
    plain = steps.get(0)
    ours = rows.best_of_ours(plain) if plain else "bf"
    for peer, least in (("eager", 1.25), ("compile", 1.0)):
        value = ratio(rows, plain, peer) if plain else None
        name = f"{where}: images/s over PyTorch {peer}"
        judge(name, f">= {least:.2f}x", value, lambda v: v >= least, "{:.2f}x".format)
    over = {q: rows.overhead(steps[q], ours) if q in steps else None for q in QUEUES}
    for queue, most in zip(QUEUES, (0.08, 0.30)):
        name = f"{where}: step with Q {queue} over plain"
        judge(name, f"<= {most:.0%}", over[queue], lambda v: v <= most, "{:+.1%}".format)
    for queue in QUEUES:
        for peer in PEERS:
            theirs = rows.overhead(steps[queue], peer) if queue in steps else None
            if peer == "compile" and theirs is None:
                continue  # the target speaks of the rule; compiled, it is shown where it was measured
            value = None
            if theirs is not None and over[queue] is not None:
                value = theirs / over[queue] if over[queue] > 0 else float("inf")
            name = f"{where}: overhead of Q {queue}, the rule in PyTorch {peer} over bf's"
            judge(name, ">= 2x", value, lambda v: v >= 2, "{:.1f}x".format)
    for queue in QUEUES:
        for peer in PEERS:
            mine, theirs = (rows.value(alone.get(queue), v, "peak_mib") for v in ("bf", peer))
            if peer == "compile" and theirs is None:
                continue
            value = theirs / mine if mine and theirs else None
            name = f"classifier alone, B {TARGET['batch']}, Q {queue}: peak memory, PyTorch {peer} over bf's"
            judge(name, ">= 4x", value, lambda v: v >= 4, "{:.1f}x".format)
    return out


def ceiling(rows, card_gib):
    """How many identities a card holds, from two numbers of identities at the same batch and queue."""
    for key in rows.keys("classifier"):
        for other in rows.keys("classifier"):
            small, large = (rows.value(k, "bf", "peak_mib") for k in (key, other))
            if key[3:] != other[3:] or key[2] >= other[2] or not small or not large:
                continue
            momentum = 4 * rows.dim / 1024  # KiB: the optimizer's, which the classifier alone does not have
            each = 1024 * (large - small) / (other[2] - key[2])
            fixed = small - key[2] * each / 1024
            most = (card_gib * 1024 - fixed) * 1024 / (each + momentum)
            return (
                f"Memory ceiling: K {other[2]}, Q {other[4]}, B {other[3]} peaks at {large / 1024:.1f} GiB without the"
                f" optimizer. An identity takes {each + momentum:.1f} KiB (W, gradient, momentum): {card_gib:.0f} GiB"
                f" hold about {most / 1e6:.1f} million beside this queue, before the network's own memory."
            )
    return None


def report(rows, machine, card_gib):
    """The whole text, which is Markdown."""
    out = []
    if machine:
        out += [*machine, ""]
    for network in sorted({k[1] for k in rows.keys("train")}):
        out += [f"Training steps, {network} (images/s; +Q: time over Q 0; peak memory):", ""]
        out += [*rates(rows, rows.keys("train", network), True), ""]
    if keys := rows.keys("classifier"):
        out += ["Classifier alone: forward, both gradients, queue (MiB: peak; beside: beyond what stays):", ""]
        out += [*classifier(rows, keys), ""]
    for network in sorted({k[1] for k in rows.keys("inference")}):
        out += [f"Inference, {network}:", "", *rates(rows, rows.keys("inference", network), False), ""]
    if text := ceiling(rows, card_gib):
        out += [text, ""]
    if spread := rows.spread():
        out += [f"Measured in {spread[1]} turns; two turns of one row differ by {spread[0]:.1%} at most.", ""]
    lines = [[name, wanted, got, state] for name, wanted, got, state in targets(rows)]
    return out + ["Targets:", "", *table(["target", "wanted", "got", "state"], lines)]


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", help="a text file: what the rows were measured on")
    parser.add_argument("--markdown", help="write the text to this file too")
    parser.add_argument("--merge", help="write all results to this one file")
    parser.add_argument("--card-gib", type=float, default=131, help="memory of the card of which the ceiling speaks")
    parser.add_argument("results", nargs="+")
    args = parser.parse_args(argv)
    rows, merged = Rows(), []
    for path in args.results:
        try:
            with open(path) as file:
                results = json.load(file)
            for result in results if isinstance(results, list) else [results]:
                rows.add_file(result)
                merged.append(result)
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"compare.py: {path} is no result file: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
    machine = []
    if args.machine:
        with open(args.machine) as file:
            machine = [f"- {line.strip()}" for line in file if line.strip()]
    text = "\n".join(report(rows, machine, args.card_gib)) + "\n"
    print(text, end="")
    if args.merge:
        with open(args.merge, "w") as file:
            json.dump(merged, file, indent=1)
    if args.markdown:
        with open(args.markdown, "w") as file:
            file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
