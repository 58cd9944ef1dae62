#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""report.py FOLDER: what check.sh's parts left in FOLDER/parts becomes FOLDER/check.json and FOLDER/check.md.
Exit status: 1 if a part of them failed, ran out of time or did not end."""
import collections
import csv
import json
import pathlib
import sys

# Seconds of one second-order update on one H100, and how many times faster than the best peer.
BARS = {"sinusoid_k1": (15e-6, 10), "omniglot_k1": (400e-6, 10), "omniglot_k5": (1.4e-3, 10), "miniimagenet_k5": (3e-3, 3)}
STEPS = ("machine", "selftest", "tests", "sanitizer", "bits", "bench", "vendor", "profile", "peers")
LAW_SLACK = 1.15  # of the ratio second/first for convolutional nets


def last_json(path):
    """The JSON object a part printed, or None: a part that failed may have printed anything."""
    try:
        text = path.read_text()
        return json.loads(text[text.index("{"):])
    except (OSError, ValueError):
        return None


def hottest(path, count=5):
    """Kernels of an ncu table by their share of the time: [{kernel, calls, seconds, share, ...}]."""
    try:
        lines = [line for line in path.read_text().splitlines() if line.startswith('"')]
        rows = list(csv.DictReader(lines))
        units, rows = rows[0], rows[1:]
        scale = {"ns": 1e-9, "nsecond": 1e-9, "us": 1e-6, "usecond": 1e-6, "ms": 1e-3, "s": 1}[units["gpu__time_duration.sum"]]
    except (OSError, IndexError, KeyError):
        return []
    kernels = collections.defaultdict(lambda: {"calls": 0, "seconds": 0.0})
    for row in rows:
        kernel = kernels[row["Kernel Name"]]
        seconds = float(row["gpu__time_duration.sum"].replace(",", "")) * scale
        kernel["calls"] += 1
        kernel["seconds"] += seconds
        for metric, value in row.items():
            if metric and metric.startswith(("sm__", "dram__", "launch__")):
                value = float(value.replace(",", "") or 0)
                kernel[metric] = kernel.get(metric, 0.0) + value * seconds  # mean weighted by time
    total = sum(kernel["seconds"] for kernel in kernels.values())
    table = []
    for name, kernel in sorted(kernels.items(), key=lambda item: -item[1]["seconds"])[:count]:
        means = {m: v / kernel["seconds"] for m, v in kernel.items() if "__" in m}
        table.append({"kernel": name, "calls": kernel["calls"], "seconds": kernel["seconds"],
                      "share": kernel["seconds"] / total, **means})
    return table


def tests_of(parts):
    """GoogleTest's own figures, summed, and how many programs died before they wrote theirs."""
    figures = {"programs": 0, "without_figures": 0, "tests": 0, "failures": 0, "skipped": 0}
    for path in parts.glob("tests.*.status"):
        result = last_json(path.with_suffix(".json"))
        figures["programs"] += 1
        if result is None:
            figures["without_figures"] += 1
            continue
        for key in ("tests", "failures"):
            figures[key] += result.get(key, 0)
        for suite in result.get("testsuites", []):
            figures["skipped"] += sum(test.get("result") == "SKIPPED" for test in suite.get("testsuite", []))
    return figures


def second_order(results):
    """The recipe's own row, MAML of second order, of a bench."""
    return next((r for r in results if r.get("algorithm") == "maml" and r.get("order") == "second"), None)


def judge(workload, bench, peers):
    """Bars of one workload: [(what, value, bar, holds)]."""
    row = second_order(bench.get("results", []))
    if row is None:
        return []
    limit, faster = BARS[workload]
    bars = [("seconds per update", row["seconds"], limit, row["seconds"] <= limit)]
    timed = [p for p in peers if p["workload"] == workload and "seconds" in p]
    if timed:
        best = min(timed, key=lambda peer: peer["seconds"])
        times = best["seconds"] / row["seconds"]
        bars.append((f"times faster than {best['framework']} {best['variant']}", times, faster, times >= faster))
    ratio = bench.get("second_over_first")
    if ratio and workload != "sinusoid_k1":
        over = ratio["measured"] / ratio["law"]
        bars.append(("ratio second/first over the law", over, LAW_SLACK, over <= LAW_SLACK))
    return bars


def main():
    folder = pathlib.Path(sys.argv[1])
    parts = folder / "parts"
    broken = {"status": "unfinished", "seconds": 0, "note": "its line of status cannot be read"}
    statuses = [last_json(path) or {"part": path.stem, **broken} for path in sorted(parts.glob("*.status"))]
    statuses.sort(key=lambda s: STEPS.index(s["part"].split(".")[0]))
    counts = collections.Counter(s["status"] for s in statuses)
    failed = len(statuses) - counts["passed"] - counts["skipped"]
    run = last_json(parts / "run.json") or {}
    passed = {s["part"] for s in statuses if s["status"] == "passed"}

    def result_of(part):
        """What a part printed; one that did not pass has no figures."""
        return last_json(parts / f"{part}.out") if part in passed else None

    peers = [peer for workload in BARS for peer in (result_of(f"peers.{workload}") or {}).get("peers", [])]
    report = {**run, "failed": failed, "parts": statuses, "machine": result_of("machine.info"), "tests": tests_of(parts),
              "selftest": last_json(parts / "selftest.out"), "peers": peers, "bench": {}, "unfused": {}, "vendor": {}, "fastest": {}, "profile": {}, "bars": {}}
    gpu = parts / "machine.gpu.out"
    report["gpu"] = gpu.read_text().strip().splitlines()[-1] if gpu.exists() and gpu.read_text().strip() else None
    for workload in BARS:
        for kind, part in (("bench", "bench"), ("unfused", "bench.unfused"), ("vendor", "vendor"), ("fastest", "vendor.fastest")):
            result = result_of(f"{part}.{workload}")
            if result:
                report[kind][workload] = result
        kernels = hottest(parts / f"profile.{workload}.out")
        if kernels and f"profile.{workload}" in passed:
            report["profile"][workload] = kernels
        if workload in report["bench"] and "emulated" not in report["bench"][workload].get("device", ""):
            report["bars"][workload] = [dict(zip(("what", "value", "bar", "holds"), bar))
                                        for bar in judge(workload, report["bench"][workload], peers)]
    (folder / "check.json").write_text(json.dumps(report, indent=1) + "\n")

    summary = f"{len(statuses)} parts: {failed} failed, {counts['skipped']} skipped"
    lines = [f"# check.sh on {report['gpu'] or 'no GPU'}", "", f"Commit {run.get('bundle', {}).get('commit', 'unknown')}"
             f"{', a dry run' if run.get('dry_run') else ''}. {summary}.", ""]
    tests = report["tests"]
    lines += [f"{tests['tests']} tests in {tests['programs']} programs: {tests['failures']} failed, {tests['skipped']} skipped; "
              f"{tests['without_figures']} programs died without figures.", ""]
    lines += ["| part | status | seconds | note |", "|---|---|---|---|"]
    lines += [f"| {s['part']} | {s['status']} | {s['seconds']:.1f} | {s['note']} |" for s in statuses]
    lines += ["", "| workload | who | algorithm | order | microseconds | GFLOP/s | bytes |", "|---|---|---|---|---|---|---|"]
    for workload in BARS:
        for kind, who in (("bench", "cumeta"), ("unfused", "cumeta, a launch per layer and pass"), ("vendor", "cumeta, cuBLAS and cuDNN"),
                          ("fastest", "cumeta, the fastest per layer")):
            for row in report[kind].get(workload, {}).get("results", []):
                lines.append(f"| {workload} | {who} | {row.get('algorithm')} | {row.get('order')} | {row['seconds'] * 1e6:.1f} | "
                             f"{row.get('gflops', 0):.0f} | {row.get('bytes', 0)} |")
        for peer in peers:
            if peer["workload"] == workload:
                figure = f"{peer['seconds'] * 1e6:.1f}" if "seconds" in peer else peer["error"].replace("|", "/")[:80]
                lines.append(f"| {workload} | {peer['framework']} {peer['variant']} | maml | second | {figure} | | |")
    if report["bars"]:
        lines += ["", "| workload | bar | value | wanted | holds |", "|---|---|---|---|---|"]
        lines += [f"| {w} | {b['what']} | {b['value']:.4g} | {b['bar']:g} | {'yes' if b['holds'] else 'NO'} |"
                  for w, bars in report["bars"].items() for b in bars]
    for workload, kernels in report["profile"].items():
        lines += ["", f"Hottest kernels of {workload}:", "", "| kernel | calls | share | microseconds each |", "|---|---|---|---|"]
        lines += [f"| {k['kernel'][:90]} | {k['calls']} | {k['share']:.0%} | {k['seconds'] / k['calls'] * 1e6:.1f} |" for k in kernels]
    (folder / "check.md").write_text("\n".join(lines) + "\n")
    print(f"{folder}/check.json {folder}/check.md: {summary}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
