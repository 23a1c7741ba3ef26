"""The pytest plugin: the fixture `wsserver`, a server that tests of WebSocket clients run against."""
