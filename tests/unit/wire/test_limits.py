"""Budgets of work on a test clock: what one turn of the reactor serves, and in which order."""

from turns import end_turn

from wsserver.wire.limits import BYTES_PER_TURN, PIECES_PER_TURN, SECONDS_PER_TURN, WorkQueue


class Client:
    """A connection that has commands to serve."""

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

    def test_serves_3_commands_at_once_and_schedules_no_call(self, clock):
        client = Client(WorkQueue(clock), 3)
        client.work.submit(client)
        assert (client.served, client.turns) == (3, 1)
        assert clock.calls == []

    def test_serves_a_client_submitted_for_later_in_the_next_turn_and_ends_its_turn_once(self, clock):
        client = Client(WorkQueue(clock), 3)
        client.work.submit_later(client)
        client.work.submit_later(client)
        assert (client.served, client.turns) == (0, 0)
        end_turn(clock)
        assert (client.served, client.turns) == (3, 1)
        assert clock.calls == []

    def test_serves_at_most_64_pieces_in_a_turn_and_the_rest_in_the_next_turns(self, clock):
        client = Client(WorkQueue(clock), 3 * PIECES_PER_TURN)
        client.work.submit(client)
        counts = [client.served]
        while end_turn(clock):
            counts.append(client.served)
        assert counts == [PIECES_PER_TURN, 2 * PIECES_PER_TURN, 3 * PIECES_PER_TURN]
        assert client.turns == 3

    def test_shares_the_budget_of_a_turn_between_20_clients(self, clock):
        """In one turn, the 20 clients together are served no more pieces than one client alone."""
        work, log = WorkQueue(clock), []
        clients = [Client(work, 1000, log=log) for _ in range(20)]
        for client in clients:
            work.submit(client)
        end_turn(clock)
        assert len(log) == 2 * PIECES_PER_TURN
        assert max(client.served for client in clients[1:]) <= PIECES_PER_TURN // 20 + 1

    def test_serves_a_new_client_after_one_piece_of_each_waiting_client(self, clock):
        work, log = WorkQueue(clock), []
        for _ in range(5):
            work.submit(Client(work, 1000, log=log))
        new = Client(work, 1, log=log)
        work.submit(new)
        log.clear()
        end_turn(clock)
        assert log.index(new) == 5

    def test_ends_a_turn_when_its_budget_of_bytes_is_used(self, clock):
        client = Client(WorkQueue(clock), 10, size=BYTES_PER_TURN // 2)
        client.work.submit(client)
        assert client.served == 2
        end_turn(clock)
        assert client.served == 4

    def test_ends_a_turn_when_its_budget_of_time_is_used(self, clock):
        client = Client(WorkQueue(clock), 10, cost=lambda: clock.advance(SECONDS_PER_TURN * 0.4))
        client.work.submit(client)
        assert client.served == 3

    def test_clients_submitted_in_the_same_turn_share_one_budget(self, clock):
        work = WorkQueue(clock)
        clients = [Client(work, 1) for _ in range(PIECES_PER_TURN + 5)]
        for client in clients:
            work.submit(client)
        assert sum(client.served for client in clients) == PIECES_PER_TURN
        end_turn(clock)
        assert sum(client.served for client in clients) == PIECES_PER_TURN + 5

    def test_a_client_submitted_again_while_it_is_served_is_served_once(self, clock):
        """The client is neither served recursively nor left in the queue."""
        work = WorkQueue(clock)
        client = Client(work, 5)
        client.cost = lambda: work.submit(client)
        work.submit(client)
        assert client.served == 5
        assert client not in work

    def test_removes_a_client_whose_work_raises_and_serves_the_others(self, clock):
        work = WorkQueue(clock)
        bad, good = Client(work, 5, cost=lambda: 1 / 0), Client(work, 5)
        work.submit(bad)
        work.submit(good)
        assert (bad.served, bad.failures, bad in work) == (1, 1, False)
        assert good.served == 5

    def test_serves_nothing_more_of_a_discarded_client(self, clock):
        """Connections are discarded when they close."""
        work = WorkQueue(clock)
        client = Client(work, 2 * PIECES_PER_TURN)
        work.submit(client)
        work.discard(client)
        end_turn(clock)
        assert client.served == PIECES_PER_TURN
