"""Four-channel fields of view with known truth, made from a seed: for the demo, the benchmark and for training."""

from hcpl_kernel.simulation.field import SimulatedField, simulate_field

__all__ = ["SimulatedField", "simulate_field"]
