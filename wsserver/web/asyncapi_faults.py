"""The faults in the AsyncAPI description of a server with `--faults`."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from wsserver.web.openapi import Schema

__all__ = ["describe_fault_parameters", "describe_faults"]

_COMMON: Final = "FaultParameter{name}"
_RESPONSE: Final = "response"


def describe_faults(about: Mapping[str, Any]) -> dict[str, Schema]:
    """
    Return the channels of the faults by name.

    Args:
        about: what `/faults?format=json` says.
    """
    common = [one["name"] for one in about["common"]]
    return {_name(fault["name"]): _describe(fault, common) for fault in about["faults"]}


def describe_fault_parameters(about: Mapping[str, Any]) -> dict[str, Schema]:
    """
    Return the schemas of the parameters that all faults have.

    Args:
        about: what `/faults?format=json` says.
    """
    return {_COMMON.format(name=one["name"].capitalize()): _schema(one) for one in about["common"]}


def _name(fault: str) -> str:
    return "faults" + "".join(word.capitalize() for word in fault.replace(".", "-").split("-"))


def _describe(fault: Mapping[str, Any], common: Iterable[str]) -> Schema:
    # A fault in place of the 101 response sends no messages.
    messages = () if fault["stage"] == _RESPONSE else ("text", "binary")
    shared: dict[str, Schema] = {
        name: {"$ref": f"#/components/schemas/{_COMMON.format(name=name.capitalize())}"} for name in common
    }
    query = shared | {one["name"]: _schema(one) for one in fault["parameters"]}
    return {
        "address": fault["path"],
        "title": f"The fault {fault['name']}",
        "description": f"{fault['summary']} {fault['right']}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {"method": "GET", "query": {"type": "object", "properties": query}, "bindingVersion": "0.1.0"}
        },
    }


def _schema(parameter: Mapping[str, Any]) -> Schema:
    """Return the schema of a parameter; durations and sizes are texts such as 500ms and 64KiB."""
    bounds = [parameter[name] for name in ("minimum", "maximum") if name in parameter]
    is_number = parameter["type"] == "integer"
    more = f" From {bounds[0]} to {bounds[1]}." if bounds and not is_number else ""
    schema: Schema = {
        "type": "integer" if is_number else "string",
        "description": parameter["description"] + more,
        "default": parameter["default"],
    }
    if is_number:
        schema |= {name: parameter[name] for name in ("minimum", "maximum")}
    return schema | ({"enum": parameter["choices"]} if "choices" in parameter else {})
