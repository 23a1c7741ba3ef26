"""
Play the sequences on Centrifugo and on this server, and write their answers into the files of sequences.

    python tests/differential/record.py             plays all, and reports what is not as recorded
    python tests/differential/record.py --update    writes the answers
    python tests/differential/record.py --here --update    writes this server's answers; Centrifugo is not run

Centrifugo is compiled from the Go module proxy into build/bench, as for the benchmarks. This takes some minutes the
first time.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parents[1] / "benchmarks"), str(FOLDER.parent / "support")]

from installers import BENCH, INSTALLERS  # noqa: E402
from peers import BY_NAME  # noqa: E402
from player import forms, play  # noqa: E402
from servers import Centrifugo, Here  # noqa: E402
from transcripts import Sequence, merge, profiles, read, sequence_files, write  # noqa: E402

AT_ONCE = 8
"""Number of Centrifugo processes that run at the same time."""
PROFILES = profiles()


def play_on_centrifugo(sequence: Sequence) -> list[list[list[str]]]:
    """
    Play a sequence on a Centrifugo of its own in each of its forms.

    If the answers are not as recorded, it is played again with more patience: on a busy machine, an answer may come
    late.
    """
    return [_play_patiently(sequence, form) for form in forms(sequence)]


def _play_patiently(sequence: Sequence, form: str) -> list[list[str]]:
    answers: list[list[str]] = []
    for quiet in (0.2, 1.0):
        server = Centrifugo(BENCH / "centrifugo", PROFILES[sequence.profile]["centrifugo"], quiet)
        try:
            answers = play(server, sequence, form)
        finally:
            server.close()
        if answers == [step.expected("-") for step in sequence.steps]:
            break
    return answers


def recorded(sequence: Sequence) -> list[list[list[str]]]:
    """Return the recorded answers of Centrifugo."""
    return [[step.expected("-") for step in sequence.steps]]


def play_here(sequence: Sequence) -> list[list[list[str]]]:
    """Play a sequence on this server in each of its forms."""
    here = PROFILES[sequence.profile]["wsserver"]
    return [play(Here(here), sequence, form) for form in forms(sequence)]


def record(sequence: Sequence, centrifugo: list[list[list[str]]]) -> list[str]:
    """Store the answers of both servers in a sequence; return what has changed, or has no reason."""
    here = play_here(sequence)
    reports = []
    for name, played in (("Centrifugo", centrifugo), ("this server", here)):
        for form, answers in zip(forms(sequence)[1:], played[1:], strict=False):
            for step, usual, other in zip(sequence.steps, played[0], answers, strict=True):
                if other != usual:
                    reports += [f"  {name} answers differently in {form}: {step.line[:300]}"]
                    reports += [f"    {answer}"[:300] for answer in (*usual, *other)]
    for step, theirs, ours in zip(sequence.steps, centrifugo[0], here[0], strict=True):
        answers = merge(theirs, ours)
        if answers != step.answers:
            reports.append(f"  {step.line[:300]}")
            reports += [f"    recorded {mark} {answer[:300]}" for mark, answer in step.answers]
            reports += [f"    now      {mark} {answer[:300]}" for mark, answer in answers]
        step.answers = answers
        if step.differs and not step.reasons:
            reports += [f"  differs without a reason: {step.line[:300]}"]
            reports += [f"    {mark} {answer[:300]}" for mark, answer in answers]
    return [f"{sequence.name}", *reports] if reports else []


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the answers into the files")
    parser.add_argument("--here", action="store_true", help="keep the recorded answers of Centrifugo")
    parser.add_argument("words", nargs="*", help="play only the sequences whose name contains one of these words")
    options = parser.parse_args()
    if not options.here:
        peer = BY_NAME["centrifugo"]
        BENCH.mkdir(parents=True, exist_ok=True)
        INSTALLERS[peer.kind](peer)
    theirs = recorded if options.here else play_on_centrifugo
    reports = []
    for path in sequence_files():
        sequences = read(path)
        chosen = [one for one in sequences if not options.words or any(word in one.name for word in options.words)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for sequence, centrifugo in zip(chosen, pool.map(theirs, chosen), strict=True):
                reports += record(sequence, centrifugo)
        if options.update:
            write(path, sequences)
        print(f"{path.stem}: {len(chosen)} sequences", file=sys.stderr)
    print("\n".join(reports) or "everything is as recorded")
    sys.exit(bool(reports) and not options.update)


if __name__ == "__main__":
    main()
