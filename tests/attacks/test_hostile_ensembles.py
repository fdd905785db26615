"""Ensemble files that are wrong or mean harm: each is refused in one line that names the file, the place and the fault."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hcpl_kernel.errors import HcplError, SettingsError
from hcpl_kernel.models.ensemble import read_ensemble

CHECKOUT = Path(__file__).resolve().parents[2]
MINI = json.loads((CHECKOUT / "weights" / "mini" / "ensemble.json").read_text())
DELETED = object()


def write(folder: Path, values: Any) -> Path:
    path = folder / "ensemble.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8", errors="surrogatepass")
    return path


def changed(*place: Any, to: Any) -> dict[str, Any]:
    values = copy.deepcopy(MINI)
    holder = values
    for step in place[:-1]:
        holder = holder[step]
    if to is DELETED:
        del holder[place[-1]]
    else:
        holder[place[-1]] = to
    return values


def network(key: str, value: Any) -> dict[str, Any]:
    return changed("networks", 0, key, to=value)


def base(**arguments: Any) -> dict[str, Any]:
    return network("base_kwargs", arguments)


def deep(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


def novelty(**further: Any) -> dict[str, Any]:
    part = {"network": "cla_resnet", "file": "novelty.safetensors", "limit": 1.5, "share": 0.99} | further
    return changed("integrity", "novelty", to={key: value for key, value in part.items() if value is not DELETED})


BAD_NAMES = ("../../../x", "/abs", "con", "NUL.txt", "", "a" * 300, "a\nb", "a\tb", "é", "a b", ".x", "x.", "\x1b[31m")
BAD_FILES = ("../x", "/etc/x", "a/../../b", "c:\\x", "a\\b", "", ".", "a//b", "a\x00b", "b" * 300, "nul", "a/con.x")
SEVEN = ["a", "b", "c", "d", "e", "f", "g"]
WRONG: dict[str, tuple[Any, str]] = {
    # the sections
    "networks is a number": (changed("networks", to=5), r"networks: found 5, expected a list"),
    "networks is an object": (changed("networks", to={"a": 1}), r"networks: found .*, expected a list"),
    "no network": (changed("networks", to=[]), r"networks: found \[\], expected at least 1 item"),
    "65 networks": (changed("networks", to=MINI["networks"] * 8), r"networks: found .*at most 64"),
    "a network is text": (changed("networks", 0, to="dsa"), r"networks\[0\]: found \"dsa\", expected an object"),
    "a network is null": (changed("networks", 1, to=None), r"networks\[1\]: found null, expected an object"),
    "unknown section": (changed("fusin", to={}), r"unknown key \"fusin\"; did you mean 'fusion'"),
    "missing section": (changed("fusion", to=DELETED), r"fusion is missing"),
    "half a segmentation": (changed("segmentation", "nuclei", to=DELETED), r"segmentation\.nuclei is missing"),
    "integrity is misspelt": (changed("integrity", "geometri", to={}), r"unknown key \"geometri\"; did you mean 'geometry'"),
    "segmentation is a list": (changed("segmentation", to=[1, 2]), r"segmentation: found \[1, 2\], expected an object"),
    "another segmenter": (changed("segmentation", "cell", "architecture", to="x"), r"segmentation\.cell\.architecture: "),
    "cut above 1": (changed("segmentation", "cell", "background_cut", to=2), r"cell\.background_cut: found 2, expected"),
    "cut as text": (changed("segmentation", "cell", "background_cut", to="0.1"), r"background_cut: found \"0\.1\""),
    "slope above 1": (changed("segmentation", "cell", "distance_slope", to=2), r"cell\.distance_slope: found 2, expected"),
    "slope of nuclei": (changed("segmentation", "nuclei", "distance_slope", to=0.1), r"nuclei\.distance_slope: found 0\.1"),
    "kwargs is a list": (changed("segmentation", "cell", "kwargs", to=[]), r"segmentation\.cell\.kwargs: found \[\]"),
    "provenance is text": (changed("provenance", to="mine"), r"provenance: found \"mine\", expected an object"),
    # types
    "input_size as text": (network("input_size", "96"), r"networks\[0\]\.input_size: found \"96\", expected a whole"),
    "input_size as a truth value": (network("input_size", True), r"input_size: found true, expected a whole number"),
    "input_size with a fraction": (network("input_size", 96.0), r"input_size: found 96\.0, expected a whole number"),
    "views as a truth value": (network("views", True), r"views: found true, expected a whole number"),
    "trained as a number": (network("trained", 1), r"trained: found 1, expected true or false"),
    "weight as text": (network("weight", "1"), r"weight: found \"1\", expected a valid number"),
    "weight as a truth value": (network("weight", True), r"weight: found true, expected a valid number"),
    "name as a number": (network("name", 5), r"name: found 5, expected text"),
    "file is null": (network("file", None), r"file: found null, expected text"),
    "mean is a number": (network("mean", 0.5), r"mean: found 0\.5, expected a list"),
    "mean of three": (network("mean", [0, 0, 0]), r"mean\[3\] is missing"),
    "mean of five": (network("mean", [0] * 5), r"mean: found .* at most 4"),
    "mean with text": (network("mean", [0, 0, 0, "0"]), r"mean\[3\]: found \"0\""),
    "base_kwargs is a list": (network("base_kwargs", [1]), r"base_kwargs: found \[1\], expected an object"),
    # ranges
    "gmac 0": (network("gmac", 0), r"networks\[0\]\.gmac: found 0, expected a number greater than 0"),
    "gmac below 0": (network("gmac", -1), r"gmac: found -1"),
    "weight below 0": (network("weight", -0.5), r"weight: found -0\.5"),
    "weight 0": (network("weight", 0), r"weight: found 0"),
    "a mAP above 1": (network("validation_map", 54.7), r"validation_map: found 54\.7, expected a number less"),
    "std 0": (network("std", [1, 1, 0, 1]), r"std\[2\]: found 0"),
    "views 3": (network("views", 3), r"views: found 3, expected one of 1, 2, 4, 8"),
    "a crop of 100,000 px": (network("input_size", 100_000), r"input_size: found 100000, expected a number less"),
    "crop of schema 1": (network("crop", "kept"), r"crop: found \"kept\", expected 'masked' or 'unmasked'"),
    "unknown kind": (network("kind", "dsb"), r"kind: found \"dsb\", network kind 'dsb', expected .*did you mean 'dsa'"),
    "a VID module as classifier": (network("kind", "completeness"), r"networks\[0\]\.kind: found 'completeness'"),
    "a classifier as VID module": (
        changed("integrity", "completeness", "kind", to="cla"),
        r"integrity\.completeness\.kind: found 'cla'",
    ),
    "outputs of other classes": (network("outputs", 7), r"networks\[0\]\.outputs: found 7, expected 19"),
    "dsa_weight 0": (changed("fusion", "dsa_weight", to=0), r"fusion\.dsa_weight: found 0"),
    "cell_weight below 0": (changed("fusion", "cell_weight", to=-1), r"fusion\.cell_weight: found -1"),
    "class 19": (changed("fusion", "cell_only", to=[19]), r"fusion\.cell_only\[0\]: found 19, expected class ids 0 to 18"),
    "class -1": (changed("fusion", "cell_only", to=[-1]), r"fusion\.cell_only\[0\]: found -1"),
    "a class twice": (changed("fusion", "cell_only", to=[3, 3]), r"fusion\.cell_only: found \[3, 3\], expected each"),
    "a class as text": (changed("fusion", "cell_only", to=["11"]), r"fusion\.cell_only\[0\]: found \"11\""),
    "a million classes": (changed("fusion", "cell_only", to=[0] * 100_000), r"fusion\.cell_only: found .*at most 1000"),
    "unknown order": (changed("fusion", "order", to="average"), r"fusion\.order: found \"average\", expected"),
    "unknown rule": (changed("fusion", "negative", to=None), r"fusion\.negative: found null, expected"),
    # names and files
    **{
        f"name {name!r:.20}": (network("name", name), r"networks\[0\]\.name: found .*, expected a name of 1 to 100 letters")
        for name in BAD_NAMES
    },
    "names that collide": (network("name", "DSA_NFNET"), r"networks\[\d\]\.name: found .*, expected another name"),
    "a name of the VID": (network("name", "VID_completeness"), r"networks\[0\]\.name: .*integrity\.completeness has"),
    **{
        f"file {name!r:.20}": (network("file", name), r"networks\[0\]\.file: found .*expected (a )?file")
        for name in BAD_FILES
    },
    "the ensemble's name": (changed("name", to="../mini"), r": name: found \"\.\./mini\""),
    "a geometry file outside": (changed("integrity", "geometry", "file", to="../g.ubj"), r"integrity\.geometry\.file: "),
    "novelty of a network not there": (novelty(network="cla"), r"integrity\.novelty\.network: found 'cla', expected"),
    "novelty of a VID module": (novelty(network="vid_completeness"), r"novelty\.network: found 'vid_completeness'"),
    "novelty of no network": (novelty(network=None), r"integrity\.novelty\.network: found null, expected text"),
    "a novelty file outside": (novelty(file="../n.safetensors"), r"integrity\.novelty\.file: found .*expected a file"),
    "novelty without a limit": (novelty(limit=DELETED), r"integrity\.novelty\.limit is missing"),
    "a limit of 0": (novelty(limit=0), r"integrity\.novelty\.limit: found 0, expected a number greater than 0"),
    "a limit below 0": (novelty(limit=-1.5), r"integrity\.novelty\.limit: found -1\.5"),
    "a limit as text": (novelty(limit="1.5"), r"integrity\.novelty\.limit: found \"1\.5\""),
    "a limit that is not a number": (json.dumps(novelty(limit=float("nan"))), r"integrity\.novelty\.limit: found NaN"),
    "a share of 1": (novelty(share=1), r"integrity\.novelty\.share: found 1, expected a number less than 1"),
    "a misspelt limit": (novelty(limt=1.5), r"integrity\.novelty: unknown key \"limt\"; did you mean 'limit'"),
    "novelty is a list": (changed("integrity", "novelty", to=[1]), r"integrity\.novelty: found \[1\], expected an object"),
    "a short hash": (network("sha256", "00"), r"sha256: found \"00\", expected a sha256 of 64 hex digits"),
    # keys
    "misspelt key": (network("input_sise", 96), r"networks\[0\]: unknown key \"input_sise\"; did you mean 'input_size'"),
    "key of schema 1": (network("value", 0.5), r"networks\[0\]: unknown key \"value\""),
    "a key with a line end": (network("a\nb", 1), r"unknown key \"a\\nb\""),
    "head_kwargs of a dsa": (network("head_kwargs", {"angles": 8}), r"networks\[0\]\.head_kwargs: .*takes no head_kwargs"),
    "misspelt head": (changed("networks", 8, "head_kwargs", to={"angels": 8}), r"networks\[8\]\.head_kwargs: unknown key"),
    "head out of range": (changed("networks", 8, "head_kwargs", to={"angles": 99}), r"head_kwargs: angles: found 99"),
    # what would be built
    "pretrained": (base(pretrained=True), r"base_kwargs: .*\"pretrained\" is set by the network itself"),
    "pretrained_cfg": (base(pretrained_cfg={"url": "http://x"}), r"\"pretrained_cfg\" is set by the network itself"),
    "checkpoint_path": (base(checkpoint_path="/etc/passwd"), r"\"checkpoint_path\" is set by the network itself"),
    "features_only": (base(features_only=True), r"\"features_only\" is set by the network itself"),
    "num_classes": (base(num_classes=10**6), r"\"num_classes\" is set by the network itself"),
    "an address": (base(act_layer="http://x/y"), r"base_kwargs: .*act_layer is \"http://x/y\", expected a word"),
    "a million channels": (base(channels=[10**6] * 4), r"base_kwargs: .*channels\[\d\] is 1000000, expected a number"),
    "1000 layers a stage": (base(depths=[1000] * 4), r"base_kwargs: .*depths\[\d\] is 1000, expected a number from -256"),
    "a list of 1000 layers": (base(layers=[1] * 1000), r"base_kwargs: .*expected at most 64 values in a list"),
    "arguments ten levels deep": (base(layers=deep(10)), r"base_kwargs: .*expected at most 3 levels"),
    "200 arguments": (base(**{f"a{i}": 1 for i in range(200)}), r"base_kwargs: .*expected at most 100 values"),
    "a base to download": (network("base", "hf-hub:someone/something"), r"base: found .*not a place to fetch"),
    "a base from a folder": (network("base", "local-dir:/tmp/x"), r"base: found .*not a place to fetch"),
    "huge segmentation": (
        changed("segmentation", "cell", "kwargs", to={"width": 10**7}),
        r"segmentation\.cell\.kwargs: .*width is 10000000",
    ),
    # classes
    "no class": (changed("classes", to={"names": []}), r"classes\.names: found 0 names"),
    "classes is a list": (changed("classes", to=SEVEN), r"classes: found .*, expected an object"),
    "a class twice by case": (changed("classes", to={"names": ["A", "a"]}), r"classes\.names\[1\]: found 'a'"),
    "a class with a comma": (changed("classes", to={"names": ["a", "b,c"]}), r"classes\.names\[1\]: found 'b,c'"),
    "a class as a path": (changed("classes", to={"names": ["../a"]}), r"classes\.names\[0\]: found '\.\./a'"),
    "an empty class": (changed("classes", to={"names": ["a", ""]}), r"classes\.names\[1\]: found ''"),
    "a class as a number": (changed("classes", to={"names": ["a", 1]}), r"classes\.names\[1\]: found 1, expected text"),
    "negative not there": (
        changed("classes", to={"names": SEVEN, "negative": 7}),
        r"classes\.negative: found 7, expected 0 to 6",
    ),
    "negative as a truth value": (changed("classes", to={"names": SEVEN, "negative": True}), r"\.negative: found true"),
    "short names of others": (
        changed("classes", to={"names": SEVEN, "short_names": {"z": "y"}}),
        r"classes\.short_names: found 'z'",
    ),
    "too few short names": (
        changed("classes", to={"names": SEVEN, "short_names": ["x"]}),
        r"classes\.short_names: found 1, expected one for each of 7",
    ),
    "fewer classes than are routed": (
        changed("classes", to={"names": SEVEN}) | {"fusion": {"cell_only": [11]}},
        r"fusion\.cell_only\[0\]: found 11",
    ),
    "fewer classes than sums": (
        changed("classes", to={"names": SEVEN}),
        r"fusion\.log_odds\.classes: found 19 sums, expected one for each of 7",
    ),
    "sums without their order": (changed("fusion", "order", to="average-then-fuse"), r"log_odds: found some, expected none"),
    "an order without its sums": (changed("fusion", "log_odds", to=None), r"log_odds: found none, expected sums"),
    "a weight below 0": (
        changed("fusion", "log_odds", "classes", 2, "image", to=-0.1),
        r"fusion\.log_odds\.classes\[2\]\.image: found -0\.1",
    ),
    "an endless constant": (
        changed("fusion", "log_odds", "classes", 0, "constant", to=1e300),
        r"fusion\.log_odds\.classes\[0\]\.constant: found 1e\+?300",
    ),
    "a power of 2": (changed("fusion", "integrity_power", to=2), r"fusion\.integrity_power: found 2"),
    "misspelt classes": (changed("classes", to={"name": SEVEN}), r"classes: unknown key \"name\"; did you mean 'names'"),
    # the text
    "no JSON": ("weights: mini", "not readable JSON"),
    "empty": ("", "not readable JSON"),
    "no object": ("[1, 2]", "expected an object with schema 2, found \"list\""),
    "schema 1": (changed("schema", to=1), r"found 1\. Since schema 1 .*`value` is called `validation_map`.*\"unmasked\""),
    "schema 3": (changed("schema", to=3), "schema 2, found 3"),
    "schema as text": (changed("schema", to="2"), "schema 2, found \"2\""),
    "schema as a truth value": (changed("schema", to=True), "schema 2, found true"),
    "no schema": (changed("schema", to=DELETED), "schema 2, found null"),
    "a key twice": (json.dumps(MINI).replace('"views": 1', '"views": 1, "views": 2', 1), r"views is given twice"),
    "NaN": (json.dumps(network("weight", float("nan"))), r"networks\[0\]\.weight: found NaN, expected a finite number"),
    "infinite": (json.dumps(network("weight", float("inf"))), r"networks\[0\]\.weight: found Infinity"),
    "1e999": (json.dumps(MINI).replace('"gmac": ', '"gmac": 1e999, "x": ', 1), r"gmac: found Infinity"),
    "a number of 5000 digits": (json.dumps(MINI).replace('"views": 1', '"views": ' + "9" * 5000, 1), "not readable JSON"),
    "a number of 50 digits": (json.dumps(MINI).replace('"views": 1', '"views": ' + "9" * 50, 1), r"expected a finite"),
    "100,000 levels": ("[" * 100_000 + "]" * 100_000, "nested more than"),
    "20 levels": (changed("provenance", to={"a": deep(20)}), r"provenance\.a\[0\]: nested more than"),
    "half a character": (changed("name", to="\ud800"), r"name: found \"\\ud800\""),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_ensemble_file_is_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    values, message = WRONG[fault]
    path = write(tmp_path, values)
    with pytest.raises(SettingsError, match=message) as caught:
        read_ensemble(tmp_path)
    text = str(caught.value)
    assert text.startswith(str(path)) and len(text) < 700
    assert text.isprintable() and text.encode()


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "ensemble.json").write_bytes(b'{"schema": 2, "name": "\xff"}')
    with pytest.raises(SettingsError, match="not readable JSON"):
        read_ensemble(tmp_path)


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), lambda path: path.symlink_to(path)], ids=["a folder", "a link to itself"]
)
def test_what_is_not_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "ensemble.json")
    with pytest.raises(HcplError, match=r"no ensemble\.json|not readable"):
        read_ensemble(tmp_path)


@pytest.mark.parametrize("section", ["networks", "fusion", "segmentation", "integrity", "provenance", "name", "classes"])
@pytest.mark.parametrize("value", [None, 5, "x", [], {}, True, -1.5, [[]], {"a": {"b": []}}], ids=repr)
def test_no_value_of_a_section_is_a_traceback(tmp_path: Path, section: str, value: Any) -> None:
    write(tmp_path, changed(section, to=value))
    try:
        read_ensemble(tmp_path)
    except SettingsError as error:
        assert "\n" not in str(error)
    else:
        fine = [("fusion", {}), ("provenance", {}), ("name", "x"), ("provenance", {"a": {"b": []}})]
        assert (section, value) in [*fine, ("segmentation", None), ("integrity", {})]
