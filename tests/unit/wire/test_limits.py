"""Budgets of work: what one turn of the reactor serves, and whose turn it is. On a clock that only the test moves."""

from turns import end_turn

from wsserver.wire.limits import BYTES_PER_TURN, PIECES_PER_TURN, SECONDS_PER_TURN, WorkQueue


class Client:
    """A connection with some commands to be served."""

    def __init__(self, work, commands, size=0, log=None, cost=None):
        self.work, self.commands, self.size, self.cost = work, commands, size, cost
        self.served = self.turns = self.failures = 0
        self.log = [] if log is None else log

    def serve_one(self):
        if self.commands:
            self.commands -= 1
            self.served += 1
            self.log.append(self)
            self.work.charge(self.size)
            if self.cost:
                self.cost()
        return self.commands > 0

    def finish_turn(self):
        self.turns += 1

    def work_failed(self):
        self.failures += 1


class WorkQueueTests:
    """`WorkQueue`."""

    def test_serves_at_once_what_the_budget_suffices_for(self, clock):
        """A client with few commands waits for no turn of the reactor, and leaves no call behind."""
        client = Client(WorkQueue(clock), 3)
        client.work.submit(client)
        assert (client.served, client.turns) == (3, 1)
        assert clock.calls == []

    def test_serves_at_most_the_pieces_of_a_turn(self, clock):
        """However many commands come at once, a turn serves its number of them; the rest follows, turn by turn."""
        client = Client(WorkQueue(clock), 3 * PIECES_PER_TURN)
        client.work.submit(client)
        counts = [client.served]
        while end_turn(clock):
            counts.append(client.served)
        assert counts == [PIECES_PER_TURN, 2 * PIECES_PER_TURN, 3 * PIECES_PER_TURN]
        assert client.turns == 3

    def test_shares_a_turn_between_all_clients(self, clock):
        """The budget is one for all: with 20 clients that ask for much, the turn is not 20 times as long."""
        work, log = WorkQueue(clock), []
        clients = [Client(work, 1000, log=log) for _ in range(20)]
        for client in clients:
            work.submit(client)
        end_turn(clock)
        assert len(log) == 2 * PIECES_PER_TURN
        assert max(client.served for client in clients[1:]) <= PIECES_PER_TURN // 20 + 1

    def test_serves_a_new_client_after_one_piece_of_each_that_waits(self, clock):
        """A client with one command is not kept waiting by the thousands of the others."""
        work, log = WorkQueue(clock), []
        for _ in range(5):
            work.submit(Client(work, 1000, log=log))
        new = Client(work, 1, log=log)
        work.submit(new)
        log.clear()
        end_turn(clock)
        assert log.index(new) == 5

    def test_ends_the_turn_at_its_bytes(self, clock):
        """Large answers end a turn before its number of commands is served."""
        client = Client(WorkQueue(clock), 10, size=BYTES_PER_TURN // 2)
        client.work.submit(client)
        assert client.served == 2
        end_turn(clock)
        assert client.served == 4

    def test_ends_the_turn_at_its_time(self, clock):
        """Slow commands end a turn before its number of commands is served."""
        client = Client(WorkQueue(clock), 10, cost=lambda: clock.advance(SECONDS_PER_TURN * 0.4))
        client.work.submit(client)
        assert client.served == 3

    def test_has_no_new_budget_in_the_same_turn(self, clock):
        """Clients that come one after the other share what is left of the turn."""
        work = WorkQueue(clock)
        clients = [Client(work, 1) for _ in range(PIECES_PER_TURN + 5)]
        for client in clients:
            work.submit(client)
        assert sum(client.served for client in clients) == PIECES_PER_TURN
        end_turn(clock)
        assert sum(client.served for client in clients) == PIECES_PER_TURN + 5

    def test_work_that_is_added_while_serving_is_served_once(self, clock):
        """A client that submits itself while it is served is not served twice at a time, nor forgotten."""
        work = WorkQueue(clock)
        client = Client(work, 5)
        client.cost = lambda: work.submit(client)
        work.submit(client)
        assert client.served == 5
        assert client not in work

    def test_ends_a_client_whose_work_has_failed_and_serves_the_others(self, clock):
        """An exception concerns its own client."""
        work = WorkQueue(clock)
        bad, good = Client(work, 5, cost=lambda: 1 / 0), Client(work, 5)
        work.submit(bad)
        work.submit(good)
        assert (bad.served, bad.failures, bad in work) == (1, 1, False)
        assert good.served == 5

    def test_forgets_a_client_that_is_gone(self, clock):
        """Of a closed connection nothing more is served."""
        work = WorkQueue(clock)
        client = Client(work, 2 * PIECES_PER_TURN)
        work.submit(client)
        work.discard(client)
        end_turn(clock)
        assert client.served == PIECES_PER_TURN
