"""Create a hub and the objects that it works with, connected as in the service."""

from wsserver.hub.hub import Hub
from wsserver.hub.management import Management
from wsserver.hub.operations import Operations
from wsserver.hub.survey import Survey


def make_hub(broker, clock, rules=None):
    """Return a hub that receives the broker's publications."""
    hub = Hub(broker, clock, rules)
    broker.deliver_to(hub)
    return hub


def make_management(hub, clock):
    """Return a `Management`, which reaches all processes through the hub's broker."""
    survey = Survey(hub.broker, clock, Operations(hub, "1").handlers)
    hub.broker.deliver_to(hub, survey.on_message)
    return Management(survey)


class DropsEverything:
    """Receives a broker's publications and drops every one of them."""

    def on_publication(self, channel, publication):
        """Drop the publication."""
