"""Pickles that try to execute something, in every place of a file that can hold one.

Each payload would make the file `sentinel` if anything ran it; Python's own unpickler is shown to do so first.
"""

from __future__ import annotations

import pickle
import pickletools
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcpl_kernel.conversion import convert, pickle_vm
from hcpl_kernel.errors import UnsafePickleError, WeightsError
from hcpl_kernel.models.weights import load_tensors
from tests.attacks.forge import (
    FLOATS,
    call,
    legacy_file,
    legacy_storage,
    named,
    number,
    state_dict,
    storage,
    tensor,
    text,
    zip_file,
)

Payload = Callable[[str], bytes]


def os_system(sentinel: str) -> bytes:
    return call("os", "system", text(f"touch {sentinel}"))


def builtin_eval(sentinel: str) -> bytes:
    return call("builtins", "eval", text(f"open({sentinel!r}, 'w')"))


def getattr_chain(sentinel: str) -> bytes:
    function = call("builtins", "getattr", call("importlib", "import_module", text("os")), text("system"))
    return function + b"(" + text(f"touch {sentinel}") + b"tR"


def dotted_name(sentinel: str) -> bytes:
    # STACK_GLOBAL takes dotted paths from protocol 4 on.
    return b"\x80\x04" + text("os") + text("path.os.system") + b"\x93(" + text(f"touch {sentinel}") + b"tR"


def instance_with_arguments(sentinel: str) -> bytes:
    return b"(" + text(f"touch {sentinel}") + b"ios\nsystem\n"


def object_with_arguments(sentinel: str) -> bytes:
    return b"(" + named("os", "system") + text(f"touch {sentinel}") + b"o"


def call_in_the_arguments_of_an_allowed_call(sentinel: str) -> bytes:
    return call("collections", "OrderedDict", os_system(sentinel))


def call_in_a_persistent_id(sentinel: str) -> bytes:
    return b"(" + text("storage") + os_system(sentinel) + text("0") + text("cpu") + number(4) + b"tQ"


def call_as_a_dictionary_key(sentinel: str) -> bytes:
    return b"}" + os_system(sentinel) + b"Ns"


def partial_application(sentinel: str) -> bytes:
    return call("functools", "partial", named("os", "system"), text(f"touch {sentinel}")) + b")R"


def nested_torch_file(sentinel: str) -> bytes:
    inner = b"\x80\x02" + os_system(sentinel) + b"."
    return call("torch.storage", "_load_from_bytes", b"T" + len(inner).to_bytes(4, "little") + inner)


PAYLOADS: list[tuple[Payload, str]] = [
    (os_system, "calls os.system"),
    (builtin_eval, "calls builtins.eval"),
    (getattr_chain, "calls importlib.import_module"),
    (dotted_name, "calls os.path.os.system"),
    (instance_with_arguments, "calls os.system"),
    (object_with_arguments, "calls os.system"),
    (call_in_the_arguments_of_an_allowed_call, "calls os.system"),
    (call_in_a_persistent_id, "calls os.system"),
    (call_as_a_dictionary_key, "calls os.system"),
    (partial_application, "calls functools.partial"),
    (nested_torch_file, "calls torch.storage._load_from_bytes"),
]


@pytest.mark.parametrize(("payload", "message"), PAYLOADS, ids=lambda value: getattr(value, "__name__", None))
@pytest.mark.parametrize("place", ["zip", "legacy", "legacy magic", "legacy storage list", "bare"])
def test_calls_are_refused_by_name(tmp_path: Path, payload: Payload, message: str, place: str) -> None:
    sentinel, path = tmp_path / "sentinel", tmp_path / "hostile.pth"
    program = payload(str(sentinel))
    if place == "zip":
        zip_file(path, state_dict(program))
    elif place == "legacy":
        legacy_file(path, state_dict(program, of=legacy_storage()))
    elif place == "legacy magic":
        path.write_bytes(b"\x80\x02" + program + b".")
    elif place == "legacy storage list":
        legacy_file(path, state_dict(of=legacy_storage()))
        path.write_bytes(path.read_bytes().replace(pickle.dumps(["0"], protocol=2), b"\x80\x02" + program + b"."))
    else:
        path.write_bytes(b"(" + program + b"l.")
    with pytest.raises(UnsafePickleError, match=message.replace(".", r"\.")):
        convert(path)
    assert not sentinel.exists()
    assert not (tmp_path / "hostile.safetensors").exists()
    with pytest.raises(WeightsError, match="is a pickle"):
        load_tensors(path)
    assert not sentinel.exists()


def test_the_payload_is_live_for_pythons_unpickler(tmp_path: Path) -> None:
    """Without this, a payload with a typing error would pass every test here."""
    for payload in (os_system, builtin_eval, getattr_chain, dotted_name, instance_with_arguments, partial_application):
        sentinel = tmp_path / payload.__name__
        pickle.loads(b"\x80\x02" + payload(str(sentinel)) + b".")  # noqa: S301 - that is the point
        assert sentinel.exists(), payload.__name__


@pytest.mark.parametrize(
    "function",
    [
        "posix.system", "nt.system", "subprocess.Popen", "subprocess.check_output", "builtins.exec",
        "builtins.compile", "builtins.__import__", "builtins.open", "__builtin__.eval", "builtins.setattr",
        "builtins.apply", "builtins.type", "operator.attrgetter", "operator.methodcaller", "runpy._run_code",
        "pickle.loads", "_pickle.loads", "dill.loads", "marshal.loads", "types.FunctionType", "types.CodeType",
        "types.ModuleType", "importlib.import_module", "pty.spawn", "socket.create_connection", "webbrowser.open",
        "ctypes.CDLL", "shutil.rmtree", "pip.main", "numpy.load", "numpy.testing._private.utils.runstring",
        "torch.load", "torch.hub.load", "torch.jit.load", "torch._utils._rebuild_sparse_tensor",
        "torch._tensor._rebuild_from_type_v2", "torch.nn.modules.linear.Linear", "pytorch_zoo.unet.DPNUnet",
        "_codecs.decode", "codecs.encode", "collections.namedtuple", "logging.config.listen",
    ],
)  # fmt: skip
def test_any_callable_that_is_not_listed_is_refused_by_name(tmp_path: Path, function: str) -> None:
    module, _, name = function.rpartition(".")
    path = zip_file(tmp_path / "a.pth", state_dict(call(module, name, text("x"))))
    with pytest.raises(UnsafePickleError, match=rf"calls {function.replace('.', chr(92) + '.')},"):
        convert(path)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (named("collections", "OrderedDict") + b"}" + text("x") + b"Nsb", "state of collections.Ordered"),
        (named("os", "environ") + b"}" + text("PATH") + text("/tmp") + b"sb", "state of os.environ"),
        (named("os", "environ") + text("PATH") + text("/tmp") + b"s", "sets items of os.environ"),
        (named("sys", "path") + text("/tmp") + b"a", "appends to sys.path"),
        (b"(K\x01K\x02t}b", "state of a tuple"),
        (b"K\x01)R", "calls a int"),
        (text("os.system") + b")R", "calls a str"),
        (named("os", "system") + b")\x81)R", "calls an object of os.system"),
        (b"K\x01)\x81", "creates an object of a int"),
        (b"\x82\x01", "opcode EXT1"),
        (b"\x83\x01\x00", "opcode EXT2"),
        (b"\x84\x01\x00\x00\x00", "opcode EXT4"),
        (b"\x97", "opcode NEXT_BUFFER"),
        (b"}\x98", "opcode READONLY_BUFFER"),
        (b"P('storage', 0)\n", "opcode PERSID"),
        (b"K\x00K\x01\x93", "names a class by something that is not text"),
        (call("_codecs", "encode", text("x"), text("zip")), "something else than latin1"),
        (call("collections", "OrderedDict", named("os", "environ")), "not a list of pairs"),
        (call("collections", "OrderedDict", b"]" + named("os", "environ") + b"a"), "not a list of pairs"),
        (call("builtins", "set", named("os", "environ")), "not a sequence"),
        (call("torch._utils", "_rebuild_parameter", named("os", "environ")), "not a tensor"),
        (call("torch._utils", "_rebuild_tensor_v2", named("os", "environ")), "without a storage"),
        (call("copyreg", "_reconstructor"), "without a class"),
        (named("collections", "OrderedDict") + b"]R", "arguments that are not a tuple"),
        (text("0") + b"Q", "persistent id"),
        (named("os", "environ") + b"Q", "persistent id"),
    ],
)
def test_other_tricks_are_refused(tmp_path: Path, program: bytes, message: str) -> None:
    with pytest.raises(UnsafePickleError, match=message):
        convert(zip_file(tmp_path / "a.pth", state_dict(program)))


@pytest.mark.parametrize(
    "program",
    [
        # Objects of any class are empty shells, whatever they are told to be.
        named("os", "system") + b")\x81",
        named("subprocess", "Popen") + b"(" + text("true") + b"t\x81",
        named("subprocess", "Popen") + b")}" + text("args") + text("true") + b"s\x92",
        b"(ios\nsystem\n",
        b"(" + named("os", "system") + b"o",
        named("a", "B") + b")\x81}" + text("__setstate__") + named("os", "system") + b"sb" + text("true") + b"b",
        named("a", "B") + b")\x81}" + text("__class__") + named("os", "_wrap_close") + b"sb",
        named("a", "B") + b")\x81}" + text("__reduce__") + named("os", "system") + b"sb",
        named("a", "B") + b")\x81N}" + text("__dict__") + named("os", "environ") + b"s\x86b",
        named("a", "B") + b")\x81" + text("key") + named("os", "system") + b"s",
        named("a", "B") + b")\x81" + named("os", "system") + b"a",
        call("copyreg", "_reconstructor", named("os", "system"), named("builtins", "object"), b"N"),
        # What is only named is never looked up.
        named("no.such.module", "and_no_such_name"),
        named("os", "system"),
    ],
)
def test_objects_and_names_are_inert(tmp_path: Path, program: bytes) -> None:
    conversion = convert(zip_file(tmp_path / "a.pth", state_dict(program)))
    assert load_tensors(conversion.path)["weight"].tolist() == [1, 2, 3, 4]
    assert conversion.entry.provenance["dropped"] == ["extra0"]


def test_no_class_of_a_module_tree_is_looked_up(tmp_path: Path) -> None:
    def module(kind: bytes, parameters: bytes, children: bytes) -> bytes:
        state = text("_parameters") + parameters + text("_buffers") + b"}" + text("_modules") + children
        return kind + b")\x81}(" + state + b"ub"

    leaf = module(named("os", "system"), b"}" + text("w") + tensor() + b"s", b"}")
    root = module(named("builtins", "eval"), b"}", b"}" + text("a") + leaf + b"s")
    conversion = convert(zip_file(tmp_path / "a.pth", b"\x80\x02" + root + b"."))
    assert load_tensors(conversion.path)["a.w"].tolist() == [1, 2, 3, 4]
    assert conversion.entry.provenance["source_content"] == "module builtins.eval"


@pytest.mark.parametrize(
    ("program", "converts"),
    [
        (b"Nr\xff\xff\xff\xff", True),  # an index of the memo, for which Python's C unpickler makes a table
        (b"\x95" + (2**62).to_bytes(8, "little") + b"N", True),  # a frame
        (b"\x8e" + (2**62).to_bytes(8, "little"), False),  # bytes
        (b"\x8d" + (2**62).to_bytes(8, "little"), False),  # text
        (b"\x96" + (2**40).to_bytes(8, "little"), False),  # a bytearray
        (b"\x8b\xff\xff\xff\x7f", False),  # an integer
        (b"B\xff\xff\xff\xff", False),  # bytes of protocol 3
    ],
)
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_opcodes_that_ask_for_huge_memory_get_none(tmp_path: Path, program: bytes, converts: bool, layout: str) -> None:
    path = tmp_path / "a.pth"
    if layout == "zip":
        zip_file(path, state_dict(program))
    else:
        legacy_file(path, state_dict(program, of=legacy_storage()))
    tracemalloc.start()
    try:
        if converts:
            convert(path)
        else:
            with pytest.raises(WeightsError, match="not an intact torch file"):
                convert(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_programs_that_never_seem_to_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_vm, "MAX_OPERATIONS", 20_000)
    pairs = b"](" + b"K\x01K\x02\x86" * 1000 + b"e"
    for program in (
        b"]" * 30_000,
        b"N" + b"2" * 30_000,
        # Few opcodes that copy much: each call makes a mapping of the same thousand pairs.
        pairs + b"q\x00" + (named("collections", "OrderedDict") + b"h\x00\x85R") * 100,
        named("a", "B") + b")\x81}(" + b"".join(number(n) + b"N" for n in range(900)) + b"uq\x01b" + b"h\x01b" * 100,
    ):
        with pytest.raises(UnsafePickleError, match="more than 20000 operations"):
            convert(zip_file(tmp_path / "a.pth", state_dict(program)))


@pytest.mark.slow
def test_recursive_and_deep_structures(tmp_path: Path) -> None:
    deep = b"(" * 200_000 + b"t" * 200_000
    for program in (
        b"]q\x00h\x00a",
        b"}q\x00" + text("x") + b"h\x00s",
        # A tuple that contains itself through a list.
        b"]q\x00h\x00\x85a",
        # Hashing a deeply nested key would overflow the stack, hashing a wide one would take forever.
        b"}" + deep + b"Ns",
        b"}" + b"K\x01\x85" + b"q\x00h\x00\x86" * 200 + b"Ns",
        deep,
    ):
        conversion = convert(zip_file(tmp_path / "a.pth", state_dict(program)))
        assert load_tensors(conversion.path)["weight"].tolist() == [1, 2, 3, 4]
    with pytest.raises(WeightsError, match="holds no network"):
        convert(zip_file(tmp_path / "a.pth", b"\x80\x02}q\x00" + text("model") + b"h\x00s."))


def test_modules_that_contain_themselves_or_grow_exponentially(tmp_path: Path) -> None:
    def begin(children: bytes) -> bytes:
        state = text("_parameters") + b"}" + text("_buffers") + b"}" + text("_modules") + children
        return named("a", "B") + b")\x81q\x00}(" + state + b"ub"

    with pytest.raises(UnsafePickleError, match="contained itself"):
        convert(zip_file(tmp_path / "a.pth", b"\x80\x02" + begin(b"}" + text("x") + b"h\x00s") + b"."))

    def doubled(depth: int) -> bytes:
        inner = begin(b"}") if depth == 0 else doubled(depth - 1)
        memo = bytes([depth + 1])
        children = b"}(" + text("x") + b"h" + memo + text("y") + b"h" + memo + b"u"
        return inner + b"q" + memo + b"0" + begin(children)

    with pytest.raises(UnsafePickleError, match="more than 100 deep or has more than 100000 modules"):
        convert(zip_file(tmp_path / "a.pth", b"\x80\x02" + doubled(60) + b"."))


def test_every_opcode_is_handled_or_refused(tmp_path: Path) -> None:
    """A later Python's opcode is refused, not skipped; those of today are all known."""
    known = {
        *pickle_vm.PUSHES,
        *pickle_vm.CONSTANTS,
        *pickle_vm.CONTAINERS,
        *pickle_vm.OPERATIONS,
        "PROTO",
        "FRAME",
        "STOP",
        "MEMOIZE",
    }
    known |= {"PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"}
    refused = {"EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"}
    assert {opcode.name for opcode in pickletools.opcodes} == known | refused
    assert not known & refused


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), layout=st.sampled_from(["zip", "legacy", "bare"]))
def test_random_programs_end_in_an_error_of_ours(tmp_path: Path, data: bytes, layout: str) -> None:
    path = tmp_path / "random.pth"
    if layout == "zip":
        zip_file(path, data)
    elif layout == "legacy":
        legacy_file(path, data)
    else:
        path.write_bytes(data)
    with pytest.raises(WeightsError):
        convert(path)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), layout=st.sampled_from(["zip", "legacy"]))
def test_a_changed_byte_gives_a_result_or_an_error_of_ours(tmp_path: Path, at: int, value: int, layout: str) -> None:
    path, sentinel = tmp_path / "changed.pth", tmp_path / "sentinel"
    extra = named("os", "system") + b"(" + text(f"touch {sentinel}") + b"t\x86"
    if layout == "zip":
        zip_file(path, state_dict(extra))
    else:
        legacy_file(path, state_dict(extra, of=legacy_storage()))
    data = bytearray(path.read_bytes())
    data[at % len(data)] = value
    path.write_bytes(data)
    with suppress(WeightsError):
        convert(path)
    assert not sentinel.exists()


def test_the_forged_files_are_well_formed(tmp_path: Path) -> None:
    """The frame of every attack converts when it holds nothing hostile, so refusals are due to the payload."""
    for path in (
        zip_file(tmp_path / "zip.pth", state_dict(b"N")),
        legacy_file(tmp_path / "legacy.pth", state_dict(b"N", of=legacy_storage())),
        zip_file(tmp_path / "two.pth", state_dict(tensor((2,), of=storage("1", 2))), {"0": FLOATS, "1": FLOATS[:8]}),
    ):
        assert load_tensors(convert(path).path)["weight"].tolist() == [1, 2, 3, 4]
