"""Everything that is to be measured on a GPU, with one command; see `on_a_gpu.md`.

python -m benchmarks.on_a_gpu                 # 10 to 20 minutes
python -m benchmarks.on_a_gpu --trial         # the same programs, small and on the CPU; no table is written
"""

from __future__ import annotations

import argparse
import subprocess
import sys

STEPS = (
    ("-m hcpl_kernel doctor", "-m hcpl_kernel doctor"),
    (
        "-m benchmarks.scattering --device cuda --markdown benchmarks/scattering.md",
        "-m benchmarks.scattering --rounds 1 --sides 64 --no-clh",
    ),
    (
        "-m benchmarks.compiling --device cuda --markdown benchmarks/engines.md",
        "-m benchmarks.compiling --weights weights/mini --networks cla_resnet --batch 4 --rounds 1",
    ),
    (
        "-m hcpl_kernel bench --weights weights/full --project h200,t4x2,p100 --json bench_gpu.json",
        "-m hcpl_kernel bench --weights weights/mini --size 256",
    ),
)
"""Each program as it runs on a GPU, and in a trial."""


def main() -> int:
    """Entry point; 1 where a program failed, after all of them have run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trial", action="store_true", help="small, on the CPU")
    trial = parser.parse_args().trial
    failed = []
    for on_gpu, on_cpu in STEPS:
        command = on_cpu if trial else on_gpu
        print(f"\n$ python {command}", flush=True)
        if subprocess.run([sys.executable, *command.split()]).returncode:
            failed.append(command)
    print("\n" + "\n".join(f"failed: python {command}" for command in failed) if failed else "\nall programs ended well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
