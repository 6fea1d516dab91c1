"""Broken files of parameters: the real params.yaml, with one thing in it wrong."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import yaml

from fuzzing.outcomes import Case, dice

FILE = "params.yaml"
HOSTILE_NAMES = (
    "$(touch EVIL)", "`touch EVIL`", "a;touch EVIL", "a|b", "a&b", "a b", "-rf;", "../../x", "..",
    "../evil", "/tmp/x", "a/b", "a\\b", ".", "", "\n", "a\nb", "a\r\nb", "x" * 300, "<script>",
    "<img src=x onerror=alert(1)>", "'; DROP TABLE runs; --", "{{7*7}}", "${seed}", "%s%n", "a:b",
    "a.b", "a,b", "a\tb", "\x7f", "сompact", "ｃompact", "a\u202eb", "a\u200bb", "é", "名前", "*",
    "?", "~", "CON:", "a\u2028b", "x" * 65, "\U0001f600", "a=b", "a\"b", "a'b", "#a", "!a", "@a",
)  # fmt: skip
NUMBERS = (
    0, -1, -0.0, 1e-320, 1e-30, 1e308, -1e308, 10**30, 10**400, -(10**400), 2**31, 2**32, 2**63,
    -(2**63), 2**64, 0.5, 1e9, 1000000007, True,
)  # fmt: skip
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "ten", "0x", "1e", "--1", "1_0_0_0_", "1:30:99", "٣", "NaN", "inf", "2021-01-01", "null", "yes",
    " ", "1,5", "1/3", "$(touch EVIL)", "../../x", "<script>alert(1)</script>", "x" * 100_000,
)  # fmt: skip
KINDS_OF_OTHERS = (
    "os.system", "builtins.eval", "subprocess.Popen", "pathlib.Path", "os.path.join", "no.such",
    "..", ".", "a..b", "os.", ".system", "os.system;", "ctypes.CDLL", "shutil.rmtree",
    "pickle.loads", "spurious.cli.main", "importlib.import_module", "socket.socket",
    "os . system", "a.$(touch EVIL)",
)  # fmt: skip
TAGS = (
    '!!python/object/apply:os.system ["touch EVIL"]', "!!python/name:os.system",
    '!!python/object/new:subprocess.Popen [["touch", "EVIL"]]', "!!python/module:os", "!evil x",
    '!!python/object/apply:builtins.exec ["open(\'EVIL\', \'w\')"]', "!!binary aGk=",
    "!!python/tuple [1, 2]", "!<tag:yaml.org,2002:python/object:os.x> {}", "!!set {a, b}",
    "!!omap [a: 1]", "!!timestamp 9999-99-99", "!!int x", "!!float x", "!!map [1]", "!!seq {a: 1}",
)  # fmt: skip
COUNTS = {
    "key dropped": 260, "key renamed": 240, "key twice": 120, "wrong type": 300, "number": 300,
    "not finite": 120, "text": 220, "hostile name": 200, "nested": 30, "alias": 30, "tag": 60,
    "kind": 40, "bytes": 120, "truncated": 100, "lines": 160, "no mapping": 20,
}  # fmt: skip

Way = tuple[Any, ...]


class Broken(NamedTuple):
    """A file, what was done to it, and whether it must be refused."""

    content: bytes
    what: str
    must_refuse: bool = False
    named: tuple[str, ...] = ()


def cases(seed: int, text: str, counts: dict[str, int] = COUNTS) -> Iterator[Case]:
    """All broken files, the same for the same seed and text."""
    tree = yaml.safe_load(text)
    words = tuple(map(str, tree))
    for kind, count in counts.items():
        for number in range(count):
            broken = MAKERS[kind](dice(seed, kind, number), text, tree)
            yield Case(
                f"params: {kind}",
                number,
                "params",
                {FILE: broken.content},
                (*broken.named, *words),
                broken.must_refuse,
                broken.what,
            )


def _ways(tree: Any, way: Way = ()) -> list[Way]:
    """The ways from the top to every value."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found: list[Way] = []
    for key, value in inside:
        found.append((*way, key))
        if isinstance(value, dict | list):
            found += _ways(value, (*way, key))
    return found


def _at(tree: Any, way: Way) -> Any:
    for key in way:
        tree = tree[key]
    return tree


def _leaves(tree: Any, *types: type) -> list[Way]:
    return [way for way in _ways(tree) if type(_at(tree, way)) in types]


def _names(tree: Any) -> list[Way]:
    """The ways to all keys that are names that somebody chose."""
    found: list[Way] = [("profiles", key) for key in tree["profiles"]]
    found += [(top, key) for top in ("posteriors", "ensembles", "attacks") for key in tree[top]]
    found += [
        ("attacks", group, key) for group in tree["attacks"] for key in tree["attacks"][group]
    ]
    found += [("search", "families", key) for key in tree["search"]["families"]]
    for name, entry in tree["posteriors"].items():
        for way in (("against",), ("defence", "families")):
            inner = entry
            for key in way:
                inner = inner.get(key, {})
            found += [("posteriors", name, *way, key) for key in inner]
    return found


def _dumped(tree: Any) -> bytes:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode()


def _with(tree: Any, way: Way, value: Any) -> bytes:
    changed = _copied(tree)
    _at(changed, way[:-1])[way[-1]] = value
    return _dumped(changed)


def _copied(tree: Any) -> Any:
    """A copy without shared parts: what is changed is changed in one place."""
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, list) else copy.copy(tree)


def _named(way: Way, what: str) -> str:
    return f"{'.'.join(map(str, way))}: {what}"[:200]


def _words(way: Way) -> tuple[str, ...]:
    return tuple(key for key in way if isinstance(key, str))


def _renamed(tree: Any, way: Way, name: Any) -> Any:
    """A copy in which a key has another name, in the same place."""
    changed = _copied(tree)
    above = _at(changed, way[:-1])
    items = [(name if key == way[-1] else key, value) for key, value in above.items()]
    above.clear()
    above.update(items)
    return changed


def _key_dropped(draw: random.Random, text: str, tree: Any) -> Broken:
    way = draw.choice(_ways(tree))
    changed = _copied(tree)
    del _at(changed, way[:-1])[way[-1]]
    return Broken(_dumped(changed), _named(way, "dropped"), named=_words(way))


def _key_renamed(draw: random.Random, text: str, tree: Any) -> Broken:
    names = set(_names(tree))
    ways = [way for way in _ways(tree) if isinstance(way[-1], str) and way not in names]
    way = draw.choice([way for way in ways if not (way[0] == "profiles" and len(way) == 4)])
    name = draw.choice(
        [f"{way[-1]}x", way[-1].upper(), f" {way[-1]}", 1, 1.5, False, None, "\u200b"]
    )
    changed = _renamed(tree, way, name)
    return Broken(_dumped(changed), _named(way, f"renamed {name!r}"), True, _words(way))


def _key_twice(draw: random.Random, text: str, tree: Any) -> Broken:
    """A line `key: value` once more, with another value."""
    lines = text.splitlines()
    plain = [n for n, line in enumerate(lines) if ": " in line and "<<" not in line]
    number = draw.choice([n for n in plain if not lines[n].strip().startswith(("#", "- "))])
    line = lines[number]
    indent, key = line[: len(line) - len(line.lstrip())], line.strip().split(":")[0]
    lines.insert(number, f"{indent}{key}: {draw.choice(['1', '{}', 'x', '[1]'])}")
    return Broken("\n".join(lines).encode(), f"{key} twice, line {number + 1}", True, (key, "YAML"))


def _wrong_type(draw: random.Random, text: str, tree: Any) -> Broken:
    way = draw.choice(_ways(tree))
    old = _at(tree, way)
    wrong = ["x", 5, True] if isinstance(old, dict | list) else [[[1]], {"x": {"y": 1}}, [None]]
    value = draw.choice(wrong)
    return Broken(_with(tree, way, value), _named(way, f"{value!r}"), True, _words(way))


def _number(draw: random.Random, text: str, tree: Any) -> Broken:
    way, value = draw.choice(_leaves(tree, int, float)), draw.choice(NUMBERS)
    what = _named(way, f"{float(value) if abs(value) < 10**300 else 'huge'!r}")
    return Broken(_with(tree, way, value), what, False, _words(way))


def _not_finite(draw: random.Random, text: str, tree: Any) -> Broken:
    way, value = draw.choice(_leaves(tree, int, float)), draw.choice(NOT_FINITE)
    return Broken(_with(tree, way, value), _named(way, f"{value!r}"), True, _words(way))


def _text(draw: random.Random, text: str, tree: Any) -> Broken:
    way, value = draw.choice(_leaves(tree, int, float, str, bool)), draw.choice(TEXTS)
    return Broken(_with(tree, way, value), _named(way, f"{value[:50]!r}"), False, _words(way))


def _hostile_name(draw: random.Random, text: str, tree: Any) -> Broken:
    """A name with all that refers to it, so that nothing but the name is wrong."""
    way, name = draw.choice(_names(tree)), draw.choice(HOSTILE_NAMES)
    changed = _renamed(tree, way, name)
    run = changed["run"]
    for key, value in run.items():
        run[key] = [name if one == way[-1] else one for one in value] if key != "target" else value
    run["target"] = name if run["target"] == way[-1] else run["target"]
    changed["ensembles"] = {
        key: [name if one == way[-1] else one for one in members]
        for key, members in changed["ensembles"].items()
    }
    for one in changed["profiles"].values():
        if way[0] == "posteriors" and way[1] in one["posteriors"]:
            one["posteriors"][name] = one["posteriors"].pop(way[1])
    return Broken(_dumped(changed), _named(way, f"renamed {name[:60]!r}"), True, _words(way[:-1]))


def _nested(draw: random.Random, text: str, tree: Any) -> Broken:
    depth = draw.choice([33, 40, 100, 1000, 10_000, 100_000])
    begin, end = draw.choice([("[", "]"), ("{a: ", "}"), ("[{b: ", "}]"), ("? ", "")])
    inner = begin * depth + "1" + end * depth
    key = draw.choice(["seed", "audit", "report"])
    lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
    content = "\n".join([*lines, f"{key}: {inner}"]).encode()
    return Broken(content, f"{key}: {depth} times {begin}", True, (key, "YAML", "line"))


def _alias(draw: random.Random, text: str, tree: Any) -> Broken:
    width, depth = draw.randint(5, 10), draw.randint(7, 30)
    laughs = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, depth):
        laughs.append(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * width)}]")
    added = draw.choice(
        ["\n".join(laughs), "seed: &s [*s]", "audit: &a {maps: *a}", "audit: *nothing",
         "audit: &a\n  <<: *a", "audit:\n  <<: [1, 2]", "audit:\n  <<: text", "audit:\n  <<: *bim"]
    )  # fmt: skip
    key = added.split(":")[0]
    lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
    content = "\n".join([*lines, added, ""]).encode()
    return Broken(content, added[:60], True, (key, "YAML", *(f"l{i}" for i in range(depth))))


def _tag(draw: random.Random, text: str, tree: Any) -> Broken:
    tag = draw.choice(TAGS)
    key = draw.choice(["seed", "damage", "report", "detection", "audit"])
    lines = [f"{key}: {tag}" if one.startswith(f"{key}:") else one for one in text.splitlines()]
    return Broken("\n".join(lines).encode(), f"{key}: {tag}", True, (key, "YAML"))


def _kind(draw: random.Random, text: str, tree: Any) -> Broken:
    ways = [way for way in _leaves(tree, str) if way[-1] == "kind"]
    way, kind = draw.choice(ways), draw.choice(KINDS_OF_OTHERS)
    return Broken(_with(tree, way, kind), _named(way, kind), True, _words(way))


def _bytes(draw: random.Random, text: str, tree: Any) -> Broken:
    content, place = text.encode(), draw.randrange(len(text))
    what = draw.choice(["\\0", "not UTF-8", "UTF-16", "UTF-8 BOM", "random bytes", "control"])
    added = {
        "\\0": b"\0", "not UTF-8": b"\xff\xfe\x80", "UTF-8 BOM": b"\xef\xbb\xbf", "UTF-16": b"",
        "random bytes": draw.randbytes(draw.randint(1, 40)), "control": b"\x1b[31m\x07",
    }[what]  # fmt: skip
    content = content[:place] + added + content[place:]
    content = text.encode("utf-16") if what == "UTF-16" else content
    certain = what in ("\\0", "not UTF-8", "control", "UTF-16")
    return Broken(content, f"{what} at byte {place}", certain, ("YAML",))


def _truncated(draw: random.Random, text: str, tree: Any) -> Broken:
    length = draw.randrange(len(text))
    return Broken(text[:length].encode(), f"first {length} characters", False, ("YAML", FILE))


def _lines(draw: random.Random, text: str, tree: Any) -> Broken:
    """Lines moved, dropped, repeated or shifted."""
    lines, done = text.splitlines(), []
    for _ in range(draw.randint(1, 3)):
        number, what = (
            draw.randrange(len(lines)),
            draw.choice(["dropped", "moved", "shifted", "cut"]),
        )
        line = lines.pop(number)
        if what == "moved":
            lines.insert(draw.randrange(len(lines)), line)
        elif what == "shifted":
            lines.insert(number, draw.choice([" ", "  ", "\t", "- "]) + line)
        elif what == "cut":
            lines.insert(number, line[: draw.randint(0, len(line))])
        done.append(f"line {number + 1} {what}")
    return Broken("\n".join(lines).encode(), ", ".join(done), False, ("YAML", FILE))


def _no_mapping(draw: random.Random, text: str, tree: Any) -> Broken:
    content = draw.choice(
        ["", "\n", "# nothing\n", "null", "[]", "42", "text", "--- 1\n--- 2\n", "---\n...\n",
         "- a\n- b", "? [1, 2]\n: 3", "? {a: 1}\n: 3", f"---\n{text}\n---\n{text}",
         "%YAML 9.9\n---"]
    )  # fmt: skip
    return Broken(content.encode(), repr(content[:40]), True, ("YAML", "mapping", "profiles"))


MAKERS: dict[str, Callable[[random.Random, str, Any], Broken]] = {
    "key dropped": _key_dropped,
    "key renamed": _key_renamed,
    "key twice": _key_twice,
    "wrong type": _wrong_type,
    "number": _number,
    "not finite": _not_finite,
    "text": _text,
    "hostile name": _hostile_name,
    "nested": _nested,
    "alias": _alias,
    "tag": _tag,
    "kind": _kind,
    "bytes": _bytes,
    "truncated": _truncated,
    "lines": _lines,
    "no mapping": _no_mapping,
}
