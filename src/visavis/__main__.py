"""`python -m visavis` is `visavis`."""

from visavis.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
