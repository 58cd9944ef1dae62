#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes docs/results.md and docs/plots/*.svg from results/: NAME.json is `cumeta evaluate RUN --json`, NAME.outside.json the same
outside the training amplitudes, NAME.csv the run's log, cost_*.json a list of `cumeta bench RECIPE --json`, one per K.

  scripts/results.py            writes all (plots need matplotlib: apt-get install python3-matplotlib, or pip)
  scripts/results.py --check    fails if docs/results.md is not what results/ says; needs nothing
"""
import csv
import json
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent.parent
published = {  # of the papers, at their own number of updates
    "sinusoid_maml": ".67 / .38 / .35", "omniglot_5w1s_maml": "98.7", "omniglot_5w1s_fomaml": "98.3", "omniglot_5w1s_meta_sgd": "99.53",
    "omniglot_5w1s_reptile": "97.68", "omniglot_20w1s_maml": "95.8", "omniglot_20w1s_fomaml": "89.4", "omniglot_5w5s_maml": "99.9",
}


def load(prefix):
    return {p.stem: json.loads(p.read_text()) for p in sorted((root / "results").glob(prefix + "_*.json"))}


def at(steps, step):
    return next((s for s in steps if s["step"] == step), None)


def number(s, scale, digits):
    if s is None:
        return "-"
    if s["mean"] is None or s["mean"] > 1e4:
        return "diverges"
    return f"{scale * s['mean']:.{digits}f} ± {scale * s['ci95']:.{digits}f}"


def table():
    lines = ["# Results", "",
             "Made by `scripts/results.py` from `results/*.json`, each the output of `cumeta evaluate RUN --json`. Every row is one run of the recipe of "
             "its name, seed 1.", "",
             "## Sinusoids: mean squared error on 1000 unseen tasks after inner steps, 5 support points", "",
             "Trained by `cumeta train recipes/NAME.toml` on the CPU, 70,000 updates (Reptile 30,000), half a minute on two cores; evaluated at the "
             "checkpoint with the best validation, at the update named. *Outside*: the same networks on amplitudes 5 to 10, where they were trained on 0.1 "
             "to 5. *Diverged*: tasks of which a loss is no number, or the one after step 10 more than ten times the first.", "",
             "| recipe | order | update | 0 | 1 | 5 | 10 | diverged | published 1/5/10 | outside: 0 | 1 | 5 | 10 |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    sinusoids = load("sinusoid")
    for name, r in sinusoids.items():
        if name.endswith(".outside"):
            continue
        far = sinusoids.get(name + ".outside", {"by_step": []})
        inside = [number(at(r["by_step"], k), 1, 3) for k in (0, 1, 5, 10)]
        outside = [number(at(far["by_step"], k), 1, 2) for k in (0, 1, 5, 10)]
        lines.append(f"| {name} | {r['order']} | {r['updates']} | " + " | ".join(inside) + f" | {r['diverged']} | {published.get(name, '')} | " +
                     " | ".join(outside) + " |")
    lines += ["",
              "Meta-SGD and ANIL train for one step. Meta-SGD's learned rates make that step the best of all, and are too large to be taken again and "
              "again; ANIL's head, adapted alone, overshoots on some tasks for the same reason.", "",
              "```sh", "cumeta train recipes/sinusoid_maml.toml --out runs/sinusoid",
              "cumeta evaluate runs/sinusoid --tasks 1000 --steps 10 --set data.shots=5 --json",
              "cumeta evaluate runs/sinusoid --tasks 1000 --steps 10 --set data.shots=5 --set data.amplitude=[5,10] --json", "```", "",
              "![mean squared error by inner step](plots/sinusoid.svg)", "", "![validation while training](plots/sinusoid_training.svg)", "",
              "## Omniglot: accuracy (%) on unseen characters, after the recipe's inner steps", "",
              "Disjoint split of Vinyals et al. Transductive: batch norm sees the query set; inductive: only the support set's statistics. Trained by "
              "`cumeta train recipes/NAME.toml` (Reptile on the CPU, the others on an H100), evaluated on the CPU; the checkpoint with the best validation, "
              "at the update named (Reptile: the last).", "",
              "| recipe | order | update | tasks | transductive | inductive | published |", "|---|---|---|---|---|---|---|"]
    for name, r in load("omniglot").items():
        last = r["steps"]
        lines.append(f"| {name} | {r['order']} | {r['updates']} | {r['tasks']} | {number(at(r['statistics']['batch'], last), 100, 2)} | "
                     f"{number(at(r['statistics']['support'], last), 100, 2)} | {published.get(name, '')} |")
    lines += ["", "The published figures take 60,000 updates (Reptile 100,000); the runs here are shorter, 20-way and 5-shot much shorter: "
              "`--set run.updates=20000` (5-way 1-shot), `6000` (20-way) and `2000` (5-shot); Reptile's is the recipe's run of 100,000, whose rate falls "
              "to zero over all of them, stopped after 20,000 and trained with MAML's head (`--set model.head=mean`). The 20-way recipes take their rate on the mean loss; the paper's code takes it on the sum over "
              "classes (`--set model.reduction=sum_over_ways`), which has not been trained to the end here.", "",
              "![accuracy by inner step](plots/omniglot.svg)", "",
              "`results/omniglot_5w1s_maml.safetensors` is the trained 5-way 1-shot network (parameters in PyTorch's names and orders). Its row is repeated by", "",
              "```sh", "cumeta evaluate results/omniglot_5w1s_maml.safetensors --data omniglot --device cpu --tasks 1000 --json", "```", ""]
    return "\n".join(lines)


def plots():
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "cumeta", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})
    from matplotlib import pyplot
    folder = root / "docs" / "plots"
    folder.mkdir(parents=True, exist_ok=True)

    def save(figure, name):
        figure.tight_layout()
        figure.savefig(folder / name, metadata={"Date": None})
        pyplot.close(figure)

    def line(axes, steps, label, scale=1.0, first=0, last=10, **style):
        kept = [s for s in steps if s["mean"] is not None and s["mean"] < 1e3 and first <= s["step"] <= last]
        axes.errorbar([s["step"] for s in kept], [scale * s["mean"] for s in kept], [scale * s["ci95"] for s in kept], label=label,
                      capsize=2, marker="o", markersize=3, **style)

    sinusoids = load("sinusoid")
    figure, both = pyplot.subplots(1, 2, figsize=(9, 3.4))
    for name, r in sinusoids.items():
        far = name.endswith(".outside")
        line(both[int(far)], r["by_step"], name.split(".")[0].removeprefix("sinusoid_"))
    for axes, title in zip(both, ("training amplitudes, 0.1 to 5", "outside, 5 to 10")):
        axes.set(yscale="log", xlabel="inner steps", ylabel="mean squared error", title=title)
        axes.set_ylim(top=40)
        axes.legend()
    save(figure, "sinusoid.svg")

    figure, axes = pyplot.subplots(figsize=(6, 3.2))
    for path in sorted((root / "results").glob("sinusoid_*.csv")):
        rows = [r for r in csv.DictReader(path.open()) if r["validation_loss"]]
        axes.plot([int(r["update"]) for r in rows], [float(r["validation_loss"]) for r in rows], label=path.stem.removeprefix("sinusoid_"), linewidth=0.9)
    axes.set(yscale="log", xlabel="meta-updates", ylabel="validation loss (steps as trained)")
    axes.legend()
    save(figure, "sinusoid_training.svg")

    figure, both = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for name, r in load("omniglot").items():
        for axes, mode in zip(both, ("batch", "support")):
            line(axes, r["statistics"][mode], name.removeprefix("omniglot_"), 100, first=1)
    for axes, title in zip(both, ("transductive", "inductive")):
        axes.set(xlabel="inner steps", ylabel="accuracy, %", title=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
    both[0].legend(fontsize=7)
    save(figure, "omniglot.svg")

    figure, axes = pyplot.subplots(figsize=(5.6, 3.2))
    steps = range(1, 17)
    axes.plot(steps, [1 + 6 * k / (3 * (k + 1)) for k in steps], color="black", label="the law for c1 << c, S = Q")
    for path in sorted((root / "results").glob("cost_*.json")):
        points = sorted((r["results"][0]["steps"], r["second_over_first"]["measured"], r["second_over_first"]["law"])
                        for r in json.loads(path.read_text()))
        shown = axes.plot([p[0] for p in points], [p[1] for p in points], "o", label=path.stem.removeprefix("cost_") + ", measured")
        axes.plot([p[0] for p in points], [p[2] for p in points], "--", color=shown[0].get_color(), linewidth=0.8, label="its law")
    axes.axhline(3, color="gray", linewidth=0.8, linestyle=":")
    axes.set(xlabel="inner steps K", ylabel="time of MAML / time of FOMAML", ylim=(1.5, 3.5))
    axes.legend()
    save(figure, "cost.svg")


page = root / "docs" / "results.md"
if sys.argv[1:] == ["--check"]:
    if page.read_text() != table():
        sys.exit("results.py: docs/results.md is not what results/ says; run scripts/results.py")
elif sys.argv[1:]:
    sys.exit(__doc__)
else:
    page.write_text(table())
    plots()
