#!/usr/bin/env python3
"""GPU kernels by the time they take, from a profiler's CSV; the longest first.

    nsys stats --report cuda_gpu_kern_sum --format csv RUN.nsys-rep >a.csv
    kernel_times.py a.csv
    CUDA_INJECTION64_PATH=libbf_kernel_trace.so BF_TRACE=b.csv PROGRAM    # see kernel_trace.cpp
    kernel_times.py b.csv
"""
import csv
import sys


def times(lines):
    """Kernel name -> [launches, nanoseconds]."""
    found, columns = {}, None
    for row in csv.reader(lines):
        if "Name" in row and "Total Time (ns)" in row:
            columns = (row.index("Name"), row.index("Instances"), row.index("Total Time (ns)"))
        elif columns and len(row) > max(columns):
            name, instances, total = columns
            try:
                launches = int(row[instances].replace(",", ""))
                nanoseconds = float(row[total].replace(",", ""))
            except ValueError:
                continue  # text around the table
            entry = found.setdefault(row[name], [0, 0.0])
            entry[0] += launches
            entry[1] += nanoseconds
    return found


def main(path):
    with open(path, errors="replace") as file:
        found = times(file)
    if not found:
        print(f"kernel_times.py: {path} holds no kernel times", file=sys.stderr)
        return 1
    total = sum(t for _, t in found.values())
    print(f"GPU kernels, {total / 1e6:.1f} ms in {sum(n for n, _ in found.values())} launches")
    print(f"{'share':>6}{'ms':>10}{'launches':>10}  kernel")
    for name, (launches, time) in sorted(found.items(), key=lambda item: -item[1][1])[:40]:
        print(f"{time / total:>6.1%}{time / 1e6:>10.2f}{launches:>10}  {name[:200]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else __doc__)
