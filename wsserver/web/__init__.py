"""The HTTP server: browser page, HTTP API, Server-Sent Events and probes, on top of `twisted.web`."""
