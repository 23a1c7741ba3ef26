"""Filters: their comparisons and combinations, their limits, and the form that is typed into a URL."""

import gc
import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsserver.hub.filters import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_SIZE,
    MAX_TEXT,
    compile_filter,
    parse_conditions,
    read_filter,
)


def compiled(node):
    """Compile a filter that is written as a client sends it."""
    return compile_filter(read_filter(json.dumps(node).encode(), "tf"), "tf")


def leaf(cmp, val="", vals=(), key="a"):
    """Return a comparison."""
    return {"key": key, "cmp": cmp, "val": val, "vals": [*vals]}


LONG = "9" * 200

COMPARISONS = [
    # A missing tag is not equal to any value.
    (leaf("eq", "x"), ["x"], ["", "xx", "X", None]),
    (leaf("neq", "x"), ["", "xx", "X", None], ["x"]),
    (leaf("in", vals=["x", "y"]), ["x", "y"], ["", "xy", None]),
    (leaf("nin", vals=["x", "y"]), ["", "xy", None], ["x", "y"]),
    # But for `in` and `nin`, it counts as an empty text.
    (leaf("in", vals=["", "y"]), ["", "y", None], ["x"]),
    (leaf("nin", vals=["", "y"]), ["x"], ["", "y", None]),
    (leaf("ex"), ["x", ""], [None]),
    (leaf("nex"), [None], ["x", ""]),
    (leaf("sw", "xy"), ["xy", "xyz"], ["x", "axy", "", None]),
    (leaf("ew", "yz"), ["yz", "xyz"], ["z", "yza", "", None]),
    (leaf("ct", "yz"), ["yz", "xyz", "xyzä"], ["zy", "", None]),
    (leaf("sw", "ä"), ["äb"], ["a", "\u0308a"]),
    # Numbers are compared as decimal numbers, not as texts or as floats.
    (leaf("gt", "9"), ["10", "9.0000000000000000001", "+10", "010"], ["9", "9.0", "8", "-10", "", "x", None]),
    (leaf("gte", "9"), ["9", "9.00", "10"], ["8.9999999999999999999", None]),
    (leaf("lt", "-1.5"), ["-1.6", "-2"], ["-1.5", "-1.50", "0", "1", None]),
    (leaf("lte", "0"), ["0", "-0", "-0.1", "+0"], ["0.1", None]),
    (leaf("gt", "9007199254740992"), ["9007199254740993"], ["9007199254740992"]),
    (leaf("lt", LONG), [LONG[1:], f"{LONG[1:190]}.5"], [LONG, "1" + LONG]),
    # What is not a number matches none of them. That includes a value in the filter.
    (leaf("gt", "0"), [], ["1e3", ".5", "5.", "1.2.3", " 1", "1 ", "1_0", "0x1", "--1", "+-1", "+", "-", "inf", "nan"]),
    (leaf("gt", "0"), [], ["\u0661", "1\n", "0." + "1" * 20]),
    (leaf("gt", "0"), ["0." + "1" * 19, LONG], []),
    (leaf("gt", "x"), [], ["1", "y", "", None]),
    (leaf("lte", "1e3"), [], ["1", "1e3", None]),
]


class ComparisonTests:
    """Comparisons of one tag with values."""

    @pytest.mark.parametrize(("node", "matching", "others"), COMPARISONS)
    def test_matches_as_in_centrifugo(self, node, matching, others):
        found = compiled(node)
        for value in matching + others:
            tags = {"a": value, "b": "x"} if value is not None else {"b": "x"}
            assert found.matches(tags) == (value in matching), value

    @pytest.mark.parametrize(("cmp", "matches"), [("ex", False), ("nex", True), ("neq", True), ("eq", False)])
    def test_a_publication_without_tags_has_no_tag(self, cmp, matches):
        node = leaf(cmp) if cmp.endswith("ex") else leaf(cmp, "x")
        assert compiled(node).matches(None) == matches

    @pytest.mark.parametrize(("cmp", "matches"), [("ex", True), ("nex", False)])
    def test_the_name_of_a_tag_may_be_empty_if_only_its_existence_matters(self, cmp, matches):
        assert compiled(leaf(cmp, key="")).matches({"": "x"}) == matches

    def test_fields_of_a_combination_are_ignored_in_a_comparison_and_the_other_way_round(self):
        assert compiled(leaf("eq", "x") | {"nodes": [{"op": "bad"}]}).matches({"a": "x"})
        assert compiled({"op": "not", "nodes": [leaf("eq", "x")]} | leaf("bad", "y")).matches({"a": "z"})


class CombinationTests:
    """Nodes that combine others."""

    @pytest.mark.parametrize(
        ("op", "numbers"), [("and", [3]), ("or", [1, 2, 3]), ("not and", [0, 1, 2]), ("not or", [0])]
    )
    def test_matches_combinations_of_two_comparisons(self, op, numbers):
        """Bit 1 of a number stands for the first comparison being true, bit 2 for the second one."""
        node = {"op": op.split()[-1], "nodes": [leaf("eq", "1"), leaf("eq", "1", key="b")]}
        if op.startswith("not"):
            node = {"op": "not", "nodes": [node]}
        found = compiled(node)
        assert [n for n in range(4) if found.matches({"a": str(n & 1), "b": str(n >> 1)})] == numbers

    @pytest.mark.parametrize("op", ["and", "or"])
    def test_accepts_a_single_node(self, op):
        assert compiled({"op": op, "nodes": [leaf("eq", "x")]}).matches({"a": "x"})


REFUSED = [
    ({}, "tf.cmp: expected one of eq, neq, sw, ew, ct, gt, gte, lt, lte, in, nin, ex, nex, not ''"),
    ({"key": "a", "cmp": "EQ", "val": "x"}, "tf.cmp: expected one of eq, .*, not 'EQ'"),
    *((leaf(cmp), f"tf.val: missing for {cmp}") for cmp in ("eq", "neq", "sw", "ew", "ct", "gt", "gte", "lt", "lte")),
    (leaf("eq", "x", ["y"]), "tf.vals: unexpected for eq"),
    (leaf("gt", "1", ["2"]), "tf.vals: unexpected for gt"),
    *((leaf(cmp), f"tf.vals: missing for {cmp}") for cmp in ("in", "nin")),
    (leaf("in", "x", ["y"]), "tf.val: unexpected for in"),
    *((leaf(cmp, "x"), f"tf.val: unexpected for {cmp}") for cmp in ("ex", "nex")),
    *((leaf(cmp, vals=["x"]), f"tf.vals: unexpected for {cmp}") for cmp in ("ex", "nex")),
    (leaf("eq", "x", key=""), "tf.key: missing"),
    (leaf("in", vals=["x"], key=""), "tf.key: missing"),
    ({"op": "xor", "nodes": [leaf("ex")]}, "tf.op: expected and, or, not, or an empty text, not 'xor'"),
    ({"op": "and"}, "tf.nodes: expected at least one node for and, not 0"),
    ({"op": "or", "nodes": []}, "tf.nodes: expected at least one node for or, not 0"),
    ({"op": "not"}, "tf.nodes: expected one node for not, not 0"),
    ({"op": "not", "nodes": [leaf("ex"), leaf("ex")]}, "tf.nodes: expected one node for not, not 2"),
    ({"op": "or", "nodes": [leaf("ex"), {"op": "not", "nodes": [leaf("x")]}]}, r"tf.nodes\[1\].nodes\[0\].cmp: "),
]

WRONG_TYPES = [
    (7, "tf: expected an object, got an integer"),
    ({"op": 1}, "tf.op: expected a string, got an integer"),
    ({"key": []}, "tf.key: expected a string, got an array"),
    ({"val": 1}, "tf.val: expected a string, got an integer"),
    ({"vals": "x"}, "tf.vals: expected an array, got a string"),
    ({"nodes": [None]}, r"tf.nodes\[0\]: expected an object, got null"),
    ({"nodes": [{"nodes": {}}]}, r"tf.nodes\[0\].nodes: expected an array, got an object"),
]


def nested(depth):
    """Return a filter of this depth."""
    node = leaf("ex")
    for _ in range(depth - 1):
        node = {"op": "not", "nodes": [node]}
    return node


def wide(number):
    """Return a filter with this number of nodes."""
    return {"op": "or", "nodes": [leaf("ex")] * (number - 1)}


def sized(size):
    """Return a filter of this size."""
    node = {"key": "a", "cmp": "eq", "val": "x"}
    return node | {"val": "x" * (size - len(json.dumps(node, separators=(",", ":"))) + 1)}


class RefusalTests:
    """Invalid filters, and filters that exceed a limit."""

    @pytest.mark.parametrize(("node", "message"), REFUSED)
    def test_refuses_what_centrifugo_refuses_and_names_the_field(self, node, message):
        with pytest.raises(ValueError, match="^" + message):
            compiled(node)

    @pytest.mark.parametrize(("node", "message"), WRONG_TYPES)
    def test_refuses_a_field_of_another_type_and_names_it(self, node, message):
        with pytest.raises(ValueError, match="^" + message):
            compiled(node)

    @pytest.mark.parametrize("node", [leaf("eq", "x"), leaf("in", vals=["x"]), {"op": "not", "nodes": [leaf("ex")]}])
    def test_null_stands_for_a_missing_field(self, node):
        nulls = dict.fromkeys(["op", "key", "cmp", "val", "vals", "nodes"])
        found, plain = compiled(nulls | {name: value for name, value in node.items() if value}), compiled(node)
        assert found.matches({"a": "x"}) == plain.matches({"a": "x"})
        with pytest.raises(ValueError, match=r"tf\.cmp: expected one of"):
            compiled(nulls)
        assert compiled(leaf("in", vals=[None])).matches({"a": ""})

    def test_half_a_surrogate_pair_is_replaced_as_in_centrifugo(self):
        node = read_filter(rb'{"key":"a","cmp":"eq","val":"\ud83d"}', "tf")
        assert compile_filter(node, "tf").matches({"a": "\ufffd"})

    def test_refuses_a_text_above_the_limit_without_decoding_it(self):
        """To decode the nodes of a megabyte would take many times as long as a turn of the event loop."""
        read_filter(b'{"op":"or"}'.ljust(MAX_TEXT), "tf")
        with pytest.raises(ValueError, match=r"^tf: 65537 bytes, expected at most 65536"):
            read_filter(b"[".ljust(MAX_TEXT + 1), "tf")

    @pytest.mark.parametrize(
        ("make", "limit", "message"),
        [
            (nested, MAX_DEPTH, r"tf(.nodes\[0\])+: expected a filter with at most 10 levels"),
            (wide, MAX_NODES, r"tf.nodes\[99\]: expected a filter with at most 100 nodes"),
            (sized, MAX_SIZE, "tf: 8193 bytes, expected at most 8192"),
        ],
    )
    def test_accepts_a_filter_at_a_limit_and_refuses_one_above(self, make, limit, message):
        compiled(make(limit))
        with pytest.raises(ValueError, match="^" + message):
            compiled(make(limit + 1))


class EqualityTests:
    """Equal filters are shared."""

    def test_equal_filters_are_one_object_while_one_of_them_is_in_use(self):
        one = compiled(leaf("eq", "x"))
        assert compiled({"val": "x", "op": "", "key": "a", "cmp": "eq", "unknown": 1}) is one
        assert {one: 1}[compiled(leaf("eq", "x"))] == 1
        assert one != compiled(leaf("eq", "y"))
        assert one != "x"

    def test_a_filter_that_is_not_in_use_takes_no_memory(self):
        text = compiled(leaf("eq", "a text that no other test uses")).text
        gc.collect()
        assert text not in [one.text for one in gc.get_objects() if type(one).__name__ == "Filter"]


CONDITIONS = [
    (["ticker:eq:BTC"], {"key": "ticker", "cmp": "eq", "val": "BTC"}),
    (["price:gt:100.5"], {"key": "price", "cmp": "gt", "val": "100.5"}),
    (["ticker:in:BTC,ETH"], {"key": "ticker", "cmp": "in", "vals": ["BTC", "ETH"]}),
    (["ticker:nin:BTC"], {"key": "ticker", "cmp": "nin", "vals": ["BTC"]}),
    (["ticker:in:BTC,"], {"key": "ticker", "cmp": "in", "vals": ["BTC", ""]}),
    (["ticker:ex"], {"key": "ticker", "cmp": "ex"}),
    # Only the first two colons are separators, and only `in` and `nin` separate values.
    (["url:sw:http://x,y"], {"key": "url", "cmp": "sw", "val": "http://x,y"}),
    (['{"op":"not","nodes":[{"key":"a:b","cmp":"ex"}]}'], {"op": "not", "nodes": [{"key": "a:b", "cmp": "ex"}]}),
    (
        ["a:ex", '{"key":"b","cmp":"ex"}'],
        {"op": "and", "nodes": [{"key": "a", "cmp": "ex"}, {"key": "b", "cmp": "ex"}]},
    ),
]


class ConditionTests:
    """`parse_conditions`: the form in a URL."""

    @pytest.mark.parametrize(("texts", "node"), CONDITIONS)
    def test_parses_conditions_and_json(self, texts, node):
        assert json.loads(parse_conditions(texts, "filter").text) == node

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "filter: expected KEY:CMP:VALUE, such as ticker:eq:BTC, or JSON, not ''"),
            ("ticker=BTC", "filter: expected KEY:CMP:VALUE, such as ticker:eq:BTC, or JSON, not 'ticker=BTC'"),
            ("ticker:=:BTC", "filter.cmp: expected one of .*, not '='"),
            (":eq:BTC", "filter.key: missing"),
            ("ticker:eq", "filter.val: missing for eq"),
            ("ticker:in:", "filter.vals: missing for in"),
            ("ticker:ex:BTC", "filter.val: unexpected for ex"),
            ("{", "filter: expected JSON"),
            ('{"op":"and"}', "filter.nodes: expected at least one node for and, not 0"),
            ('{"op":1}', "filter.op: expected a string, got an integer"),
        ],
    )
    def test_refuses_an_invalid_condition_and_names_the_field(self, text, message):
        with pytest.raises(ValueError, match="^" + message):
            parse_conditions([text], "filter")

    def test_the_limits_apply_to_all_conditions_together(self):
        parse_conditions(["a:ex"] * (MAX_NODES - 1), "filter")
        with pytest.raises(ValueError, match="at most 100 nodes"):
            parse_conditions(["a:ex"] * MAX_NODES, "filter")


def evaluate(node, tags):
    """Evaluate a valid filter: plainly, and with fractions as integers."""
    op, cmp, tag, val = node.get("op", ""), node.get("cmp"), tags.get(node.get("key")), node.get("val")
    if op:
        results = [evaluate(one, tags) for one in node["nodes"]]
        return {"and": all(results), "or": any(results), "not": not results[0]}[op]
    if cmp in {"in", "nin"}:
        return ((tag or "") in node["vals"]) == (cmp == "in")
    if cmp in {"ex", "nex"}:
        return (tag is not None) == (cmp == "ex")
    if cmp in {"eq", "neq"}:
        return (tag == val) == (cmp == "eq")
    if tag is None:
        return False
    if cmp == "sw":
        return tag[: len(val)] == val
    if cmp == "ew":
        return len(tag) >= len(val) and tag[len(tag) - len(val) :] == val
    if cmp == "ct":
        return any(tag[start : start + len(val)] == val for start in range(len(tag) + 1))
    one, two = scaled(tag), scaled(val)
    if one is None or two is None:
        return False
    return {"gt": one > two, "gte": one >= two, "lt": one < two, "lte": one <= two}[cmp]


def scaled(text):
    """Return a decimal number times 10**19, an integer; None if the text is not such a number."""
    sign, digits = (text[0], text[1:]) if text[:1] in {"+", "-"} else ("", text)
    whole, dot, fraction = digits.partition(".")
    if not (whole + fraction).isdecimal() or not text.isascii() or not whole or (dot and not fraction):
        return None
    if len(fraction) > 19 or len(text) > 200:
        return None
    return int(sign + whole + fraction.ljust(19, "0"))


TEXTS = st.sampled_from(["", "x", "xy", "yx", "ä"]) | st.from_regex(r"[+-]?[0-9]{1,22}(\.[0-9]{0,20})?", fullmatch=True)
FULL = TEXTS.filter(bool)
KEYS = st.sampled_from(["a", "b"])
LEAVES = st.one_of(
    st.fixed_dictionaries({"key": KEYS, "cmp": st.sampled_from(["eq", "neq", "sw", "ew", "ct"]), "val": FULL}),
    st.fixed_dictionaries({"key": KEYS, "cmp": st.sampled_from(["gt", "gte", "lt", "lte"]), "val": FULL}),
    st.fixed_dictionaries({"key": KEYS, "cmp": st.sampled_from(["in", "nin"]), "vals": st.lists(TEXTS, min_size=1)}),
    st.fixed_dictionaries({"key": KEYS, "cmp": st.sampled_from(["ex", "nex"])}),
)
NODES = st.recursive(
    LEAVES,
    lambda parts: (
        st.fixed_dictionaries({"op": st.sampled_from(["and", "or"]), "nodes": st.lists(parts, min_size=1, max_size=4)})
        | st.fixed_dictionaries({"op": st.just("not"), "nodes": st.lists(parts, min_size=1, max_size=1)})
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(NODES, st.dictionaries(KEYS, TEXTS))
def test_matches_what_a_plain_evaluation_matches(node, tags):
    try:
        found = compiled(node)
    except ValueError as error:
        assert "at most" in str(error)  # noqa: PT017
        return
    assert found.matches(tags) == evaluate(node, tags)


@settings(deadline=None)
@given(FULL, FULL)
def test_exactly_one_of_less_equal_and_greater_is_true_for_two_numbers(one, two):
    results = [compiled(leaf(cmp, two)).matches({"a": one}) for cmp in ("lt", "gt", "lte", "gte")]
    if scaled(one) is None or scaled(two) is None:
        assert results == [False] * 4
    else:
        less, greater = Decimal(one).compare(Decimal(two)) < 0, Decimal(two).compare(Decimal(one)) < 0
        assert results == [less, greater, not greater, not less]
