"""A Django project whose pages receive messages through wsserver."""
