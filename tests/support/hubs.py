"""Parts of the server around a hub, connected as the service connects them."""

from wsserver.hub.hub import Hub
from wsserver.hub.management import Management
from wsserver.hub.operations import Operations
from wsserver.hub.survey import Survey


def make_hub(broker, clock, rules=None):
    """Make a hub to which the broker delivers."""
    hub = Hub(broker, clock, rules)
    broker.deliver_to(hub)
    return hub


def make_management(hub, clock):
    """Make the operations on all processes, which share the hub's broker."""
    survey = Survey(hub.broker, clock, Operations(hub, "1").handlers)
    hub.broker.deliver_to(hub, survey.on_message)
    return Management(survey)


class DropsEverything:
    """A listener of a broker that loses each publication."""

    def on_publication(self, channel, publication):
        """Lose it."""
