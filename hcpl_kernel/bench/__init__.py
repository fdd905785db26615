"""`hcpl bench`: measured stages and networks, a time plan for this machine, and projections to others."""

from hcpl_kernel.bench.command import run_bench

__all__ = ["run_bench"]
