"""Hostile pickles in the manner of those that picklescan is tested with: each must be refused, and nothing of it executed.

Writes single_files/hostile.json: name, the file in base64, the global that a refusal should name (or null), and what picklescan
says of it. Nothing here is ever unpickled.
"""

import base64
import io
import pickle
import struct
import zipfile
import zlib

from common import HERE, write_json
from picklescan.scanner import scan_bytes

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def zipped(payload, more=()):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [("archive/data.pkl", payload), ("archive/version", b"3\n"), *more]:
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def legacy(payload):
    return pickle.dumps(MAGIC, 2) + pickle.dumps(PROTOCOL, 2) + pickle.dumps({"little_endian": True}, 2) + payload


def called(module, name, argument="true"):
    """GLOBAL, one text argument, REDUCE."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X" + struct.pack("<I", len(argument)) + argument.encode() + b"\x85R."


def stack_global(module, name):
    text = lambda s: b"\x8c" + bytes([len(s)]) + s.encode()
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text("true") + b"\x85R."


def in_state(payload):
    """The call is a value of an otherwise harmless state dict."""
    return b"\x80\x02}X\x01\x00\x00\x00a" + payload.removeprefix(b"\x80\x02").removesuffix(b".") + b"s."


CALLS = [("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"), ("subprocess", "check_output"), ("builtins", "eval"),
         ("builtins", "exec"), ("__builtin__", "eval"), ("builtins", "getattr"), ("builtins", "__import__"), ("builtins", "open"), ("runpy", "run_path"),
         ("socket", "create_connection"), ("webbrowser", "open"), ("shutil", "rmtree"), ("pty", "spawn"), ("httplib", "HTTPSConnection"),
         ("requests.api", "get"), ("aiohttp.client", "ClientSession"), ("torch", "load"), ("torch.hub", "load"), ("torch.jit", "load"), ("numpy", "load"),
         ("pickle", "loads"), ("_pickle", "load"), ("operator", "attrgetter"), ("functools", "partial"), ("importlib", "import_module"), ("code", "interact"),
         ("pip", "main"), ("timeit", "timeit"), ("torch.utils.collect_env", "run"), ("asyncio.unix_events", "_UnixSubprocessTransport._start"),
         ("torch._utils", "rebuild"), ("collections", "Counter"), ("torch._utils._rebuild_tensor_v2", "__globals__")]


def cases():
    for module, name in CALLS:
        yield f"{module}.{name}", zipped(called(module, name)), f"{module}.{name}"
    system = called("os", "system")
    yield "stack_global", zipped(stack_global("os", "system")), "os.system"
    yield "inst", zipped(b"(S'true'\nios\nsystem\n."), "os.system"
    yield "obj", zipped(b"(cos\nsystem\nS'true'\no."), "os.system"
    yield "newobj", zipped(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85\x81."), "os.system"
    yield "newobj_ex", zipped(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85}\x92."), "os.system"
    yield "never_called", zipped(b"\x80\x02}X\x01\x00\x00\x00acos\nsystem\ns."), "os.system"
    yield "in_a_state_dict", zipped(in_state(system)), "os.system"
    yield "memoised", zipped(b"\x80\x02cos\nsystem\nq\x000h\x00X\x04\x00\x00\x00true\x85R."), "os.system"
    yield "extension", zipped(b"\x80\x02\x82\x01."), None
    yield "build_of_an_allowed_class", zipped(b"\x80\x02ccollections\nOrderedDict\n)RX\x08\x00\x00\x00__class__X\x01\x00\x00\x00a\x86}\x86b."), None
    yield "allowed_function_on_nonsense", zipped(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R."), None
    yield "allowed_function_without_storage", zipped(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00(K\x02tp0\n(K\x01tp1\n\x89NtR."), None
    yield "codecs", zipped(called("_codecs", "encode") + system), None
    yield "behind_the_end", zipped(b"\x80\x02}." + system), None
    yield "legacy", legacy(system), "os.system"
    yield "legacy_in_place_of_the_magic", system, "os.system"
    yield "second_pickle", zipped(b"\x80\x02}.", [("archive/data/0", b"\0" * 4), ("archive/other.pkl", system)]), None
    bomb = b"\x80\x02]" + b"".join(b"(" + (b"h" + bytes([i]) if i else b"]") * 10 + b"lq" + bytes([i + 1]) for i in range(60)) + b"."
    yield "a_billion_laughs", zipped(bomb), None
    yield "deep", zipped(b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b"."), None
    yield "long_of_4_gb", zipped(b"\x80\x02\x8b\xff\xff\xff\x7f."), None
    yield "text_of_4_gb", zipped(b"\x80\x02X\xff\xff\xff\xff."), None
    yield "text_of_18_eb", zipped(b"\x80\x04\x8d" + b"\xff" * 8 + b"."), None
    yield "memo_of_4_billion", zipped(b"\x80\x02}r\xff\xff\xff\xff."), None
    yield "empty_stack", zipped(b"\x80\x02R."), None
    yield "no_stop", zipped(b"\x80\x02}"), None
    yield "protocol_9", zipped(b"\x80\x09}."), None
    yield "unknown_opcode", zipped(b"\x80\x02\xf0."), None
    yield "empty", zipped(b""), None
    yield "not_a_dict", zipped(b"\x80\x02K\x01."), None
    storage = lambda key, count: (b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key + b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", count) + b"tQ")
    tensor = lambda key, count, offset, shape, stride: (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + storage(key, count) + b"J" + struct.pack("<i", offset)
        + b"(" + b"".join(b"J" + struct.pack("<i", n) for n in shape) + b"t(" + b"".join(b"J" + struct.pack("<i", n) for n in stride) + b"t\x89NtRs.")
    data = [("archive/data/0", b"\0" * 16)]
    yield "view_beyond_its_storage", zipped(tensor(b"0", 4, 0, [5], [1]), data), None
    yield "offset_beyond_its_storage", zipped(tensor(b"0", 4, 4, [1], [1]), data), None
    yield "negative_stride", zipped(tensor(b"0", 4, 3, [4], [-1]), data), None
    yield "negative_size", zipped(tensor(b"0", 4, 0, [-1], [1]), data), None
    yield "sizes_overflow", zipped(tensor(b"0", 4, 0, [2**30, 2**30, 2**30], [0, 0, 0]), data), None
    yield "expanded_to_4_tb", zipped(tensor(b"0", 4, 0, [2**20, 2**20], [0, 0]), data), None
    yield "storage_missing", zipped(tensor(b"7", 4, 0, [4], [1]), data), None
    yield "storage_shorter_than_said", zipped(tensor(b"0", 400, 0, [400], [1]), data), None
    yield "storage_outside_of_the_archive", zipped(tensor(b"../0", 4, 0, [4], [1]), data), None


def main():
    made = []
    for name, file, wanted in cases():
        assert len(file) < 300_000
        try:
            found = scan_bytes(io.BytesIO(file), "file.ckpt") if not file.startswith(b"PK") else None
            if found is None:
                with zipfile.ZipFile(io.BytesIO(file)) as archive:
                    found = scan_bytes(io.BytesIO(archive.read("archive/data.pkl")), "data.pkl")
            verdict = {"infected": found.infected_files, "error": bool(found.scan_err), "globals": [f"{g.module}.{g.name} {g.safety.value}" for g in found.globals]}
        except Exception as error:  # it stops at what is no pickle
            verdict = {"infected": 0, "error": True, "globals": [type(error).__name__]}
        if len(file) > 10_000:  # the deep one; it compresses
            made.append({"name": name, "zlib": base64.b64encode(zlib.compress(file, 9)).decode(), "refused_global": wanted, "picklescan": verdict})
            continue
        made.append({"name": name, "file": base64.b64encode(file).decode(), "refused_global": wanted, "picklescan": verdict})
    write_json(HERE / "single_files/hostile.json", made)
    for case in made:
        print(f"{case['name']:36} {case['picklescan']}")


if __name__ == "__main__":
    main()
