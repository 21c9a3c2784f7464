#!/usr/bin/env python3
"""Writes ledger.csv: every number of the tables, with what it is.

    python3 docs/experiments/make_ledger.py

ours-measured    from table.csv of the experiments beside this script (bf reproduce NAME wrote them)
paper-confirmed  printed by the paper's authors: the rows [[full]] of configs/experiments, and published.csv
third-party      printed by others about the paper's method or about another one: the same two places
"""
import csv
import pathlib
import tomllib

here = pathlib.Path(__file__).resolve().parent
experiments = here.parent.parent / "configs" / "experiments"
rows = []
for table in sorted(here.glob("*/table.csv")):
    for r in csv.DictReader(open(table)):
        for column, epoch in (("last", "last epoch"), ("best", "best epoch, chosen on the same pairs")):
            if not r[column + "_mean"]:
                continue
            half = r[column + "_half"]
            rows.append([f"{table.parent.name}: {r['row']}, {r['metric']}, {epoch}", f"{float(r[column + '_mean']):.5g}",
                         f"{float(half):.3g}" if half else "", "ours-measured", f"{r['seeds']} seeds, commit {r['commit']}",
                         r["command"]])
for file in sorted(experiments.glob("*.toml")):
    for row in tomllib.loads(file.read_text()).get("full", []):
        for p in row.get("paper", []):
            if p["status"] != "confirmed":
                continue
            quoted = "authors" not in p["source"]
            rows.append([f"{file.stem} (full scale): {row.get('label', row['name'])}, {p['what']}", p["value"], "",
                         "third-party" if quoted else "paper-confirmed", p["source"], ""])
for p in csv.DictReader(open(here / "published.csv")):
    rows.append([p["what"], p["value"], "", p["status"], p["source"], ""])
with open(here / "ledger.csv", "w", newline="") as out:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["what", "value", "half of the 95 % interval", "status", "source", "command"])
    writer.writerows(rows)
print(len(rows), "numbers")
