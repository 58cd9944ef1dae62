#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judge CUDA kernels from their machine code (SASS), without a GPU.

For every kernel and architecture found in .cubin, .o, .a, .so or executable files
it prints registers, shared memory, spills, the theoretical occupancy and the
instruction mix of the hottest loop, and derives an upper bound on the fraction of
the FP32 peak that this loop can reach. With --require it is a gate for CI.

Needs cuobjdump and nvdisasm. They are looked for in --tools, $CUDA_HOME/bin, PATH,
beside nvcc, and in the Python wheels (which must be given both):
    python3 -m venv .venv
    .venv/bin/pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
    .venv/bin/python sass_report.py build/kernels.o

Examples:
    sass_report.py kernels.o --arch sm_90
    sass_report.py lib.so --block '*sgemm*=256' --smem '*sgemm*=49152' --json out.json
    sass_report.py lib.so --require '*sgemm*@sm_90:ffma>=0.75,spills==0,occupancy>=0.25' \\
                          --require '*:loop_spills==0,fp64==0'

Gates: 'GLOB[@ARCH_GLOB]:METRIC OP NUMBER,...'; GLOB is matched against the mangled name,
the demangled name and the demangled name without parameters. A gate that matches no
kernel fails. Exit status: 0 all gates hold, 1 a gate failed, 2 usage or tool error.

The hot loop is the one with the most FMA and tensor instructions outside inner loops, weighted by
8 per nesting level; a kernel without loops is counted as a whole. --json has all loops.

What the bound ignores: latency and occupancy, bank conflicts, global memory and L2
bandwidth, register bank conflicts and reuse, the ALU pipe, dependencies, tail effects,
clock throttling; every block of a loop is counted once, also a rarely taken one.
"""
import argparse
import collections
import fnmatch
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

# Limits of a multiprocessor (SM): CUDA C++ Programming Guide, "Technical Specifications
# per Compute Capability" and "Throughput of Native Arithmetic Instructions"; granularities
# and barriers: cuda_occupancy.h of CUDA 13.0.
# threads, blocks per SM; shared memory KiB per SM and per block (opt-in), KiB reserved per
# block, allocation unit; named barriers per block slot (0: no limit); FP32 results per clock; MUFU per clock.
Limits = collections.namedtuple(
    "Limits", "threads blocks smem_sm smem_block reserved smem_unit barriers fp32 mufu")
LIMITS = {
    75: Limits(1024, 16, 64, 64, 0, 256, 0, 64, 16),
    80: Limits(2048, 32, 164, 163, 1, 128, 0, 64, 16),
    86: Limits(1536, 16, 100, 99, 1, 128, 0, 128, 16),
    87: Limits(1536, 16, 164, 163, 1, 128, 0, 128, 16),
    89: Limits(1536, 24, 100, 99, 1, 128, 0, 128, 16),
    90: Limits(2048, 32, 228, 227, 1, 128, 2, 128, 16),
    100: Limits(2048, 32, 228, 227, 1, 128, 2, 128, 16),
    103: Limits(2048, 32, 228, 227, 1, 128, 2, 128, 16),
    110: Limits(1536, 24, 228, 227, 1, 128, 1, 128, 16),
    120: Limits(1536, 24, 100, 99, 1, 128, 1, 128, 16),
    121: Limits(1536, 24, 100, 99, 1, 128, 1, 128, 16),
}
REGISTERS = 65536       # per SM and per block
WARP = 32
PARTITIONS = 4          # schedulers per SM, each issues one warp instruction per clock
REGISTER_UNIT = 256     # per warp
SMEM_BYTES_PER_CLOCK = 128  # perhaps 64 on sm_75; then the bound is loose there
INSTRUCTION = 16        # bytes, all architectures since 7.0

Instruction = collections.namedtuple("Instruction", "address predicate opcode operands")
Loop = collections.namedtuple("Loop", "header depth own inner")  # own, inner: sets of instruction indices


class ToolError(Exception):
    pass


# ---------------------------------------------------------------- tools

def tool_directories(given):
    if given:
        yield given
    if os.environ.get("CUDA_HOME"):
        yield os.path.join(os.environ["CUDA_HOME"], "bin")
    yield from os.environ.get("PATH", "").split(os.pathsep)
    nvcc = shutil.which("nvcc")
    if nvcc:
        yield os.path.dirname(os.path.realpath(nvcc))
    for path in sys.path:
        base = os.path.join(path, "nvidia")
        if os.path.isdir(base):
            for name in sorted(os.listdir(base), reverse=True):
                yield os.path.join(base, name, "bin")


def find_tools(given):
    found = {}
    for directory in tool_directories(given):
        for name in ("cuobjdump", "nvdisasm"):
            path = os.path.join(directory, name)
            if name not in found and os.path.isfile(path) and os.access(path, os.X_OK):
                found[name] = os.path.abspath(path)
    for name in ("cuobjdump", "nvdisasm"):
        if name not in found:
            raise ToolError(f"{name} not found: pip install nvidia-cuda-{name}, or give --tools DIRECTORY")
    return found


def run(tools, *arguments, cwd=None):
    environment = dict(os.environ)
    environment["PATH"] = os.path.dirname(tools["nvdisasm"]) + os.pathsep + environment.get("PATH", "")
    command = [tools["cuobjdump"], *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ToolError(f"cuobjdump failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def demangle(names):
    filt = shutil.which("c++filt")
    if not filt or not names:
        return {name: name for name in names}
    out = subprocess.run([filt], input="\n".join(names), capture_output=True, text=True).stdout.split("\n")
    return dict(zip(names, out))


# ---------------------------------------------------------------- cubin (ELF)

class Cubin:
    """The few parts of a cubin that describe resources."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        if self.data[:5] != b"\x7fELF\x02":
            raise ToolError(f"{path}: not a 64-bit ELF file")
        offset, = struct.unpack_from("<Q", self.data, 0x28)
        count, names = struct.unpack_from("<HH", self.data, 0x3C)
        headers = [struct.unpack_from("<IIQQQQIIQQ", self.data, offset + 64 * i) for i in range(count)]
        strings = headers[names][4]
        self.sections = {self._string(strings + header[0]): header for header in headers}
        self.symbols = self._symbols(headers)
        self.registers, self.frame = {}, {}
        for code, _, payload in self._attributes(".nv.info"):
            if code in (0x2F, 0x11):  # register count, frame size
                index, value = struct.unpack_from("<II", payload)
                (self.registers if code == 0x2F else self.frame)[self.symbols[index]] = value

    def _string(self, at):
        return self.data[at:self.data.index(b"\0", at)].decode()

    def _symbols(self, headers):
        table = self.sections.get(".symtab")
        if not table:
            return []
        strings = headers[table[6]][4]
        return [self._string(strings + struct.unpack_from("<I", self.data, at)[0])
                for at in range(table[4], table[4] + table[5], 24)]

    def _attributes(self, section):
        header = self.sections.get(section)
        if not header:
            return
        at, end = header[4], header[4] + header[5]
        while at + 4 <= end:
            form, code, value = struct.unpack_from("<BBH", self.data, at)
            at += 4
            payload = b""
            if form == 4:
                payload = self.data[at:at + value]
                at += value
            yield code, value, payload

    def kernel(self, name):
        """Resources of one kernel; spill_offsets is None when the compiler did not record them."""
        info = {"regs": self.registers.get(name, 0), "stack": self.frame.get(name, 0), "barriers": 0,
                "launch_bounds": 0, "required_block": 0, "spill_offsets": set()}
        for code, value, payload in self._attributes(".nv.info." + name):
            if code in (0x05, 0x10):  # maximum and required block size
                x, y, z = struct.unpack_from("<III", payload)
                info["launch_bounds" if code == 0x05 else "required_block"] = x * y * z
            elif code == 0x4C:
                info["barriers"] = value & 0xFF
            elif code == 0x55:  # annotations: pairs (kind, offset); kind 1 is a spill or refill
                for at in range(0, len(payload) - 7, 8):
                    kind, offset = struct.unpack_from("<II", payload, at)
                    if kind == 1:
                        info["spill_offsets"].add(offset)
        header = self.sections.get(".nv.shared." + name)
        info["smem"] = header[5] if header else 0
        if any("reservedSmem" in symbol for symbol in self.symbols) and info["smem"] >= 1024:
            info["smem"] -= 1024  # since sm_90 the section includes what the system reserves
        return info


# ---------------------------------------------------------------- SASS

LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")


def read_sass(text):
    """Returns (architecture, {kernel: [Instruction]})."""
    architecture, functions, current = None, {}, None
    for line in text.splitlines():
        match = LINE.match(line)
        if match:
            if current is not None:
                current.append(Instruction(int(match[1], 16), match[2], match[3], match[4]))
            continue
        stripped = line.strip()
        if stripped.startswith("code for "):
            architecture = stripped[len("code for "):]
        elif stripped.startswith("Function : "):
            current = functions.setdefault(stripped[len("Function : "):], [])
    return architecture, {name: false_calls_to_branches(code) for name, code in functions.items()}


def false_calls_to_branches(code):
    """The compiler also leaves loops with CALL.REL.NOINC; code that exits before it returns is no function."""
    index = {instruction.address: i for i, instruction in enumerate(code)}
    for i, instruction in enumerate(code):
        start = index.get(target(instruction)) if instruction.opcode.startswith("CALL") else None
        if start is None:
            continue
        end = next((c.opcode for c in code[start:] if not c.predicate and c.opcode.startswith(("RET", "EXIT"))), "RET")
        if end.startswith("EXIT"):
            code[i] = instruction._replace(opcode="BRA.CALL")
    return code


def target(instruction):
    hexes = re.findall(r"(?<![\w\[])0x[0-9a-f]+", instruction.operands)
    return int(hexes[-1], 16) if hexes else None


def basic_blocks(code):
    """Returns (starts, ends, successors, roots); blocks are numbered in address order."""
    index = {instruction.address: i for i, instruction in enumerate(code)}
    leaders, branches, calls = {0}, {}, set()
    for i, instruction in enumerate(code):
        name = instruction.opcode.split(".")[0]
        if name in ("BRA", "JMP"):
            goal = index.get(target(instruction))
            conditional = (instruction.predicate not in (None, "@PT") or "DIV" in instruction.opcode
                           or "CONV" in instruction.opcode or re.match(r"!?U?P\d", instruction.operands))
            branches[i] = ([goal] if goal is not None else []) + ([i + 1] if conditional else [])
        elif name in ("EXIT", "RET", "BRX", "JMX", "KILL"):
            branches[i] = [i + 1] if instruction.predicate else []
        elif name == "CALL":
            goal = index.get(target(instruction))
            if goal is not None:
                calls.add(goal)
    for i, goals in branches.items():
        leaders.update(goals)
        leaders.add(i + 1)
    leaders |= calls
    starts = sorted(i for i in leaders if i < len(code))
    number = {start: n for n, start in enumerate(starts)}
    ends = starts[1:] + [len(code)]
    successors = [[number[g] for g in branches.get(end - 1, [end]) if g in number] for end in ends]
    entered = {s for targets in successors for s in targets}
    roots = [n for n in range(len(starts)) if n == 0 or starts[n] in calls or n not in entered]
    return starts, ends, successors, roots


def dominators(successors, roots):
    """Immediate dominators (Cooper, Harvey, Kennedy) under a virtual root -1."""
    order, seen = [], set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(successors[root]))]
        while stack:
            node, rest = stack[-1]
            following = next((s for s in rest if s not in seen), None)
            if following is None:
                order.append(node)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(successors[following])))
    order.reverse()
    rank = {node: i for i, node in enumerate(order)}
    rank[-1] = -1
    predecessors = collections.defaultdict(list)
    for node in order:
        for s in successors[node]:
            predecessors[s].append(node)
    immediate = {root: -1 for root in roots}
    fixed = set(roots)
    changed = True
    while changed:
        changed = False
        for node in order:
            if node in fixed:
                continue
            new = None
            for p in predecessors[node]:
                if p not in immediate:
                    continue
                other = p
                while new is not None and new != other:
                    if rank[new] > rank[other]:
                        new = immediate[new]
                    else:
                        other = immediate[other]
                new = other if new is None else new
            if immediate.get(node) != new:
                immediate[node] = new
                changed = True
    return immediate, predecessors


def find_loops(code):
    """Natural loops; own are the instructions that are in no inner loop."""
    if not code:
        return []
    starts, ends, successors, roots = basic_blocks(code)
    immediate, predecessors = dominators(successors, roots)

    def dominates(a, b):
        while b != -1 and b != a:
            b = immediate.get(b, -1)
        return b == a

    bodies = {}
    for node in immediate:
        for header in successors[node]:
            if not dominates(header, node):
                continue
            body = bodies.setdefault(header, {header})
            stack = [node]
            while stack:
                n = stack.pop()
                if n not in body:
                    body.add(n)
                    stack.extend(predecessors[n])
    loops = []
    for header, body in bodies.items():
        size = sum(ends[n] - starts[n] for n in body)
        if size == 1:
            continue  # the branch to itself behind the end of a kernel
        nested = set()
        for other, inner in bodies.items():
            if other != header and other in body and inner < body:
                nested |= inner
        depth = sum(1 for other, outer in bodies.items() if header in outer and (body < outer or other == header))
        spread = lambda blocks: {i for n in blocks for i in range(starts[n], ends[n])}
        loops.append(Loop(code[starts[header]].address, depth, spread(body - nested), spread(nested)))
    return sorted(loops, key=lambda loop: loop.header)


# ---------------------------------------------------------------- instruction mix

TENSOR = re.compile(r"^(HMMA|IMMA|QMMA|OMMA|DMMA|BMMA|HGMMA|QGMMA|IGMMA|UTC\w*MMA)$")
FMA_WEIGHT = {"FFMA": 1, "FFMA32I": 1, "FFMA2": 2}
FP32 = {"FADD": 1, "FMUL": 1, "FADD32I": 1, "FMUL32I": 1, "FADD2": 2, "FMUL2": 2, **FMA_WEIGHT}
FP64 = {"DFMA", "DADD", "DMUL", "DSETP"}


def constant_move(instruction):
    return instruction.opcode.startswith("HFMA2") and instruction.operands.count("-RZ, RZ") > 0


def width(opcode):
    """Bytes per thread of a memory instruction."""
    parts = opcode.split(".")
    if parts[0] == "LDSM":
        return {"4": 16, "2": 8}.get(parts[-1], 4)
    for part in parts[1:]:
        if part in ("U8", "S8", "U16", "S16"):
            return int(part[1:]) // 8
        if part in ("64", "128", "256"):
            return int(part) // 8
    return 4


def classify(instruction):
    name = instruction.opcode.split(".")[0]
    if name in ("LDS", "STS", "LDG", "STG", "LDGSTS", "LDL", "STL", "LD", "ST", "LDSM"):
        return f"{name}.{8 * width(instruction.opcode)}"
    if name == "IMAD" and re.match(r"IMAD\.(MOV|SHL|IADD)", instruction.opcode):
        return "IMAD.MOV"
    if constant_move(instruction):
        return "MOV"
    return name


def measure(code, indices, limits):
    """Counts and bounds for a set of instructions; one unit is one warp instruction."""
    mix = collections.Counter(classify(code[i]) for i in indices)
    issued = sum(mix.values()) - mix["NOP"]
    fma = sum(weight * mix[name] for name, weight in FMA_WEIGHT.items())
    fp32 = sum(weight * mix[name] for name, weight in FP32.items())
    imad = mix["IMAD"]
    tensor = sum(n for name, n in mix.items() if TENSOR.match(name))
    half = mix["HFMA2"] + mix["HMUL2"] + mix["HADD2"]

    def traffic(*kinds):
        """Bytes per thread of the memory instructions of these kinds."""
        return sum(n * int(name.split(".")[1]) // 8 for name, n in mix.items() if name.split(".")[0] in kinds)

    shared = traffic("LDS", "STS", "LDSM", "LDGSTS")
    wide = sum(n * int(name.split(".")[1]) // 8 for name, n in mix.items()
               if name in ("LDS.64", "LDS.128"))
    out = {
        "instructions": issued, "fma_count": fma, "tensor_count": tensor,
        "ffma": fma / issued if issued else 0.0,
        "ffma_issue": sum(mix[name] for name in FMA_WEIGHT) / issued if issued else 0.0,
        "hfma2": half / issued if issued else 0.0,
        "tensor": tensor / issued if issued else 0.0,
        "integer": sum(mix[n] for n in ("IMAD", "IADD3", "IADD", "LEA", "ISETP", "LOP3", "SHF")) / issued if issued else 0.0,
        "fp64": sum(mix[n] for n in FP64),
        "lds_bytes_per_ffma": traffic("LDS", "LDSM") / fma if fma else 0.0,
        "smem_bytes_per_ffma": shared / fma if fma else 0.0,
        "ldg_bytes_per_ffma": traffic("LDG", "LDGSTS", "LD") / fma if fma else 0.0,
        "calls": mix["CALL"], "barriers_in_loop": mix["BAR"] + mix["BARRIER"], "mufu": mix["MUFU"],
    }
    for name in ("LDS.32", "LDS.64", "LDS.128", "LDG.32", "LDG.64", "LDG.128"):
        out[name.lower().replace(".", "")] = mix[name]
    if limits and issued:
        # Clocks of one SM for this stretch, per warp.
        clocks = {
            "issue": issued / PARTITIONS,
            "fp32": (fp32 + imad) * WARP / limits.fp32,
            "mufu": mix["MUFU"] * WARP / limits.mufu,
            # The return path moves 128 B per clock; for 64- and 128-bit loads whose lanes pairwise
            # (n with n^1, or n with n^2) read the same address it needs half of that.
            "smem": (shared - wide / 2) * WARP / SMEM_BYTES_PER_CLOCK,
        }
        no_merge = shared * WARP / SMEM_BYTES_PER_CLOCK
        useful = fma * WARP / limits.fp32
        out["bound"] = useful / max(clocks.values())
        out["bound_no_merge"] = useful / max(*clocks.values(), no_merge)
        clocks["smem_no_merge"] = no_merge
        out["clocks"] = clocks
        out["limiter"] = max((k for k in clocks if k != "smem_no_merge"), key=clocks.get)
    out["mix"] = dict(mix.most_common())
    return out


def heat(code, loop):
    weight = 0
    for i in loop.own:
        name = code[i].opcode.split(".")[0]
        if name in FMA_WEIGHT or (name == "HFMA2" and not constant_move(code[i])):
            weight += 1
        elif TENSOR.match(name):
            weight += 16
        elif name in FP32 or name in FP64:
            weight += 0.5
    return (weight * 8 ** (loop.depth - 1), loop.depth, len(loop.own))


# ---------------------------------------------------------------- occupancy

def occupancy(limits, block, regs, smem, barriers):
    """Blocks per SM and what limits them, as cuda_occupancy.h computes them."""
    warps = -(-block // WARP)
    bounds = {"blocks": limits.blocks, "threads": limits.threads // WARP // warps}
    per_warp = -(-regs * WARP // REGISTER_UNIT) * REGISTER_UNIT
    if per_warp:
        rounded = -(-warps // PARTITIONS) * PARTITIONS
        if per_warp * rounded > REGISTERS:
            bounds["registers"] = 0
        else:
            bounds["registers"] = REGISTERS // PARTITIONS // per_warp * PARTITIONS // warps
    total = smem + 1024 * limits.reserved
    total = -(-total // limits.smem_unit) * limits.smem_unit
    if smem > 1024 * limits.smem_block:
        bounds["shared"] = 0
    elif total:
        bounds["shared"] = 1024 * limits.smem_sm // total
    if barriers and limits.barriers:
        bounds["barriers"] = limits.blocks * limits.barriers // barriers
    limiter = min(bounds, key=bounds.get)
    blocks = bounds[limiter]
    return blocks, blocks * warps / (limits.threads // WARP), limiter


# ---------------------------------------------------------------- report

def plain(name):
    """Demangled name without return type and parameters; template arguments stay."""
    depth, start = 0, 0
    name = name.replace("(anonymous namespace)", "{anonymous}")
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if depth == 0 and c == " ":
            start = i + 1
        elif depth == 0 and c == "(":
            return name[start:i]
    return name


def matches(record, pattern):
    names = (record["kernel"], record["demangled"], record["name"])
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def chosen(settings, record, default):
    value = default
    for pattern, number in settings:
        if matches(record, pattern):
            value = number
    return value


def analyse(path, tools, options):
    records = []
    with tempfile.TemporaryDirectory() as directory:
        run(tools, "-xelf", "all", os.path.abspath(path), cwd=directory)
        cubins = sorted(os.listdir(directory), key=lambda n: [int(p) if p.isdigit() else p for p in n.split(".")])
        for cubin_name in cubins:
            named = re.search(r"\.(sm_\w+)\.cubin$", cubin_name)
            if named and not fnmatch.fnmatchcase(named[1], options.arch):
                continue
            cubin_path = os.path.join(directory, cubin_name)
            cubin = Cubin(cubin_path)
            architecture, functions = read_sass(run(tools, "-sass", cubin_path))
            if not architecture or not fnmatch.fnmatchcase(architecture, options.arch):
                continue
            limits = LIMITS.get(int(re.sub(r"\D", "", architecture)))
            for name, code in functions.items():
                if ".nv.info." + name in cubin.sections:  # a kernel; others are device functions
                    records.append(report(path, architecture, limits, name, code, cubin.kernel(name)))
    return records


def report(path, architecture, limits, name, code, info):
    spilled = info.pop("spill_offsets")
    local = [i for i in code if i.opcode.split(".")[0] in ("LDL", "STL")]
    record = {"file": os.path.basename(path), "kernel": name, "arch": architecture, **info,
              "spills": len(spilled), "spill_bytes": sum(width(i.opcode) for i in local if i.address in spilled),
              "local": len(local), "code_bytes": INSTRUCTION * len(code), "limits_known": limits is not None}
    loops = find_loops(code)
    described = []
    for loop in loops:
        described.append({"start": hex(loop.header), "depth": loop.depth, "nested": len(loop.inner),
                          "spills": sum(code[i].address in spilled for i in loop.own),
                          "local": sum(code[i].opcode.split(".")[0] in ("LDL", "STL") for i in loop.own),
                          **measure(code, loop.own, limits)})
    record["loops"] = described
    if loops:
        best = max(range(len(loops)), key=lambda n: heat(code, loops[n]))
        record["hot"] = described[best]
    else:
        indices = range(next((i for i in range(len(code) - 1, -1, -1) if code[i].opcode.startswith("EXIT")), -1) + 1)
        record["hot"] = {"start": "none", "depth": 0, "nested": 0, "spills": len(spilled), "local": len(local),
                         **measure(code, indices, limits)}
    return record


def finish(record, options):
    limits = LIMITS.get(int(re.sub(r"\D", "", record["arch"])))
    default = record["required_block"] or record["launch_bounds"] or 256
    record["block"] = chosen(options.block, record, default)
    record["dynamic_smem"] = chosen(options.smem, record, 0)
    if limits:
        smem = record["smem"] + record["dynamic_smem"]
        record["blocks_per_sm"], record["occupancy"], record["occupancy_limiter"] = occupancy(
            limits, record["block"], record["regs"], smem, record["barriers"])
    hot, notes = record["hot"], []
    if record["spills"]:
        notes.append(f"{record['spills']} spill instructions ({hot['spills']} in the hot loop)")
    if record["stack"] and not record["spills"]:
        notes.append(f"stack frame of {record['stack']} B (array indexed at run time?)")
    if hot["depth"] and hot["ldg32"] and not hot["ldg64"] + hot["ldg128"]:
        notes.append(f"{hot['ldg32']} scalar LDG.32 in the hot loop, no LDG.128")
    if hot["fma_count"] and hot["lds32"] > hot["lds64"] + hot["lds128"]:
        notes.append(f"{hot['lds32']} scalar LDS.32 in the hot loop")
    generic = sum(n for name, n in hot["mix"].items() if name.startswith(("LD.", "ST.")))
    if generic:
        notes.append(f"{generic} generic loads or stores in the hot loop (address space not known to the compiler)")
    if hot["fp64"]:
        notes.append(f"{hot['fp64']} double-precision instructions in the hot loop")
    if hot["calls"]:
        notes.append(f"{hot['calls']} calls in the hot loop (division, square root slow path?)")
    if hot["fma_count"] and hot["integer"] > 0.25:
        notes.append(f"{hot['integer']:.0%} integer instructions in the hot loop")
    if not limits:
        notes.append("limits of this architecture unknown: no occupancy, no bound")
    elif record["blocks_per_sm"] == 0:
        notes.append(f"cannot be launched with {record['block']} threads: {record['occupancy_limiter']}")
    record["notes"] = notes


def metrics(record):
    flat = {k: v for k, v in record.items() if isinstance(v, (int, float))}
    flat.update({k: v for k, v in record["hot"].items() if isinstance(v, (int, float)) and k not in ("spills", "local")})
    flat["loop_spills"], flat["loop_local"] = record["hot"]["spills"], record["hot"]["local"]
    flat["lds_per_ffma"] = flat["lds_bytes_per_ffma"]
    return flat


CONDITION = re.compile(r"^\s*(\w+)\s*(>=|<=|==|!=|>|<)\s*([-+.\deE]+)\s*$")
COMPARE = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, "==": lambda a, b: a == b,
           "!=": lambda a, b: a != b, ">": lambda a, b: a > b, "<": lambda a, b: a < b}


def check(records, gate):
    """Yields (passed, line) for one --require."""
    selector, colon, conditions = gate.rpartition(":")
    if not colon:
        raise ToolError(f"--require {gate!r}: expected GLOB[@ARCH]:METRIC>=NUMBER,...")
    parsed = []
    for text in conditions.split(","):
        match = CONDITION.match(text)
        if not match:
            raise ToolError(f"--require {gate!r}: cannot read {text!r}")
        parsed.append((match[1], match[2], float(match[3])))
    pattern, _, architecture = selector.partition("@")
    selected = [r for r in records if matches(r, pattern) and fnmatch.fnmatchcase(r["arch"], architecture or "*")]
    if not selected:
        yield False, f"{selector}: no such kernel"
    for record in selected:
        values = metrics(record)
        for metric, operator, number in parsed:
            if metric not in values:
                yield False, f"{record['name']} {record['arch']}: no metric {metric!r}; there are {', '.join(sorted(values))}"
                continue
            passed = COMPARE[operator](values[metric], number)
            yield passed, f"{record['name']} {record['arch']}: {metric} = {values[metric]:.4g}, required {operator} {number:g}"


def print_table(records, options):
    head = ("kernel", "arch", "regs", "smem", "spill", "stack", "block", "blk/SM", "occ", "limit",
            "loop@", "instr", "FMA%", "MMA%", "LDS B/FMA", "bound", "no merge", "limiter")
    rows = []
    for r in records:
        hot = r["hot"]
        rows.append((r["name"][:options.width], r["arch"], r["regs"], r["smem"] + r["dynamic_smem"], r["spills"], r["stack"],
                     r["block"], r.get("blocks_per_sm", "-"), f"{r['occupancy']:.0%}" if "occupancy" in r else "-",
                     r.get("occupancy_limiter", "-"), hot["start"], hot["instructions"], f"{hot['ffma']:.1%}",
                     f"{hot['tensor']:.1%}", f"{hot['lds_bytes_per_ffma']:.2f}" if hot["fma_count"] else "-",
                     f"{hot['bound']:.1%}" if hot.get("fma_count") and "bound" in hot else "-",
                     f"{hot['bound_no_merge']:.1%}" if hot.get("fma_count") and "bound" in hot else "-",
                     hot.get("limiter", "-")))
    widths = [max(len(str(row[c])) for row in [head, *rows]) for c in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(str(v).ljust(w) if c in (0, 1) else str(v).rjust(w) for c, (v, w) in enumerate(zip(row, widths))).rstrip())
    for r in records:
        if options.mix:
            print(f"\n{r['name'][:options.width]} {r['arch']}: loop at {r['hot']['start']}, depth {r['hot']['depth']}: "
                  + ", ".join(f"{n} {k}" for k, n in r["hot"]["mix"].items()))
        for note in r["notes"]:
            print(f"note: {r['name'][:options.width]} {r['arch']}: {note}")


def setting(text):
    pattern, equals, number = text.rpartition("=")
    try:
        return (pattern if equals else "*", int(number))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected [GLOB=]NUMBER")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help=".cubin, .o, .a, .so or executable")
    parser.add_argument("--arch", default="*", help="only this architecture, e.g. sm_90 (glob)")
    parser.add_argument("--kernel", default="*", help="only these kernels (glob)")
    parser.add_argument("--block", type=setting, action="append", default=[], metavar="[GLOB=]N",
                        help="threads per block; default: required or maximum block size of the kernel, else 256")
    parser.add_argument("--smem", type=setting, action="append", default=[], metavar="[GLOB=]BYTES",
                        help="dynamic shared memory per block")
    parser.add_argument("--require", action="append", default=[], metavar="GATE")
    parser.add_argument("--json", metavar="FILE", help="write everything, all loops too, as JSON ('-': standard output)")
    parser.add_argument("--mix", action="store_true", help="print the instruction mix of each hot loop")
    parser.add_argument("--width", type=int, default=48, help="longest kernel name in the table")
    parser.add_argument("--tools", metavar="DIRECTORY", help="where cuobjdump and nvdisasm are")
    options = parser.parse_args(arguments)
    try:
        tools = find_tools(options.tools)
        records = [record for path in options.files for record in analyse(path, tools, options)]
        names = demangle([r["kernel"] for r in records])
        for record in records:
            record["demangled"] = names[record["kernel"]]
            record["name"] = plain(record["demangled"])
        records = [r for r in records if matches(r, options.kernel)]
        for record in records:
            finish(record, options)
        if options.json:
            text = json.dumps({"kernels": records}, indent=1)
            if options.json == "-":
                print(text)
            else:
                with open(options.json, "w") as file:
                    file.write(text + "\n")
        if options.json != "-":
            print_table(records, options)
        if not records:
            print("no kernels found", file=sys.stderr)
            return 2
        failed = 0
        for gate in options.require:
            for passed, line in check(records, gate):
                failed += not passed
                print(("pass: " if passed else "FAIL: ") + line, file=sys.stderr if options.json == "-" else sys.stdout)
        return 1 if failed else 0
    except (ToolError, OSError) as error:
        print(f"sass_report: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
