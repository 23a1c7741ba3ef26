"""A command for wsserver, found as a Twisted plugin once this project is installed."""

import random

from twisted.plugin import IPlugin
from zope.interface import implementer

from wsserver.endpoints.commands import ICommand


@implementer(IPlugin, ICommand)
class Roll:
    """`roll` rolls a die of six sides, `roll 20` one of twenty."""

    name = "roll"
    help = "roll a die with six sides; roll 20: with 20 sides"
    takes_argument = True

    def reply(self, session, argument):
        """Roll."""
        sides = int(argument) if argument.isdigit() and 1 <= int(argument) <= 1000 else 6
        return f"{random.randint(1, sides)} of {sides}"


roll = Roll()
