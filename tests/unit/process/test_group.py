"""Tests for wsserver/process/group.py, rolling.py and collection.py: when workers start, leave and are killed."""

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from wsserver.process.collection import ANSWER_TIMEOUT, Collector
from wsserver.process.group import (
    ABORT_TIMEOUT,
    BEAT,
    DEATH_REPORT_DELAY,
    FINISHED,
    HANGS_AFTER,
    REPLACED_AFTER,
    START_TIMEOUT,
    Group,
)
from wsserver.process.rolling import READY_TIMEOUT, RollingRestart

LEAVE_TIMEOUT = 40.0


class FakeProcess:
    """A process that records what it gets."""

    def __init__(self, pid):
        self.pid = pid
        self.sent = []
        self.is_killed = False
        self.reads = True

    def send(self, message):
        self.sent.append(message)
        return self.reads

    def kill(self):
        self.is_killed = True

    def types(self):
        return [message["type"] for message in self.sent]


class Supervised:
    """A group with fake processes, and a clock."""

    def __init__(self, count=2, started=True):
        self.clock = Clock()
        self.workers = []
        self.failures = []
        self.can_spawn = True
        self.group = Group(count, self.spawn, self.clock, leave_timeout=LEAVE_TIMEOUT, on_failure=self.failures.append)
        self.group.start()
        if started:
            for worker in list(self.workers):
                self.serve(worker)

    def spawn(self, worker):
        if not self.can_spawn:
            raise OSError(24, "Too many open files")
        self.workers.append(worker)
        return FakeProcess(100 + len(self.workers))

    def say(self, worker, kind, **more):
        self.group.received(worker, {"type": kind, **more})

    def serve(self, worker):
        self.say(worker, "serving", node=f"node-{self.workers.index(worker)}")
        self.say(worker, "ready")

    def exit(self, worker, how="signal SIGKILL"):
        self.group.exited(worker, how)

    def beat(self, seconds, silent=()):
        """Let time pass, in which all workers but the silent ones send heartbeats."""
        for _ in range(seconds):
            self.clock.advance(BEAT)
            self.group.tick()
            for worker in list(self.group.running):
                if worker not in silent:
                    self.say(worker, "beat")


class StartTests:
    """The start of the group."""

    def test_has_started_once_every_worker_accepts_connections(self):
        supervised = Supervised(3, started=False)
        fired = []
        supervised.group.when_started.addCallback(fired.append)
        for worker in supervised.workers[:2]:
            supervised.serve(worker)
        assert not fired
        supervised.serve(supervised.workers[2])
        assert fired
        assert [worker.number for worker in supervised.workers] == [1, 2, 3]

    def test_a_worker_that_cannot_start_because_of_the_configuration_ends_the_start(self):
        supervised = Supervised(started=False)
        supervised.say(supervised.workers[0], "failed", reason="--tls-key: cannot be read")
        supervised.exit(supervised.workers[0], "exit status 1")
        assert supervised.failures == ["--tls-key: cannot be read"]
        assert len(supervised.workers) == 2

    def test_later_such_a_worker_is_replaced_like_one_that_crashes(self):
        supervised = Supervised()
        supervised.exit(supervised.workers[0])
        supervised.say(supervised.workers[2], "failed", reason="--tls-key: cannot be read")
        supervised.exit(supervised.workers[2], "exit status 1")
        assert supervised.failures == []
        assert len(supervised.workers) == 4

    def test_kills_a_worker_that_does_not_start(self):
        supervised = Supervised(started=False)
        stuck, other = supervised.workers
        supervised.serve(other)
        supervised.beat(START_TIMEOUT - 1, silent=[stuck])
        assert not stuck.process.is_killed
        supervised.beat(1, silent=[stuck])
        assert stuck.process.is_killed
        assert not other.process.is_killed


class ExitTests:
    """Workers that exit without being asked to."""

    def test_replaces_a_worker_at_once_under_the_same_number(self):
        supervised = Supervised()
        supervised.exit(supervised.workers[1])
        assert supervised.workers[2].number == 2
        assert supervised.group.exits == {1: 0, 2: 1}

    def test_delays_the_fifth_replacement_and_counts_each_number_by_itself(self):
        supervised = Supervised()
        for _ in range(5):
            supervised.exit(supervised.group.current[1])
        assert 1 not in supervised.group.current
        started = len(supervised.workers)
        supervised.exit(supervised.group.current[2])
        assert len(supervised.workers) == started + 1
        supervised.clock.advance(0.9)
        assert 1 not in supervised.group.current
        supervised.clock.advance(0.2)
        assert supervised.group.current[1] is supervised.workers[-1]

    def test_another_worker_accepts_in_its_place_until_the_new_one_does(self):
        supervised = Supervised(3)
        first, second, third = supervised.workers
        supervised.exit(first)
        assert second.process.sent == [{"type": "substitute", "number": 1}]
        assert third.process.sent == []
        supervised.serve(supervised.workers[3])
        assert second.process.sent[1:] == [{"type": "stop_substituting", "number": 1}]

    def test_the_substitutes_of_several_workers_are_several_workers(self):
        supervised = Supervised(4)
        supervised.exit(supervised.workers[0])
        supervised.exit(supervised.workers[1])
        assert [len(worker.process.sent) for worker in supervised.workers[2:4]] == [1, 1]

    def test_a_substitute_that_exits_is_substituted_too(self):
        supervised = Supervised(3)
        supervised.exit(supervised.workers[0])
        supervised.exit(supervised.workers[1])
        assert supervised.workers[2].process.sent == [
            {"type": "substitute", "number": 1},
            {"type": "substitute", "number": 2},
        ]

    def test_no_worker_is_asked_if_all_have_exited(self):
        supervised = Supervised()
        for worker in supervised.workers[:2]:
            supervised.exit(worker)
        supervised.serve(supervised.workers[2])
        assert supervised.workers[2].process.types() == ["substitute"]

    def test_another_worker_reports_the_death_once_the_clients_have_had_time_to_reconnect(self):
        supervised = Supervised(3)
        first, second, third = supervised.workers
        supervised.exit(first)
        supervised.clock.advance(DEATH_REPORT_DELAY - 0.1)
        assert "died" not in second.process.types()
        supervised.clock.advance(0.1)
        assert {"type": "died", "node": first.node} in second.process.sent
        assert "died" not in third.process.types()

    def test_the_death_of_all_workers_is_reported_by_the_first_that_accepts_connections(self):
        supervised = Supervised()
        dead = supervised.workers[:2]
        for worker in dead:
            supervised.exit(worker)
        supervised.clock.advance(DEATH_REPORT_DELAY)
        new = supervised.workers[2]
        assert new.process.sent == []
        supervised.serve(new)
        reports = [message for message in new.process.sent if message["type"] == "died"]
        assert {report["node"] for report in reports} == {worker.node for worker in dead}

    def test_no_death_is_reported_if_a_worker_has_closed_its_connections(self):
        supervised = Supervised()
        first, second = supervised.workers
        supervised.group.leave(first)
        supervised.exit(first, FINISHED)
        supervised.clock.advance(DEATH_REPORT_DELAY)
        assert "died" not in second.process.types()

    def test_the_death_of_a_worker_that_has_not_accepted_connections_is_not_reported(self):
        supervised = Supervised()
        supervised.exit(supervised.workers[0])
        supervised.exit(supervised.workers[2])
        supervised.clock.advance(DEATH_REPORT_DELAY)
        assert supervised.workers[1].process.types().count("died") == 1

    def test_a_worker_that_leaves_by_itself_is_replaced_before_it_exits(self):
        supervised = Supervised()
        first = supervised.workers[0]
        supervised.say(first, "leaving")
        assert supervised.workers[2].number == 1
        supervised.exit(first, "exit status 0")
        assert len(supervised.workers) == 3
        assert supervised.group.exits == {1: 0, 2: 0}


class FailedStartTests:
    """The system has too few descriptors, processes or memory to start a worker."""

    def test_tries_again_with_a_growing_delay(self):
        supervised = Supervised()
        supervised.can_spawn = False
        with capturedLogs() as events:
            supervised.exit(supervised.workers[0])
            supervised.clock.pump([0.9, 0.2, 1.9])
        lines = [formatEvent(event) for event in events if "worker not started" in event["log_format"]]
        reason = 'worker not started worker=1 reason="Too many open files"'
        assert lines == [f"{reason}; the next attempt is in {delay} s" for delay in (1, 2)]
        assert 1 not in supervised.group.current
        # Another worker accepts the connections in the meantime.
        assert supervised.workers[1].process.sent[0] == {"type": "substitute", "number": 1}
        assert "stop_substituting" not in supervised.workers[1].process.types()
        supervised.can_spawn = True
        supervised.clock.advance(0.2)
        assert supervised.group.current[1] is supervised.workers[2]
        supervised.serve(supervised.workers[2])
        assert supervised.workers[1].process.sent[-1] == {"type": "stop_substituting", "number": 1}

    def test_has_started_once_the_workers_that_could_not_be_started_accept_connections(self):
        supervised = Supervised(started=False)
        supervised.can_spawn = False
        started = supervised.group.when_started
        for worker in list(supervised.workers):
            supervised.exit(worker)
        supervised.can_spawn = True
        supervised.clock.advance(1)
        assert [worker.number for worker in supervised.workers[2:]] == [1, 2]
        for worker in supervised.workers[2:]:
            supervised.serve(worker)
        assert started.called

    def test_a_worker_that_leaves_by_itself_is_replaced_later(self):
        supervised = Supervised()
        first = supervised.workers[0]
        supervised.can_spawn = False
        supervised.say(first, "leaving")
        supervised.can_spawn = True
        supervised.exit(first, FINISHED)
        supervised.clock.advance(1)
        assert [worker.number for worker in supervised.workers] == [1, 2, 1]
        assert supervised.clock.getDelayedCalls() == []

    def test_starts_none_after_the_end(self):
        supervised = Supervised(1)
        supervised.can_spawn = False
        supervised.exit(supervised.workers[0])
        supervised.group.stop()
        assert supervised.clock.getDelayedCalls() == []


class HangTests:
    """Workers that do not answer."""

    def test_is_substituted_then_killed_then_replaced(self):
        supervised = Supervised()
        hung, other = supervised.workers
        supervised.beat(REPLACED_AFTER - 1, silent=[hung])
        assert other.process.sent == []
        supervised.beat(1, silent=[hung])
        assert other.process.types() == ["substitute"]
        supervised.beat(HANGS_AFTER - REPLACED_AFTER - 1, silent=[hung])
        assert not hung.process.is_killed
        supervised.beat(1, silent=[hung])
        assert hung.process.is_killed
        assert supervised.group.hung == 1
        supervised.beat(3, silent=[hung])
        assert supervised.group.hung == 1
        supervised.exit(hung)
        assert supervised.workers[2].number == hung.number

    def test_a_worker_that_answers_again_accepts_its_connections_itself(self):
        supervised = Supervised()
        slow, other = supervised.workers
        supervised.beat(HANGS_AFTER - 1, silent=[slow])
        supervised.say(slow, "beat")
        assert other.process.types() == ["substitute", "stop_substituting"]
        supervised.beat(HANGS_AFTER - 1, silent=[slow])
        assert not slow.process.is_killed

    def test_a_pause_of_the_whole_machine_is_no_fault_of_the_workers(self):
        supervised = Supervised()
        supervised.clock.advance(3600)
        supervised.group.tick()
        assert not any(worker.process.is_killed for worker in supervised.workers)

    def test_kills_a_worker_that_does_not_exit_in_time(self):
        supervised = Supervised()
        supervised.group.leave(supervised.workers[0])
        supervised.beat(int(LEAVE_TIMEOUT) - 1)
        assert not supervised.workers[0].process.is_killed
        supervised.beat(1)
        assert supervised.workers[0].process.is_killed


class StopTests:
    """The end of the group."""

    def test_has_stopped_when_all_workers_have_exited(self):
        supervised = Supervised()
        stopped = []
        supervised.group.stop().addCallback(stopped.append)
        assert [worker.process.types() for worker in supervised.workers] == [["stop"], ["stop"]]
        for worker in supervised.workers:
            assert not stopped
            supervised.exit(worker, "exit status 0")
        assert stopped
        assert len(supervised.workers) == 2
        assert supervised.clock.getDelayedCalls() == []

    def test_stops_at_once_if_no_worker_runs(self):
        supervised = Supervised(1)
        for _ in range(5):
            supervised.exit(supervised.group.current[1])
        stopped = []
        supervised.group.stop().addCallback(stopped.append)
        assert stopped
        assert supervised.clock.getDelayedCalls() == []

    def test_abort_kills_the_workers_that_do_not_exit_in_time(self):
        supervised = Supervised()
        supervised.group.stop()
        supervised.group.abort()
        first, second = supervised.workers
        assert first.process.types() == ["stop", "abort"]
        supervised.exit(first)
        supervised.clock.advance(ABORT_TIMEOUT)
        assert not first.process.is_killed
        assert second.process.is_killed


class RestartTests:
    """The workers are restarted one by one."""

    def begin(self, count=2):
        supervised = Supervised(count)
        ends = []
        restart = RollingRestart(supervised.group, lambda: ends.append(True))
        restart.start()
        return supervised, restart, ends

    def test_the_next_worker_is_restarted_when_the_old_one_has_exited(self):
        supervised, _, ends = self.begin()
        old_first, old_second, new_first = supervised.workers
        assert old_first.process.sent == []
        supervised.say(new_first, "serving")
        assert old_first.process.sent == []
        supervised.say(new_first, "ready")
        assert old_first.process.types() == ["leave"]
        assert supervised.group.current[1] is new_first
        assert len(supervised.workers) == 3
        supervised.exit(old_first, "exit status 0")
        new_second = supervised.workers[3]
        supervised.serve(new_second)
        supervised.exit(old_second, "exit status 0")
        assert ends == [True]
        assert supervised.group.current == {1: new_first, 2: new_second}
        assert supervised.group.exits == {1: 0, 2: 0}
        assert supervised.clock.getDelayedCalls() == []

    @pytest.mark.parametrize("how", ["exits", "is not ready"])
    def test_the_old_workers_stay_if_the_new_one_does_not_become_ready(self, how):
        supervised, _, ends = self.begin()
        old_first, old_second, new_first = supervised.workers
        if how == "exits":
            supervised.exit(new_first, "exit status 1")
        else:
            supervised.say(new_first, "serving")
            supervised.clock.advance(READY_TIMEOUT)
            assert new_first.process.types() == ["leave"]
            supervised.exit(new_first, "exit status 0")
        assert ends == [True]
        assert supervised.group.current == {1: old_first, 2: old_second}
        assert "leave" not in old_first.process.types() + old_second.process.types()
        assert len(supervised.workers) == 3

    def test_an_old_worker_that_crashes_meanwhile_leaves_one_worker_with_its_number(self):
        supervised, _, _ = self.begin()
        old_first, _, new_first = supervised.workers
        supervised.exit(old_first)
        successor = supervised.workers[3]
        assert successor.number == 1
        supervised.serve(new_first)
        assert supervised.group.current[1] is new_first
        assert successor.process.types() == ["leave"]
        supervised.exit(successor, "exit status 0")
        assert [worker.number for worker in supervised.workers] == [1, 2, 1, 1, 2]

    def test_a_new_worker_that_crashes_after_it_has_taken_over_is_replaced(self):
        supervised, _, _ = self.begin()
        old_first, _, new_first = supervised.workers
        supervised.serve(new_first)
        supervised.exit(new_first)
        assert supervised.group.current[1] is supervised.workers[3]
        supervised.exit(old_first, "exit status 0")
        assert supervised.workers[4].number == 2

    def test_is_cancelled_with_the_reason_if_a_worker_cannot_be_started(self):
        supervised = Supervised()
        supervised.can_spawn = False
        ends = []
        with capturedLogs() as events:
            RollingRestart(supervised.group, lambda: ends.append(True)).start()
        reason = '"the new worker cannot be started: Too many open files"'
        assert formatEvent(events[-1]) == f"the restart is cancelled worker=1 reason={reason}"
        assert ends == [True]
        assert supervised.group.watchers == set()
        assert supervised.clock.getDelayedCalls() == []

    def test_one_worker_with_a_number_is_left_if_the_old_one_exits_repeatedly(self):
        """The old worker exits while the new one starts, and its successor would start after a delay."""
        supervised = Supervised(1)
        for _ in range(4):
            supervised.exit(supervised.group.current[1])
        supervised.serve(supervised.group.current[1])
        old = supervised.group.current[1]
        RollingRestart(supervised.group, lambda: None).start()
        new = supervised.workers[-1]
        supervised.exit(old)
        supervised.serve(new)
        supervised.clock.advance(60)
        assert supervised.group.running == {new}
        assert supervised.group.current == {1: new}

    def test_starts_no_further_worker_after_it_is_cancelled(self):
        supervised, restart, ends = self.begin()
        restart.cancel()
        supervised.group.stop()
        for worker in list(supervised.workers):
            supervised.exit(worker, "exit status 0")
        assert len(supervised.workers) == 3
        assert ends == []
        assert supervised.clock.getDelayedCalls() == []


class CollectionTests:
    """The numbers of all workers."""

    def begin(self, count=2):
        supervised = Supervised(count)
        collector = Collector(supervised.group)
        found = []
        collector.collect().addCallback(found.append)
        return supervised, collector, found

    def test_returns_the_numbers_of_all_workers_and_of_the_supervisor(self):
        supervised, collector, found = self.begin()
        assert [worker.process.types() for worker in supervised.workers] == [["count"], ["count"]]
        collector.answered(supervised.workers[0], {"connections": 3})
        assert found == []
        collector.answered(supervised.workers[1], {"connections": 4})
        supervisor = {"workers": 2, "serving": 2, "exits": {"1": 0, "2": 0}, "hung": 0}
        assert found == [{"1": {"connections": 3}, "2": {"connections": 4}, "supervisor": supervisor}]
        assert supervised.clock.getDelayedCalls() == []

    def test_asks_the_workers_once_for_all_that_ask_at_the_same_time(self):
        supervised, collector, found = self.begin(1)
        collector.collect().addCallback(found.append)
        assert supervised.workers[0].process.types() == ["count"]
        collector.answered(supervised.workers[0], {})
        assert len(found) == 2

    def test_a_worker_that_does_not_answer_in_time_is_missing(self):
        supervised, collector, found = self.begin()
        collector.answered(supervised.workers[0], {})
        supervised.clock.advance(ANSWER_TIMEOUT)
        assert found[0].keys() == {"1", "supervisor"}
        collector.answered(supervised.workers[1], {})
        assert len(found) == 1

    def test_does_not_wait_for_a_worker_that_exits(self):
        supervised, collector, found = self.begin()
        collector.answered(supervised.workers[0], {})
        supervised.exit(supervised.workers[1])
        assert found[0].keys() == {"1", "supervisor"}

    def test_returns_the_numbers_of_the_supervisor_if_no_worker_reads(self):
        supervised = Supervised(1)
        supervised.workers[0].process.reads = False
        found = []
        Collector(supervised.group).collect().addCallback(found.append)
        assert found[0].keys() == {"supervisor"}
        assert supervised.clock.getDelayedCalls() == []
