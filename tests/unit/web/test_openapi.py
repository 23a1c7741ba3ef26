"""Tests for wsserver/web/openapi.py: the OpenAPI description of the HTTP API."""

import json

import pytest
from openapi_spec_validator import validate
from paths import DOCS

from wsserver.testing import MemoryServer
from wsserver.web.methods import Methods
from wsserver.web.openapi import METHODS, UNSUPPORTED, describe_api, openapi_file

API = describe_api()
SCHEMAS = API["components"]["schemas"]


def test_the_file_is_what_make_docs_generates():
    assert (DOCS / "reference" / "openapi.json").read_text("utf-8") == openapi_file()


def test_the_description_is_valid_openapi():
    validate(json.loads(openapi_file()))


def test_every_method_of_the_api_is_described_with_its_parameters():
    service = MemoryServer().service
    methods = Methods(service.hub, service.management)
    described = {name: struct for name, (struct, _, _) in METHODS.items()}
    assert described == {name: struct for name, (struct, _) in methods._table.items()}
    assert set(API["paths"]) == {f"/api/{name}" for name in [*described, "batch"]}


@pytest.mark.parametrize("struct", sorted({struct for struct, _, _ in METHODS.values()}, key=lambda one: one.__name__))
def test_every_parameter_is_described(struct):
    """Parameters that every call rejects are left out."""
    properties = SCHEMAS[struct.__name__]["properties"]
    assert list(properties) == [name for name in struct.__struct_fields__ if name not in UNSUPPORTED]
    assert [name for name, schema in properties.items() if not schema.get("description")] == []


def test_every_reference_leads_to_a_schema():
    names = {text.partition('"')[0] for text in openapi_file().split("#/components/schemas/")[1:]}
    assert names <= set(SCHEMAS)
    assert "Publish" in names
