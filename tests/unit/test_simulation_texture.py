"""Random points of the simulation."""

from __future__ import annotations

import numpy as np

from hcpl_kernel.simulation.texture import points_in_each


def test_each_instance_gets_its_number_of_points_where_it_has_room() -> None:
    labels = np.zeros((60, 50), np.int32)
    labels[:20, :20], labels[40:, 30:], labels[30:50, 5:15] = 1, 2, 3
    rng = np.random.default_rng(0)
    room = rng.random(labels.shape, np.float32) * (rng.random(labels.shape) < 0.3)
    room[labels == 2] = 0
    for _ in range(20):
        y, x = points_in_each(rng, labels, room, np.array([5, 7, 3]))
        place = np.rint(y).astype(int).clip(0, 59), np.rint(x).astype(int).clip(0, 49)
        assert (room[place] > 0).all()
        assert np.bincount(labels[place], minlength=4).tolist() == [0, 5, 0, 3]
