"""The Centrifuge client protocol, which the SDKs of Centrifugo speak."""
