"""Tests for wsserver/config/insecure.py: insecure options, and whether the server may start with them."""

import pytest
from options import load, refused

from wsserver.config.insecure import describe_insecure_options, refuse_exposure
from wsserver.config.settings import TABLE
from wsserver.errors import SettingError

INSECURE = ("insecure", "api_insecure", "token_no_expiry", "token_secret_weak")


@pytest.mark.parametrize("name", INSECURE)
def test_each_insecure_option_is_off_by_default_and_has_one_warning_that_names_it(name):
    assert describe_insecure_options(load()) == []
    [warning] = describe_insecure_options(load({name: ["true"]}))
    assert TABLE[name].flag in warning


@pytest.mark.parametrize("name", INSECURE[:2])
def test_an_option_for_development_is_refused_beyond_loopback(name):
    settings = load({name: ["true"]})
    refuse_exposure(settings, loopback_only=True)
    with pytest.raises(SettingError) as caught:
        refuse_exposure(settings, loopback_only=False)
    assert caught.value.where == TABLE[name].flag
    assert "expected every listener to be a loopback address" in caught.value.problem


@pytest.mark.parametrize("name", INSECURE[2:])
def test_options_for_old_tokens_may_be_used_on_every_address(name):
    refuse_exposure(load({name: ["true"]}), loopback_only=False)


@pytest.mark.parametrize("name", INSECURE[:2])
def test_an_interface_beyond_loopback_is_refused_when_the_settings_are_loaded(name):
    """A host name and endpoint strings are checked when the server listens."""
    for interface in ("0.0.0.0", "::", "192.0.2.1"):
        where, _ = refused(flags={name: ["true"], "interface": [interface]})
        assert where == TABLE[name].flag
    for interface in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert load({name: ["true"], "interface": [interface]}).interface == interface
    assert load({name: ["true"], "interface": ["0.0.0.0"], "listen": ["tcp:0"]}).listen


def test_insecure_together_with_any_origin_has_a_warning_of_its_own():
    """Then a page of any site controls the server of a developer who visits it."""
    warnings = describe_insecure_options(load({"insecure": ["true"], "allow_any_origin_insecure": ["true"]}))
    assert "every page that a browser on this machine shows can use every channel" in warnings[-1]
    assert len(warnings) == 2
