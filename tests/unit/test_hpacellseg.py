"""The drop-in API keeps the shapes, dtypes and values of the package that it replaces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hcpl_kernel.errors import InputError, WeightsError
from hcpl_kernel.hpacellseg import CellSegmentator, label_cell, label_nuclei
from hcpl_kernel.segmentation import MiniUNet, Segmentator


@pytest.fixture
def nets() -> tuple[MiniUNet, MiniUNet]:
    torch.manual_seed(0)
    return MiniUNet(width=4), MiniUNet(width=4)


def field(shape: tuple[int, int] = (200, 264), dtype: type = np.uint8) -> np.ndarray:
    """A random (4, H, W) field: red, green, blue, yellow."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (4, *shape), dtype=dtype)


def test_maps_have_the_input_size_and_convention(nets: tuple[MiniUNet, MiniUNet]) -> None:
    red, _, blue, yellow = image = field(dtype=np.uint16)
    segmentator = CellSegmentator(*nets, device="cpu", padding=True)
    (nuclei,) = segmentator.pred_nuclei([blue])
    (cells,) = segmentator.pred_cells([[red], [yellow], [blue]])
    ((nuclei_small, cells_small),) = Segmentator(*nets).maps([image])
    for large, small in ((nuclei, nuclei_small), (cells, cells_small)):
        assert large.shape == (200, 264, 3)
        assert large.dtype == np.uint8
        assert not large[..., 0].any()
        assert np.array_equal(large, small.repeat(4, axis=0).repeat(4, axis=1))


def test_forms_of_input_agree(nets: tuple[MiniUNet, MiniUNet], tmp_path: Path) -> None:
    red, _, blue, yellow = field()
    paths = []
    for name, plane in (("red", red), ("yellow", yellow), ("blue", blue)):
        paths.append(str(tmp_path / f"{name}.png"))
        cv2.imwrite(paths[-1], plane)
    combined = np.dstack((red, yellow, blue))
    cv2.imwrite(str(tmp_path / "combined.png"), combined[..., ::-1])
    segmentator = CellSegmentator(*nets, device="cpu", padding=True)

    (nuclei,) = segmentator.pred_nuclei([blue])
    for other in (combined, paths[2], str(tmp_path / "combined.png"), blue / 255):
        assert np.abs(segmentator.pred_nuclei([other])[0].astype(int) - nuclei).max() <= 1
    (cells,) = segmentator.pred_cells([[red], [yellow], [blue]])
    assert np.array_equal(segmentator.pred_cells([[paths[0]], [paths[1]], [paths[2]]])[0], cells)
    assert np.array_equal(segmentator.pred_cells([combined], precombined=True)[0], cells)
    assert np.array_equal(segmentator.pred_cells([str(tmp_path / "combined.png")], precombined=True)[0], cells)


def test_a_model_without_er_sees_zeros(nets: tuple[MiniUNet, MiniUNet]) -> None:
    red, _, blue, _ = field()
    two = CellSegmentator(*nets, device="cpu", padding=True, multi_channel_model=False)
    three = CellSegmentator(*nets, device="cpu", padding=True)
    (expected,) = three.pred_cells([[red], [np.zeros_like(red)], [blue]])
    assert np.array_equal(two.pred_cells([[red], None, [blue]])[0], expected)
    with pytest.raises(InputError, match="multi_channel_model=True"):
        three.pred_cells([[red], None, [blue]])
    with pytest.raises(InputError, match="expects None"):
        two.pred_cells([[red], [red], [blue]])


def test_wrong_lists_are_refused(nets: tuple[MiniUNet, MiniUNet], tmp_path: Path) -> None:
    red, _, blue, yellow = field()
    segmentator = CellSegmentator(*nets, device="cpu", padding=True)
    with pytest.raises(InputError, match="1, 1 and 2"):
        segmentator.pred_cells([[red], [yellow], [blue, blue]])
    with pytest.raises(InputError, match="differ"):
        segmentator.pred_cells([[red], [yellow[:100]], [blue]])
    with pytest.raises(InputError, match="three lists"):
        segmentator.pred_cells([red])
    with pytest.raises(InputError, match="plain list"):
        segmentator.pred_cells([[red], [yellow], [blue]], precombined=True)
    with pytest.raises(InputError, match="cannot be read"):
        segmentator.pred_nuclei([str(tmp_path / "absent.png")])
    with pytest.raises(InputError, match="padding=True"):
        CellSegmentator(*nets, device="cpu").pred_nuclei([blue])


def test_single_images_in_place_of_lists_are_refused(nets: tuple[MiniUNet, MiniUNet]) -> None:
    red, _, blue, yellow = field()
    combined = np.dstack((red, yellow, blue))
    segmentator = CellSegmentator(*nets, device="cpu", padding=True)
    for images in (blue, combined, np.stack([blue, blue]), "nuclei.png", Path("nuclei.png")):
        with pytest.raises(InputError, match="in lists"):
            segmentator.pred_nuclei(images)
    for channels in (
        [red, yellow, blue],
        ["r.png", "y.png", "b.png"],
        np.stack([red, yellow, blue]),
        [[red], yellow, [blue]],
    ):
        with pytest.raises(InputError, match="in lists"):
            segmentator.pred_cells(channels)
    with pytest.raises(InputError, match="in lists"):
        segmentator.pred_cells(combined, precombined=True)


def test_images_of_other_shapes_and_ranges_are_refused(nets: tuple[MiniUNet, MiniUNet]) -> None:
    blue = field()[2]
    segmentator = CellSegmentator(*nets, device="cpu", padding=True)
    for image in (blue[0], blue[None, None], blue[..., None], blue[:0]):
        with pytest.raises(InputError, match="expected .H, W."):
            segmentator.pred_nuclei([image])
    for image in (blue.astype(float), blue / 255 - 1, np.where(blue > 250, np.nan, blue / 255)):
        with pytest.raises(InputError, match=r"in \[0, 1\], found values from"):
            segmentator.pred_nuclei([image])
        with pytest.raises(InputError, match=r"in \[0, 1\], found values from"):
            segmentator.pred_cells([[image], [image], [image]])
    with pytest.raises(InputError, match="array or a path"):
        segmentator.pred_nuclei([None])


def test_devices(nets: tuple[MiniUNet, MiniUNet], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="device"):
        CellSegmentator(*nets, device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(RuntimeWarning, match="CPU"):
        assert CellSegmentator(*nets).device.type == "cpu"


def test_a_pickle_takes_its_converted_sibling(
    tmp_path: Path, nets: tuple[MiniUNet, MiniUNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The published architecture takes seconds and half a gigabyte to write.
    monkeypatch.setattr("hcpl_kernel.hpacellseg.cellsegmentator.DPNUNet", lambda: MiniUNet(width=4))
    pickle = tmp_path / "dpn_unet_nuclei_v1.pth"
    pickle.write_bytes(b"never read")
    with pytest.raises(WeightsError, match="hcpl weights convert .*dpn_unet_nuclei_v1.pth"):
        CellSegmentator(pickle, nets[1], device="cpu")
    save_file(nets[0].state_dict(), pickle.with_suffix(".safetensors"))
    for path in (str(pickle), pickle.with_suffix(".safetensors")):
        loaded = CellSegmentator(path, nets[1], device="cpu").nuclei_model.state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in nets[0].state_dict().items())
    save_file({"other": torch.zeros(1)}, pickle.with_suffix(".safetensors"))
    with pytest.raises(WeightsError, match="other"):
        CellSegmentator(pickle, nets[1], device="cpu")


def test_a_notebook_changes_the_name_of_the_package(
    tmp_path: Path, nets: tuple[MiniUNet, MiniUNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The imports and calls of published notebooks, with the networks where the package looks for them by default."""
    import hcpl_kernel.hpacellseg.cellsegmentator as cellsegmentator
    from hcpl_kernel.hpacellseg import utils

    monkeypatch.setattr(cellsegmentator, "DPNUNet", lambda: MiniUNet(width=4))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"nuclei_model.safetensors does not exist.*convert nuclei_model.pth"):
        cellsegmentator.CellSegmentator(device="cpu")
    for name, net in zip(("nuclei_model", "cell_model"), nets, strict=True):
        save_file(net.state_dict(), tmp_path / f"{name}.safetensors")
    red, _, blue, yellow = field()
    segmentator = cellsegmentator.CellSegmentator(scale_factor=0.25, device="cpu", padding=True, multi_channel_model=True)
    nuclei, cells = segmentator.pred_nuclei([blue]), segmentator.pred_cells([[red], [yellow], [blue]])
    nuclei_mask, cell_mask = utils.label_cell(nuclei[0], cells[0])
    assert nuclei_mask.shape == cell_mask.shape == (200, 264)
    assert utils.label_nuclei is label_nuclei and cellsegmentator.CellSegmentator is CellSegmentator


def test_nuclei_alone_need_no_cell_network(nets: tuple[MiniUNet, MiniUNet]) -> None:
    red, _, blue, yellow = field()
    segmentator = CellSegmentator(nets[0], None, device="cpu", padding=True)
    expected = CellSegmentator(*nets, device="cpu", padding=True).pred_nuclei([blue])
    assert np.array_equal(segmentator.pred_nuclei([blue])[0], expected[0])
    with pytest.raises(InputError, match="cell_model is None"):
        segmentator.pred_cells([[red], [yellow], [blue]])


def blobs() -> np.ndarray:
    """A full-resolution class map of two touching nuclei and one alone."""
    y, x = np.mgrid[:200, :300]
    interior = np.zeros((200, 300))
    border = np.zeros((200, 300))
    for cy, cx in ((70, 70), (70, 125), (140, 230)):
        distance = np.hypot(y - cy, x - cx)
        interior = np.maximum(interior, np.where(distance < 30, 250, 0))
        border = np.maximum(border, np.where(np.abs(distance - 29) < 2, 120, 0))
    return np.dstack((np.zeros_like(interior), border, np.where(border > 0, 120, interior))).astype(np.uint8)


@pytest.mark.parametrize("as_published", [True, False])
def test_label_nuclei(as_published: bool) -> None:
    labels = label_nuclei(blobs(), as_published)
    assert labels.shape == (200, 300)
    assert labels.max() == 3
    assert labels[70, 70] != labels[70, 125] != labels[140, 230]


def test_label_nuclei_compares_values_or_probabilities() -> None:
    faint = blobs()
    faint[..., 2][faint[..., 2] == 0] = 3
    assert (label_nuclei(faint) > 0).mean() > 0.95
    assert (label_nuclei(faint, as_published=False) > 0).mean() < 0.3


def test_label_cell_equals_the_vectors(hpa_data: Path) -> None:
    folder = hpa_data / "labelling_vectors" / "hpa_68_A6_1"
    large = [
        cv2.imread(str(folder / name))[..., ::-1].repeat(4, axis=0).repeat(4, axis=1)
        for name in ("nuclei_map.png", "cell_map.png")
    ]
    nuclei, cells = label_cell(*large)
    assert nuclei.dtype == cells.dtype == np.uint16
    assert np.array_equal(cells, cv2.imread(str(folder / "cell_labels.png"), cv2.IMREAD_UNCHANGED))
    assert np.array_equal(nuclei, cv2.imread(str(folder / "nucleus_labels.png"), cv2.IMREAD_UNCHANGED))


def test_label_cell_refuses_other_maps() -> None:
    with pytest.raises(InputError, match="uint8"):
        label_cell(np.zeros((8, 8, 3)), np.zeros((8, 8, 3)))
