"""What was measured, for a terminal and as JSON."""

from __future__ import annotations

COLUMNS = ("engine", "ms", "pictures/s", "jvan ÷ it", "GFLOP/s", "of ceiling", "peak MB", "first run s", "difference")
LEGEND = """\
ms: median over the rounds of a whole batch; jvan ÷ it: median of the rounds' ratios, below 1 jvan is faster
{device}
difference: the largest one from jvan's outputs, relative to the largest output (of training: and gradients)"""
ON_DEVICE = {
    "cpu": """\
of ceiling: of numpy's float32 product of 2048×2048 matrices, timed in the same rounds
first run: making or compiling the network and its first batch, with caches as they were found""",
    "cuda": """\
of ceiling: of cuBLAS's product in the engine's precision, timed in the same rounds
peak MB: what the engine's allocator has taken of the GPU's memory
first run: making or compiling the network and its first batch, beside the other engines', with caches as they were found""",
}


def document(results, machine: dict, settings, interrupted: bool = False) -> dict:
    """The whole benchmark in plain JSON types."""
    from .. import __version__

    chosen = {"rounds": settings.rounds, "seconds": settings.seconds, "threads": settings.threads}
    chosen.update(device=settings.device, tf32=settings.tf32)
    return {
        "jvan": __version__,
        "machine": machine,
        "settings": chosen,
        "interrupted": interrupted,
        "cases": [result.summary() for result in results],
    }


def lines(document: dict) -> list[str]:
    """The tables, with what they were measured on."""
    machine, chosen = document["machine"], document["settings"]
    extensions = ", ".join(machine["extensions"])
    found = [
        f"{machine['cpu']}, {machine['cores']} cores ({extensions or 'no vector extensions known'}), "
        f"{chosen['threads']} threads, {machine['memory_gb']} GB, {machine['system']}",
        ", ".join(f"{name} {version}" for name, version in _versions(document).items()),
        f"{chosen['rounds']} rounds of {chosen['seconds']:g} s an engine" + ", interrupted" * document["interrupted"],
    ]
    device = chosen.get("device", "cpu")
    if device == "cuda":
        found.insert(0, f"{', '.join(machine['gpus'])}; {'TF32' if chosen['tf32'] else 'no TF32'} in float32 products")
    if machine["load"] > machine["cores"] / 2:
        found.append(f"NOT QUIET: a load average of {machine['load']} before it began; the times say little")
    for case in document["cases"]:
        found += ["", *_case(case)]
    return [*found, "", *LEGEND.format(device=ON_DEVICE[device]).split("\n")]


def _versions(document: dict) -> dict:
    engines = (entry for case in document["cases"] for entry in case["engines"])
    versions = {"jvan": document["jvan"], "Python": document["machine"]["python"]}
    for entry in engines:
        versions.update(entry["versions"] or {})
    return versions


def _case(case: dict) -> list[str]:
    each = case["gflop"] / case["batch_size"]
    ceiling = f", ceiling {case['ceiling_gflops']:.0f} GFLOP/s" if case["ceiling_gflops"] else ""
    measured = [entry for entry in case["engines"] if entry["median_ms"] is not None]
    rows = [COLUMNS, *(_cells(entry) for entry in sorted(measured, key=lambda entry: entry["median_ms"]))]
    lines = [f"{case['title']}: {each:.2f} GFLOP a picture{ceiling}", *(aligned(rows) if measured else ())]
    lines += [*_ceilings(case), *_remarks(case["engines"])]
    for entry in case["engines"]:
        if entry["operators"]:
            lines += ["", *_operators(entry)]
    return lines


def _ceilings(case: dict) -> list[str]:
    """A GPU's: a line for the copy, one for all products."""
    if all(row["name"] == "product" for row in case["ceilings"]):
        return []
    products = [_most(row) for row in case["ceilings"] if row["name"] != "copy"]
    copies = [_most(row) for row in case["ceilings"] if row["name"] == "copy"]
    return [
        f"cuBLAS, 8192×8192 matrices: {', '.join(products)}",
        f"copy of 1 GiB, read and written: {', '.join(copies)}",
    ]


def _most(row: dict) -> str:
    if row["gb_per_s"]:
        return f"{row['gb_per_s']:.0f} GB/s"
    what = f"{row['gflops'] / 1e3:.1f} TFLOP/s" if row["gflops"] else row["reason"] or "not measured"
    return what if row["name"] == "copy" else f"{row['dtype']} {what}"


def _remarks(entries: list[dict]) -> list[str]:
    """What is to be said of engines, one line for all of whom the same is said."""
    said = {}
    for entry in entries:
        remarks = list(entry["notes"])
        if entry["status"] != "ok":
            remarks.append(entry["reason"] or "interrupted, its outputs were not compared")
        if entry["wrong"]:
            remarks.append(f"WRONG, its outputs are further than {entry['tolerance']:g} from jvan's")
        for remark in remarks:
            said.setdefault(remark, []).append(entry["engine"])
    return [f"{', '.join(engines)}: {remark}" for remark, engines in said.items()]


def _cells(entry: dict) -> tuple[str, ...]:
    return (
        entry["engine"],
        f"{entry['median_ms']:.{1 if entry['median_ms'] < 1000 else 0}f}",
        f"{entry['pictures_per_s']:.1f}",
        "wrong" if entry["wrong"] else _number(entry["ratio"], ".2f"),
        f"{entry['gflops']:.0f}",
        _number(entry["of_ceiling"], ".0%"),
        f"{entry['peak_mb']:.0f}",
        f"{entry['first_s']:.1f}",
        "wrong" if entry["wrong"] and entry["difference"] is None else _number(entry["difference"], ".1e"),
    )


def _operators(entry: dict, shown: int = 15) -> list[str]:
    total = sum(row[2] for row in entry["operators"])
    rows = [("ms", "share", "calls", "operator")]
    for name, calls, ms in entry["operators"][:shown]:
        rows.append((f"{ms:.3f}", f"{ms / total:.0%}", str(calls), name if len(name) <= 90 else name[:87] + "..."))
    title = f"{entry['engine']}'s operators, {total:.1f} ms an iteration under the profiler"
    return [title, *aligned(rows, left=3)]


def aligned(rows, left: int = 0) -> list[str]:
    """Rows of cells as lines: column `left` is flush left, numbers are flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(c.ljust(w) if i == left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
