"""Random files, requests and command lines, other ones each time: an hour, or SECONDS.

    .venv/bin/python recipes/fuzz.py [SECONDS]

The tests are those of tests/test_fuzz.py, with ten times as many examples a round. Ends at the
first finding, with exit code 1 and what to type to see it again. A round is never cut short.
"""

import random
import subprocess
import sys
import time


def main(seconds: float = 3600) -> int:
    """Round after round, each with a seed of its own."""
    end, rounds = time.monotonic() + seconds, 0
    tests = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-n", "0", "tests/test_fuzz.py"]
    while time.monotonic() < end:
        seed = random.randrange(2**32)
        command = [*tests, "--hypothesis-profile=long", f"--hypothesis-seed={seed}"]
        print(" ".join(command), flush=True)
        if subprocess.run(command, check=False).returncode:
            return 1
        rounds += 1
    print(f"{rounds} rounds without a finding")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:])))
