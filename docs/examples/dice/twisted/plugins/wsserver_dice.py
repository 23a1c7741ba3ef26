"""A command for wsserver. wsserver finds it as a Twisted plugin when this project is installed."""

import random
import re

from twisted.plugin import IPlugin
from zope.interface import implementer

from wsserver.endpoints.commands import ICommand


@implementer(IPlugin, ICommand)
class Roll:
    """`roll` rolls a die with 6 sides, and `roll 20` a die with 20 sides."""

    name = "roll"
    help = "roll a die with six sides; roll 20: with 20 sides"
    takes_argument = True

    def reply(self, session, argument):
        """Return the result, such as `17 of 20`."""
        sides = int(argument) if re.fullmatch("[1-9][0-9]{0,2}|1000", argument) else 6
        return f"{random.randint(1, sides)} of {sides}"


roll = Roll()
