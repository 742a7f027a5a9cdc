"""A Vela that is a shell script, and what the real one writes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from skerry.app.toolchains import MARKER, find_toolchain

HEADER = (
    "Original Operator,NNG Operator,Target,Staging Usage,Peak% (Staging),Op Cycles,"
    "Network% (cycles),NPU,SRAM AC,DRAM AC,OnFlash AC,OffFlash AC,MAC Count,"
    "Network% (MAC),Util% (MAC),Name"
)
LAYERS = (
    f"{HEADER}\n"
    "Conv2D,Conv2D,NPU,12976,58.4,26185,29.1,26185,6040,0,0,5760,320000,12.0,9.5,conv\n"
    "Sin,Passthrough,CPU,0,NaN,0,100,0,0,0,0,0,0,100,100,a name, with a comma\n"
)
"""Two lines as Vela 5.2.0 writes them."""

SUMMARY = (
    "experiment,network,core_clock,inference_time,sram_memory_used,dram_memory_used,"
    "on_chip_flash_memory_used,off_chip_flash_memory_used,nn_macs,cycles_total\n"
    "default,net,500000000.0,0.0001798,21.671875,0.0,0.0,30.375,2664792,89900\n"
)
"""Some of the columns of Vela's summary."""

SCRIPT = """#!/bin/sh
for last; do out="$last"; done
cat > "$out/net_per-layer.csv" <<'END'
{layers}END
cat > "$out/net_summary_X.csv" <<'END'
{summary}END
printf compiled > "$out/net_vela.tflite"
echo "$@" > "{folder}/arguments"
"""


def install_vela(
    folder: Path,
    *,
    layers: str = LAYERS,
    summary: str = SUMMARY,
    script: str = SCRIPT,
    packages: tuple[str, ...] | None = None,
) -> None:
    """Make an environment `vela` whose program writes these two files.

    The flags it was called with are left in the file `arguments` of the folder.
    """
    programs = folder / "vela" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text("#!/bin/sh\n")
    vela = programs / "vela"
    vela.write_text(script.format(layers=layers, summary=summary, folder=folder))
    vela.chmod(0o755)
    described = asdict(find_toolchain("vela"))
    if packages is not None:
        described["packages"] = packages
    marker = {"toolchain": described, "versions": "Vela 5.2.0", "size_bytes": 1}
    (folder / "vela" / MARKER).write_text(json.dumps(marker))
