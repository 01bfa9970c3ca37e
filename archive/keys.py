"""Makes a pair of keys to sign archives with: `python -m archive.keys key.pem`."""

import argparse
from pathlib import Path

from archive.packer.keys import make_keys
from archive.process.command import run


def main() -> int:
    """Writes `key.pem` and `key.pub.pem`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("key", type=Path, metavar="KEY.pem", help="where the private key is written")
    key = parser.parse_args().key
    public = make_keys(key)
    print(f"{key}: private; sign with make archive SIGN_KEY={key}")
    print(f"{public}: public; servers that are given OPSERVE_PUBLIC_KEY={public.resolve()} demand its signature")
    return 0


if __name__ == "__main__":
    run(main)
