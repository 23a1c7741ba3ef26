"""WebSocket endpoints: subclasses of `wsserver.wire.protocol.ServerProtocol`, and the table that maps paths to them."""
