"""Conversion of a configuration of Centrifugo 6 into one of this server, for `wsserver import-centrifugo`."""
