"""`python -m jvan.doctor`: what this machine has, what was mended, what is still wrong and the command that mends it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys

from ._arguments import Parser
from ._cli import command
from ._say import show, show_json
from .boot import prepare
from .boot.cuda import check_cuda, check_gpus
from .boot.import_hook import FATAL
from .boot.probe import run_child
from .boot.python import check_jittor
from .boot.settings import BROKEN, OK, SLOW, Finding, jittor_cache, setting

NEEDED = 500 << 20  # a core and the operators of a VAN take some 200 MB
# run by a child: an import that goes wrong can end the process, and two of them cannot be tried in one
PROBE = """
import jvan, json, sys
from jvan.errors import JittorRebuilt
try:
    import jittor as jt
except JittorRebuilt as error:
    print(error, file=sys.stderr)
    sys.exit(75)
total = float(jt.ones(3).sum())
with jt.no_grad():
    corner = float(jt.nn.conv2d(jt.ones((1, 3, 5, 5)), jt.ones((2, 3, 3, 3)))[0, 1, 2, 2])
ok = (total, corner) == (3.0, 27.0)
mkl = jt.compile_extern.mkl_ops is not None
from jvan.ops._jit import arithmetic, why_not
found = dict(version=jt.__version__, ok=ok, mkl=mkl, kernels=why_not(), bfloat16=why_not() or arithmetic("bfloat16").text)
from jvan.device import cuda_fault
print("\\n" + json.dumps(dict(found, cuda=bool(jt.has_cuda), fault=cuda_fault(), mpi=jt.mpi is not None)))
"""
REBUILT = 75  # the probe's exit status where Jittor must be started again

DESCRIPTION = "Say what this machine has, what was mended, what is still wrong and the command that mends it."


def parser() -> Parser:
    parser = Parser(prog="jvan doctor", description=DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of a table")
    parser.add_argument(
        "--timeout", type=float, default=1800, metavar="S", help="seconds that Jittor may take to start (default: 1800)"
    )
    return parser


@command
def main(argv=None) -> int:
    """Print every finding; 1 if Jittor cannot start."""
    args = parser().parse_args(argv)
    findings = examine(args.timeout)
    starts = all(finding.status != BROKEN for finding in findings)
    if args.json:
        rows = [{key: value for key, value in row._asdict().items() if key != "aloud"} for row in findings]
        show_json({"starts": starts, "findings": rows}, indent=2)
    else:
        show(*table(findings), "", "Jittor starts." if starts else "Jittor cannot start.")
    return 0 if starts else 1


def examine(timeout: float = 1800) -> list[Finding]:
    """Everything that is known before Jittor is started, then, unless that is already hopeless, how it starts."""
    mended = {finding.name: finding for finding in prepare.prepare()}
    now = [check() for check in (check_jittor, *FATAL)] + [
        check_cuda(assembled=True),
        check_gpus(),
        check_mpi(),
        check_disk(),
        check_copies(),
    ]
    # what `import jvan` has just mended looks sound by now: its own finding says more
    findings = [mended.pop(finding.name) if _says_more(mended, finding) else finding for finding in now]
    findings += [finding for name, finding in mended.items() if name not in {row.name for row in findings}]
    if any(finding.status == BROKEN for finding in findings):
        return findings
    return [*findings, check_start(timeout)]


def _says_more(mended: dict[str, Finding], finding: Finding) -> bool:
    return finding.status == OK and finding.name in mended and mended[finding.name].status != OK


def check_mpi() -> Finding:
    if setting("use_mpi", "1") != "1":
        return Finding("MPI", OK, "switched off by use_mpi")
    path = shutil.which(setting("mpicc_path") or "mpicc")
    return Finding("MPI", OK, f"{path}: training on several processes" if path else "no mpicc: one process only")


def check_disk() -> Finding:
    folder = jittor_cache()
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    what = f"{free / 2**30:.1f} GiB free for {jittor_cache()}"
    if free < NEEDED:
        return Finding(
            "disk", BROKEN, f"{what}, and Jittor needs {NEEDED >> 20} MiB", "free some, or set HOME to another disk"
        )
    return Finding("disk", OK, what)


def check_copies() -> Finding:
    """Unpacked archives in jvan's caches that nothing may need any more, which jvan does not remove unless it is certain."""
    import shlex

    from .data.leftovers import leftovers

    found = leftovers()
    if not found:
        return Finding("copies", OK, "no unpacked archive is left over")
    listed = "; ".join(f"{each.path}, {each.size / 2**30:.1f} GiB: {each.why}" for each in found)
    total = sum(each.size for each in found) / 2**30
    fix = "if no archive needs them: rm " + " ".join(shlex.quote(each.path) for each in found)
    return Finding("copies", OK, f"{total:.1f} GiB of unpacked archives may be left over: {listed}", fix)


def check_start(timeout: float) -> Finding:
    """Import Jittor in a child and let it add and convolve; its first compilation is announced on stderr."""
    status, output, errors = run_child(PROBE, timeout)
    if status is None:
        return Finding(
            "start", BROKEN, f"Jittor did not start within {timeout:g} s", "try again with a longer --timeout"
        )
    try:
        result = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return Finding(
            "start", BROKEN, f"Jittor's import failed (status {status}): {last_line(errors or output)}", _hint(status)
        )
    if not result["ok"]:
        return Finding("start", BROKEN, "Jittor starts but computes wrong numbers", "rm -r " + jittor_cache())
    what = f"Jittor {result['version']} starts and computes on the CPU" + (
        " and on the GPU" if not result["fault"] else ""
    )
    if not result["kernels"]:
        what += f"; bfloat16 inference: {result['bfloat16']}"
    slow = [*([] if result["mkl"] else ["without oneDNN"]), *([result["kernels"]] if result["kernels"] else [])]
    slow += [result["fault"]] if result["cuda"] and result["fault"] else []
    return Finding("start", SLOW if slow else OK, "; ".join([what, *slow]))


def last_line(text: str) -> str:
    """The last line that says something: an exception's, as tracebacks end with it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^jvan\.errors\.Jittor\w+: ", "", lines[-1])[-600:] if lines else "no message"


def _hint(status: int) -> str:
    if status == REBUILT:
        return "python -m jvan.doctor, once more"
    return f"rm -r {jittor_cache()}/jt* makes Jittor compile anew; log_v=1 python -c 'import jvan, jittor' shows all it does"


def table(findings: list[Finding]) -> list[str]:
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:7} {finding.name:14} {finding.what}")
        if finding.fix:
            lines.append(f"{'':22} to mend it: {finding.fix}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
