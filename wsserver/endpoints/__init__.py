"""What a path does: small subclasses of `wsserver.wire.protocol.ServerProtocol`, and the table path -> class."""
