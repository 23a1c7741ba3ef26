"""The answers to sequences of commands are those of Centrifugo, except for documented differences."""

import re
import tomllib

import pytest
from paths import DOCS
from player import forms, play
from servers import Here
from transcripts import FOLDER, merge, profiles, read, sequence_files, write

FILES = {path.stem: read(path) for path in sequence_files()}
SEQUENCES = [sequence for sequences in FILES.values() for sequence in sequences]
STEPS = [step for sequence in SEQUENCES for step in sequence.steps]
DIFFERENCES = tomllib.loads((FOLDER / "differences.toml").read_text("utf-8"))["difference"]
PROFILES = profiles()
RECORD = "to record the answers anew: make centrifugo-diff UPDATE=1"


# The profile `moved` has a short secret.
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(
    ("sequence", "form"),
    [pytest.param(sequence, form, id=f"{sequence.name}, {form}") for sequence in SEQUENCES for form in forms(sequence)],
)
def test_answers_as_recorded(sequence, form):
    """As Centrifugo, or with a difference that has a reason."""
    answers = play(Here(PROFILES[sequence.profile]["wsserver"]), sequence, form)
    expected = [step.expected("+") for step in sequence.steps]
    assert answers == expected, RECORD


class SequencesTests:
    """The files of sequences."""

    def test_there_are_at_least_500_sequences_with_different_names(self):
        names = {sequence.name for sequence in SEQUENCES}
        assert len(names) == len(SEQUENCES) >= 500

    @pytest.mark.parametrize("form", ["protobuf", "http_stream"])
    def test_at_least_500_are_sent_in_each_form(self, form):
        assert sum(form in forms(sequence) for sequence in SEQUENCES) >= 500

    @pytest.mark.parametrize("path", sequence_files(), ids=lambda path: path.stem)
    def test_a_file_is_written_as_it_was_read(self, path, tmp_path):
        write(tmp_path / "copy.txt", read(path))
        assert (tmp_path / "copy.txt").read_bytes() == path.read_bytes()

    def test_each_sequence_has_recorded_answers(self):
        assert [one.name for one in SEQUENCES if not any(step.answers for step in one.steps)] == []

    def test_an_invalid_line_is_reported_with_its_number(self, tmp_path):
        (tmp_path / "a.txt").write_text("== a\n> {}\nfrobnicate\n")
        with pytest.raises(ValueError, match=r"a\.txt:3: not a step: 'frobnicate'"):
            read(tmp_path / "a.txt")

    def test_answers_that_differ_are_marked_with_their_server(self):
        assert merge(["a"], ["a"]) == [(" ", "a")]
        assert merge(["a", "b"], ["a"]) == [("-", "a"), ("-", "b"), ("+", "a")]


class DifferencesTests:
    """The intended differences, which `differences.toml` and the documentation name."""

    def test_each_difference_of_a_step_has_a_reason(self):
        assert [step.line for step in STEPS if step.differs != bool(step.reasons)] == []

    def test_each_reason_is_an_intended_difference(self):
        known = {one["feature"] for one in DIFFERENCES}
        assert {reason for step in STEPS for reason in step.reasons} - known == set()

    def test_each_intended_difference_is_shown_by_a_sequence_or_says_why_not(self):
        shown = {reason for step in STEPS for reason in step.reasons}
        assert [one["feature"] for one in DIFFERENCES if (one["feature"] in shown) == ("not_shown" in one)] == []

    def test_there_are_more_sequences_than_the_page_says(self):
        text = (DOCS / "reference" / "centrifuge.md").read_text("utf-8")
        (number,) = re.findall(r"more than ([0-9]+) sequences", text)
        assert int(number) < len(SEQUENCES)
