"""The HTTP side: the only modules that import `twisted.web`."""
