"""The HTTP server, based on `twisted.web`: browser page, HTTP API, Server-Sent Events and health probes."""
