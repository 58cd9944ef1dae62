#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Second-order MAML updates of the reference workloads in PyTorch and JAX, timed on this machine's GPU.

    peers.py [--workload NAME]... [--limit SECONDS] [--device cuda|cpu] [--rounds N] [--tiny]

One JSON object on standard output: {"peers": [{"workload", "framework", "variant", "seconds", "spread" | "error"}]},
seconds being the median of the rounds, spread (max - min) / median. Every variant runs in a process of its own with its own
time limit, so that one which fails or hangs costs only itself. FP32 throughout: TF32 is switched off, as in cumeta.
"""
import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time


@dataclasses.dataclass(frozen=True)
class Workload:
    tasks: int
    support: int  # examples per task
    query: int
    steps: int
    rate: float
    image: tuple  # height, width, channels; () for the sinusoid's scalar
    filters: int = 0
    pool: bool = False  # stride 1 and max-pool 2, else stride 2
    ways: int = 0  # 0: regression


WORKLOADS = {
    "sinusoid_k1": Workload(25, 10, 10, 1, 0.01, ()),
    "omniglot_k1": Workload(32, 5, 5, 1, 0.4, (28, 28, 1), filters=64, ways=5),
    "omniglot_k5": Workload(32, 5, 5, 5, 0.4, (28, 28, 1), filters=64, ways=5),
    "miniimagenet_k5": Workload(4, 5, 75, 5, 0.01, (84, 84, 3), filters=32, pool=True, ways=5),
}
VARIANTS = [("pytorch", "eager"), ("pytorch", "vmap"), ("pytorch", "vmap_cuda_graph"), ("pytorch", "compile"),
            ("jax", "jit_vmap")]
META_RATE = 1e-3
ROTATED = 8  # different batches in turn, so that no cache holds the input


def features(load):
    """Inputs of the last linear layer."""
    if not load.image:
        return 40
    if not load.pool:
        return load.filters  # global average pool
    height, width = load.image[0] // 16, load.image[1] // 16
    return height * width * load.filters


def shapes(load):
    """Parameter arrays in forward order: (kind, shape), weights as [out, in, kernel, kernel] or [out, in]."""
    rows = []
    if load.image:
        channels = load.image[2]
        for _ in range(4):
            rows += [("weight", (load.filters, channels, 3, 3)), ("zero", (load.filters,)),
                     ("one", (load.filters,)), ("zero", (load.filters,))]
            channels = load.filters
        rows += [("weight", (load.ways, features(load))), ("zero", (load.ways,))]
    else:
        for outputs, inputs in ((40, 1), (40, 40), (1, 40)):
            rows += [("weight", (outputs, inputs)), ("zero", (outputs,))]
    return rows


def draw(load):
    """Initial parameters and ROTATED batches as numpy arrays, images NCHW."""
    import numpy as np
    random = np.random.default_rng(1)
    parameters = []
    for kind, shape in shapes(load):
        if kind == "weight":
            fan_in = int(np.prod(shape[1:]))
            parameters.append((random.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32))
        else:
            parameters.append((np.ones if kind == "one" else np.zeros)(shape, np.float32))

    def examples(count):
        if not load.image:
            x = random.uniform(-5, 5, (load.tasks, count, 1)).astype(np.float32)
            return x, np.sin(x)
        height, width, channels = load.image
        x = random.random((load.tasks, count, channels, height, width), dtype=np.float32)
        return x, np.tile(np.arange(count) % load.ways, (load.tasks, 1)).astype(np.int64)

    return parameters, [(*examples(load.support), *examples(load.query)) for _ in range(ROTATED)]


def timed(step, wait, rounds, seconds=0.3):
    """Median and spread of seconds per step over rounds of as many steps as last `seconds`."""
    for index in range(4):
        step(index)
    wait()
    start = time.perf_counter()
    step(0)
    wait()
    count = max(1, min(2000, int(seconds / max(time.perf_counter() - start, 1e-6))))
    figures = []
    for _ in range(rounds):
        start = time.perf_counter()
        for index in range(count):
            step(index)
        wait()
        figures.append((time.perf_counter() - start) / count)
    middle = statistics.median(figures)
    return {"seconds": middle, "spread": (max(figures) - min(figures)) / middle}


def run_pytorch(load, variant, device, rounds):
    import torch
    import torch.nn.functional as F
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True

    def loss(parameters, x, y):
        rows = iter(parameters)
        if not load.image:
            x = F.relu(F.linear(x, next(rows), next(rows)))
            x = F.relu(F.linear(x, next(rows), next(rows)))
            return F.mse_loss(F.linear(x, next(rows), next(rows)), y)
        for _ in range(4):
            x = F.conv2d(x, next(rows), next(rows), stride=1 if load.pool else 2, padding=1)
            x = F.relu(F.batch_norm(x, None, None, next(rows), next(rows), training=True))
            if load.pool:
                x = F.max_pool2d(x, 2)
        x = x.flatten(1) if load.pool else x.mean((2, 3))
        return F.cross_entropy(F.linear(x, next(rows), next(rows)), y)

    numbers, batches = draw(load)
    parameters = [torch.tensor(p, device=device, requires_grad=True) for p in numbers]
    batches = [[torch.tensor(a, device=device) for a in batch] for batch in batches]
    graphed = variant == "vmap_cuda_graph"
    optimizer = torch.optim.Adam(parameters, lr=META_RATE, **({"capturable": True} if graphed else {}))

    def eager(parameters, sx, sy, qx, qy):
        total = 0
        for task in range(load.tasks):
            fast = list(parameters)
            for _ in range(load.steps):
                gradient = torch.autograd.grad(loss(fast, sx[task], sy[task]), fast, create_graph=True)
                fast = [w - load.rate * g for w, g in zip(fast, gradient)]
            total = total + loss(fast, qx[task], qy[task])
        return torch.autograd.grad(total / load.tasks, parameters)

    def adapted_loss(parameters, sx, sy, qx, qy):
        fast = list(parameters)
        for _ in range(load.steps):
            gradient = torch.func.grad(loss)(fast, sx, sy)
            fast = [w - load.rate * g for w, g in zip(fast, gradient)]
        return loss(fast, qx, qy)

    def mean_loss(parameters, *batch):
        return torch.func.vmap(adapted_loss, in_dims=(None, 0, 0, 0, 0))(parameters, *batch).mean()

    batched = torch.func.grad(mean_loss)
    if variant == "compile":
        batched = torch.compile(batched, mode="reduce-overhead" if device == "cuda" else "default")

    def update(batch):
        values = [p.detach() for p in parameters] if variant != "eager" else parameters
        gradient = (eager if variant == "eager" else batched)(values, *batch)
        for parameter, g in zip(parameters, gradient):
            parameter.grad = g.clone() if variant == "compile" else g
        optimizer.step()

    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    if not graphed:
        return timed(lambda index: update(batches[index % ROTATED]), wait, rounds)

    still = [a.clone() for a in batches[0]]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            update(still)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update(still)

    def replay(index):
        for to, batch in zip(still, batches[index % ROTATED]):
            to.copy_(batch)
        graph.replay()

    return timed(replay, wait, rounds)


def run_jax(load, _variant, _device, rounds):
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_default_matmul_precision", "highest")

    def loss(parameters, x, y):
        rows = iter(parameters)
        if not load.image:
            for last in (False, False, True):
                x = x @ next(rows).T + next(rows)
                x = x if last else jax.nn.relu(x)
            return jnp.mean((x - y) ** 2)
        stride = 1 if load.pool else 2
        for _ in range(4):
            x = jax.lax.conv_general_dilated(x, next(rows), (stride, stride), ((1, 1), (1, 1)),
                                             dimension_numbers=("NHWC", "HWIO", "NHWC")) + next(rows)
            mean = x.mean((0, 1, 2))
            deviation = jnp.sqrt(((x - mean) ** 2).mean((0, 1, 2)) + 1e-5)
            x = jax.nn.relu((x - mean) / deviation * next(rows) + next(rows))
            if load.pool:
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.reshape(x.shape[0], -1) if load.pool else x.mean((1, 2))
        scores = jax.nn.log_softmax(x @ next(rows).T + next(rows))
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], 1))

    def adapted_loss(parameters, sx, sy, qx, qy):
        fast = parameters
        for _ in range(load.steps):
            gradient = jax.grad(loss)(fast, sx, sy)
            fast = [w - load.rate * g for w, g in zip(fast, gradient)]
        return loss(fast, qx, qy)

    def mean_loss(parameters, *batch):
        return jax.vmap(adapted_loss, in_axes=(None, 0, 0, 0, 0))(parameters, *batch).mean()

    @jax.jit
    def update(state, batch):
        parameters, first, second, count = state
        gradient = jax.grad(mean_loss)(parameters, *batch)
        count = count + 1
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradient)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradient)]
        parameters = [p - META_RATE * (m / (1 - 0.9 ** count)) / (jnp.sqrt(v / (1 - 0.999 ** count)) + 1e-8)
                      for p, m, v in zip(parameters, first, second)]
        return parameters, first, second, count

    numbers, batches = draw(load)
    parameters = [jnp.asarray(p.transpose(2, 3, 1, 0) if p.ndim == 4 else p) for p in numbers]
    batches = [[jnp.asarray(a.transpose(0, 1, 3, 4, 2) if a.ndim == 5 else a) for a in batch] for batch in batches]
    state = [(parameters, [jnp.zeros_like(p) for p in parameters], [jnp.zeros_like(p) for p in parameters],
              jnp.float32(0))]

    def step(index):
        state[0] = update(state[0], batches[index % ROTATED])

    return timed(step, lambda: jax.block_until_ready(state[0]), rounds)


def one(arguments):
    load = WORKLOADS[arguments.one[0]]
    if arguments.tiny:
        load = dataclasses.replace(load, tasks=2, steps=min(load.steps, 2), query=min(load.query, 10))
    run = {"pytorch": run_pytorch, "jax": run_jax}[arguments.one[1]]
    return run(load, arguments.one[2], arguments.device, arguments.rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="default: all")
    parser.add_argument("--limit", type=float, default=120, help="seconds per variant")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="few tasks: shows that it runs, not how fast")
    parser.add_argument("--one", nargs=3, metavar=("WORKLOAD", "FRAMEWORK", "VARIANT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments)))
        return
    results = []
    for workload in arguments.workload or WORKLOADS:
        for framework, variant in VARIANTS:
            command = [sys.executable, __file__, "--one", workload, framework, variant, "--device", arguments.device,
                       "--rounds", str(arguments.rounds)] + (["--tiny"] if arguments.tiny else [])
            result = {"workload": workload, "framework": framework, "variant": variant}
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=arguments.limit)
                if done.returncode == 0:
                    result.update(json.loads(done.stdout.strip().splitlines()[-1]))
                else:
                    lines = done.stderr.strip().splitlines()
                    result["error"] = lines[-1] if lines else f"exit status {done.returncode}"
            except subprocess.TimeoutExpired:
                result["error"] = f"took longer than {arguments.limit:g} s"
            results.append(result)
            print(result, file=sys.stderr, flush=True)
    print(json.dumps({"peers": results}))


if __name__ == "__main__":
    main()
